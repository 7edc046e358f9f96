# SPDX-License-Identifier: MIT
"""RootSIFT on a dense grid, aggregated by VLAD with a vocabulary: the strongest method without learning.

References: Arandjelovic and Zisserman, Three things everyone should know (RootSIFT), and All about VLAD
(intra-normalisation); Torii et al., 24/7 Place Recognition by View Synthesis (dense SIFT).
"""

from collections.abc import Iterable

import cv2
import numpy as np

from netvlad_ros.evaluation.baselines.baseline import Baseline
from netvlad_ros.evaluation.baselines.vocabulary import local_descriptors
from netvlad_ros.index.nearest import k_means

SIZE_PX = (320, 240)
STEP_PX = 8
# Diameters of the keypoints; OpenCV's descriptor spans six times as much.
DIAMETERS_PX = (4.0, 6.0, 8.0)
SIFT_DIMS = 128
CLUSTERS = 64


class RootSiftVlad(Baseline):
    """Residuals of upright RootSIFT to their nearest cluster centres, each cluster normalised by itself."""

    def __init__(self, images: Iterable[np.ndarray], clusters: int = CLUSTERS) -> None:
        """images: for the vocabulary. Raises DatasetError if they are too few."""
        self.size_px = SIZE_PX
        self.dims = clusters * SIFT_DIMS
        self._sift = cv2.SIFT.create()
        self._keypoints = _grid(*SIZE_PX)
        described, digest = local_descriptors(images, self._root_sift, SIZE_PX, clusters)
        self._centres = k_means(np.concatenate(described), clusters)
        self.fingerprint = f"baseline:rootsift-vlad-{clusters}:{digest}@{SIZE_PX[0]}x{SIZE_PX[1]}"

    def describe(self, grey: np.ndarray) -> np.ndarray:
        features = self._root_sift(grey)
        if not len(features):
            return np.zeros(self.dims)
        # The nearest centre: |x - c|^2 without |x|^2, which is the same for all.
        distances = np.sum(self._centres**2, axis=1) - 2.0 * features @ self._centres.T
        nearest = distances.argmin(axis=1)
        residuals = np.zeros_like(self._centres, np.float64)
        np.add.at(residuals, nearest, features - self._centres[nearest])
        lengths = np.linalg.norm(residuals, axis=1, keepdims=True)
        return (residuals / np.where(lengths > 0.0, lengths, 1.0)).reshape(-1)

    def _root_sift(self, grey: np.ndarray) -> np.ndarray:
        """(n, 128) float32 of unit length, without those of flat places."""
        _, found = self._sift.compute(grey, self._keypoints)
        features = np.asarray(found, np.float32).reshape(-1, SIFT_DIMS)
        sums = features.sum(axis=1, keepdims=True)
        kept = sums[:, 0] > 0.0
        return np.sqrt(features[kept] / sums[kept])


def _grid(width_px: int, height_px: int) -> list[cv2.KeyPoint]:
    return [
        cv2.KeyPoint(float(x), float(y), diameter, 0.0)
        for diameter in DIAMETERS_PX
        for y in range(STEP_PX, height_px - STEP_PX + 1, STEP_PX)
        for x in range(STEP_PX, width_px - STEP_PX + 1, STEP_PX)
    ]
