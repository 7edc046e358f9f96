# SPDX-License-Identifier: MIT
"""Networks of Relja/netvlad (.mat) with their layers as structs, which is what uzh-rpg and hloc read too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_ros.data.mat_file import read_mat
from netvlad_ros.data.mat_values import Foreign
from netvlad_ros.errors import WeightsError
from netvlad_ros.importers.canonical import CanonicalWeights, Importer, InputPreset
from netvlad_ros.importers.vgg16_netvlad import CONVOLUTIONS, ForeignTensors, canonical

# What training leaves behind in each layer; momentum is as large as the weights.
LEFT_OUT = frozenset({"momentum", "learningRate", "weightDecay", "classes"})
# What follows a convolution, in any order (they swap the two to save time), by the convolution's name.
BETWEEN = {name: {"relu"} for name in CONVOLUTIONS} | {
    "conv1_2": {"relu", "pool"},
    "conv2_2": {"relu", "pool"},
    "conv3_3": {"relu", "pool"},
    "conv4_3": {"relu", "pool"},
    "conv5_3": set(),
}
# Kind of layer -> what a VGG-16 has there, where the file says something of it.
SETTINGS: dict[str, dict[str, float | str]] = {
    "conv": {"pad": 1, "stride": 1, "dilate": 1},
    "relu": {"leak": 0},
    "pool": {"pad": 0, "stride": 2, "pool": 2, "method": "max"},
}
# What comes after the convolutions. The first normalisation and the two last layers may be missing.
FEATURE_NORM, VLAD, ROW_NORM, NORM, FINAL_NORM = (
    "preL2",
    "vlad:core",
    "vlad:intranorm",
    "postL2",
    "finalL2",
)
WHITENING = ("WPCA", "PCA")

Layer = dict[str, Any]


def recognises(path: Path) -> bool:
    """Whether this is a .mat file of any kind."""
    try:
        with path.open("rb") as file:
            return file.read(10).startswith(b"MATLAB ") and path.is_file()
    except OSError:
        return False


def read(path: Path, preset: InputPreset | None) -> CanonicalWeights:
    """Raises WeightsError for objects that only Matlab can read, and for other networks than VGG-16."""
    net = _network(path)
    layers = _layers(path, net)
    average_rgb = _average(path, net)
    backbone, head = layers[: _first_of_head(layers)], layers[_first_of_head(layers) :]
    convolutions = _convolutions(path, backbone)
    del net, layers, backbone
    return canonical(path, _head(path, convolutions, average_rgb, head))


def _network(path: Path) -> dict[str, Any]:
    variables = read_mat(path, LEFT_OUT)
    net = variables.get("net", variables)  # MatConvNet's own files hold the fields themselves
    if isinstance(net, Foreign):
        raise _only_matlab(path, "net", net)
    if not isinstance(net, dict) or not isinstance(net.get("layers"), list):
        listed = ", ".join(sorted(variables)[:5]) or "none"
        raise WeightsError(
            f"{path}: expected a variable 'net' with a cell array of layers, got {listed}; is it a network "
            "of Relja/netvlad?"
        )
    return net


def _layers(path: Path, net: dict[str, Any]) -> list[Layer]:
    for number, layer in enumerate(net["layers"], start=1):
        if isinstance(layer, Foreign):
            raise _only_matlab(path, f"net.layers{{{number}}}", layer)
        if not isinstance(layer, dict) or not isinstance(layer.get("type"), str):
            raise WeightsError(
                f"{path}: expected net.layers{{{number}}} to be a struct with a type; is the file complete?"
            )
    return list(net["layers"])


def _only_matlab(path: Path, name: str, found: Foreign) -> WeightsError:
    return WeightsError(
        f"{path}: {name} is an object of Matlab ({found.kind}), which nothing else can read; run in Matlab, "
        f"with NetVLAD on its path: load('{path.name}'); net.layers = cellfun(@struct, net.layers, "
        f"'UniformOutput', false); save('{path.stem}_struct.mat', 'net', '-v7'), then import "
        f"{path.stem}_struct.mat."
    )


def _average(path: Path, net: dict[str, Any]) -> np.ndarray:
    """(H, W, 3) or (1, 1, 3); they subtract the value at the upper left corner from all of the image."""
    meta = net.get("meta")
    normalization = meta.get("normalization") if isinstance(meta, dict) else None
    average = normalization.get("averageImage") if isinstance(normalization, dict) else None
    if not isinstance(average, np.ndarray) or average.size % 3 or not average.size:
        raise WeightsError(
            f"{path}: net.meta.normalization.averageImage is missing; bring the network up to date with "
            "relja_simplenn_tidy and save it again."
        )
    return average[0, 0] if average.ndim == 3 else average.reshape(-1)


def _name(layer: Layer) -> str:
    return str(layer.get("name", ""))


def _first_of_head(layers: Sequence[Layer]) -> int:
    """Where the part after the last convolution, ReLU and pooling of the backbone starts."""
    kinds = [layer["type"] in SETTINGS and _name(layer) not in WHITENING for layer in layers]
    return kinds.index(False) if False in kinds else len(kinds)


def _convolutions(path: Path, layers: Sequence[Layer]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The 13 of VGG-16 up to conv5_3, after a look at everything in between."""
    names = [_name(layer) for layer in layers if layer["type"] == "conv"]
    if layers and layers[0]["type"] != "conv":
        names.insert(0, layers[0]["type"])
    if names != list(CONVOLUTIONS):
        raise WeightsError(
            f"{path}: expected the convolutions of VGG-16, conv1_1 to conv5_3, got {_listed(names)}; only "
            "networks that start with vd16_ and end with conv5_3 can be imported."
        )
    _refuse_other_order(path, layers)
    for layer in layers:
        _refuse_other_settings(path, layer)
    convolutions = [layer for layer in layers if layer["type"] == "conv"]
    return {_name(layer): _kernel_and_bias(path, layer) for layer in convolutions}


def _refuse_other_order(path: Path, layers: Sequence[Layer]) -> None:
    found: dict[str, list[str]] = {}
    for layer in layers:
        if layer["type"] == "conv":
            found[_name(layer)] = []
        else:
            found[next(reversed(found), "")].append(layer["type"])
    for name, expected in BETWEEN.items():
        if sorted(found[name]) != sorted(expected):
            raise WeightsError(
                f"{path}: expected {_listed(sorted(expected))} after {name}, as in VGG-16 up to conv5_3, got "
                f"{_listed(found[name])}; was the architecture changed?"
            )


def _refuse_other_settings(path: Path, layer: Layer) -> None:
    for key, expected in SETTINGS[layer["type"]].items():
        value = np.asarray(layer.get(key, expected))
        if not (value.size and np.all(value == expected)):
            raise WeightsError(
                f"{path}: expected {key} {expected} of layer {_name(layer)!r}, got "
                f"{value.reshape(-1)[:4].tolist()}; was the architecture changed?"
            )


def _weights(path: Path, layer: Layer, counts: Sequence[int]) -> list[np.ndarray]:
    weights = layer.get("weights")
    if (
        not isinstance(weights, list)
        or len(weights) not in counts
        or not all(isinstance(each, np.ndarray) and each.size for each in weights)
    ):
        raise WeightsError(
            f"{path}: expected {' or '.join(map(str, counts))} arrays of weights in layer {_name(layer)!r}; "
            "is the file complete?"
        )
    return weights


def _kernel_and_bias(path: Path, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    kernel, bias = _weights(path, layer, (2,))
    return _four_axes(kernel), bias


def _four_axes(array: np.ndarray) -> np.ndarray:
    """Matlab leaves out axes of size 1 at the end."""
    return array.reshape(array.shape + (1,) * (4 - array.ndim), order="F")


def _head(
    path: Path,
    convolutions: dict[str, tuple[np.ndarray, np.ndarray]],
    average_rgb: np.ndarray,
    layers: list[Layer],
) -> ForeignTensors:
    """NetVLAD, its normalisations and the whitening; empties `layers`, so that their arrays can go."""
    names = [_name(layer) for layer in layers]
    expected = [VLAD, ROW_NORM, NORM]
    if names[:1] == [FEATURE_NORM]:
        expected.insert(0, FEATURE_NORM)
    whitening = next((name for name in names if name in WHITENING), None)
    if whitening:
        expected += [whitening, FINAL_NORM]
    if names != expected:
        raise WeightsError(
            f"{path}: expected the layers {', '.join(expected)} after conv5_3, got {_listed(names)}; only "
            "vlad and vladv2 with intra-normalisation can be imported."
        )
    by_name = dict(zip(names, layers, strict=True))
    layers.clear()
    depth = 512
    for name in (FEATURE_NORM, ROW_NORM):
        if name in by_name:
            _refuse_other_norm(path, by_name[name], 2 * depth)
    core = _weights(path, by_name[VLAD], (2, 3))
    return ForeignTensors(
        convolutions=convolutions,
        average_rgb=average_rgb,
        assignment=_four_axes(core[0]),
        negated_centres=_four_axes(core[-1]),
        assignment_bias=core[1] if len(core) == 3 else None,
        whitening=_kernel_and_bias(path, by_name[whitening]) if whitening else None,
        normalise_features=FEATURE_NORM in by_name,
    )


def _refuse_other_norm(path: Path, layer: Layer, window: int) -> None:
    """x / (kappa + alpha * sum x^2)^beta over so many neighbouring channels, which has to be all of them."""
    expected, param = [window, 1e-12, 1, 0.5], layer.get("param")
    values = param.reshape(-1).tolist() if isinstance(param, np.ndarray) else param
    is_same = (
        isinstance(values, list) and len(values) == 4 and np.allclose(values, expected, 1e-6, 0)
    )
    if not is_same:
        raise WeightsError(
            f"{path}: expected param {expected} of layer {_name(layer)!r}, an L2 norm, got "
            f"{values}; was the architecture changed?"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (" and more" if len(names) > 4 else "") if names else "nothing"


IMPORTER = Importer("Relja/netvlad", recognises, read)
