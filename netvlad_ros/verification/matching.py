# SPDX-License-Identifier: MIT
"""Which feature of one image is the same point as which of another."""

import cv2
import numpy as np

from netvlad_ros.image_data import LocalFeatures

_NONE = np.zeros((0, 2), np.int64)


def match(a: LocalFeatures, b: LocalFeatures, max_ratio: float) -> np.ndarray:
    """(n, 2) rows of a and of b: each is the other's nearest, and much nearer than the second nearest.

    max_ratio: of the distances to the nearest and the second nearest of b, Lowe, IJCV 2004, section 7.1.
    Features of different methods have nothing in common.
    """
    if a.method != b.method or len(a) < 2 or len(b) < 2:
        return _NONE
    rows, distances = _nearest(a.descriptors, b.descriptors, 2)
    clear = np.flatnonzero(distances[:, 0] <= max_ratio * distances[:, 1])
    if not len(clear):
        return _NONE
    found = rows[clear, 0]
    back, _ = _nearest(b.descriptors[found], a.descriptors, 1)
    is_mutual = back[:, 0] == clear
    return np.stack([clear[is_mutual], found[is_mutual]], axis=1)


def _nearest(a: np.ndarray, b: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of b (len(a), k) and distances, nearest first: of bits by Hamming, of floats by Euclid."""
    if a.dtype == np.uint8:
        distances, rows = cv2.batchDistance(a, b, cv2.CV_32S, normType=cv2.NORM_HAMMING, K=k)
        return rows, distances
    # One product of matrices; OpenCV takes the pairs one by one.
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * (a @ b.T)
    rows = np.argpartition(squares, k - 1, axis=1)[:, :k] if k < len(b) else squares.argsort(1)
    nearest = np.take_along_axis(squares, rows, axis=1)
    order = nearest.argsort(1)
    nearest = np.take_along_axis(nearest, order, axis=1)
    return np.take_along_axis(rows, order, axis=1), np.sqrt(np.maximum(nearest, 0))
