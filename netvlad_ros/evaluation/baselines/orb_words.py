# SPDX-License-Identifier: MIT
"""ORB features as a bag of words with tf-idf, the kind of place recognition that DBoW brought to SLAM.

Reference: Galvez-Lopez and Tardos, Bags of Binary Words for Fast Place Recognition in Image Sequences. The
vocabulary here is flat and its words are means of bits, not a tree of binary words.
"""

from collections.abc import Iterable

import cv2
import numpy as np

from netvlad_ros.evaluation.baselines.baseline import Baseline
from netvlad_ros.evaluation.baselines.vocabulary import local_descriptors
from netvlad_ros.index.nearest import k_means

SIZE_PX = (640, 480)
FEATURES = 1000
WORDS = 1000
BITS = 256


class OrbWords(Baseline):
    """How often each word occurs in an image, weighted by how rare it is among those of the vocabulary."""

    def __init__(self, images: Iterable[np.ndarray], words: int = WORDS) -> None:
        """images: for the vocabulary. Raises DatasetError if they are too few."""
        self.size_px = SIZE_PX
        self.dims = words
        self._orb = cv2.ORB.create(nfeatures=FEATURES, fastThreshold=7)
        described, digest = local_descriptors(images, self._bits, SIZE_PX, words)
        self._words = k_means(np.concatenate(described), words)
        occurs = np.sum([self._counts(one) > 0 for one in described], axis=0)
        self._rarity = np.log((1.0 + len(described)) / (1.0 + occurs)) + 1e-3
        self.fingerprint = f"baseline:orb-{words}:{digest}@{SIZE_PX[0]}x{SIZE_PX[1]}"

    def describe(self, grey: np.ndarray) -> np.ndarray:
        return self._counts(self._bits(grey)) * self._rarity

    def _counts(self, features: np.ndarray) -> np.ndarray:
        """(words,) how many of the features are nearest to each word."""
        if not len(features):
            return np.zeros(self.dims)
        distances = np.sum(self._words**2, axis=1) - 2.0 * features @ self._words.T
        return np.bincount(distances.argmin(axis=1), minlength=self.dims).astype(np.float64)

    def _bits(self, grey: np.ndarray) -> np.ndarray:
        """(n, 256) float32, -1 or 1: half their squared distance is twice that of Hamming."""
        keypoints, found = self._orb.detectAndCompute(grey, None)
        features = np.asarray(found if len(keypoints) else [], np.uint8).reshape(-1, BITS // 8)
        return np.unpackbits(features, axis=1).astype(np.float32) * 2.0 - 1.0
