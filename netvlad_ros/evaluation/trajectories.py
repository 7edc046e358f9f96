# SPDX-License-Identifier: MIT
"""Where something was at which time, how far that is from the truth, and as files for evo."""

from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.data.bags import Bag
from netvlad_ros.errors import BagError, MessageError
from netvlad_ros.image_data import Pose
from netvlad_ros.sensors.odometry import MAX_GAP_NS, interpolated, pose_of
from netvlad_ros.verification.rigid import quaternion_of

ODOMETRY = "nav_msgs/msg/Odometry"


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses in the order of time.

    stamps_ns: (n,) int64.
    poses:     (n, 4, 4), metres.
    """

    stamps_ns: np.ndarray
    poses: np.ndarray

    @property
    def positions_m(self) -> np.ndarray:
        """(n, 3)."""
        return self.poses[:, :3, 3]


def write_tum(path: Path, trajectory: Trajectory) -> None:
    """Lines of `stamp x y z qx qy qz qw`, stamps in seconds, as evo reads it. Raises OSError."""
    lines = []
    for stamp_ns, pose in zip(trajectory.stamps_ns.tolist(), trajectory.poses, strict=True):
        seconds, nanoseconds = divmod(stamp_ns, NANOSECONDS)
        numbers = np.append(pose[:3, 3], quaternion_of(pose[:3, :3])).tolist()
        words = " ".join(f"{number:.9g}" for number in numbers)
        lines.append(f"{seconds}.{nanoseconds:09d} {words}\n")
    path.write_text("".join(lines), encoding="utf-8")


def aligned(positions_m: np.ndarray, truth_m: np.ndarray) -> np.ndarray:
    """(n, 3): moved as one rigid body to where they fit the truth (n, 3) best, in least squares.

    Umeyama, Least-Squares Estimation of Transformation Parameters Between Two Point Patterns, without scale.
    """
    centre, truth_centre = positions_m.mean(0), truth_m.mean(0)
    u, _, vt = np.linalg.svd((truth_m - truth_centre).T @ (positions_m - centre))
    mirrored = np.diag([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    return (positions_m - centre) @ (u @ mirrored @ vt).T + truth_centre


def ate_m(positions_m: np.ndarray, truth_m: np.ndarray) -> float:
    """Absolute trajectory error: the root mean square distance after alignment, as `evo_ape tum -a`."""
    away_m = np.linalg.norm(aligned(positions_m, truth_m) - truth_m, axis=1)
    return float(np.sqrt((away_m**2).mean()))


def read_truth(bag: Bag, topic: str = "") -> "Truth | None":
    """The true poses of a bag.

    topic: nav_msgs/Odometry; empty: the one with ground_truth in its name, if there is one.
    Raises BagError.
    """
    if not topic:
        named = [each for each in bag.topics.values() if "ground_truth" in each.name and each.count]
        found = [each.name for each in named if each.type == ODOMETRY]
        return Truth(bag, found[0]) if len(found) == 1 else None
    if bag.topic(topic).type != ODOMETRY:
        raise BagError(f"{bag.path}: {topic} is {bag.topic(topic).type}, expected {ODOMETRY}.")
    return Truth(bag, topic)


class Truth:
    """The true pose at any time."""

    def __init__(self, bag: Bag, topic: str) -> None:
        messages: dict[int, Any] = {}
        for each in bag.stamped_together([topic]):
            messages[each.stamp_ns] = each.message
        self._stamps_ns = sorted(messages)
        self._messages = [messages[stamp_ns] for stamp_ns in self._stamps_ns]

    def at(self, stamp_ns: int) -> Pose | None:
        """Between the poses before and after; None where there are none near, or one is no pose."""
        at = bisect_left(self._stamps_ns, stamp_ns)
        try:
            if self._stamps_ns[at : at + 1] == [stamp_ns]:
                return pose_of(self._messages[at])
            if not 0 < at < len(self._stamps_ns):
                return None
            before_ns, after_ns = self._stamps_ns[at - 1 : at + 1]
            if after_ns - before_ns > MAX_GAP_NS:
                return None
            share = (stamp_ns - before_ns) / (after_ns - before_ns)
            poses = [pose_of(message) for message in self._messages[at - 1 : at + 1]]
            return interpolated(poses[0], poses[1], share)
        except MessageError:
            return None
