# SPDX-License-Identifier: MIT
"""A network run layer by layer is the network, whatever its branches."""

from typing import Any

import keras
import numpy as np
import pytest

from netvlad_ros.config import NetworkConfig
from netvlad_ros.inspection.walk import layer_outputs
from netvlad_ros.model import NetVLADNetwork, build_network

IMAGE = np.random.default_rng(3).integers(0, 256, (72, 96, 3)).astype(np.float32)


def network(**values: Any) -> NetVLADNetwork:
    keras.utils.set_random_seed(0)
    return build_network(NetworkConfig(**{"clusters": 4, "input_scale": (1 / 255,), **values}))


@pytest.mark.parametrize(
    "values",
    [
        {"backbone": "mobilenet_v2", "backbone_width": 0.35, "cut_layer": "block_4_add"},
        {"backbone": "mobilenet", "backbone_width": 0.25, "whitening_dims": 8},
        {"backbone": "alexnet", "pooling": "gem"},
        {"backbone": "vgg16", "cut_layer": "block2_conv2", "ghost_clusters": 2},
        {"backbone": "mobilenet", "backbone_width": 0.25, "channel_order": "grey"},
    ],
)
def test_the_last_output_is_that_of_the_whole_network(values: dict[str, Any]):
    whole = network(**values)
    outputs = list(layer_outputs(whole, IMAGE))
    assert [name for name, _ in outputs] == [layer.name for layer in whole.layers]
    expected = keras.ops.convert_to_numpy(whole(IMAGE[None]))[0]
    np.testing.assert_allclose(outputs[-1][1], expected, rtol=0.0, atol=1e-6)


def test_the_first_output_is_the_image_and_the_second_the_normalised_one():
    outputs = dict(layer_outputs(network(backbone="alexnet", input_offset=(128.0,)), IMAGE))
    np.testing.assert_array_equal(outputs["image_rgb"], IMAGE)
    normalised = (IMAGE - np.float32(128.0)) * np.float32(1 / 255)
    np.testing.assert_allclose(outputs["input_normalisation"], normalised, rtol=1e-6)


def test_a_layer_can_be_done_otherwise():
    whole = network(backbone="alexnet")
    half = dict(layer_outputs(whole, IMAGE, {"image_rgb": lambda _, x: x / 2}))
    np.testing.assert_array_equal(half["image_rgb"], IMAGE / 2)
    expected = keras.ops.convert_to_numpy(whole(IMAGE[None] / 2))[0]
    np.testing.assert_allclose(half["descriptor_norm"], expected, rtol=0.0, atol=1e-6)
