# SPDX-License-Identifier: MIT
"""The pixels of a small grey image: what any method must beat."""

import numpy as np

from netvlad_ros.evaluation.baselines.baseline import Baseline


class Thumbnails(Baseline):
    """The grey levels themselves, without their mean."""

    def __init__(self, size_px: tuple[int, int] = (32, 24)) -> None:
        self.size_px = size_px
        self.dims = size_px[0] * size_px[1]
        self.fingerprint = f"baseline:thumbnails@{size_px[0]}x{size_px[1]}"

    def describe(self, grey: np.ndarray) -> np.ndarray:
        pixels = grey.reshape(-1).astype(np.float64)
        return pixels - pixels.mean()
