# SPDX-License-Identifier: MIT
"""Colours for many clusters, each as unlike the others as can be."""

import functools

import cv2
import numpy as np

# Levels of red, green and blue that colours are chosen among.
_LEVELS = np.linspace(0.0, 1.0, 14)
# Not to be mistaken for a picture in grey, nor for black text on white.
_TAKEN = [[v, v, v] for v in (0.0, 0.25, 0.5, 0.75, 1.0)]


@functools.cache
def palette(count: int) -> np.ndarray:
    """(count, 3) uint8 RGB, always the same; the first colours do not depend on how many there are.

    Each is the one farthest in CIELAB from all before it.
    """
    rgb = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS), axis=-1).reshape(-1, 3)
    rgb = np.concatenate([_TAKEN, rgb]).astype(np.float32)
    lab = cv2.cvtColor(rgb[None], cv2.COLOR_RGB2LAB)[0]
    taken = len(_TAKEN)
    distances = np.linalg.norm(lab[:, None] - lab[None, :taken], axis=-1).min(axis=1)
    chosen: list[int] = []
    for _ in range(count):
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, np.linalg.norm(lab - lab[chosen[-1]], axis=-1))
    return np.round(rgb[chosen] * 255).astype(np.uint8)
