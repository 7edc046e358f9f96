# SPDX-License-Identifier: MIT
"""What is shown of the soft assignment is what the NetVLAD layer computes with."""

from typing import Any

import keras
import numpy as np
import pytest

from netvlad_ros.config import NetworkConfig
from netvlad_ros.errors import ModelError
from netvlad_ros.model import NetVLADNetwork, build_network
from netvlad_ros.model.assignments import Assignments, ClusterView


def network(**values: Any) -> NetVLADNetwork:
    keras.utils.set_random_seed(6)
    small: dict[str, Any] = {
        "backbone": "mobilenet",
        "backbone_width": 0.25,
        "cut_layer": "conv_pw_2_relu",
        "clusters": 5,
        "input_scale": (2 / 255,),
    }
    model = build_network(NetworkConfig(**small | values))
    for weight in model.weights:
        if weight.path.startswith("netvlad"):
            weight.assign(np.random.default_rng(6).normal(size=weight.shape))
    return model


def image() -> np.ndarray:
    return np.random.default_rng(8).integers(0, 256, (64, 96, 3), np.uint8)


def inside(model: NetVLADNetwork, tensor: Any) -> np.ndarray:
    part = keras.Model(model.input, tensor)
    return keras.ops.convert_to_numpy(part(image()[None].astype(np.float32), training=False))[0]


@pytest.mark.parametrize("values", [{}, {"ghost_clusters": 3}, {"assignment_bias": True}])
def test_the_weights_give_the_rows_of_the_layer(values: dict[str, Any]):
    model = network(**values)
    found = ClusterView(model).assignments(image())
    layer = model.get_layer("netvlad")
    x, rows = inside(model, layer.input), inside(model, layer.output)
    assert found.weights.shape == (*x.shape[:2], 5 + values.get("ghost_clusters", 0))
    np.testing.assert_allclose(found.weights.sum(axis=-1), 1.0)
    residuals = x[:, :, None, :] - np.array(layer.centres)
    wanted = np.einsum("hwk,hwkd->kd", found.weights[..., :5], residuals)
    np.testing.assert_allclose(rows, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.energy, np.linalg.norm(rows, axis=1), rtol=1e-6)


def test_a_hard_assignment_is_sharp_and_an_even_one_is_not():
    hard = np.zeros((2, 2, 4))
    hard[0, :, 1] = hard[1, :, 3] = 1.0
    found = Assignments(hard, np.ones(3))  # the last one is a ghost
    assert (found.sharpness, found.entropy, found.clusters) == (1.0, 0.0, 3)
    np.testing.assert_array_equal(found.largest, [[1, 1], [3, 3]])
    np.testing.assert_array_equal(found.mass, [0.0, 0.5, 0.0, 0.5])
    even = Assignments(np.full((2, 2, 4), 0.25), np.ones(4))
    assert even.sharpness == 0.25
    assert even.entropy == pytest.approx(1.0)


def test_one_cluster_is_a_hard_assignment():
    found = ClusterView(network(clusters=1)).assignments(image())
    assert (found.sharpness, found.entropy) == (1.0, 0.0)


@pytest.mark.parametrize("pooling", ["max", "avg", "gem"])
def test_a_network_without_clusters_is_refused(pooling: str):
    with pytest.raises(
        ModelError, match=f"^expected a model with NetVLAD pooling.*got.* {pooling}"
    ):
        ClusterView(network(pooling=pooling))
