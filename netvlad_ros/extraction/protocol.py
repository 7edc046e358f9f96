# SPDX-License-Identifier: MIT
"""What an extractor is, whether a model file of any runtime, a network in training or a baseline."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from netvlad_ros.calibration import Calibration


class Extractor(Protocol):
    """Turns images into descriptors.

    dims:        length of a descriptor.
    fingerprint: which model and settings made a descriptor; only those of equal ones can be compared.
    calibration: what similarities of these descriptors mean; None if that was not measured.
    """

    dims: int
    fingerprint: str

    @property
    def calibration(self) -> Calibration | None: ...

    def extract(self, image: np.ndarray) -> np.ndarray:
        """The descriptor of one image, float32 (dims,) of unit length.

        image: uint8, RGB (H, W, 3) or grey (H, W). Raises ImageError if it is no picture of a place, and
        DescriptorError if it has no descriptor.
        """

    def extract_batch(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """The same of several images, (len(images), dims); from several threads at once."""
