# SPDX-License-Identifier: MIT
"""Which images become keyframes, what they match, and the file they are kept in."""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netvlad_ros.config import Config
from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.retrieval.index import KeyframeIndex
from netvlad_ros.retrieval.keyframes import Keyframe, KeyframeSelector, Match

logger = logging.getLogger(__name__)

# A stamp further back than this starts a new session (a bag played again, a clock set back); less than
# that is an image that was overtaken on its way.
SESSION_JUMP_NS = NANOSECONDS


@dataclass(frozen=True)
class Query:
    """A new keyframe and the keyframes that look most like it, best first."""

    keyframe: Keyframe
    matches: Sequence[Match]


class KeyframeDatabase:
    """Keyframes of one or more sessions; each new one is looked up before it is added."""

    def __init__(self, config: Config | None = None, index: KeyframeIndex | None = None) -> None:
        """index: what was there before, such as a map from a file; this run is then a new session of it."""
        self.config = config or Config()
        self.selector = KeyframeSelector(self.config.keyframes)
        self.index = index
        self.session = 0 if index is None or not len(index) else index.keyframes[-1].session + 1
        self.late_images = 0
        self._last_stamp_ns: int | None = None
        self._recent: deque[Keyframe] = deque()

    @property
    def fingerprint(self) -> str:
        """Of the descriptors in here; empty as long as there were none."""
        return self.index.fingerprint if self.index is not None else ""

    @property
    def has_unsaved_changes(self) -> bool:
        """Whether keyframes were added or removed since the last save or load."""
        return self.index is not None and self.index.has_unsaved_changes

    def __len__(self) -> int:
        return len(self.index) if self.index is not None else 0

    def configure(self, config: Config) -> None:
        """Takes over values that changed while running."""
        self.config = config
        self.selector.config = config.keyframes

    def observe(self, descriptor: np.ndarray, stamp_ns: int, fingerprint: str = "") -> Query | None:
        """Looks an image up and adds it, if it is a keyframe; None if it is not.

        A stamp that is repeated or slightly late is no keyframe; one that jumps back starts a new session.
        Raises DescriptorError if the descriptor does not fit those in here.
        """
        index = self._index_for(fingerprint, len(descriptor))
        index.check(descriptor)
        if not self._is_new(stamp_ns) or not self.selector.select(descriptor, stamp_ns):
            return None
        matches = self._search(index, descriptor, stamp_ns)
        keyframe = index.add(descriptor, stamp_ns, self.session)
        self._recent.append(keyframe)
        return Query(keyframe, matches)

    def reset(self) -> None:
        """Forgets all keyframes and accepts descriptors of any model again; ids go on where they were."""
        if self.index is not None:
            self.index.reset()
        self._start_session(self.session + 1)

    def save(self, path: str | Path) -> None:
        """Raises DatabaseError; an empty database that never saw a descriptor has nothing to save."""
        if self.index is not None:
            self.index.save(path)

    def _index_for(self, fingerprint: str, dims: int) -> KeyframeIndex:
        """The index, made for these descriptors as long as it holds none."""
        if self.index is None:
            self.index = KeyframeIndex(fingerprint, dims)
        elif not len(self.index):
            self.index = self.index.emptied(fingerprint, dims)
        self.index.check_fingerprint(fingerprint)
        return self.index

    def _is_new(self, stamp_ns: int) -> bool:
        last = self._last_stamp_ns
        if last is not None and stamp_ns <= last:
            if last - stamp_ns < SESSION_JUMP_NS:
                self.late_images += 1
                return False
            logger.warning(
                "time jumped back by %.3f s: this is a new session now, in which the places of earlier ones "
                "can be recognised",
                (last - stamp_ns) / NANOSECONDS,
            )
            self._start_session(self.session + 1)
        self._last_stamp_ns = stamp_ns
        return True

    def _start_session(self, session: int) -> None:
        self.session = session
        self.selector.reset()
        self._recent.clear()
        self._last_stamp_ns = None

    def _search(self, index: KeyframeIndex, descriptor: np.ndarray, stamp_ns: int) -> list[Match]:
        """The best matches that are old enough, and the best recent one, which shows what was excluded.

        What the camera saw a moment ago always looks most alike and would take all the places.
        """
        exclude_ns = self.config.candidates.exclude_recent_s * NANOSECONDS
        while self._recent and stamp_ns - self._recent[0].stamp_ns >= exclude_ns:
            self._recent.popleft()
        recent = {keyframe.keyframe_id for keyframe in self._recent}
        max_matches = self.config.database.max_matches
        matches = index.search(descriptor, max_matches + len(recent))
        best_recent = next(
            (match for match in matches if match.keyframe.keyframe_id in recent), None
        )
        old = [match for match in matches if match.keyframe.keyframe_id not in recent][:max_matches]
        return sorted(
            [*old, *([best_recent] if best_recent else [])], key=lambda match: -match.similarity
        )
