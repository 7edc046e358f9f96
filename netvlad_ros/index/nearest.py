# SPDX-License-Identifier: MIT
"""The nearest of many descriptors to each of many queries: exact, by Euclidean distance, with Faiss."""

from collections.abc import Iterable

import faiss
import numpy as np


class NearestNeighbours:
    """Takes a database block by block, and keeps the nearest of each query so far.

    Memory is that of the queries, their neighbours and one block, however large the database is. The order
    is that of faiss.IndexFlatL2 over the whole database.
    """

    def __init__(self, queries: np.ndarray, count: int) -> None:
        """queries: (Q, D) float32; count: how many neighbours each of them gets."""
        self._queries = np.ascontiguousarray(queries, np.float32)
        self._count = count
        self._distances = np.empty((len(queries), 0), np.float32)
        self._indices = np.empty((len(queries), 0), np.int64)

    def add(self, descriptors: np.ndarray, indices: np.ndarray) -> None:
        """The next block: (B, D) float32, and the index (B,) of each."""
        if not len(descriptors) or not len(self._queries):
            return
        index = faiss.IndexFlatL2(descriptors.shape[1])
        index.add(np.ascontiguousarray(descriptors, np.float32))
        squared, rows = index.search(self._queries, min(self._count, len(descriptors)))
        distances = np.concatenate([self._distances, squared], axis=1)
        known = np.concatenate([self._indices, np.asarray(indices, np.int64)[rows]], axis=1)
        # Stable: what came first stays first among equals.
        best = np.argsort(distances, axis=1, kind="stable")[:, : self._count]
        self._distances = np.take_along_axis(distances, best, axis=1)
        self._indices = np.take_along_axis(known, best, axis=1)

    @property
    def indices(self) -> np.ndarray:
        """(Q, n) of the database, nearest first; n is smaller than the count in a smaller database."""
        return self._indices

    @property
    def squared_distances(self) -> np.ndarray:
        """(Q, n) as they were found."""
        return self._distances


def nearest_neighbours(
    queries: np.ndarray, blocks: Iterable[tuple[np.ndarray, np.ndarray]], count: int
) -> NearestNeighbours:
    """The same over all blocks of a database, each of them descriptors and their indices."""
    found = NearestNeighbours(queries, count)
    for descriptors, indices in blocks:
        found.add(descriptors, indices)
    return found


def k_means(
    descriptors: np.ndarray, clusters: int, seed: int = 0, iterations: int = 25
) -> np.ndarray:
    """(clusters, D) float32 cluster centres of (N, D) descriptors, N at least as many as clusters."""
    means = faiss.Kmeans(
        descriptors.shape[1],
        clusters,
        niter=iterations,
        seed=seed,
        min_points_per_centroid=1,  # or Faiss warns on stderr
        max_points_per_centroid=len(descriptors),
    )
    means.train(np.ascontiguousarray(descriptors, np.float32))
    return np.asarray(means.centroids)
