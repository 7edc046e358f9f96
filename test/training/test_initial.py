# SPDX-License-Identifier: MIT
"""What is computed before the first step: clusters and a whitening of the images that are learned from."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_networks import tiny_network

from netvlad_ros.model.editing import without_whitening
from netvlad_ros.training.batches import TrainingBatch, tuple_relation
from netvlad_ros.training.config import load_training_config
from netvlad_ros.training.initial import begin_clusters, begin_whitening, described_places

TUPLES, POSITIVES, NEGATIVES = 2, 2, 1
NETWORK = {"clusters": 2, "cut_layer": "conv_pw_2_relu", "input_scale": (0.01,)}


class Source:
    """Batches whose tuples show a place each: noise of its own, and a little of each picture."""

    def batches(self, first_step: int) -> Iterator[TrainingBatch]:
        for step in range(first_step, 100):
            rng = np.random.default_rng(step)
            places = rng.integers(0, 200, (TUPLES, 1, 32, 48, 3))
            noise = rng.integers(0, 55, (TUPLES, 1 + POSITIVES + NEGATIVES, 32, 48, 3))
            relation = tuple_relation(TUPLES, POSITIVES, NEGATIVES)
            yield TrainingBatch((places + noise).astype(np.uint8), relation, POSITIVES)


SOURCE: Any = Source()


def images(seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    while True:
        yield rng.integers(0, 256, (32, 48, 3), np.uint8)


@pytest.fixture
def data() -> Any:
    return SimpleNamespace(source=SOURCE, images=images)


def test_queries_and_positives_are_described_each_tuple_as_a_place():
    network = tiny_network(**NETWORK)
    descriptors, places = described_places(network, SOURCE, images=7)
    assert places.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]  # of whole batches
    assert descriptors.shape == (12, network.descriptor_dims)
    first = next(SOURCE.batches(0)).images[0, : 1 + POSITIVES]
    np.testing.assert_allclose(descriptors[:3], network(first.astype(np.float32)), atol=1e-6)


def test_clusters_are_of_as_many_local_descriptors_as_are_asked_for(data):
    config = load_training_config(None, ["clusters.descriptors=150", "clusters.per_image=40"])
    network = tiny_network(**NETWORK)
    clusters, count = begin_clusters(network, data, config)
    assert count == 150
    np.testing.assert_array_equal(network.get_layer("netvlad").centres, clusters.centres)


def test_a_whitening_from_places_makes_images_of_a_place_more_alike(data):
    config = load_training_config(None, ["initial.whitening_images=120"])
    network = tiny_network(**NETWORK, whitening_dims=16)
    assert begin_whitening(network, data, config) == 40
    whitened, places = described_places(network, SOURCE, 120)
    bare, _ = described_places(without_whitening(network), SOURCE, 120)
    assert separation(whitened, places) > 1.2 * separation(bare, places)


def separation(descriptors: np.ndarray, places: np.ndarray) -> float:
    """Mean squared distance of images of different places, over that of images of the same place."""
    squared = 2 - 2 * descriptors @ descriptors.T
    same = places[:, None] == places
    return float(squared[~same].mean() / squared[same & ~np.eye(len(same), dtype=bool)].mean())
