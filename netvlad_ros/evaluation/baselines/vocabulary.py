# SPDX-License-Identifier: MIT
"""Local descriptors drawn from images, from which a baseline learns its vocabulary."""

import hashlib
from collections.abc import Callable, Iterable

import numpy as np

from netvlad_ros.errors import DatasetError, ImageError
from netvlad_ros.evaluation.baselines.baseline import grey

MAX_IMAGES = 200
# Together at most so many, so that k-means takes seconds.
MAX_DESCRIPTORS = 60_000


def local_descriptors(
    images: Iterable[np.ndarray],
    describe: Callable[[np.ndarray], np.ndarray],
    size_px: tuple[int, int],
    least: int,
) -> tuple[list[np.ndarray], str]:
    """Per image some of its local descriptors (n, D) float32, always the same, and a digest of the images.

    describe: grey image -> its local descriptors.
    Raises DatasetError if there are fewer than `least` of them together.
    """
    rng, digest, found = np.random.default_rng(0), hashlib.sha256(), []
    for image in images:
        try:
            small = grey(image, size_px)
        except ImageError:
            continue
        digest.update(small.tobytes())
        described = describe(small)
        count = min(len(described), MAX_DESCRIPTORS // MAX_IMAGES * 2)
        found.append(described[np.sort(rng.choice(len(described), count, replace=False))])
    if sum(map(len, found)) < least:
        raise DatasetError(
            f"the images for the vocabulary give {sum(map(len, found))} local descriptors, expected at least "
            f"{least}; give more images (baseline:NAME:FOLDER)."
        )
    return found, digest.hexdigest()[:16]
