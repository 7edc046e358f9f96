# SPDX-License-Identifier: MIT
"""The nearest of many vectors to each of many queries, exact.

Faiss is imported when it is first used: a camera's node without a stereo pair never does.
"""

from collections.abc import Callable, Iterator

import numpy as np

from netvlad_ros.threads import FAISS_THREADS

# Rows and columns of distances that are computed at once, in float64.
ROWS, COLUMNS = 256, 4096


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
        import faiss

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


def nearest_rows(
    queries: np.ndarray, vectors: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the nearest vectors (Q, count) of each query, and their distances, nearest first.

    Of bits, packed in uint8 (N, D / 8), by Hamming distance; of float32 (N, D) by Euclidean distance.
    count: not more than there are vectors.
    """
    import faiss

    faiss.omp_set_num_threads(FAISS_THREADS)  # counts for the thread that calls only
    if queries.dtype == np.uint8:
        bits = faiss.IndexBinaryFlat(8 * vectors.shape[1])
        bits.add(np.ascontiguousarray(vectors))
        distances, rows = bits.search(np.ascontiguousarray(queries), count)
        return rows, distances
    floats = faiss.IndexFlatL2(vectors.shape[1])
    floats.add(np.ascontiguousarray(vectors))
    squared, rows = floats.search(np.ascontiguousarray(queries), count)
    return rows, np.sqrt(squared)


def nearest_allowed(
    vectors: np.ndarray, allowed: Callable[[slice, slice], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Of each of N vectors the nearest that it may be matched with, and the squared distance in float64.

    vectors: (N, D), of any length.
    allowed: from rows and columns to (rows, columns) bool, whether a row may be matched with a column.
    Returns (N,) indices, -1 if there is none, and (N,) distances, inf if there is none. Of equal distances
    the earliest counts. Memory is that of one block of distances.
    """
    count = len(vectors)
    matches, nearest = np.full(count, -1), np.full(count, np.inf)
    squared = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    for rows in _spans(count, ROWS):
        queries = vectors[rows].astype(np.float64)
        for columns in _spans(count, COLUMNS):
            products = queries @ vectors[columns].astype(np.float64).T
            distances = squared[rows, None] + squared[None, columns] - 2.0 * products
            distances[~allowed(rows, columns)] = np.inf
            best = distances.argmin(axis=1)
            found = distances[np.arange(len(best)), best]
            nearer = found < nearest[rows]
            matches[rows] = np.where(nearer, best + columns.start, matches[rows])
            nearest[rows] = np.where(nearer, found, nearest[rows])
    return matches, np.maximum(nearest, 0.0)


def _spans(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(count, start + size))


def k_means(
    descriptors: np.ndarray, clusters: int, seed: int = 0, iterations: int = 25
) -> np.ndarray:
    """(clusters, D) float32 cluster centres of (N, D) descriptors, N at least as many as clusters."""
    import faiss

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
