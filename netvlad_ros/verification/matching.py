# SPDX-License-Identifier: MIT
"""Which feature of one image is the same point as which of another."""

import numpy as np

from netvlad_ros.image_data import LocalFeatures
from netvlad_ros.index.nearest import nearest_rows

_NONE = np.zeros((0, 2), np.int64)


def match(a: LocalFeatures, b: LocalFeatures, max_ratio: float) -> np.ndarray:
    """(n, 2) rows of a and of b: each is the other's nearest, and much nearer than the second nearest.

    max_ratio: of the distances to the nearest and the second nearest of b, Lowe, IJCV 2004, section 7.1.
    Features of different methods have nothing in common.
    """
    if a.method != b.method or len(a) < 2 or len(b) < 2:
        return _NONE
    rows, distances = nearest_rows(a.descriptors, b.descriptors, 2)
    clear = np.flatnonzero(distances[:, 0] < max_ratio * distances[:, 1])
    if not len(clear):
        return _NONE
    found = rows[clear, 0]
    back, _ = nearest_rows(b.descriptors[found], a.descriptors, 1)
    is_mutual = back[:, 0] == clear
    return np.stack([clear[is_mutual], found[is_mutual]], axis=1)
