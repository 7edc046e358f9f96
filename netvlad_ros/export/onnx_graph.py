# SPDX-License-Identifier: MIT
"""A network as an ONNX graph: one small function for each kind of layer.

General converters trace every operation of Keras and fold constants, which takes more than 20 GB for a
VGG16 with whitening; a network of ours is a dozen kinds of layers. Inside, images are (B, C, H, W).
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers
from onnx import TensorProto, helper, numpy_helper

from netvlad_ros.constants import EPSILON, GREY_BITS, GREY_WEIGHTS
from netvlad_ros.errors import ModelError
from netvlad_ros.model.layers import (
    FirstDimensions,
    GeneralisedMean,
    InputNormalisation,
    L2Normalisation,
    NetVLAD,
)
from netvlad_ros.model.network import NetVLADNetwork
from netvlad_ros.model.rootsift import ROOT_SAFEGUARD, JoinedMaps, SquareRoot

OPSET = 18
IR_VERSION = 10  # what the oldest ONNX Runtime of pyproject.toml reads
INPUT, OUTPUT = "image_rgb", "descriptor"
PRECISE = (
    FirstDimensions,
    GeneralisedMean,
    InputNormalisation,
    L2Normalisation,
    JoinedMaps,
    NetVLAD,
    SquareRoot,
    layers.Flatten,
    layers.GlobalAveragePooling2D,
    layers.GlobalMaxPooling2D,
)
ELEMENT_TYPES = {"fp32": np.float32, "fp16": np.float16}


def onnx_model(network: NetVLADNetwork, size_px: tuple[int, int], precision: str) -> Any:
    """An onnx.ModelProto: uint8 RGB (batch, height, width, 3) -> float32 (batch, dims).

    size_px:   (width, height), the only size that it takes.
    precision: fp32 or fp16; in fp16, norms and sums over local features stay in single precision.
    """
    width, height = size_px
    graph = _Graph(ELEMENT_TYPES[precision])
    names = {id(network.input): INPUT}
    for layer in network.layers[1:]:
        inputs = [names[id(each)] for each in keras.tree.flatten(layer.input)]
        names[id(layer.output)] = _convert(graph, layer, inputs)
    graph.op("Identity", [graph.single(names[id(network.output)])], OUTPUT)
    made = helper.make_graph(
        graph.nodes,
        network.name,
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", height, width, 3])],
        [
            helper.make_tensor_value_info(
                OUTPUT, TensorProto.FLOAT, ["batch", network.descriptor_dims]
            )
        ],
        graph.constants,
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(
        made, opset_imports=opset, ir_version=IR_VERSION, producer_name="netvlad_ros"
    )


def is_precise(node: str, network: NetVLADNetwork) -> bool:
    """Whether a node of this name belongs to what 8 bits can't hold, or gain nothing from.

    That is all but convolutions and whitening. In NetVLAD and its norms, the rows of clusters that are
    hardly assigned to are many times smaller than the others.
    """
    names = [layer.name for layer in network.layers if isinstance(layer, PRECISE)]
    return node == OUTPUT or any(node == name or node.startswith(f"{name}_") for name in names)


class _Graph:
    """Nodes and constants so far; every value is named after the layer that makes it."""

    def __init__(self, element: type[Any]) -> None:
        self.element = element  # of convolutions and matrix products with weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._halves: set[str] = set()  # values in half precision

    def op(
        self, kind: str, inputs: list[str], output: str, half: bool = False, **attributes: Any
    ) -> str:
        """Appends a node and returns the name of its output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        if half:
            self._halves.add(output)
        return output

    def constant(self, name: str, values: Any, kind: Any = np.float32) -> str:
        array = np.asarray(values, kind, order="C")  # keeps a scalar one
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    @property
    def is_half(self) -> bool:
        return self.element is np.float16

    def weighted(self, value: str) -> str:
        """The value in the element type of weights."""
        if not self.is_half or value in self._halves:
            return value
        return self.op("Cast", [value], f"{value}_half", True, to=TensorProto.FLOAT16)

    def single(self, value: str) -> str:
        """The value in single precision."""
        if value not in self._halves:
            return value
        return self.op("Cast", [value], f"{value}_single", to=TensorProto.FLOAT)

    def weight(self, name: str, values: Any) -> str:
        return self.constant(name, values, self.element)


def _array(weight: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(weight)


def _convert(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    convert = _CONVERTERS.get(type(layer))
    if convert is None:
        raise ModelError(
            f"layer {layer.name} ({type(layer).__name__}) has no equivalent in ONNX here; export to "
            "savedmodel, frozen-pb or litert instead."
        )
    return convert(graph, layer, inputs)


def _input_normalisation(graph: _Graph, layer: InputNormalisation, inputs: list[str]) -> str:
    name = layer.name
    x = graph.op("Transpose", inputs, f"{name}_channels_first", perm=[0, 3, 1, 2])
    x = graph.op("Cast", [x], f"{name}_float", to=TensorProto.FLOAT)
    if layer.channel_order == "bgr":
        order = graph.constant(f"{name}/order", [2, 1, 0], np.int64)
        x = graph.op("Gather", [x, order], f"{name}_bgr", axis=1)
    if layer.channel_order == "grey":
        x = _grey(graph, x, name)
    offset = graph.constant(f"{name}/offset", np.reshape(layer.offset, (1, -1, 1, 1)))
    scale = graph.constant(f"{name}/scale", np.reshape(layer.scale, (1, -1, 1, 1)))
    return graph.op("Mul", [graph.op("Sub", [x, offset], f"{name}_centred"), scale], name)


def _grey(graph: _Graph, x: str, name: str) -> str:
    """The same integers as in model/layers.py."""
    weights = graph.constant(f"{name}/grey_weights", np.reshape(GREY_WEIGHTS, (1, 3, 1, 1)))
    half = graph.constant(f"{name}/grey_half", 2.0 ** (GREY_BITS - 1))
    unit = graph.constant(f"{name}/grey_unit", 2.0**-GREY_BITS)
    axes = graph.constant(f"{name}/grey_axes", [1], np.int64)
    x = graph.op("Mul", [x, weights], f"{name}_grey_weighted")
    x = graph.op("ReduceSum", [x, axes], f"{name}_grey_sum", keepdims=1)
    x = graph.op("Add", [x, half], f"{name}_grey_rounded")
    return graph.op("Floor", [graph.op("Mul", [x, unit], f"{name}_grey_scaled")], f"{name}_grey")


def _convolution(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    is_depthwise = isinstance(layer, layers.DepthwiseConv2D)
    kernel = _array(layer.kernel)  # (h, w, in, out), or (h, w, channels, 1)
    theirs = kernel.transpose((2, 3, 0, 1) if is_depthwise else (3, 2, 0, 1))
    weights = [graph.weight(f"{layer.name}/kernel", theirs)]
    if layer.use_bias:
        weights.append(graph.weight(f"{layer.name}/bias", _array(layer.bias)))
    is_linear = layer.activation is keras.activations.linear
    x = graph.op(
        "Conv",
        [graph.weighted(inputs[0]), *weights],
        layer.name if is_linear else f"{layer.name}_linear",
        half=graph.is_half,
        strides=list(layer.strides),
        dilations=list(layer.dilation_rate),
        auto_pad="SAME_UPPER" if layer.padding == "same" else "VALID",
        group=kernel.shape[2] if is_depthwise else 1,
    )
    return x if is_linear else graph.op("Relu", [x], layer.name, half=graph.is_half)


def _batch_normalisation(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    """As one scale and shift for each channel, which runtimes fold into the convolution before it."""
    deviation = np.sqrt(_array(layer.moving_variance).astype(np.float64) + layer.epsilon)
    scale = (_array(layer.gamma) if layer.scale else 1.0) / deviation
    shift = (_array(layer.beta) if layer.center else 0.0) - _array(layer.moving_mean) * scale
    factors = [
        graph.weight(f"{layer.name}/{which}", np.reshape(values, (1, -1, 1, 1)))
        for which, values in (("scale", scale), ("shift", shift))
    ]
    half = graph.is_half
    x = graph.op("Mul", [graph.weighted(inputs[0]), factors[0]], f"{layer.name}_scaled", half=half)
    return graph.op("Add", [x, factors[1]], layer.name, half=half)


def _relu(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    x = graph.weighted(inputs[0])
    if layer.max_value is None:
        return graph.op("Relu", [x], layer.name, half=graph.is_half)
    bounds = [
        graph.weight(f"{layer.name}/{which}", np.float32(value))
        for which, value in (("min", 0.0), ("max", layer.max_value))
    ]
    return graph.op("Clip", [x, *bounds], layer.name, half=graph.is_half)


def _zero_padding(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    (top, bottom), (left, right) = layer.padding
    pads = graph.constant(f"{layer.name}/pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
    return graph.op(
        "Pad", [graph.weighted(inputs[0]), pads], layer.name, half=graph.is_half, mode="constant"
    )


def _pooling(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    # The border's own cells only count in an average, as in Keras: that is ONNX's default.
    return graph.op(
        "MaxPool" if isinstance(layer, layers.MaxPooling2D) else "AveragePool",
        [graph.weighted(inputs[0])],
        layer.name,
        half=graph.is_half,
        kernel_shape=list(layer.pool_size),
        strides=list(layer.strides),
        auto_pad="SAME_UPPER" if layer.padding == "same" else "VALID",
    )


def _square_root(graph: _Graph, layer: SquareRoot, inputs: list[str]) -> str:
    safeguard = graph.constant(f"{layer.name}/safeguard", ROOT_SAFEGUARD)
    x = graph.op("Add", [graph.single(inputs[0]), safeguard], f"{layer.name}_safe")
    return graph.op("Sqrt", [x], layer.name)


def _joined_maps(graph: _Graph, layer: JoinedMaps, inputs: list[str]) -> str:
    name = layer.name
    shape = graph.constant(f"{name}/shape", [0, 0, -1, 1], np.int64)
    cells = [
        graph.op("Reshape", [graph.single(x), shape], f"{name}_{number}")  # (B, D, h w, 1)
        for number, x in enumerate(inputs)
    ]
    return graph.op("Concat", cells, name, axis=2)


def _add(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    return graph.op("Add", [graph.weighted(x) for x in inputs], layer.name, half=graph.is_half)


def _l2_normalisation(graph: _Graph, layer: L2Normalisation, inputs: list[str]) -> str:
    x, name = graph.single(inputs[0]), layer.name
    is_image = len(layer.input.shape) == 4
    axes = graph.constant(f"{name}/axes", [1 if is_image else -1], np.int64)
    squares = graph.op("Mul", [x, x], f"{name}_squares")
    total = graph.op("ReduceSum", [squares, axes], f"{name}_total", keepdims=1)
    least = EPSILON**2 if layer.safeguard == "clamped_norm" else EPSILON
    epsilon = graph.constant(f"{name}/epsilon", least)
    guard = "Add" if layer.safeguard == "added" else "Max"
    length = graph.op("Sqrt", [graph.op(guard, [total, epsilon], f"{name}_safe")], f"{name}_length")
    return graph.op("Div", [x, length], name)


def _netvlad(graph: _Graph, layer: NetVLAD, inputs: list[str]) -> str:
    x, name = graph.single(inputs[0]), layer.name
    depth = layer.centres.shape[-1]
    shape = graph.constant(f"{name}/shape", [0, depth, -1], np.int64)
    x = graph.op("Reshape", [x, shape], f"{name}_features")  # (B, D, N)
    kernel = graph.constant(f"{name}/assignment", _array(layer.assignment).T)
    scores = graph.op("MatMul", [kernel, x], f"{name}_products")  # (B, K + G, N)
    if layer.bias is not None:
        bias = graph.constant(f"{name}/bias", _array(layer.bias)[:, None])
        scores = graph.op("Add", [scores, bias], f"{name}_scores")
    a = graph.op("Softmax", [scores], f"{name}_assigned", axis=1)
    if layer.ghost_clusters:
        bounds = [
            graph.constant(f"{name}/{which}", [value], np.int64)
            for which, value in (("first", 0), ("last", layer.clusters), ("axis", 1))
        ]
        a = graph.op("Slice", [a, *bounds], f"{name}_kept")  # (B, K, N)
    transposed = graph.op("Transpose", [x], f"{name}_rows", perm=[0, 2, 1])  # (B, N, D)
    total = graph.op("MatMul", [a, transposed], f"{name}_total")  # (B, K, D)
    axes = graph.constant(f"{name}/axes", [2], np.int64)
    mass = graph.op("ReduceSum", [a, axes], f"{name}_mass", keepdims=1)  # (B, K, 1)
    centres = graph.constant(f"{name}/centres", _array(layer.centres))
    return graph.op("Sub", [total, graph.op("Mul", [mass, centres], f"{name}_means")], name)


def _flatten(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    return graph.op("Flatten", [graph.single(inputs[0])], layer.name, axis=1)


def _dense(graph: _Graph, layer: Any, inputs: list[str]) -> str:
    weights = [
        graph.weight(f"{layer.name}/kernel", _array(layer.kernel)),
        graph.weight(f"{layer.name}/bias", _array(layer.bias)),
    ]
    return graph.op("Gemm", [graph.weighted(inputs[0]), *weights], layer.name, half=graph.is_half)


def _first_dimensions(graph: _Graph, layer: FirstDimensions, inputs: list[str]) -> str:
    bounds = [
        graph.constant(f"{layer.name}/{which}", [value], np.int64)
        for which, value in (("first", 0), ("last", layer.dims), ("axis", 1))
    ]
    return graph.op("Slice", [graph.single(inputs[0]), *bounds], layer.name)


def _global_pooling(kind: str) -> Callable[[_Graph, Any, list[str]], str]:
    def convert(graph: _Graph, layer: Any, inputs: list[str]) -> str:
        x = graph.op(kind, [graph.single(inputs[0])], f"{layer.name}_image")  # (B, D, 1, 1)
        return graph.op("Flatten", [x], layer.name, axis=1)

    return convert


def _generalised_mean(graph: _Graph, layer: GeneralisedMean, inputs: list[str]) -> str:
    x, name = graph.single(inputs[0]), layer.name
    exponent = _array(layer.exponent)
    least = graph.constant(f"{name}/least", 1e-6)
    power = graph.constant(f"{name}/exponent", exponent)
    root = graph.constant(f"{name}/root", 1.0 / exponent)
    x = graph.op("Pow", [graph.op("Max", [x, least], f"{name}_positive"), power], f"{name}_powers")
    x = graph.op("GlobalAveragePool", [x], f"{name}_mean")
    return graph.op("Pow", [graph.op("Flatten", [x], f"{name}_flat", axis=1), root], name)


_CONVERTERS: dict[type, Callable[[_Graph, Any, list[str]], str]] = {
    InputNormalisation: _input_normalisation,
    layers.Conv2D: _convolution,
    layers.DepthwiseConv2D: _convolution,
    layers.BatchNormalization: _batch_normalisation,
    layers.ReLU: _relu,
    layers.ZeroPadding2D: _zero_padding,
    layers.MaxPooling2D: _pooling,
    layers.AveragePooling2D: _pooling,
    SquareRoot: _square_root,
    JoinedMaps: _joined_maps,
    layers.Add: _add,
    L2Normalisation: _l2_normalisation,
    NetVLAD: _netvlad,
    layers.Flatten: _flatten,
    layers.Dense: _dense,
    FirstDimensions: _first_dimensions,
    layers.GlobalMaxPooling2D: _global_pooling("GlobalMaxPool"),
    layers.GlobalAveragePooling2D: _global_pooling("GlobalAveragePool"),
    GeneralisedMean: _generalised_mean,
}
