# SPDX-License-Identifier: MIT
"""The operations of a network counted as OpenVINO's Open Model Zoo does, whose 36.6374 GFLOPs many quote.

Its figures are those of OpenVINO's model analyser (model_analyzer/layer_provider.py) for the graph that was
published, and for NetVLAD that is the graph of uzh-rpg/netvlad_tf_open: it subtracts each centre from each
local feature (N * D * K values) before it adds up, and its ReLUs come after the pooling, not before.
Not counted are additions over an axis, which the analyser has no rule for.
"""

import math
from itertools import pairwise

from netvlad_ros.inspection.cost import SOFTMAX, LayerCost, NetworkCost

RELU = 2  # a comparison and a multiplication; for ReLU6 a minimum and a maximum
L2 = 4  # comparison, multiplication, sum, root; or a square of 3 and a multiplication
PRODUCTS = "convolutions and matrix products, 2 a multiply-add"
BIASES = "biases, 1 a value"
RELUS = "ReLUs, 2 a value"
POOLING = "pooling, 1 a value of each window"
RESIDUALS = "residual of each local feature to each centre, weighted: 2 a value"
SOFTMAXES = "softmax of the assignment, 5 a value"
NORMS = "L2 norms, 4 a value"
OTHERS = "input normalisation and sums of branches, 1 a value"


def open_model_zoo_flops(cost: NetworkCost) -> dict[str, int]:
    """Operations by what they are for; together they are what the Open Model Zoo would state."""
    counted = dict.fromkeys(
        (PRODUCTS, BIASES, RELUS, POOLING, RESIDUALS, SOFTMAXES, NORMS, OTHERS), 0
    )
    for layer, following in pairwise([*cost.layers, cost.layers[-1]]):
        for what, operations in _operations(layer, following).items():
            counted[what] += operations
    return {what: operations for what, operations in counted.items() if operations}


def _operations(layer: LayerCost, following: LayerCost) -> dict[str, int]:
    values = math.prod(layer.output)
    match layer.kind:
        case "Conv2D" | "DepthwiseConv2D" | "Dense":
            return _convolution(layer, following)
        case "MaxPooling2D" | "GlobalMaxPooling2D" | "GlobalAveragePooling2D":
            return {POOLING: layer.elementwise}
        case "BatchNormalization":  # becomes part of the convolution before it, and of its bias
            return {BIASES: values}
        case "ReLU":
            return {RELUS: RELU * values}
        case "NetVLAD":
            return _netvlad(layer)
        case "L2Normalisation":
            return {NORMS: L2 * values}
        case "InputNormalisation" | "Add":
            return {OTHERS: values}
        case _:
            return {}


def _convolution(layer: LayerCost, following: LayerCost) -> dict[str, int]:
    values = math.prod(layer.output)
    after = math.prod(following.output) if following.kind == "MaxPooling2D" else values
    return {
        PRODUCTS: 2 * layer.multiply_adds,
        BIASES: layer.has_bias * values,
        RELUS: layer.has_activation * RELU * after,
    }


def _netvlad(layer: LayerCost) -> dict[str, int]:
    (height, width, depth), (clusters, _) = layer.inputs[0], layer.output
    features = height * width
    assigned = layer.multiply_adds // (features * depth) - clusters  # ghost clusters, too
    return {
        PRODUCTS: 2 * features * depth * assigned,
        BIASES: layer.has_bias * features * assigned,
        SOFTMAXES: SOFTMAX * features * assigned,
        RESIDUALS: 2 * features * depth * assigned,
    }
