# SPDX-License-Identifier: MIT
"""What a network costs: counted by hand, by TensorFlow's profiler, and as the Open Model Zoo states it."""

from typing import Any

import keras
import numpy as np
import pytest

from netvlad_ros.config import NetworkConfig
from netvlad_ros.errors import ModelError
from netvlad_ros.inspection.cost import LayerCost, NetworkCost, network_cost
from netvlad_ros.inspection.open_model_zoo import (
    BIASES,
    NORMS,
    OTHERS,
    POOLING,
    PRODUCTS,
    RELUS,
    RESIDUALS,
    SOFTMAXES,
    open_model_zoo_flops,
)
from netvlad_ros.model import NetVLADNetwork, build_network


def cost_of(width_px: int = 96, height_px: int = 64, **values: Any) -> NetworkCost:
    """Without memory for weights: those of VGG16 with whitening would take 600 MB."""
    with keras.StatelessScope(initialize_variables=False):
        network = build_network(NetworkConfig(**values))
        return network_cost(network, width_px, height_px)


def layer(cost: NetworkCost, name: str) -> LayerCost:
    [found] = [each for each in cost.layers if each.name == name]
    return found


@pytest.fixture(scope="module")
def vgg16() -> NetworkCost:
    """The network of uzh-rpg/netvlad_tf_open at the size at which the Open Model Zoo has it."""
    mean = (123.68, 116.779, 103.939)
    return cost_of(300, 200, backbone="vgg16", whitening_dims=4096, input_offset=mean)


# --- VGG16, as others count it ------------------------------------------------------------------------


def test_vgg16_with_whitening_has_the_149_0021_million_parameters_of_the_open_model_zoo(
    vgg16: NetworkCost,
):
    """Which counts the mean of the training images, three numbers that are part of our input instead."""
    convolutions = 14_714_688
    assert vgg16.total("parameters") == convolutions + 2 * 512 * 64 + (32768 + 1) * 4096
    assert vgg16.input_numbers == 3
    assert vgg16.total("parameters") + vgg16.input_numbers == 149_002_051
    assert f"{149_002_051 / 1e6:.4f}" == "149.0021"


def test_vgg16_with_whitening_has_the_36_6374_gflops_of_the_open_model_zoo(vgg16: NetworkCost):
    counted = open_model_zoo_flops(vgg16)
    assert f"{sum(counted.values()) / 1e9:.4f}" == "36.6374"
    cells, depth, clusters, dims = 12 * 18, 512, 64, 4096
    assert counted[PRODUCTS] == 36_295_151_616 + 2 * cells * depth * clusters + 2 * 32768 * dims
    assert counted[RESIDUALS] == 2 * cells * depth * clusters
    assert counted[SOFTMAXES] == 5 * cells * clusters
    assert counted[NORMS] == 4 * (cells * depth + 2 * 32768 + dims)
    assert counted[OTHERS] == 300 * 200 * 3
    assert counted[POOLING] == 4 * (100 * 150 * 64 + 50 * 75 * 128 + 25 * 37 * 256 + cells * 512)
    maps = {64: 300 * 200, 128: 150 * 100, 256: 75 * 50, 512: 37 * 25}
    biases = 2 * 64 * maps[64] + 2 * 128 * maps[128] + 3 * 256 * maps[256] + 3 * 512 * maps[512]
    assert counted[BIASES] == biases + 3 * 512 * cells + dims
    within = 64 * maps[64] + 128 * maps[128] + 2 * 256 * maps[256] + 2 * 512 * maps[512]
    pooled = counted[POOLING] // 4
    assert counted[RELUS] == 2 * (within + pooled + 2 * 512 * cells)


def test_no_part_of_the_open_model_zoos_count_can_be_left_out(vgg16: NetworkCost):
    """Its four decimals tell: without any of these it would not be 36.6374."""
    counted = open_model_zoo_flops(vgg16)
    for what, operations in counted.items():
        rest = sum(counted.values()) - operations
        assert what == SOFTMAXES or f"{rest / 1e9:.4f}" != "36.6374", what


def test_our_count_differs_from_the_open_model_zoos_by_what_is_not_a_product(vgg16: NetworkCost):
    """The naive residuals are as many operations as the matrix product that takes their place."""
    counted = open_model_zoo_flops(vgg16)
    assert counted[PRODUCTS] + counted[RESIDUALS] == 2 * vgg16.total("multiply_adds")
    others = sum(counted.values()) - 2 * vgg16.total("multiply_adds")
    assert vgg16.total("flops") - 2 * vgg16.total("multiply_adds") == vgg16.total("elementwise")
    assert others == 45_547_808
    assert vgg16.total("elementwise") == 40_397_376


def test_a_network_without_whitening_has_no_whitening_to_count():
    plain, whitened = cost_of(clusters=2), cost_of(clusters=2, whitening_dims=8)
    assert whitened.total("parameters") - plain.total("parameters") == (2 * 512 + 1) * 8
    assert whitened.total("multiply_adds") - plain.total("multiply_adds") == 2 * 512 * 8


# --- TensorFlow's own count ---------------------------------------------------------------------------

NETWORKS: list[dict[str, Any]] = [
    {
        "backbone": "mobilenet",
        "backbone_width": 0.25,
        "clusters": 4,
        "ghost_clusters": 1,
        "assignment_bias": True,
        "whitening_dims": 16,
    },
    {"backbone": "mobilenet_v2", "backbone_width": 0.35, "cut_layer": "block_4_add", "clusters": 4},
    {"backbone": "vgg16", "cut_layer": "block2_conv2", "clusters": 4},
    {"backbone": "alexnet", "clusters": 4},
]


def profile(network: NetVLADNetwork, width_px: int, height_px: int) -> dict[str, int]:
    """Floating-point operations of the compiled graph, by kind, as TensorFlow registers them."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    shape = tf.TensorSpec((1, height_px, width_px, 3), tf.float32)
    function = tf.function(lambda image: network(image, training=False)).get_concrete_function(
        shape
    )
    graph = convert_variables_to_constants_v2(function).graph
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    counted: dict[str, int] = {}
    nodes = [tf.compat.v1.profiler.profile(graph, cmd="op", options=options)]
    while nodes:
        node = nodes.pop()
        inner = sum(child.total_float_ops for child in node.children)
        counted[node.name] = node.total_float_ops - inner
        nodes += node.children
    return counted


@pytest.mark.parametrize("values", NETWORKS, ids=lambda values: values["backbone"])
def test_tensorflow_counts_the_same_products(values: dict[str, Any]):
    network = build_network(NetworkConfig(**values))
    cost, counted = network_cost(network, 96, 64), profile(network, 96, 64)
    products = ("Conv2D", "DepthwiseConv2dNative", "MatMul", "BatchMatMulV2")
    assert 2 * cost.total("multiply_adds") == sum(counted.get(kind, 0) for kind in products)


def test_tensorflow_counts_the_same_biases_and_pooling():
    network = build_network(NetworkConfig(**NETWORKS[2]))
    counted, zoo = profile(network, 96, 64), open_model_zoo_flops(network_cost(network, 96, 64))
    assert zoo[BIASES] == counted["BiasAdd"]
    assert zoo[POOLING] == counted["MaxPool"]
    assert zoo[SOFTMAXES] == counted["Softmax"]


# --- Shapes, parameters, memory -----------------------------------------------------------------------


@pytest.mark.parametrize("values", NETWORKS, ids=lambda values: values["backbone"])
def test_shapes_and_parameters_are_those_of_the_network(values: dict[str, Any]):
    network = build_network(NetworkConfig(**values))
    cost = network_cost(network, 97, 65)
    assert cost.total("parameters") == network.count_params()
    image = np.zeros((1, 65, 97, 3), np.float32)
    for each in network.layers[1:]:
        shape = keras.Model(network.input, each.output)(image).shape
        assert layer(cost, each.name).output == tuple(shape[1:])


def test_activations_are_float32_and_are_let_go_when_nothing_needs_them():
    cost = cost_of(backbone="vgg16", cut_layer="block1_conv2", clusters=4)
    one_map = 64 * 96 * 64 * 4
    assert layer(cost, "block1_conv1").activation_bytes == one_map
    assert cost.peak_bytes == 2 * one_map
    assert cost.total("activation_bytes") > 3 * one_map


def test_what_a_branch_needs_later_is_kept():
    cost = cost_of(
        backbone="mobilenet_v2", backbone_width=0.35, cut_layer="block_2_add", clusters=4
    )
    shared, wide = (
        layer(cost, name).activation_bytes for name in ("block_1_project_BN", "block_2_expand")
    )
    assert cost.peak_bytes >= shared + 2 * wide


def test_four_times_the_area_costs_four_times_the_convolutions():
    small, large = cost_of(96, 64), cost_of(192, 128)
    name = "block3_conv2"
    assert layer(large, name).flops == 4 * layer(small, name).flops


@pytest.mark.parametrize("backbone", ["vgg16", "alexnet"])
def test_an_input_that_leaves_nothing_is_refused(backbone: str):
    with pytest.raises(ModelError, match="an input of 8x8 pixels is too small"):
        cost_of(8, 8, backbone=backbone)


def test_numbers_of_the_input_are_counted_where_they_do_something():
    assert cost_of().input_numbers == 0
    assert cost_of(input_offset=(128.0,)).input_numbers == 1
    assert cost_of(input_offset=(1.0, 2.0, 3.0), input_scale=(0.5, 0.5, 0.5)).input_numbers == 6
