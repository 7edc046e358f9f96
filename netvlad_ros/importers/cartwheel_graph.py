# SPDX-License-Identifier: MIT
"""Models of mpkuse/cartwheel_train that TensorFlow 1 froze: their layers and arrays, read from the graph.

A layer is what has one scope: `conv1_bn/gamma` is a weight and `conv1_bn/FusedBatchNorm_1` an operation of
the layer conv1_bn. Names by Keras 2.2 on TensorFlow 1.12 to 1.14, as their converter leaves them.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from netvlad_ros.errors import WeightsError
from netvlad_ros.importers.frozen_graph import FrozenGraph, Node
from netvlad_ros.importers.keras_model import KerasLayer

CENTRES = "cluster_centers"
VLAD_SCOPE = re.compile(rf"((?:net|ghost)_vlad_layer(?:_\d+)*)/{CENTRES}")
# A model that was made a second time in one session, such as for another input size, has all scopes with
# the ending that its input shows.
INPUT = re.compile(r"input_\d+((?:_\d+)*)")
WEIGHTS = (
    "kernel",
    "depthwise_kernel",
    "bias",
    "gamma",
    "beta",
    "moving_mean",
    "moving_variance",
    CENTRES,
)
# These compute nothing of a layer.
SILENT = ("Const", "Identity", "Placeholder")

Setting = Callable[[FrozenGraph, str], Any]


def _window(attribute: str) -> Setting:
    def of(graph: FrozenGraph, node: str) -> Any:
        sizes = graph.attribute(node, attribute)
        return list(sizes[1:3]) if isinstance(sizes, tuple) else None  # of (1, h, w, 1)

    return of


def _epsilon(graph: FrozenGraph, node: str) -> Any:
    epsilon = graph.attribute(node, "epsilon")
    return float(f"{epsilon:.6g}") if isinstance(epsilon, float) else None  # it was a float32


_CONVOLUTION: dict[str, Setting] = {"strides": _window("strides")}
_NORMALISATION: dict[str, Setting] = {"epsilon": _epsilon}
_RELU6: dict[str, Setting] = {"max_value": lambda graph, node: 6.0}
# Operation -> the Keras layer that begins with it, and what it says of its settings.
OPERATIONS: dict[str, tuple[str, dict[str, Setting]]] = {
    "Add": ("Add", {}),
    "AddV2": ("Add", {}),
    "Conv2D": ("Conv2D", _CONVOLUTION),
    "DepthwiseConv2dNative": ("DepthwiseConv2D", _CONVOLUTION),
    "FusedBatchNorm": ("BatchNormalization", _NORMALISATION),
    "FusedBatchNormV2": ("BatchNormalization", _NORMALISATION),
    "FusedBatchNormV3": ("BatchNormalization", _NORMALISATION),
    "MaxPool": ("MaxPooling2D", {"pool_size": _window("ksize"), "strides": _window("strides")}),
    "Pad": ("ZeroPadding2D", {}),
    "Relu6": ("ReLU", _RELU6),
}


def vlad_scope(names: Iterable[str]) -> str | None:
    """The scope of the one NetVLAD layer of a graph with these operations."""
    scopes = [match[1] for match in map(VLAD_SCOPE.fullmatch, names) if match]
    return scopes[0] if len(scopes) == 1 else None


def graph_layers(graph: FrozenGraph) -> list[KerasLayer]:
    """Input, backbone and NetVLAD layer. Raises WeightsError for operations that their models do not have."""
    vlad = _vlad(graph)
    ending = _ending(graph)
    scopes: dict[str, list[Node]] = {}
    for node in graph.nodes.values():
        if node.kind not in SILENT and _scope(node.name) != vlad:
            scopes.setdefault(_scope(node.name), []).append(node)
    cut = scopes.pop(_cut(graph, vlad), None)
    if cut is None:
        raise WeightsError(f"{graph.path}: nothing feeds {vlad}; was it frozen to its end?")
    backbone = [_layer(graph, nodes, ending) for nodes in (*scopes.values(), cut)]
    return [_input(graph), *backbone, _vlad_layer(graph, vlad)]


def graph_arrays(graph: FrozenGraph) -> dict[tuple[str, str], np.ndarray]:
    """(layer, weight) -> array."""
    ending = _ending(graph)
    arrays = {}
    for name in graph.constants:
        scope, _, weight = name.partition("/")
        if weight in WEIGHTS:
            layer = scope if scope == _vlad(graph) else scope.removesuffix(ending)
            arrays[layer, weight] = np.asarray(graph.array(name), np.float32)
    return arrays


def _scope(name: str) -> str:
    return name.partition("/")[0]


def _vlad(graph: FrozenGraph) -> str:
    scope = vlad_scope(graph.nodes)
    if scope is None:
        raise WeightsError(
            f"{graph.path}: expected one NetVLAD layer in the graph, got none or several."
        )
    return scope


def _placeholder(graph: FrozenGraph) -> str:
    names = [node.name for node in graph.nodes.values() if node.kind == "Placeholder"]
    if len(names) != 1 or not INPUT.fullmatch(names[0]):
        raise WeightsError(
            f"{graph.path}: expected one input, named input_1 or alike, got {names[:3] or 'none'}."
        )
    return names[0]


def _ending(graph: FrozenGraph) -> str:
    match = INPUT.fullmatch(_placeholder(graph))
    return match[1] if match else ""


def _input(graph: FrozenGraph) -> KerasLayer:
    name = _placeholder(graph)
    shape = graph.attribute(name, "shape")
    sizes = [None if size < 0 else size for size in shape] if isinstance(shape, tuple) else None
    return KerasLayer("InputLayer", name, {"batch_input_shape": sizes})


def _cut(graph: FrozenGraph, vlad: str) -> str:
    """The scope of what the NetVLAD layer convolves."""
    convolved = [
        graph.inputs(node.name)[:1]
        for node in graph.nodes.values()
        if node.kind == "Conv2D" and _scope(node.name) == vlad
    ]
    return _scope(convolved[0][0]) if convolved and convolved[0] else ""


def _layer(graph: FrozenGraph, nodes: list[Node], ending: str) -> KerasLayer:
    first = nodes[0]
    if first.kind not in OPERATIONS:
        raise WeightsError(
            f"{graph.path}: the operation {first.kind!r} of {first.name!r} is not known; freeze the model "
            "with the learning phase set to 0."
        )
    kind, settings = OPERATIONS[first.kind]
    config = {name: setting(graph, first.name) for name, setting in settings.items()}
    if kind == "Conv2D":
        config["activation"] = "relu" if any(n.kind == "Relu" for n in nodes) else "linear"
    return KerasLayer(kind, _scope(first.name).removesuffix(ending), config)


def _vlad_layer(graph: FrozenGraph, vlad: str) -> KerasLayer:
    if not vlad.startswith("ghost"):
        return KerasLayer("NetVLADLayer", vlad, {})
    # v[:, 0:clusters, :] is the only slice of three axes.
    ends = [
        graph.array(node.inputs[2])
        for node in graph.nodes.values()
        if node.kind == "StridedSlice" and _scope(node.name) == vlad and len(node.inputs) == 4
    ]
    kept = [int(end[1]) for end in ends if end.shape == (3,) and end.dtype.kind == "i"]
    ghosts = {"num_ghost_clusters": graph.array(f"{vlad}/bias").size - kept[0]} if kept else {}
    return KerasLayer("GhostVLADLayer", vlad, ghosts)
