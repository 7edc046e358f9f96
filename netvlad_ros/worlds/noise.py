# SPDX-License-Identifier: MIT
"""Random patterns that repeat without a seam: smooth noise in octaves, grain, cells."""

import functools

import cv2
import numpy as np

_SHEETS = 6


def smooth(rng: np.random.Generator, side_px: int, cells: int, cells_y: int = 0) -> np.ndarray:
    """Value noise, float32 (side_px, side_px) of about -1..1, with so many bumps along each side."""
    rows, columns = cells_y or cells, cells
    grid = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    margin = 2
    padded = np.pad(grid, margin, mode="wrap")
    scale = (side_px / columns, side_px / rows)
    large = cv2.resize(padded, None, fx=scale[0], fy=scale[1], interpolation=cv2.INTER_CUBIC)
    left, top = round(margin * scale[0]), round(margin * scale[1])
    return large[top : top + side_px, left : left + side_px]


def octaves(
    rng: np.random.Generator, side_px: int, cells: int = 4, roughness: float = 0.55
) -> np.ndarray:
    """Noise of all scales from side_px / cells down to two pixels, float32, about -1..1.

    Cut out of a small stock of sheets, turned and shifted: making one anew takes ten times as long.
    """
    sheet = _sheet(side_px, cells, roughness, int(rng.integers(_SHEETS)))
    if rng.random() < 0.5:
        sheet = sheet.T
    y, x = rng.integers(0, side_px, 2).tolist()
    return np.ascontiguousarray(np.roll(sheet[:: int(rng.choice([1, -1]))], (y, x), (0, 1)))


@functools.cache
def _sheet(side_px: int, cells: int, roughness: float, number: int) -> np.ndarray:
    rng = np.random.default_rng([side_px, cells, number])
    total, weight = np.zeros((side_px, side_px), np.float32), 1.0
    while cells <= side_px // 2:
        total += weight * smooth(rng, side_px, cells)
        cells, weight = cells * 2, weight * roughness
    return total * (1 - roughness) * 1.4


def grain(rng: np.random.Generator, side_px: int) -> np.ndarray:
    """Independent noise in each pixel, float32, standard deviation 1."""
    return rng.standard_normal((side_px, side_px), np.float32)


def cells(rng: np.random.Generator, side_px: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Irregular cells as of rubble or gravel.

    Returns the number of each pixel's cell, int32 below count, and its distance from the middle of
    the cell in pixels, float32.
    """
    points = rng.integers(0, side_px, (count, 2))
    mask = np.full((3 * side_px, 3 * side_px), 255, np.uint8)
    numbers = np.zeros(mask.shape, np.int32)
    for dx in range(3):
        for dy in range(3):
            at = np.add(points, (dx * side_px, dy * side_px))
            mask[at[:, 1], at[:, 0]] = 0
            numbers[at[:, 1], at[:, 0]] = np.arange(count)
    distance, label = cv2.distanceTransformWithLabels(
        mask, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    number_of_label = np.zeros(label.max() + 1, np.int32)
    zero = mask == 0
    number_of_label[label[zero]] = numbers[zero]
    middle = slice(side_px, 2 * side_px)
    return number_of_label[label[middle, middle]], distance[middle, middle]
