# SPDX-License-Identifier: MIT
"""What a database remembers of each robot and camera that is driving."""

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

import numpy as np

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.keyframe import Session
from netvlad_ros.retrieval.keyframe_selector import KeyframeSelector
from netvlad_ros.retrieval.sequences import Track
from netvlad_ros.retrieval.stream_clock import StreamClock


@dataclass
class StreamState:
    """What belongs to one camera of one robot.

    track:   what it saw last.
    queries: how often it was looked up.
    """

    clock: StreamClock
    selector: KeyframeSelector
    track: Track = field(default_factory=Track)
    queries: int = 0
    _numbers: dict[str, int] = field(default_factory=dict)

    def next_number(self, session: Session) -> int:
        number = self._numbers.get(session.uuid, 0)
        self._numbers[session.uuid] = number + 1
        return number


@dataclass
class RobotState:
    """What a robot saw a moment ago, by any of its cameras: ids in the index, and when by time of drive."""

    drive_ns: int = 0
    _ids: array = field(default_factory=lambda: array("q"))  # both ascend
    _seen_ns: array = field(default_factory=lambda: array("q"))

    def saw(self, keyframe_id: int) -> None:
        self._ids.append(keyframe_id)
        self._seen_ns.append(self.drive_ns)

    def recent(self, exclude_s: float) -> np.ndarray:
        """(n,) ids, ascending."""
        limit_ns = self.drive_ns - round(exclude_s * NANOSECONDS)
        return np.array(self._ids[bisect_right(self._seen_ns, limit_ns) :], np.int64)

    def age_s(self, keyframe_id: int) -> float:
        seen_ns = self._seen_ns[bisect_left(self._ids, keyframe_id)]
        return (self.drive_ns - seen_ns) / NANOSECONDS

    def forget(self, keyframe_ids: set[int]) -> None:
        kept = [i for i, each in enumerate(self._ids) if each not in keyframe_ids]
        self._ids = array("q", [self._ids[i] for i in kept])
        self._seen_ns = array("q", [self._seen_ns[i] for i in kept])
