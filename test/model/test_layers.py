# SPDX-License-Identifier: MIT
"""Each layer against the formula of its paper, written with loops in NumPy."""

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from netvlad_ros.model.layers import (
    FirstDimensions,
    GeneralisedMean,
    InputNormalisation,
    L2Normalisation,
    NetVLAD,
)

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def picture(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (1, height, width, 3), np.uint8)


def residuals_of_the_paper(
    features: np.ndarray, assignment: np.ndarray, bias: np.ndarray, centres: np.ndarray
) -> np.ndarray:
    """NetVLAD's equation 4, one local feature, cluster and dimension after the other.

    features: (N, D); assignment: (D, K + G); bias: (K + G,); centres: (K, D).
    """
    clusters, depth = centres.shape
    vlad = np.zeros((clusters, depth))
    for x in features.astype(np.float64):
        exponentials = np.exp(x @ assignment + bias)
        soft_assignment = exponentials / exponentials.sum()
        for k in range(clusters):
            for j in range(depth):
                vlad[k, j] += soft_assignment[k] * (x[j] - centres[k, j])
    return vlad


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("ghosts", [0, 2])
def test_netvlad_is_the_sum_of_the_paper(bias: bool, ghosts: int):
    features, assignment, centres = normal(2, 3, 4, 5), normal(5, 6 + ghosts), normal(6, 5)
    biases = normal(6 + ghosts) if bias else np.zeros(6 + ghosts)
    layer = NetVLAD(6, ghosts, assignment_bias=bias)
    layer.build(features.shape)
    layer.set_weights([assignment, *([biases] if bias else []), centres])

    result = keras.ops.convert_to_numpy(layer(features))

    assert result.shape == layer.compute_output_shape(features.shape) == (2, 6, 5)
    for one, expected in zip(result, features, strict=True):
        wanted = residuals_of_the_paper(expected.reshape(-1, 5), assignment, biases, centres)
        np.testing.assert_allclose(one, wanted, rtol=1e-5, atol=1e-5)


def test_an_unassigned_feature_of_a_ghost_cluster_leaves_no_trace():
    layer = NetVLAD(2, ghost_clusters=1)
    layer.build((1, 1, 1, 3))
    to_the_ghost = np.array([[0, 0, 100]] * 3, np.float32)
    layer.set_weights([to_the_ghost, normal(2, 3)])
    result = keras.ops.convert_to_numpy(layer(np.ones((1, 1, 1, 3), np.float32)))
    np.testing.assert_array_equal(result, np.zeros((1, 2, 3)))


def test_netvlad_never_builds_the_tensor_of_residuals():
    cells, clusters, depth = (30, 40), 64, 512
    layer = NetVLAD(clusters)
    layer.build((1, *cells, depth))
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec((1, *cells, depth))).graph
    largest = max(
        output.shape.num_elements()
        for operation in graph.get_operations()
        for output in operation.outputs
    )
    assert largest == cells[0] * cells[1] * depth  # the features themselves


@pytest.mark.parametrize(
    ("safeguard", "norm"),
    [
        ("added", lambda x: np.sqrt((x**2).sum(-1, keepdims=True) + 1e-12)),
        ("clamped_square", lambda x: np.sqrt(np.maximum((x**2).sum(-1, keepdims=True), 1e-12))),
        ("clamped_norm", lambda x: np.maximum(np.sqrt((x**2).sum(-1, keepdims=True)), 1e-12)),
    ],
)
def test_each_safeguard_divides_by_its_norm(safeguard: str, norm):
    scales = np.array([[1.0], [1e-3], [1e-6], [1e-7], [1e-9], [1e-13], [0.0]])
    x = (normal(7, 4).astype(np.float64) * scales).astype(np.float32)
    result = keras.ops.convert_to_numpy(L2Normalisation(safeguard)(x))
    np.testing.assert_allclose(result, x / norm(x.astype(np.float64)), rtol=1e-5)


def test_grey_values_are_those_of_opencv_to_the_bit():
    image = picture(500, 700)
    image[0, 0, :256] = np.arange(256)[:, None]  # grey stays grey
    image[0, 1, :8] = [[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)]
    layer = InputNormalisation("grey", (0.0,), (1.0,))
    result = keras.ops.convert_to_numpy(layer(image.astype(np.float32)))
    np.testing.assert_array_equal(result[0, :, :, 0], cv2.cvtColor(image[0], cv2.COLOR_RGB2GRAY))


def test_grey_values_are_made_of_whole_numbers():
    image = picture(20, 30).astype(np.float32)
    nearly = image + RNG.uniform(-0.4, 0.4, image.shape).astype(np.float32)
    layer = InputNormalisation("grey", (0.0,), (1.0,))
    np.testing.assert_array_equal(layer(nearly), layer(image))


@pytest.mark.parametrize(("order", "channels"), [("rgb", (0, 1, 2)), ("bgr", (2, 1, 0))])
def test_offset_and_scale_are_applied_in_the_order_of_the_channels(order: str, channels: tuple):
    image = picture(5, 7).astype(np.float32)
    offset, scale = (103.5, 116.75, 123.5), (0.5, 1.0, 2.0)
    result = keras.ops.convert_to_numpy(InputNormalisation(order, offset, scale)(image))
    for place, channel in enumerate(channels):
        wanted = (image[..., channel] - offset[place]) * scale[place]
        np.testing.assert_array_equal(result[..., place], wanted)


def test_one_offset_and_scale_serve_all_channels():
    image = picture(5, 7).astype(np.float32)
    result = keras.ops.convert_to_numpy(InputNormalisation("rgb", (128.0,), (2.0,))(image))
    np.testing.assert_array_equal(result, (image - 128.0) * 2.0)


def test_gem_is_the_generalised_mean():
    features = normal(2, 3, 4, 5)
    layer = GeneralisedMean()
    layer.build(features.shape)
    layer.set_weights([np.array([2.5], np.float32)])
    powers = np.maximum(features.astype(np.float64), 1e-6) ** 2.5
    wanted = powers.mean(axis=(1, 2)) ** (1 / 2.5)
    np.testing.assert_allclose(layer(features), wanted, rtol=1e-5)


def test_gem_starts_at_the_exponent_of_its_paper():
    layer = GeneralisedMean()
    layer.build((1, 2, 2, 3))
    np.testing.assert_array_equal(layer.get_weights(), [[3.0]])


def test_the_first_dimensions_are_the_first_ones():
    x = normal(2, 6)
    np.testing.assert_array_equal(FirstDimensions(4)(x), x[:, :4])


@pytest.mark.parametrize(
    "layer",
    [
        InputNormalisation("bgr", (1.0, 2.0, 3.0), (0.5,)),
        L2Normalisation("clamped_norm"),
        NetVLAD(6, 2, assignment_bias=True),
        GeneralisedMean(),
        FirstDimensions(4),
    ],
)
def test_a_layer_is_made_again_from_its_configuration(layer: keras.layers.Layer):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
