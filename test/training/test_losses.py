# SPDX-License-Identifier: MIT
"""Losses are what their authors define, computed another way."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from netvlad_ros.training import losses
from netvlad_ros.training.batches import OTHER, SAME, tuple_relation
from netvlad_ros.training.config import LossConfig

TUPLES, POSITIVES, NEGATIVES = 3, 2, 4
SIZE = 1 + POSITIVES + NEGATIVES


@pytest.fixture
def descriptors() -> np.ndarray:
    """Of unit length, near enough to each other that margins matter."""
    values = np.random.default_rng(0).normal(1.0, 0.5, (TUPLES * SIZE, 8))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def loss_of(descriptors: np.ndarray, **values: Any) -> float:
    loss = losses.make_loss(LossConfig(**values), SIZE, POSITIVES)
    relation = tuple_relation(TUPLES, POSITIVES, NEGATIVES)
    return float(loss(descriptors, relation))


def parts(descriptors: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Query, positives and negatives of each tuple."""
    tuples = descriptors.astype(np.float64).reshape(TUPLES, SIZE, -1)
    return [(one[0], one[1 : 1 + POSITIVES], one[1 + POSITIVES :]) for one in tuples]


def test_triplet_is_the_ranking_loss_of_the_paper(descriptors):
    terms = [
        max(0.0, min(sum((q - p) ** 2) for p in positives) + 0.1 - sum((q - n) ** 2))
        for q, positives, negatives in parts(descriptors)
        for n in negatives
    ]
    assert loss_of(descriptors, name="triplet") == pytest.approx(np.mean(terms), rel=1e-5)


def test_triplet_distance_is_torch_s_triplet_margin_loss_of_the_best_positive(descriptors):
    def distance(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.linalg.norm(one - other + 1e-6))

    terms = [
        max(0.0, min(distance(q, p) for p in positives) - distance(q, n) + math.sqrt(0.1))
        for q, positives, negatives in parts(descriptors)
        for n in negatives
    ]
    assert loss_of(descriptors, name="triplet_distance") == pytest.approx(np.mean(terms), rel=1e-5)


def test_best_positive_compares_each_negative_with_the_most_similar_positive(descriptors):
    terms = [
        max(0.0, q @ n - max(q @ p for p in positives) + 0.3)
        for q, positives, negatives in parts(descriptors)
        for n in negatives
    ]
    assert loss_of(descriptors, name="best_positive") == pytest.approx(np.mean(terms), rel=1e-5)


def test_all_pairs_compares_each_negative_with_each_positive(descriptors):
    terms = [
        max(0.0, q @ n - q @ p + 0.2)
        for q, positives, negatives in parts(descriptors)
        for p, n in itertools.product(positives, negatives)
    ]
    found = loss_of(descriptors, name="all_pairs", margin=0.2)
    assert found == pytest.approx(np.mean(terms), rel=1e-5)


def test_all_pairs_deviation_adds_how_unequal_positives_are(descriptors):
    deviation = np.mean([np.std(positives @ q) for q, positives, _ in parts(descriptors)])
    added = loss_of(descriptors, name="all_pairs_deviation", deviation_weight=2.0)
    plain = loss_of(descriptors, name="all_pairs")
    assert added - plain == pytest.approx(2.0 * deviation, rel=1e-4)
    found = losses.positive_set_deviation(descriptors, SIZE, POSITIVES)
    assert float(found) == pytest.approx(deviation, rel=1e-4)


def test_multi_similarity_weighs_the_pairs_that_are_hard_enough(descriptors):
    relation = np.random.default_rng(1).choice([SAME, OTHER, 0], (TUPLES * SIZE,) * 2)
    relation = np.triu(relation, 1) + np.triu(relation, 1).T
    similarity = descriptors.astype(np.float64) @ descriptors.T
    terms = []
    for row, related in zip(similarity, relation, strict=True):
        same, other = row[related == SAME], row[related == OTHER]
        near = [s for s in same if s - 0.1 < max(other, default=-math.inf)]
        far = [s for s in other if s + 0.1 > min(same, default=math.inf)]
        terms.append(
            math.log1p(sum(math.exp(-2.0 * (s - 0.5)) for s in near)) / 2.0
            + math.log1p(sum(math.exp(50.0 * (s - 0.5)) for s in far)) / 50.0
        )
    config = LossConfig(name="multi_similarity", positive_scale=2.0, similarity_base=0.5)
    found = losses.multi_similarity(descriptors, relation.astype(np.int8), config)
    assert float(found) == pytest.approx(np.mean(terms), rel=1e-4)


def test_multi_similarity_of_images_of_which_nothing_is_known_is_nothing(descriptors):
    relation = np.zeros((len(descriptors),) * 2, np.int8)
    found = losses.multi_similarity(descriptors, relation, LossConfig(name="multi_similarity"))
    assert float(found) == 0.0


def test_a_perfect_network_has_no_triplet_loss_and_all_pairs_satisfied():
    places = np.repeat(np.eye(2, dtype=np.float32), [1 + POSITIVES, NEGATIVES], axis=0)
    descriptors = np.tile(places, (TUPLES, 1))
    assert loss_of(descriptors, name="triplet") == 0.0
    assert float(losses.satisfied_share(descriptors, SIZE, POSITIVES, 0.3)) == 1.0
    assert float(losses.violating_negatives(descriptors, SIZE, POSITIVES)) == 0.0


def test_figures_count_pairs_and_negatives(descriptors):
    pairs, violating = [], []
    for q, positives, negatives in parts(descriptors):
        pairs += [q @ p >= q @ n + 0.3 for p, n in itertools.product(positives, negatives)]
        best = min(sum((q - p) ** 2) for p in positives)
        violating.append(sum(sum((q - n) ** 2) < best + 0.1 for n in negatives))
    share = losses.satisfied_share(descriptors, SIZE, POSITIVES, 0.3)
    assert float(share) == pytest.approx(np.mean(pairs), abs=1e-6)
    found = losses.violating_negatives(descriptors, SIZE, POSITIVES)
    assert float(found) == pytest.approx(np.mean(violating), abs=1e-6)
