# SPDX-License-Identifier: MIT
"""Writes VGG16-NetVLAD weights as each of the foreign projects does, with code that shares nothing with ours.

Tensors go by the variable names of netvlad_tf_open: `conv1_1/kernel`, `cluster_centers`, `WPCA/bias`, ...
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from netvlad_ros.quiet import quiet_start_up

with quiet_start_up():
    import tensorflow as tf

Tensors = dict[str, np.ndarray]

BLOCKS = (2, 2, 3, 3, 3)
CONVOLUTIONS = [
    f"conv{block}_{number}"
    for block, count in enumerate(BLOCKS, start=1)
    for number in range(1, count + 1)
]
SCOPE = "vgg16_netvlad_pca/"
DEPTH = 512


def thin_tensors(clusters: int = 3, dims: int = 5, whitened: bool = True) -> Tensors:
    """Random tensors of which only the convolutions are too small for VGG-16."""
    rng = np.random.default_rng(21)
    shapes: dict[str, tuple[int, ...]] = {"average_rgb": (3,)}
    for name in CONVOLUTIONS:
        shapes |= {f"{name}/kernel": (3, 3, 2, 4), f"{name}/bias": (4,)}
    shapes |= {
        "assignment/kernel": (1, 1, DEPTH, clusters),
        "cluster_centers": (1, 1, 1, DEPTH, clusters),
    }
    if whitened:
        shapes |= {"WPCA/kernel": (1, 1, DEPTH * clusters, dims), "WPCA/bias": (dims,)}
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def write_checkpoint(prefix: Path, tensors: Tensors, scope: str = SCOPE) -> Path:
    """As tf.train.Saver: PREFIX.index and PREFIX.data-00000-of-00001."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    names = [scope + name for name in tensors]
    slices = [""] * len(names)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=slices,
        tensors=[tf.constant(array) for array in tensors.values()],
    )
    return prefix


def write_frozen(path: Path, tensors: Tensors) -> Path:
    """Constants with the variables' names, each read through an Identity, in a graph of some other nodes.

    Serialised node by node: the parts of a protobuf message can be written one after the other.
    """
    with path.open("wb") as file:

        def put(name: str, kind: str, *inputs: str, value: np.ndarray | None = None) -> None:
            graph = tf.compat.v1.GraphDef()
            node = graph.node.add(
                name=SCOPE + name, op=kind, input=[SCOPE + each for each in inputs]
            )
            node.attr["dtype"].type = tf.float32.as_datatype_enum
            if value is not None:
                node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
            file.write(graph.SerializeToString())

        put("Placeholder", "Placeholder")
        for name, array in tensors.items():
            put(name, "Const", value=array)
            put(f"{name}/read", "Identity", name)
        put("sub", "Sub", "Placeholder", "average_rgb/read")
    return path


def cell(values: list[Any]) -> np.ndarray:
    """A cell array of one row."""
    row = np.empty((1, len(values)), object)
    for number, value in enumerate(values):
        row[0, number] = value
    return row


def matlab_layers(tensors: Tensors, bias: np.ndarray | None = None) -> list[dict[str, Any]]:
    """net.layers as relja_simplenn_tidy leaves them, with pooling before its ReLU; `bias` for VLADv2."""
    layers: list[dict[str, Any]] = []

    def put(kind: str, name: str, **fields: Any) -> None:
        layers.append({"type": kind, "name": name, **fields, "precious": False})

    for block, count in enumerate(BLOCKS, start=1):
        for number in range(1, count + 1):
            name = f"conv{block}_{number}"
            kernel, offset = tensors[f"{name}/kernel"], tensors[f"{name}/bias"]
            put(
                "conv",
                name,
                weights=cell([kernel, offset.reshape(1, -1)]),
                momentum=cell([np.zeros_like(kernel[:1]), np.zeros_like(offset)]),
                pad=np.ones((1, 4)),
                stride=np.ones((1, 2)),
                dilate=1.0,
                opts=cell([]),
            )
            if number == count and block < 5:
                put(
                    "pool",
                    f"pool{block}",
                    method="max",
                    pool=np.full((1, 2), 2.0),
                    stride=np.full((1, 2), 2.0),
                    pad=np.zeros((1, 4)),
                )
            if (block, number) != (5, 3):
                put("relu", f"relu{block}_{number}", leak=0.0)
    clusters = tensors["assignment/kernel"].shape[-1]
    centres = tensors["cluster_centers"][0]
    parts = [tensors["assignment/kernel"], centres]
    norm = np.array([[2.0 * DEPTH, 1e-12, 1.0, 0.5]])
    put("normalize", "preL2", param=norm)
    put(
        "custom",
        "vlad:core",
        weights=cell(parts if bias is None else [parts[0], bias.reshape(1, -1), parts[1]]),
        K=float(clusters),
        D=float(DEPTH),
        vladDim=float(DEPTH * clusters),
    )
    put("normalize", "vlad:intranorm", param=norm)
    put("custom", "postL2")
    if "WPCA/kernel" in tensors:
        weights = cell([tensors["WPCA/kernel"], tensors["WPCA/bias"].reshape(-1, 1)])
        put("conv", "WPCA", weights=weights, stride=1.0, pad=0.0, opts=cell([]))
        put("custom", "finalL2")
    return layers


def write_matlab(
    path: Path,
    tensors: Tensors,
    compressed: bool = False,
    bias: np.ndarray | None = None,
    edit: Callable[[list[Any]], Any] = lambda layers: None,
) -> Path:
    """As `save(path, 'net', '-v7')` or '-v6' after struct() of each layer; `edit` may spoil them before."""
    layers: list[Any] = list(matlab_layers(tensors, bias))
    edit(layers)
    # An image of which the code takes the value at the upper left corner.
    image = np.random.default_rng(1).random((2, 3, 3), np.float32)
    image[0, 0] = tensors["average_rgb"]
    meta = {
        "normalization": {"averageImage": image, "imageSize": np.full((1, 3), 224.0)},
        "epoch": 7.0,
    }
    net = {"layers": cell(layers), "meta": meta}
    scipy.io.savemat(path, {"net": net}, do_compression=compressed)
    return path


def keras_layers(tensors: Tensors) -> list[tuple[str, Tensors]]:
    """The 29 layers of Netvlad-Keras by Keras' default names, with counters as if it was made second."""
    counters = {"conv2d": 17, "activation": 4, "max_pooling2d": 4, "lambda": 4}
    layers: list[tuple[str, Tensors]] = []

    def put(kind: str, **weights: np.ndarray) -> None:
        counters[kind] = counters.get(kind, 1) + 1
        layers.append((f"{kind}_{counters[kind]}", weights))

    put("substract_average", average_rgb=tensors["average_rgb"])
    for block, count in enumerate(BLOCKS, start=1):
        for number in range(1, count + 1):
            name = f"conv{block}_{number}"
            put("conv2d", kernel=tensors[f"{name}/kernel"], bias=tensors[f"{name}/bias"])
        if block < 5:
            put("max_pooling2d")
            put("activation")
    put("lambda")
    put(
        "net_vlad",
        cluster_centers=tensors["cluster_centers"],
        kernel=tensors["assignment/kernel"],
    )
    put("lambda")
    put("lambda")
    put("conv2d", kernel=tensors["WPCA/kernel"], bias=tensors["WPCA/bias"])
    put("flatten")
    put("lambda")
    return layers


def write_keras(path: Path, tensors: Tensors, whole_model: bool = False) -> Path:
    """As model.save_weights() of Keras 2, or as model.save()."""
    layers = keras_layers(tensors)
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole_model else file
        if whole_model:
            described = [{"class_name": "Layer", "config": {"name": name}} for name, _ in layers]
            model = {"class_name": "Sequential", "config": described}
            file.attrs["model_config"] = json.dumps(model).encode()
        root.attrs["layer_names"] = np.array([name.encode() for name, _ in layers])
        root.attrs["backend"], root.attrs["keras_version"] = b"tensorflow", b"2.2.4"
        for name, weights in layers:
            group = root.create_group(name)
            names = [f"{name}/{weight}:0" for weight in weights]
            group.attrs["weight_names"] = np.array([each.encode() for each in names])
            for each, array in zip(names, weights.values(), strict=True):
                group[each] = array
    return path
