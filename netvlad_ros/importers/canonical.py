# SPDX-License-Identifier: MIT
"""Our names, signs and order of every tensor, onto which each importer maps its foreign file.

A tensor is named `layer/weight`, with the layer names of keras.applications where they exist:

| name                              | shape              | convention                                    |
|-----------------------------------|--------------------|-----------------------------------------------|
| <conv>/kernel, <conv>/bias        | (h, w, in, out)    | cross-correlation, as Keras has it            |
| <depthwise>/kernel                | (h, w, in, 1)      |                                               |
| <bn>/gamma, beta, moving_mean ... | (channels,)        |                                               |
| netvlad/assignment, netvlad/bias  | (D, K + G), (K+G,) | scores of the softmax; ghost clusters last    |
| netvlad/centres                   | (K, D)             | positive: they are subtracted                 |
| whitening/kernel, whitening/bias  | (K * D, dims)      | rows cluster-major: k * D + d                 |
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_ros.config import NetworkConfig
from netvlad_ros.errors import WeightsError
from netvlad_ros.model import NetVLADNetwork, build_network


@dataclass(frozen=True)
class InputPreset:
    """How images were fed to a network when it was trained: (x - offset) * scale in this channel order."""

    channel_order: str
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    meaning: str


@dataclass(frozen=True)
class CanonicalWeights:
    """What an importer makes of a foreign file.

    settings: by layer, what the file says of it; ours has to be the same, weights or not.
    """

    network: NetworkConfig
    tensors: dict[str, np.ndarray]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Importer:
    """One origin of weights: how its files are known and how they are read.

    recognises: whether a file, a folder, the prefix of a checkpoint or nothing at all is one of them; it only
        looks at the beginning or at the names inside and never raises.
    read: all of it, with the preset that the user chose. Raises WeightsError.
    presets: by name, how their input may be scaled; none where the files say it themselves.
    """

    origin: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, InputPreset | None], CanonicalWeights]
    presets: dict[str, InputPreset] = field(default_factory=dict)


def to_network(weights: CanonicalWeights, source: Path) -> NetVLADNetwork:
    """A network that holds these weights, which are taken out of `weights` one by one.

    So a large one is not held twice. Raises WeightsError if they do not fit their architecture.
    """
    _refuse_disagreeing(source, weights)
    model = build_network(weights.network)
    _refuse_other_settings(source, model, weights.settings)
    wanted = {weight.path: weight for weight in model.weights}
    missing, unknown = (
        wanted.keys() - weights.tensors.keys(),
        weights.tensors.keys() - wanted.keys(),
    )
    if missing or unknown:
        raise WeightsError(
            f"{source}: expected the tensors of {weights.network.backbone}, but {_some(missing)} missing and "
            f"{_some(unknown)} unknown; was the architecture changed?"
        )
    for name in list(weights.tensors):
        tensor = weights.tensors.pop(name)
        _refuse_unusable(source, name, tensor, tuple(wanted[name].shape))
        wanted[name].assign(tensor)
    return model


def _refuse_disagreeing(source: Path, weights: CanonicalWeights) -> None:
    """Before the network is built, as one of the size that two tensors only make together may fit nowhere."""
    network, tensors = weights.network, weights.tensors
    if network.pooling != "netvlad" or not network.whitening_dims:
        return
    for name in ("netvlad/centres", "whitening/kernel"):
        if name not in tensors:
            raise WeightsError(f"{source}: {name} is missing; is the file complete?")
    rows = network.clusters * tensors["netvlad/centres"].shape[-1]
    expected = (rows, network.whitening_dims)
    _refuse_shape(source, "whitening/kernel", tensors["whitening/kernel"], expected)


def _refuse_other_settings(
    source: Path, model: NetVLADNetwork, settings: dict[str, dict[str, Any]]
) -> None:
    ours = {
        layer.name: layer.get_config() | {"class_name": type(layer).__name__}
        for layer in model.layers
    }
    for name, theirs in settings.items():
        if name not in ours:
            raise WeightsError(
                f"{source}: {model.network.backbone} has no layer {name!r} ({theirs.get('class_name')}); was "
                "the architecture changed?"
            )
        for key, value in theirs.items():
            if json.dumps(value) != json.dumps(ours[name].get(key)):  # a tuple equals a list
                raise WeightsError(
                    f"{source}: expected {key} {ours[name].get(key)!r} of layer {name!r}, got {value!r}; was "
                    "the architecture changed?"
                )


def _refuse_unusable(source: Path, name: str, tensor: np.ndarray, shape: tuple[int, ...]) -> None:
    _refuse_shape(source, name, tensor, shape)
    if not np.isfinite(tensor).all():
        raise WeightsError(
            f"{source}: {name} holds NaN or infinite values; the training must have diverged."
        )


def _refuse_shape(source: Path, name: str, tensor: np.ndarray, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        raise WeightsError(
            f"{source}: expected {name} of shape {shape}, got {tensor.shape}; is the file complete?"
        )


def _some(names: set[str]) -> str:
    listed = ", ".join(sorted(names)[:3])
    verb = "is" if len(names) == 1 else "are"
    return f"{listed or 'none'}{' and more' if len(names) > 3 else ''} {verb}"
