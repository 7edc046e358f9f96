# SPDX-License-Identifier: MIT
"""Extractors whose descriptors a test makes up."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np


class MadeUpExtractor(ABC):
    """What a test's extractor needs besides the descriptor of an image."""

    dims: int
    fingerprint = "made-up"
    calibration = None

    @abstractmethod
    def extract(self, image: np.ndarray) -> np.ndarray: ...

    def extract_batch(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([self.extract(image) for image in images])
