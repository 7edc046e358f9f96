# SPDX-License-Identifier: MIT
"""Which images of a drive show the same place, and which closures are right, from where the robot was."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netvlad_ros.data.bag_places import read_bag
from netvlad_ros.data.bags import Bag
from netvlad_ros.data.places import angle_between
from netvlad_ros.errors import DatasetError
from netvlad_ros.evaluation.ground_truth import GroundTruth
from netvlad_ros.evaluation.trajectories import Truth, read_truth
from netvlad_ros.keyframe import Keyframe
from netvlad_ros.retrieval.closures import Closure
from netvlad_ros.verification.rigid import angle_deg, inverse, of_pose, rigid
from netvlad_ros.worlds.bag_messages import TOPICS
from netvlad_ros.worlds.odometry import MOUNT_M

# Along a street, so far apart most of the view is the same; who comes from the other side sees other walls.
RADIUS_M = 10.0
HEADING_TOLERANCE_DEG = 45.0
SAME_PLACE = f"within {RADIUS_M:g} m, headings within {HEADING_TOLERANCE_DEG:g}°"
RIGHT_M, RIGHT_DEG = 0.5, 5.0
RIGHT_CLOSURE = f"pose within {RIGHT_M:g} m and {RIGHT_DEG:g}° of the truth"
# True poses are of the camera's body.
BODY_FROM_BASE = rigid(np.eye(3), -np.array(MOUNT_M))


@dataclass(frozen=True)
class Poses:
    """Of N images, in their order.

    stamps_ns:    (N,) int64.
    positions_m:  (N, 2).
    headings_rad: (N,).
    truth:        where the camera's body was at any time; None if odometry is all there is.
    """

    stamps_ns: np.ndarray
    positions_m: np.ndarray
    headings_rad: np.ndarray
    truth: Truth | None = None

    def index(self, stamp_ns: int) -> int:
        """Of the image of this stamp."""
        return int(np.searchsorted(self.stamps_ns, stamp_ns))

    def distance_m(self, one: int, other: int) -> float:
        """Between the places that two images were taken at."""
        return float(np.linalg.norm(self.positions_m[one] - self.positions_m[other]))

    def is_same_place(self, one: int, other: int | np.ndarray) -> np.ndarray:
        """Whether two images, or one and each of several, show the same place."""
        apart_m = np.linalg.norm(self.positions_m[other] - self.positions_m[one], axis=-1)
        turned = angle_between(self.headings_rad[other], self.headings_rad[one])
        return (apart_m <= RADIUS_M) & (turned <= np.radians(HEADING_TOLERANCE_DEG))

    def error(self, closure: Closure) -> tuple[float, float]:
        """How far the pose of a closure is from the truth, in metres and degrees; NaN without a pose."""
        found = closure.geometry.metric
        match, query = (self._base(each) for each in (closure.match.keyframe, closure.query))
        if found is None or match is None or query is None:
            return float("nan"), float("nan")
        away = inverse(inverse(match) @ query) @ found.matrix
        return float(np.linalg.norm(away[:3, 3])), angle_deg(away)

    def is_right(self, closure: Closure) -> bool:
        """Whether its pose is that of the truth."""
        away_m, turned_deg = self.error(closure)
        return away_m < RIGHT_M and turned_deg < RIGHT_DEG

    def _base(self, keyframe: Keyframe) -> np.ndarray | None:
        """(4, 4) in the map."""
        pose = None if self.truth is None else self.truth.at(keyframe.stamp_ns)
        return None if pose is None else of_pose(pose) @ BODY_FROM_BASE

    def ground_truth(self) -> GroundTruth:
        """Of each image, numbered from 1, the earlier ones of its place."""
        truth: GroundTruth = {}
        for query in range(1, len(self.stamps_ns)):
            same = np.flatnonzero(self.is_same_place(query, np.arange(query)))
            if len(same):
                truth[query + 1] = frozenset((same + 1).tolist())
        return truth


def read_poses(bag: Path) -> Poses:
    """From the exact poses of a bag. Raises BagError or DatasetError."""
    with Bag(bag) as opened:
        truth = read_truth(opened)
    places = read_bag(bag, pose_topic=TOPICS["truth"] if truth else "").database
    if places.headings_rad is None or places.stamps_ns is None:
        raise DatasetError(f"{bag}: expected odometry, which tells headings, got positions only.")
    return Poses(places.stamps_ns, places.positions_m[:, :2], places.headings_rad, truth)
