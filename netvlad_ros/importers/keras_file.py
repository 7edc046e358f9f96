# SPDX-License-Identifier: MIT
"""HDF5 files of Keras 2, weights or model: layers in their order with their weights, as plain data."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_ros.errors import WeightsError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_BYTES = 2 << 30
# Weights hardly compress; what claims to be so much larger than its file was made to fill the memory.
MAX_COMPRESSION = 4
MAX_LAYERS = 1000


@dataclass(frozen=True)
class StoredWeight:
    """One array in the file: the last part of its name without `:0`, where it is, and its shape."""

    name: str
    place: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class StoredLayer:
    """A layer that has weights, in their order."""

    name: str
    weights: tuple[StoredWeight, ...]


def stored_layers(path: Path) -> list[StoredLayer]:
    """The layers with weights in the order of the model; none if this is another file. Never raises."""
    import h5py

    try:
        with path.open("rb") as file:
            if file.read(len(SIGNATURE)) != SIGNATURE:
                return []
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            names = _names(root.attrs, "layer_names")
            layers = [_layer(root[name], name) for name in names[:MAX_LAYERS]]
    except Exception:  # whatever a file can hold that is something else
        return []
    return [layer for layer in layers if layer.weights]


def _names(attributes: Any, key: str) -> list[str]:
    """A list of names; long ones are stored in several parts, key0, key1 and so on."""
    if key in attributes:
        parts = [attributes[key]]
    else:
        parts = [
            attributes[f"{key}{number}"]
            for number in range(len(attributes))
            if f"{key}{number}" in attributes
        ]
    return [
        each.decode() if isinstance(each, bytes) else str(each) for part in parts for each in part
    ]


def _layer(group: Any, name: str) -> StoredLayer:
    weights = []
    for each in _names(group.attrs, "weight_names"):
        dataset = group[each]
        last = each.rpartition("/")[2].removesuffix(":0")
        weights.append(StoredWeight(last, dataset.name, tuple(dataset.shape)))
    return StoredLayer(name, tuple(weights))


def read_array(path: Path, weight: StoredWeight) -> np.ndarray:
    """Its numbers. Raises WeightsError for a damaged file, and for one that claims more than it can hold."""
    import h5py

    allowed = min(MAX_BYTES, MAX_COMPRESSION * path.stat().st_size)
    try:
        with h5py.File(path, "r") as file:
            dataset = file[weight.place]
            if dataset.dtype.kind != "f":
                raise WeightsError(
                    f"{path}: expected numbers in {weight.place}, got {dataset.dtype}."
                )
            size = math.prod(dataset.shape) * dataset.dtype.itemsize
            if size > allowed:
                raise WeightsError(
                    f"{path}: expected at most {allowed} bytes in {weight.place}, got {size}; what is it?"
                )
            return np.asarray(dataset[()])
    except WeightsError:
        raise
    except Exception as error:  # h5py has many kinds for one cause
        reason = str(error).splitlines()[0][:150] if str(error) else type(error).__name__
        raise WeightsError(
            f"{path}: can't be read to its end ({reason}); download or copy it again."
        ) from None
