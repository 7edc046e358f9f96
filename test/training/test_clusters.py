# SPDX-License-Identifier: MIT
"""Clusters begin as the paper says: k-means of what the layer sees, and weights as sharp as asked for."""

import keras
import numpy as np
import pytest
from tiny_networks import tiny_network

from netvlad_ros.errors import ModelError
from netvlad_ros.model.assignments import ClusterView
from netvlad_ros.training.clusters import (
    LocalDescriptors,
    initialise_clusters,
    local_descriptors,
    with_bias,
    without_bias,
)

DEPTH = 32


def _images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 6, 8, 3), np.uint8)
    return [image.repeat(8, axis=0).repeat(8, axis=1) for image in coarse]


def _cells(model, image: np.ndarray) -> np.ndarray:
    features = keras.Model(model.input, model.get_layer("netvlad").input)
    return np.array(features(image[None].astype(np.float32))).reshape(-1, DEPTH)


def test_local_descriptors_are_cells_of_their_image_each_once():
    model, images = tiny_network(), _images(4)
    found = local_descriptors(model, images, count=25, per_image=10)
    assert np.bincount(found.images).tolist() == [10, 10, 5]
    assert np.allclose(np.linalg.norm(found.values, axis=1), 1, atol=1e-3)
    for number in range(3):
        mine = found.values[found.images == number]
        distances = np.linalg.norm(mine[:, None] - _cells(model, images[number]), axis=-1)
        assert distances.min(axis=1).max() < 1e-5
        assert len(set(distances.argmin(axis=1))) == len(mine)


def test_an_image_of_few_cells_gives_them_all():
    model, images = tiny_network(), _images(2)
    cells = len(_cells(model, images[0]))
    found = local_descriptors(model, images, count=10_000, per_image=1000)
    assert np.bincount(found.images).tolist() == [cells, cells]


@pytest.mark.parametrize("assignment_bias", [False, True])
def test_the_second_best_cluster_gets_one_percent_on_average(assignment_bias):
    model, images = tiny_network(assignment_bias=assignment_bias), _images(12)
    found = local_descriptors(model, images, per_image=1000)
    clusters = initialise_clusters(model, found, iterations=10)
    assert clusters.alpha > 0
    view = ClusterView(model)
    weights = np.concatenate(
        [view.assignments(image.astype(np.float32)).weights.reshape(-1, 4) for image in images]
    )
    second, best = np.sort(weights, axis=1)[:, -2:].T
    assert np.log(second / best).mean() == pytest.approx(np.log(0.01), rel=1e-3)


def test_with_a_bias_the_weights_are_those_of_squared_distances():
    rng = np.random.default_rng(0)
    found, x = rng.normal(size=(5, 7)).astype(np.float32), rng.normal(size=(40, 7))
    clusters = with_bias(found, x.astype(np.float32), 5)
    squared = ((x[:, None] - found) ** 2).sum(axis=-1)
    expected = np.exp(-clusters.alpha * (squared - squared.min(axis=1, keepdims=True)))
    scores = x @ clusters.assignment + clusters.bias
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    assert np.allclose(
        weights / weights.sum(1)[:, None], expected / expected.sum(1)[:, None], atol=1e-5
    )
    two_nearest = np.sort(squared, axis=1)[:, :2]
    gap = (two_nearest[:, 1] - two_nearest[:, 0]).mean()
    assert clusters.alpha == pytest.approx(np.log(100) / gap, rel=1e-5)


def test_without_a_bias_the_weights_follow_the_direction_of_the_centres():
    rng = np.random.default_rng(1)
    found, x = rng.normal(size=(5, 7)).astype(np.float32), rng.normal(size=(40, 7))
    clusters = without_bias(found, x.astype(np.float32), 5)
    assert clusters.bias is None
    assert np.array_equal(clusters.centres, found)
    assert np.allclose(np.linalg.norm(clusters.assignment, axis=0), clusters.alpha)
    assert np.allclose(
        clusters.assignment.T / clusters.alpha,
        found / np.linalg.norm(found, axis=1, keepdims=True),
        atol=1e-6,
    )


def _blobs(per_image: int = 30) -> tuple[LocalDescriptors, np.ndarray]:
    """Five directions: the last one is in all four images, each other one in its own."""
    rng = np.random.default_rng(2)
    directions = np.linalg.qr(rng.normal(size=(DEPTH, DEPTH)))[0][:5].astype(np.float32)
    which = np.concatenate([[number] * 20 + [4] * 10 for number in range(4)])
    noise = rng.normal(0, 0.01, (len(which), DEPTH))
    values = (directions[which] + noise).astype(np.float32)
    return LocalDescriptors(values, np.repeat(np.arange(4), per_image)), directions


def test_what_is_in_all_images_goes_to_the_ghost_cluster():
    model = tiny_network(ghost_clusters=1)
    descriptors, directions = _blobs()
    clusters = initialise_clusters(model, descriptors, seed=1)
    assert clusters.centres.shape == (4, DEPTH)
    nearest = (clusters.assignment.T @ directions.T).argmax(axis=1)
    assert nearest[-1] == 4
    assert sorted(nearest[:-1].tolist()) == [0, 1, 2, 3]
    layer = model.get_layer("netvlad")
    assert np.array_equal(np.array(layer.assignment), clusters.assignment)
    assert np.array_equal(np.array(layer.centres), clusters.centres)


def test_the_same_seed_gives_the_same_clusters():
    descriptors, _ = _blobs()
    first, again = (initialise_clusters(tiny_network(), descriptors, seed=3) for _ in range(2))
    assert np.array_equal(first.centres, again.centres)
    assert first.alpha == again.alpha


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, DEPTH), np.float32), "at least 4 local descriptors"),
        (np.zeros((30, DEPTH + 1), np.float32), f"of {DEPTH} dimensions"),
        (np.full((30, DEPTH), np.nan, np.float32), "NaN"),
        (np.ones((30, DEPTH), np.float32), "the same everywhere"),
    ],
)
def test_what_cannot_be_clustered_is_refused(values, message):
    with pytest.raises(ModelError, match=message):
        initialise_clusters(tiny_network(), LocalDescriptors(values, np.zeros(len(values), int)))


def test_a_model_without_clusters_is_refused():
    with pytest.raises(ModelError, match="got one with avg pooling"):
        local_descriptors(tiny_network(pooling="avg"), _images(1))
