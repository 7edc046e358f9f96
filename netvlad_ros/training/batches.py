# SPDX-License-Identifier: MIT
"""What training takes at each step: tuples of images, from a source that gives them in a fixed order."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

SAME, OTHER, UNKNOWN = 1, -1, 0  # how the places of two images are related


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """T tuples of S = 1 + P + N images: a query, P of its place, N of other places.

    images:    (T, S, H, W, 3) uint8, RGB.
    relation:  (T*S, T*S) int8: SAME, OTHER, or UNKNOWN (also of an image to itself).
    positives: P.
    """

    images: np.ndarray
    relation: np.ndarray
    positives: int

    @property
    def tuples(self) -> int:
        """T."""
        return self.images.shape[0]

    @property
    def tuple_size(self) -> int:
        """S, images in a tuple."""
        return self.images.shape[1]

    @property
    def flat_images(self) -> np.ndarray:
        """(T*S, H, W, 3) uint8, a tuple after the other."""
        return self.images.reshape(-1, *self.images.shape[2:])


class BatchSource(Protocol):
    """Gives the batch of any step, so that training can resume anywhere."""

    @property
    def refresh_every_steps(self) -> int:
        """0 for never."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """In which every query comes about once."""
        ...

    def batches(self, first_step: int) -> Iterator[TrainingBatch]:
        """Endless; the same step gives the same batch."""
        ...

    def refresh(self, model: Any, step: int) -> None:
        """Computes what depends on the network anew, such as the descriptors that are mined.

        Called before each step that refresh_every_steps divides, 0 too; an iterator of batches() that was
        open is closed before.
        """
        ...

    def state(self, step: int) -> dict[str, np.ndarray]:
        """What a checkpoint has to hold beyond seed and step, before this step, whatever was read ahead."""
        ...

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Goes on from what state() gave, without a refresh."""
        ...


def tuple_relation(tuples: int, positives: int, negatives: int) -> np.ndarray:
    """(T*S, T*S) relation where all that is known is what each tuple says; across tuples it is UNKNOWN."""
    size = 1 + positives + negatives
    inside = np.zeros((size, size), np.int8)
    inside[: 1 + positives, : 1 + positives] = SAME
    inside[: 1 + positives, 1 + positives :] = OTHER
    inside[1 + positives :, : 1 + positives] = OTHER
    np.fill_diagonal(inside, UNKNOWN)
    return np.kron(np.eye(tuples, dtype=np.int8), inside)
