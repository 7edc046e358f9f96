# SPDX-License-Identifier: MIT
"""How often a query finds its place among the first n images of a database.

    Recall@n = queries with a positive among their n nearest descriptors / all queries

as pytorch-NetVlad (main.py, test()) counts it: Euclidean distances of descriptors, positives at most the
radius away, and a query without any positive counts as a miss. The Open Model Zoo's localization_recall
differs: its radius is 25 m and itself outside, and for n above 1 it counts hits, so that it can exceed 1
(accuracy_checker/metrics/reid.py).
"""

from collections.abc import Sequence

import numpy as np

N_VALUES = (1, 5, 10, 20)
OPEN_MODEL_ZOO_RADIUS_M = 25.0


def hit_ranks(predictions: np.ndarray, positives: Sequence[np.ndarray]) -> np.ndarray:
    """(Q,) place of the first positive among the predictions of each query, from 0; -1 if there is none.

    predictions: (Q, n) database indices, best first.
    positives:   per query the database indices that show its place.
    """
    ranks = np.full(len(predictions), -1)
    for query, (predicted, right) in enumerate(zip(predictions, positives, strict=True)):
        hits = np.flatnonzero(np.isin(predicted, right))
        if len(hits):
            ranks[query] = hits[0]
    return ranks


def recall_at_n(ranks: np.ndarray, n_values: Sequence[int] = N_VALUES) -> dict[int, float]:
    """Recall@n by n, from the places of the first positives; of no query it is 0."""
    found = [(ranks >= 0) & (ranks < n) for n in n_values]
    return {
        n: float(hit.mean()) if len(hit) else 0.0 for n, hit in zip(n_values, found, strict=True)
    }


def localization_recall(
    distances_m: np.ndarray, radius_m: float = OPEN_MODEL_ZOO_RADIUS_M, top: int = 1
) -> float:
    """The Open Model Zoo's: how many of the first images lie strictly nearer than the radius, per query.

    distances_m: (Q, n) metres from each query to its predictions, best first.
    """
    if not len(distances_m):
        return 0.0
    return float(np.sum(distances_m[:, :top] < radius_m) / len(distances_m))
