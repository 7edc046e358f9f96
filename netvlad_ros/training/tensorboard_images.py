# SPDX-License-Identifier: MIT
"""Pictures of what a network learns from and of what it makes of it, for TensorBoard."""

from collections.abc import Sequence

import cv2
import numpy as np

from netvlad_ros.extraction.preprocessing import resize
from netvlad_ros.inspection.colours import palette
from netvlad_ros.model.assignments import ClusterView
from netvlad_ros.model.network import NetVLADNetwork
from netvlad_ros.training.batches import TrainingBatch

SHOWN = 4  # tuples, and queries
SHOWN_IMAGES = 8  # of a tuple
_WIDTH_PX = 160
_FRAME_PX = 3
_QUERY, _POSITIVE, _NEGATIVE = (255, 255, 255), (0, 160, 0), (200, 0, 0)


def tuple_picture(batch: TrainingBatch) -> np.ndarray:
    """A tuple in each row, uint8 RGB (H, W, 3): the query framed white, positives green, negatives red."""
    colours = [_QUERY, *[_POSITIVE] * batch.positives]
    colours += [_NEGATIVE] * (batch.tuple_size - len(colours))
    return _rows(
        [
            [_framed(image, colour) for image, colour in zip(images, colours, strict=True)]
            for images in batch.images[:SHOWN]
        ]
    )


def assignment_picture(model: NetVLADNetwork, images: np.ndarray) -> np.ndarray:
    """Each image beside the clusters that its cells are assigned to most, uint8 RGB (H, W, 3).

    images: (B, H, W, 3) uint8.
    """
    view = ClusterView(model)
    network = model.network
    colours = palette(network.clusters + network.ghost_clusters)
    rows = []
    for image in images[:SHOWN]:
        cells = colours[view.assignments(image).largest]
        size = (image.shape[1], image.shape[0])
        enlarged = cv2.resize(cells, size, interpolation=cv2.INTER_NEAREST)
        rows.append([_framed(image, _QUERY), _framed(enlarged, _QUERY)])
    return _rows(rows)


def _framed(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    height, width = image.shape[:2]
    small = resize(image, (_WIDTH_PX, round(height * _WIDTH_PX / width)))
    width_px = _FRAME_PX
    return cv2.copyMakeBorder(
        small, width_px, width_px, width_px, width_px, cv2.BORDER_CONSTANT, value=colour
    )


def _rows(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    return np.concatenate([np.concatenate(row[:SHOWN_IMAGES], axis=1) for row in rows])
