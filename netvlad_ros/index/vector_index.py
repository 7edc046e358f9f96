# SPDX-License-Identifier: MIT
"""What an index of descriptors does, whether it is exact, approximate or on another machine."""

from typing import Protocol

import numpy as np


class VectorIndex(Protocol):
    """Descriptors of unit length by number, compared by their dot product.

    dims:       length of a descriptor.
    size_bytes: memory taken by descriptors.
    """

    dims: int

    def __len__(self) -> int: ...

    @property
    def size_bytes(self) -> int: ...

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Takes in (n, dims) float32 vectors under (n,) int64 ids, which ascend from one call to the next."""

    def search(
        self, vector: np.ndarray, count: int, excluded: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids and cosine similarities of the most similar ones, best first; of equal ones the older first.

        count:    so many, or fewer where there are no more.
        excluded: (m,) ids that are not searched, in ascending order.
        """

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """(n, dims) float32 in the order of the ids, as far as the index keeps them exactly.

        Raises KeyError for an id that is not in here.
        """

    def remove(self, ids: np.ndarray) -> None:
        """Takes ids out. Raises KeyError, and removes nothing, if one is not in here."""
