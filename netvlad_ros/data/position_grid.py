# SPDX-License-Identifier: MIT
"""Which positions lie within a radius of a point, found through the cells of a grid."""

import math

import numpy as np


class PositionGrid:
    """Positions sorted by the square cell they lie in; the memory it takes is linear in their number."""

    def __init__(self, positions_m: np.ndarray, cell_m: float) -> None:
        """positions_m: (N, 2) or (N, 3), finite; the cells are those of x and y."""
        self._positions_m = positions_m
        self._cell_m = cell_m
        self._origin_m = positions_m[:, :2].min(axis=0) if len(positions_m) else np.zeros(2)
        cells = self._cells(positions_m[:, :2])
        self._rows = int(cells[:, 1].max(initial=0)) + 1
        self._columns = int(cells[:, 0].max(initial=0)) + 1
        keys = cells[:, 0] * self._rows + cells[:, 1]
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def within(self, point_m: np.ndarray, radius_m: float) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the positions at most so far from a point, ascending, and their distances in metres."""
        near = self._near(point_m[:2], radius_m)
        distances_m = np.linalg.norm(self._positions_m[near] - point_m, axis=1)
        inside = distances_m <= radius_m
        return near[inside], distances_m[inside]

    def _near(self, point_m: np.ndarray, radius_m: float) -> np.ndarray:
        """Indices of all positions in the cells that the circle may touch, ascending."""
        column, row = self._cells(point_m[None])[0]
        reach = math.ceil(radius_m / self._cell_m)
        low, high = max(0, row - reach), min(self._rows - 1, row + reach)
        if low > high:
            return np.empty(0, np.int64)
        columns = np.arange(max(0, column - reach), min(self._columns - 1, column + reach) + 1)
        starts = np.searchsorted(self._keys, columns * self._rows + low, "left")
        ends = np.searchsorted(self._keys, columns * self._rows + high, "right")
        parts = [self._order[start:end] for start, end in zip(starts, ends, strict=True)]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)

    def _cells(self, points_m: np.ndarray) -> np.ndarray:
        return np.floor((points_m - self._origin_m) / self._cell_m).astype(np.int64)
