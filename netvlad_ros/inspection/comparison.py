# SPDX-License-Identifier: MIT
"""Two models, or a model and the descriptors that it should give, side by side on the same images."""

import zipfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netvlad_ros.config import ExtractorConfig
from netvlad_ros.errors import DescriptorError
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.extraction.preprocessing import network_input
from netvlad_ros.inspection import differences
from netvlad_ros.inspection.differences import Difference, Pair, Setting
from netvlad_ros.inspection.explanations import explanations, input_size
from netvlad_ros.inspection.walk import layer_outputs
from netvlad_ros.model import NetVLADNetwork, load_model

# Components of descriptors of unit length that differ by no more are equal for every use there is.
TOLERANCE = 1e-5
ARRAYS = (".npy", ".npz")

Images = Sequence[np.ndarray]


@dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    network:     None where there are descriptors only: of another runtime, or those that are expected.
    descriptors: uint8 RGB images -> (images, dims).
    """

    name: str
    network: NetVLADNetwork | None
    descriptors: Callable[[Images], np.ndarray]


@dataclass(frozen=True)
class DescriptorPair:
    """The descriptors of one image; cosine and max_abs are None if their lengths in numbers differ."""

    image: str
    dims_a: int
    dims_b: int
    norm_a: float
    norm_b: float
    cosine: float | None
    max_abs: float | None


@dataclass(frozen=True)
class Inside:
    """What differs inside two networks of ours.

    input_channels: the normalised input, channel by channel; empty if it has another shape in each.
    """

    settings: list[Setting]
    input_channels: list[Difference]
    weights: list[Pair]
    layers: list[Pair]

    @property
    def first_difference(self) -> Pair | None:
        """The first layer that differs by more than the noise of float32."""
        return next((layer for layer in self.layers if layer.differs), None)


@dataclass(frozen=True)
class Comparison:
    """All that was found; inside is None unless both sides are networks of ours."""

    a: str
    b: str
    descriptors: list[DescriptorPair]
    equal: bool
    inside: Inside | None
    explanations: list[str]
    conclusion: str


def open_side(path: str) -> Side:
    """A model file of any runtime, or FILE.npy, FILE.npz or FILE.npz:NAME of expected descriptors.

    Raises ModelError or DescriptorError.
    """
    if path.endswith(ARRAYS) or path.rpartition(":")[0].endswith(".npz"):
        expected = _expected(path)
        return Side(path, None, lambda images: _refuse_other_count(path, expected, len(images)))
    if path.endswith(".keras"):
        network = load_model(path)
        return Side(path, network, lambda images: _of_network(network, images))
    extractor = NetVLADExtractor(path)
    return Side(path, None, extractor.extract_batch)


def compare(a: Side, b: Side, images: Images, names: Sequence[str]) -> Comparison:
    """What differs between a and b, from the input to the descriptor.

    images: uint8 RGB; names: theirs. Raises ImageError for an image that shows nothing.
    """
    inside = None
    if a.network and b.network:
        inside, of_a, of_b = _look_inside(a.network, b.network, images)
    else:
        of_a, of_b = a.descriptors(images), b.descriptors(images)
    pairs = [_descriptor_pair(*each) for each in zip(names, of_a, of_b, strict=True)]
    equal = all(pair.max_abs is not None and pair.max_abs <= TOLERANCE for pair in pairs)
    explained = [] if equal else _explained(a, b, images, of_a, of_b)
    conclusion = _conclusion(pairs, equal, inside)
    return Comparison(a.name, b.name, pairs, equal, inside, explained, conclusion)


def _look_inside(
    a: NetVLADNetwork, b: NetVLADNetwork, images: Images
) -> tuple[Inside, np.ndarray, np.ndarray]:
    inputs = [(_fed(a, image), _fed(b, image)) for image in images]
    steps = list(differences.layers(a, b, inputs))
    inside = Inside(
        differences.settings(a, b),
        differences.input_channels(a, b, inputs),
        differences.weights(a, b),
        steps[-1][0],
    )
    return inside, np.stack([step[1] for step in steps]), np.stack([step[2] for step in steps])


def _fed(network: NetVLADNetwork, image: np.ndarray) -> np.ndarray:
    return network_input(image, input_size(network), ExtractorConfig())


def _of_network(network: NetVLADNetwork, images: Images) -> np.ndarray:
    """Not through an extractor, which would hide that a descriptor is not of unit length."""
    outputs = (deque(layer_outputs(network, _fed(network, image)), 1) for image in images)
    return np.stack([last for [(_, last)] in outputs])


def _expected(path: str) -> np.ndarray:
    """(images, dims) descriptors from a file. Raises DescriptorError."""
    file, colon, name = (path, "", "") if Path(path).exists() else path.rpartition(":")
    try:
        content = np.load(file if colon else path, allow_pickle=False)
    except OSError as error:
        raise DescriptorError(
            f"{path}: can't read the descriptors ({error.strerror or error})."
        ) from None
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise DescriptorError(
            f"{path}: expected arrays of numbers; got a file of another kind, or a damaged one."
        ) from None
    array = _chosen(path, content, name) if isinstance(content, np.lib.npyio.NpzFile) else content
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise DescriptorError(
            f"{path}: expected numbers of shape (images, dimensions), got {array.dtype} of shape "
            f"{array.shape}."
        )
    return array.astype(np.float32)


def _chosen(path: str, arrays: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    if not name and len(arrays.files) == 1:
        name = arrays.files[0]
    if name not in arrays.files:
        got = f"{name!r}" if name else "none"
        raise DescriptorError(
            f"{path}: expected FILE.npz:NAME with one of the arrays in it ({', '.join(arrays.files)}), got "
            f"{got}."
        )
    return arrays[name]


def _refuse_other_count(path: str, expected: np.ndarray, images: int) -> np.ndarray:
    if len(expected) != images:
        raise DescriptorError(
            f"{path}: expected one descriptor for each of {images} images, got {len(expected)}; name the "
            "images that they are of, in their order."
        )
    return expected


def _descriptor_pair(image: str, a: np.ndarray, b: np.ndarray) -> DescriptorPair:
    sizes = (len(a), len(b), float(np.linalg.norm(a)), float(np.linalg.norm(b)))
    if len(a) != len(b):
        return DescriptorPair(image, *sizes, None, None)
    apart = differences.difference(a, b)
    return DescriptorPair(image, *sizes, apart.cosine, apart.max_abs)


def _explained(a: Side, b: Side, images: Images, of_a: np.ndarray, of_b: np.ndarray) -> list[str]:
    """From the first network's side; what it can't explain, the other one may."""
    for side, expected in ((a, of_b), (b, of_a)):
        if side.network is not None:
            found = explanations(side.network, side.name, images, expected, TOLERANCE)
            if found:
                return found
    return []


def _conclusion(pairs: list[DescriptorPair], equal: bool, inside: Inside | None) -> str:
    if pairs[0].max_abs is None or pairs[0].cosine is None:
        what = f"The descriptors have {pairs[0].dims_a} and {pairs[0].dims_b} dimensions"
    else:
        largest = float(np.max([pair.max_abs for pair in pairs]))
        least = float(np.min([pair.cosine for pair in pairs]))
        if equal:
            return f"Equal within {TOLERANCE:g}: the descriptors differ by at most {largest:.2g}."
        what = f"The descriptors differ by up to {largest:.2g} (cosine at least {least:.6f})"
    first = inside.first_difference if inside else None
    if not first or not inside:
        return f"{what}."
    return f"{what}; the first layer that differs is {first.name}: {_why(first, inside)}."


def _why(layer: Pair, inside: Inside) -> str:
    if layer.shape_a is None or layer.shape_b is None:
        return f"only {'B' if layer.shape_a is None else 'A'} has it"
    if layer.difference is None:
        return f"its output is {layer.shape_a} in A and {layer.shape_b} in B"
    what = f"up to {layer.difference.max_abs:.2g}, {layer.difference.relative:.1g} of its largest output"
    tensors = [pair for pair in inside.weights if pair.name.startswith(f"{layer.name}/")]
    other = [pair.name for pair in tensors if pair.differs]
    if other:
        return f"{what}; so do its weights ({', '.join(other)})"
    return f"{what}, while its weights are equal" if tensors else what
