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

# A stamp that is earlier by less than this is of an image that was overtaken on its way.
LATE_NS = NANOSECONDS
# A stamp that is earlier by more, or later by more than this, is of another clock (a bag played again, a
# clock that was set), with which a new session begins.
PAUSE_NS = 3600 * NANOSECONDS


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
        self.session = index.begin_session() if index is not None else 0
        self.late_images = 0
        self._last_stamp_ns: int | None = None
        self._recent: deque[_Recent] = deque()

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

        An image whose stamp is repeated or slightly late is no keyframe; a stamp that jumps begins a new
        session, in which the places of earlier ones can be recognised.
        Raises DescriptorError if the descriptor does not fit those in here.
        """
        index = self._index_for(fingerprint, len(descriptor))
        index.check(descriptor)
        if not self._is_in_order(index, stamp_ns) or not self.selector.select(descriptor, stamp_ns):
            return None
        matches = self._search(index, descriptor, stamp_ns)
        keyframe = index.add(descriptor, stamp_ns, self.session)
        self._recent.append(_Recent(keyframe, stamp_ns + self._exclude_ns))
        return Query(keyframe, matches)

    def reset(self) -> None:
        """Forgets all keyframes and accepts descriptors of any model again; ids go on where they were."""
        if self.index is not None:
            self.index.reset()
            self.session = self.index.begin_session()
        self.selector.reset()
        self._recent.clear()
        self._last_stamp_ns = None

    def save(self, path: str | Path) -> None:
        """Raises DatabaseError; an empty database that never saw a descriptor has nothing to save."""
        if self.index is not None:
            self.index.save(path)

    def _index_for(self, fingerprint: str, dims: int) -> KeyframeIndex:
        """The index, made for these descriptors as long as it holds none."""
        if self.index is None:
            self.index = KeyframeIndex(fingerprint, dims)
            self.session = self.index.begin_session()
        elif not len(self.index):
            self.index = self.index.emptied(fingerprint, dims)
        self.index.check_fingerprint(fingerprint)
        return self.index

    @property
    def _exclude_ns(self) -> int:
        return round(self.config.candidates.exclude_recent_s * NANOSECONDS)

    def _is_in_order(self, index: KeyframeIndex, stamp_ns: int) -> bool:
        """False for a stamp that is repeated or late; begins a new session if the clock has jumped."""
        step_ns = stamp_ns - self._last_stamp_ns if self._last_stamp_ns is not None else 1
        if -LATE_NS < step_ns <= 0:
            self.late_images += 1
            return False
        if not 0 < step_ns <= PAUSE_NS:
            self._begin_session(index, stamp_ns, step_ns)
        self._last_stamp_ns = stamp_ns
        return True

    def _begin_session(self, index: KeyframeIndex, stamp_ns: int, step_ns: int) -> None:
        """What was recent stays so: the robot is where it was, only its clock is not."""
        direction = "back" if step_ns < 0 else "ahead"
        logger.warning(
            "time jumped %s by %.3f s: a new session begins", direction, abs(step_ns) / NANOSECONDS
        )
        self.session = index.begin_session()
        self.selector.reset()
        self._recent = deque(
            _Recent(each.keyframe, stamp_ns + self._exclude_ns) for each in self._recent
        )

    def _search(self, index: KeyframeIndex, descriptor: np.ndarray, stamp_ns: int) -> list[Match]:
        """The best matches that are old enough, and the best recent one, which shows what was excluded.

        What the camera saw a moment ago always looks most alike and would take all the places.
        """
        while self._recent and stamp_ns >= self._recent[0].until_ns:
            self._recent.popleft()
        excluded = {each.keyframe.keyframe_id for each in self._recent}
        max_matches = self.config.database.max_matches
        found = index.search(descriptor, max_matches + len(excluded))
        old = [match for match in found if match.keyframe.keyframe_id not in excluded][:max_matches]
        recent = [match for match in found if match.keyframe.keyframe_id in excluded]
        shown = [match for match in recent if match.keyframe.session == self.session][:1]
        return sorted([*old, *shown], key=lambda match: -match.similarity)


@dataclass(frozen=True, slots=True)
class _Recent:
    """A keyframe that is not matched until this time."""

    keyframe: Keyframe
    until_ns: int
