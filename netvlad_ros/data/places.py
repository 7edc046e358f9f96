# SPDX-License-Identifier: MIT
"""Images with the positions they were taken at, and which of them show the same place.

Positions are metres in one plane frame (x, y) or (x, y, z), such as UTM east and north. Headings are radians
from the x axis, counter-clockwise. Distances up to a radius count as within it, as in Relja/netvlad
(closePosition.m) and in pytorch-NetVlad.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from netvlad_ros.data.image_sources import ImageSource
from netvlad_ros.data.position_grid import PositionGrid
from netvlad_ros.errors import DatasetError

# Of Pittsburgh and Tokyo (Arandjelovic et al., NetVLAD, section 5.1; dbStruct.nonTrivPosDistSqThr).
POSITIVE_RADIUS_M = 25.0
NONTRIVIAL_RADIUS_M = 10.0


@dataclass(frozen=True, eq=False)
class PlaceImages:
    """N images, and where, in which direction and when each was taken.

    positions_m:  (N, 2) or (N, 3) float64; NaN where nobody knows.
    headings_rad: (N,) float64, or None.
    stamps_ns:    (N,) int64, or None.
    """

    images: ImageSource
    positions_m: np.ndarray
    headings_rad: np.ndarray | None = None
    stamps_ns: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Raises DatasetError unless the arrays fit each other."""
        count, root = len(self.images.names), self.images.root
        if self.positions_m.shape not in ((count, 2), (count, 3)):
            raise DatasetError(
                f"{root}: expected positions of shape ({count}, 2) or ({count}, 3), one for each image, got "
                f"{self.positions_m.shape}; is a file of another set among them?"
            )
        for name in ("headings_rad", "stamps_ns"):
            values = getattr(self, name)
            if values is not None and values.shape != (count,):
                raise DatasetError(
                    f"{root}: expected {name} of shape ({count},), got {values.shape}."
                )

    def __len__(self) -> int:
        return len(self.images.names)

    @property
    def names(self) -> Sequence[str]:
        return self.images.names

    def read(self, index: int) -> np.ndarray:
        """uint8, RGB (H, W, 3) or grey (H, W). Raises ImageError, naming the image."""
        return self.images.read(index)

    @property
    def has_positions(self) -> bool:
        return bool(len(self)) and bool(np.isfinite(self.positions_m).all())


@dataclass(frozen=True, eq=False)
class PlaceDataset:
    """A database, queries to be found in it, and which pairs show the same place.

    name:                  what it is called in reports.
    database, queries:     the same object where it is one sequence, in which nothing matches itself.
    positive_radius_m:     database images up to this far from a query show its place; those beyond are
                           negatives.
    nontrivial_radius_m:   those up to this far are what training takes for positives.
    trivial_radius_m:      but none up to this far, where queries come out of the database (Tokyo Time
                           Machine: 1 m); negative where all count.
    heading_tolerance_rad: positives look the same way up to this; None where headings don't matter.
    other_time_only:       a positive of training is of another time (Tokyo Time Machine).
    notes:                 what its reader left out, in sentences.
    """

    name: str
    database: PlaceImages
    queries: PlaceImages
    positive_radius_m: float = POSITIVE_RADIUS_M
    nontrivial_radius_m: float = NONTRIVIAL_RADIUS_M
    trivial_radius_m: float = -1.0
    heading_tolerance_rad: float | None = None
    other_time_only: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises DatasetError for what can't be compared."""
        for what, images in (("database", self.database), ("query", self.queries)):
            if not len(images):
                raise DatasetError(f"{self.name}: expected at least one {what} image, got none.")
        widths = {self.database.positions_m.shape[1], self.queries.positions_m.shape[1]}
        if len(widths) > 1:
            raise DatasetError(
                f"{self.name}: expected positions of the database and of the queries in the same frame, got "
                "(x, y) for the one and (x, y, z) for the other."
            )
        if not 0.0 < self.nontrivial_radius_m <= self.positive_radius_m < np.inf:
            raise DatasetError(
                f"{self.name}: expected radii above 0 m, that of non-trivial positives not the larger, got "
                f"{self.nontrivial_radius_m:g} m and {self.positive_radius_m:g} m."
            )
        if self.heading_tolerance_rad is not None and (
            self.database.headings_rad is None or self.queries.headings_rad is None
        ):
            raise DatasetError(
                f"{self.name}: has no headings; leave the heading tolerance out, or add them."
            )

    @property
    def is_sequence(self) -> bool:
        """Whether the queries are the database: one drive, without a split."""
        return self.queries is self.database

    def with_radius(self, positive_m: float, nontrivial_m: float | None = None) -> "PlaceDataset":
        """The same images with other radii; the smaller one is kept below the larger one."""
        nontrivial_m = nontrivial_m or min(self.nontrivial_radius_m, positive_m)
        return dataclasses.replace(
            self, positive_radius_m=positive_m, nontrivial_radius_m=nontrivial_m
        )

    def positives(self, query: int) -> np.ndarray:
        """Indices of the database images that show the place of a query, ascending."""
        return self._within(query, self.positive_radius_m)[0]

    def nontrivial_positives(self, query: int) -> np.ndarray:
        """Indices of those that training takes for positives, ascending."""
        indices, distances_m = self._within(query, self.nontrivial_radius_m)
        kept = distances_m > self.trivial_radius_m
        if self.other_time_only and self.queries.stamps_ns is not None:
            stamps_ns = self.database.stamps_ns
            if stamps_ns is not None:
                kept &= stamps_ns[indices] != self.queries.stamps_ns[query]
        return indices[kept]

    def negatives(self, query: int) -> np.ndarray:
        """Indices of all database images beyond the radius, ascending: nearly as many as there are."""
        near, _ = self._grid.within(self.queries.positions_m[query], self.positive_radius_m)
        return np.setdiff1d(np.arange(len(self.database)), near, assume_unique=True)

    def sample_negatives(self, query: int, count: int, rng: np.random.Generator) -> np.ndarray:
        """At most so many different negatives, all equally likely, without a list of the others.

        They are in no order. There are fewer only where the database has fewer.
        """
        near, _ = self._grid.within(self.queries.positions_m[query], self.positive_radius_m)
        far = len(self.database) - len(near)
        if far <= 2 * count:
            return rng.permutation(self.negatives(query))[:count]
        # Places among the negatives, moved up by the positives that lie before them.
        drawn = rng.choice(far, count, replace=False)
        gaps = near - np.arange(len(near))
        return drawn + np.searchsorted(gaps, drawn, "right")

    def distances_m(self, query: int, indices: np.ndarray) -> np.ndarray:
        """How far database images lie from a query."""
        difference = self.database.positions_m[indices] - self.queries.positions_m[query]
        return np.linalg.norm(difference, axis=-1)

    def _within(self, query: int, radius_m: float) -> tuple[np.ndarray, np.ndarray]:
        """The images within a radius that look the same way, without the query itself."""
        indices, distances_m = self._grid.within(self.queries.positions_m[query], radius_m)
        kept = np.ones(len(indices), bool)
        if self.is_sequence:
            kept &= indices != query
        if self.heading_tolerance_rad is not None:
            kept &= self._heading_differences_rad(query, indices) <= self.heading_tolerance_rad
        return indices[kept], distances_m[kept]

    def _heading_differences_rad(self, query: int, indices: np.ndarray) -> np.ndarray:
        of_database, of_queries = self.database.headings_rad, self.queries.headings_rad
        if of_database is None or of_queries is None:
            return np.zeros(len(indices))
        return angle_between(of_database[indices], of_queries[query])

    @cached_property
    def _grid(self) -> PositionGrid:
        for images in (self.database, self.queries):
            if not images.has_positions:
                raise DatasetError(
                    f"{self.name}: the positions of its images are not known; give ground truth in another "
                    "way, or a file of positions."
                )
        return PositionGrid(self.database.positions_m, self.positive_radius_m)


def angle_between(first_rad: np.ndarray, second_rad: np.ndarray | float) -> np.ndarray:
    """How far two headings are apart, 0 to pi."""
    turned = np.asarray(first_rad) - second_rad
    return np.abs((turned + np.pi) % (2.0 * np.pi) - np.pi)
