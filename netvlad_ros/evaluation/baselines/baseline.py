# SPDX-License-Identifier: MIT
"""What all baselines have in common: an extractor's interface around one function."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence

import cv2
import numpy as np

from netvlad_ros.config import ExtractorConfig
from netvlad_ros.extraction.preprocessing import network_input

# OpenCV does not say that its detectors may be used by several threads at once.
_DESCRIBING = threading.Lock()


class Baseline(ABC):
    """An Extractor that refuses the same images as NetVLADExtractor.

    size_px: (width, height) images are resized to.
    """

    dims: int
    fingerprint: str
    calibration = None
    size_px: tuple[int, int]

    def extract(self, image: np.ndarray) -> np.ndarray:
        """See Extractor."""
        small = grey(image, self.size_px)
        with _DESCRIBING:
            described = self.describe(small)
        if not described.any():  # a blank wall must be a miss, not be left out of the count
            described = np.ones(self.dims)
        return (described / np.linalg.norm(described)).astype(np.float32)

    def extract_batch(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """See Extractor."""
        rows = [self.extract(image) for image in images]
        return np.stack(rows) if rows else np.empty((0, self.dims), np.float32)

    @abstractmethod
    def describe(self, grey: np.ndarray) -> np.ndarray:
        """(dims,) of any length, from a grey uint8 image of our size; zero if there is nothing in it."""


def grey(image: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """uint8 (height, width). Raises ImageError for what is no picture of a place."""
    return cv2.cvtColor(network_input(image, size_px, ExtractorConfig()), cv2.COLOR_RGB2GRAY)
