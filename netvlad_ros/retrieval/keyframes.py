# SPDX-License-Identifier: MIT
"""What a keyframe is, and which images become one."""

from dataclasses import dataclass

import numpy as np

from netvlad_ros.config import KeyframeConfig
from netvlad_ros.constants import NANOSECONDS


@dataclass(frozen=True, slots=True)
class Keyframe:
    """Names one image in a keyframe database.

    keyframe_id: unique in its database, ascending, never used again.
    session:     counts the runs in one database; stamps are comparable within a session only.
    """

    keyframe_id: int
    session: int
    stamp_ns: int

    def age_s(self, now: "Keyframe") -> float:
        """Seconds by which this is older than a later keyframe; infinite if it is of another session."""
        if now.session != self.session:
            return float("inf")
        return (now.stamp_ns - self.stamp_ns) / NANOSECONDS

    def is_recent(self, now: "Keyframe", exclude_recent_s: float) -> bool:
        """Whether this is of the same session and younger than so many seconds."""
        age_ns = now.stamp_ns - self.stamp_ns
        return now.session == self.session and age_ns < round(exclude_recent_s * NANOSECONDS)


@dataclass(frozen=True, slots=True)
class Match:
    """A keyframe that came back from a search, with its cosine similarity to the query, -1 to 1."""

    keyframe: Keyframe
    similarity: float


class KeyframeSelector:
    """Remembers the last keyframe and tells whether the next image is far enough from it."""

    def __init__(self, config: KeyframeConfig | None = None) -> None:
        self.config = config or KeyframeConfig()
        self._last: tuple[np.ndarray, int] | None = None

    def select(self, descriptor: np.ndarray, stamp_ns: int) -> bool:
        """Whether this image becomes a keyframe; if so, it is what the next ones are compared with."""
        if self._last is not None and not self._far_enough(descriptor, stamp_ns, *self._last):
            return False
        self._last = (descriptor.copy(), stamp_ns)  # the caller may use the array again
        return True

    def reset(self) -> None:
        """Forgets the last keyframe: the next image becomes one."""
        self._last = None

    def _far_enough(
        self, descriptor: np.ndarray, stamp_ns: int, last: np.ndarray, last_stamp_ns: int
    ) -> bool:
        interval_s = (stamp_ns - last_stamp_ns) / NANOSECONDS
        change = max(0.0, 1.0 - float(descriptor @ last))  # rounding makes it slightly negative
        return (
            interval_s >= self.config.min_interval_s and change >= self.config.min_descriptor_change
        )
