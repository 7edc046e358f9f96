# SPDX-License-Identifier: MIT
"""HDF5 files of crlz182/Netvlad-Keras, weights or model, matched by position: their names are Keras' own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from netvlad_ros.errors import WeightsError
from netvlad_ros.importers.canonical import CanonicalWeights, Importer, InputPreset
from netvlad_ros.importers.keras_file import StoredLayer, StoredWeight, read_array, stored_layers
from netvlad_ros.importers.vgg16_netvlad import CONVOLUTIONS, ForeignTensors, canonical

# The layers with weights, in order, and how many weights each has; 13 of them are convolutions.
AVERAGE, CONVOLUTION, VLAD, WHITENING = "the average", "a convolution", "NetVLAD", "the whitening"
POSITIONS = (
    (AVERAGE, 1),
    *((CONVOLUTION, 2) for _ in CONVOLUTIONS),
    (VLAD, 2),
    (WHITENING, 2),
)


def recognises(path: Path) -> bool:
    """Whether the first layer that has weights in this HDF5 file is the one that subtracts the average."""
    layers = stored_layers(path)
    return bool(layers) and [weight.name for weight in layers[0].weights] == ["average_rgb"]


def read(path: Path, preset: InputPreset | None) -> CanonicalWeights:
    """Raises WeightsError if the layers are not theirs or the file is damaged."""
    layers = stored_layers(path)
    _refuse_others(path, layers)
    average, *convolutions, vlad, whitening = layers
    # Which of the two comes first depends on the version of Keras; their shapes differ.
    assignment, centres = sorted(vlad.weights, key=lambda weight: len(weight.shape))
    return canonical(
        path,
        ForeignTensors(
            convolutions={
                name: _pair(path, layer.weights)
                for name, layer in zip(CONVOLUTIONS, convolutions, strict=True)
            },
            average_rgb=read_array(path, average.weights[0]),
            assignment=read_array(path, assignment),
            negated_centres=read_array(path, centres),
            whitening=_pair(path, whitening.weights),
        ),
    )


def _refuse_others(path: Path, layers: Sequence[StoredLayer]) -> None:
    if len(layers) != len(POSITIONS):
        raise WeightsError(
            f"{path}: expected {len(POSITIONS)} layers with weights, as theirs have, got {len(layers)}; "
            "was the architecture changed?"
        )
    for (meaning, count), layer in zip(POSITIONS, layers, strict=True):
        if len(layer.weights) != count:
            raise WeightsError(
                f"{path}: expected {count} weights in {layer.name}, which is {meaning} by its position, got "
                f"{len(layer.weights)}; was the architecture changed?"
            )


def _pair(path: Path, weights: Sequence[StoredWeight]) -> tuple[np.ndarray, np.ndarray]:
    kernel, bias = (read_array(path, weight) for weight in weights)
    return kernel, bias


IMPORTER = Importer("crlz182/Netvlad-Keras", recognises, read)
