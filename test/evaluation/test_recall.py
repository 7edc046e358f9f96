# SPDX-License-Identifier: MIT
"""Recall counts as pytorch-NetVlad and the Open Model Zoo count, by an independent computation."""

import numpy as np
import pytest

from netvlad_ros.evaluation.recall import hit_ranks, localization_recall, recall_at_n
from netvlad_ros.index.nearest import NearestNeighbours, k_means

RNG = np.random.default_rng(0)


def unit(count: int, dims: int = 16) -> np.ndarray:
    vectors = RNG.normal(size=(count, dims)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_recall_is_the_share_of_all_queries_with_a_positive_among_the_first():
    database, queries = unit(300), unit(80)
    positives = [np.flatnonzero(RNG.random(300) < 0.01) for _ in range(80)]
    nearest = NearestNeighbours(queries, 20)
    nearest.add(database, np.arange(300))
    recalls = recall_at_n(hit_ranks(nearest.indices, positives))
    distances = np.linalg.norm(queries[:, None] - database[None], axis=2)
    for n, recall in recalls.items():
        hits = sum(
            bool(set(np.argsort(row)[:n].tolist()) & set(right.tolist()))
            for row, right in zip(distances, positives, strict=True)
        )
        assert recall == hits / 80
    assert any(not len(right) for right in positives)  # those count as misses


def test_ranks_are_those_of_the_first_positive():
    predictions = np.array([[3, 1, 2], [5, 6, 7], [9, 8, 4]])
    positives = [np.array([2, 1]), np.array([0]), np.array([9])]
    ranks = hit_ranks(predictions, positives)
    assert ranks.tolist() == [1, -1, 0]
    assert recall_at_n(ranks, (1, 2, 3)) == {1: 1 / 3, 2: 2 / 3, 3: 2 / 3}
    assert recall_at_n(ranks[:0]) == {1: 0.0, 5: 0.0, 10: 0.0, 20: 0.0}


def test_the_open_model_zoo_leaves_the_radius_itself_out_and_counts_hits():
    distances_m = np.array([[24.999, 1.0, 99.0], [25.0, 3.0, 3.0]])
    assert localization_recall(distances_m) == 0.5
    assert localization_recall(distances_m, top=3) == 2.0
    assert localization_recall(np.empty((0, 1))) == 0.0


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
def test_blocks_of_any_size_give_the_same_neighbours(size: int):
    database, queries = unit(200), unit(30)
    found = NearestNeighbours(queries, 20)
    for start in range(0, 200, size):
        rows = np.arange(start, min(200, start + size))
        found.add(database[rows], rows + 1000)
    distances = np.linalg.norm(queries[:, None] - database[None], axis=2)
    expected = np.argsort(distances, axis=1)[:, :20]
    np.testing.assert_array_equal(found.indices, expected + 1000)
    np.testing.assert_allclose(
        found.squared_distances, np.sort(distances, axis=1)[:, :20] ** 2, atol=1e-5
    )


def test_a_small_database_gives_all_there_is_and_an_empty_one_nothing():
    found = NearestNeighbours(unit(4), 20)
    assert found.indices.shape == (4, 0)
    found.add(unit(3), np.arange(3))
    assert found.indices.shape == (4, 3)


def test_cluster_centres_are_found_and_are_the_same_again():
    centres = np.array([[0, 0], [10, 0], [0, 10]], np.float32)
    points = np.concatenate([centre + RNG.normal(0, 0.1, (100, 2)) for centre in centres])
    found = k_means(points.astype(np.float32), 3)
    np.testing.assert_allclose(
        found[np.lexsort(found.round().T)], [[0, 0], [10, 0], [0, 10]], atol=0.1
    )
    np.testing.assert_array_equal(found, k_means(points.astype(np.float32), 3))
