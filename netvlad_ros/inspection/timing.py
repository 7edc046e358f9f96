# SPDX-License-Identifier: MIT
"""How long a model takes for one image, by the size of the image."""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from netvlad_ros.errors import ImageError
from netvlad_ros.extraction.extractor import NetVLADExtractor

# By which both sides are multiplied: four times the side is sixteen times the area.
SCALES = (0.5, 1.0, 2.0, 4.0)
# Of each size so many runs, or as many as fit into the time, but not fewer than the least.
RUNS, LEAST_RUNS, TIME_S = 20, 3, 5.0


@dataclass(frozen=True)
class Timing:
    """What one image of a size takes, from uint8 values to the descriptor."""

    scale: float
    width_px: int
    height_px: int
    runs: int
    median_ms: float
    least_ms: float


def time_sizes(
    extractor: NetVLADExtractor, width_px: int, height_px: int, scales: Sequence[float] = SCALES
) -> Iterator[Timing]:
    """One timing for each scale of both sides; sizes that are too small for the network are left out.

    extractor: one that keeps the images' own size, or whose size this is.
    """
    for scale in scales:
        width, height = round(width_px * scale), round(height_px * scale)
        try:
            seconds = _seconds(extractor, width, height)
        except ImageError:
            continue
        median, least = statistics.median(seconds), min(seconds)
        yield Timing(scale, width, height, len(seconds), 1e3 * median, 1e3 * least)


def _seconds(extractor: NetVLADExtractor, width: int, height: int) -> list[float]:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    extractor.extract(image)  # what is compiled for a size is compiled the first time
    seconds: list[float] = []
    while len(seconds) < LEAST_RUNS or (len(seconds) < RUNS and sum(seconds) < TIME_S):
        started = time.perf_counter()
        extractor.extract(image)
        seconds.append(time.perf_counter() - started)
    return seconds
