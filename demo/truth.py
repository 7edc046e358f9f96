# SPDX-License-Identifier: MIT
"""Which images of a drive show the same place, from where the robot was and which way it looked."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netvlad_ros.data.bag_places import read_bag
from netvlad_ros.data.places import angle_between
from netvlad_ros.errors import DatasetError
from netvlad_ros.evaluation.ground_truth import GroundTruth

# Along a street, so far apart most of the view is the same; who comes from the other side sees other walls.
RADIUS_M = 10.0
HEADING_TOLERANCE_DEG = 45.0
SAME_PLACE = f"within {RADIUS_M:g} m, headings within {HEADING_TOLERANCE_DEG:g}°"


@dataclass(frozen=True)
class Poses:
    """Of N images, in their order.

    stamps_ns:    (N,) int64.
    positions_m:  (N, 2).
    headings_rad: (N,).
    """

    stamps_ns: np.ndarray
    positions_m: np.ndarray
    headings_rad: np.ndarray

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

    def ground_truth(self) -> GroundTruth:
        """Of each image, numbered from 1, the earlier ones of its place."""
        truth: GroundTruth = {}
        for query in range(1, len(self.stamps_ns)):
            same = np.flatnonzero(self.is_same_place(query, np.arange(query)))
            if len(same):
                truth[query + 1] = frozenset((same + 1).tolist())
        return truth


def read_poses(bag: Path) -> Poses:
    """From the odometry of a bag. Raises BagError or DatasetError."""
    places = read_bag(bag).database
    if places.headings_rad is None or places.stamps_ns is None:
        raise DatasetError(f"{bag}: expected odometry, which tells headings, got positions only.")
    return Poses(places.stamps_ns, places.positions_m[:, :2], places.headings_rad)
