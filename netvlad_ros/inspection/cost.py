# SPDX-License-Identifier: MIT
"""What each layer of a network costs for one image: parameters, operations and memory."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from netvlad_ros.errors import ModelError
from netvlad_ros.inspection.walk import inputs_of
from netvlad_ros.model import NetVLADNetwork

FLOAT32_BYTES = 4
# Operations on one value, by layer: what is added, multiplied, compared or taken the root of, each as one.
# A softmax is a maximum, a subtraction, an exponential, a sum and a division.
SOFTMAX = 5
_PER_OUTPUT = {
    "InputNormalisation": 2,  # subtract, multiply
    "BatchNormalization": 2,  # multiply, add: its statistics are constants
    "ReLU": 1,
    "Add": 1,
    "L2Normalisation": 3,  # square, add up, multiply
}
_PER_INPUT = {"GlobalMaxPooling2D": 1, "GlobalAveragePooling2D": 1, "GeneralisedMean": 3}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerCost:
    """One layer, for one image; shapes are without the batch.

    multiply_adds: of convolutions and matrix products.
    elementwise:   all other operations, such as biases, ReLUs and norms.
    has_bias, has_activation: whether these are part of the layer and of its element-wise operations.
    """

    name: str
    kind: str
    inputs: tuple[Shape, ...]
    output: Shape
    parameters: int
    multiply_adds: int
    elementwise: int
    has_bias: bool
    has_activation: bool

    @property
    def flops(self) -> int:
        """A multiply-add is two operations."""
        return 2 * self.multiply_adds + self.elementwise

    @property
    def activation_bytes(self) -> int:
        """Of the output, in float32."""
        return FLOAT32_BYTES * math.prod(self.output)


@dataclass(frozen=True)
class NetworkCost:
    """A whole network for one image of a size.

    input_numbers:    offsets and scales of the input, which some count among the parameters.
    peak_bytes:       activations when each is let go once no later layer needs it.
    """

    width_px: int
    height_px: int
    layers: list[LayerCost]
    input_numbers: int
    peak_bytes: int

    def total(self, what: str) -> int:
        """The sum of a figure over the layers, such as `flops`."""
        return sum(getattr(layer, what) for layer in self.layers)


def network_cost(network: NetVLADNetwork, width_px: int, height_px: int) -> NetworkCost:
    """Computed from shapes alone; nothing is run. Raises ModelError for an input that is too small."""
    shapes: dict[int, Shape] = {}
    costs = []
    try:
        for layer in network.layers:
            inputs = tuple(shapes[id(tensor)] for tensor in inputs_of(layer))
            output = _output(layer, inputs) if inputs else (height_px, width_px, 3)
            shapes[id(layer.output)] = output
            costs.append(_layer_cost(layer, inputs, output))
    except ValueError:  # such as: nothing left to convolve
        raise ModelError(
            f"an input of {width_px}x{height_px} pixels is too small for this network; choose a larger one."
        ) from None
    return NetworkCost(
        width_px, height_px, costs, _input_numbers(network), _peak_bytes(network, shapes)
    )


def _output(layer: keras.layers.Layer, inputs: tuple[Shape, ...]) -> Shape:
    tensors = [keras.KerasTensor((1, *shape)) for shape in inputs]
    spec = layer.compute_output_spec(tensors[0] if len(tensors) == 1 else tensors)
    shape = tuple(spec.shape[1:])
    if not all(shape):
        raise ValueError(f"{layer.name} has nothing to give")
    return shape


def _layer_cost(layer: keras.layers.Layer, inputs: tuple[Shape, ...], output: Shape) -> LayerCost:
    kind = type(layer).__name__
    has_bias = bool(getattr(layer, "use_bias", getattr(layer, "assignment_bias", False)))
    activation = getattr(layer, "activation", keras.activations.linear)
    has_activation = activation is not keras.activations.linear and kind != "ReLU"
    multiply_adds, elementwise = _OPERATIONS.get(kind, _simple)(layer, inputs, output)
    if kind != "NetVLAD":  # whose bias has another shape than its output
        elementwise += (has_bias + has_activation) * math.prod(output)
    # Not count_params(), which wants the values to be there.
    parameters = sum(math.prod(weight.shape) for weight in layer.weights)
    return LayerCost(
        layer.name,
        kind,
        inputs,
        output,
        parameters,
        multiply_adds,
        elementwise,
        has_bias,
        has_activation,
    )


Operations = Callable[[Any, tuple[Shape, ...], Shape], tuple[int, int]]


def _convolution(layer: Any, inputs: tuple[Shape, ...], output: Shape) -> tuple[int, int]:
    each = math.prod(layer.kernel_size) * inputs[0][-1] // layer.groups
    return each * math.prod(output), 0


def _depthwise(layer: Any, inputs: tuple[Shape, ...], output: Shape) -> tuple[int, int]:
    return math.prod(layer.kernel_size) * math.prod(output), 0


def _dense(layer: Any, inputs: tuple[Shape, ...], output: Shape) -> tuple[int, int]:
    return inputs[0][-1] * math.prod(output), 0


def _pooling(layer: Any, inputs: tuple[Shape, ...], output: Shape) -> tuple[int, int]:
    return 0, math.prod(layer.pool_size) * math.prod(output)


def _netvlad(layer: Any, inputs: tuple[Shape, ...], output: Shape) -> tuple[int, int]:
    """Scores x W and sums a'x, each a matrix product; softmax, sum of a, and (sum a) c subtracted."""
    height, width, depth = inputs[0]
    features, assigned = height * width, layer.clusters + layer.ghost_clusters
    products = features * depth * (assigned + layer.clusters)
    softmax = features * assigned * (SOFTMAX + int(layer.assignment_bias))
    return products, softmax + features * layer.clusters + 2 * math.prod(output)


def _simple(layer: Any, inputs: tuple[Shape, ...], output: Shape) -> tuple[int, int]:
    kind = type(layer).__name__
    taken = sum(map(math.prod, inputs))
    return 0, _PER_OUTPUT.get(kind, 0) * math.prod(output) + _PER_INPUT.get(kind, 0) * taken


_OPERATIONS: dict[str, Operations] = {
    "Conv2D": _convolution,
    "DepthwiseConv2D": _depthwise,
    "AveragePooling2D": _pooling,
    "Dense": _dense,
    "MaxPooling2D": _pooling,
    "NetVLAD": _netvlad,
}


def _input_numbers(network: NetVLADNetwork) -> int:
    config = network.network
    given = [config.input_offset] if any(config.input_offset) else []
    given += [config.input_scale] if set(config.input_scale) != {1.0} else []
    return sum(map(len, given))


def _peak_bytes(network: NetVLADNetwork, shapes: dict[int, Shape]) -> int:
    last_use = {
        id(tensor): number
        for number, layer in enumerate(network.layers)
        for tensor in inputs_of(layer)
    }
    alive, peak = {}, 0
    for number, layer in enumerate(network.layers):
        alive[id(layer.output)] = FLOAT32_BYTES * math.prod(shapes[id(layer.output)])
        peak = max(peak, sum(alive.values()))
        alive = {key: size for key, size in alive.items() if last_use.get(key, number) > number}
    return peak
