# SPDX-License-Identifier: MIT
"""Two networks on the same images: how far apart their inputs, weights and layers are."""

import dataclasses
import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import keras
import numpy as np

from netvlad_ros.config import NetworkConfig
from netvlad_ros.inspection.walk import layer_outputs
from netvlad_ros.model import NetVLADNetwork

# Of the largest output of a layer: what two orders of adding float32 numbers may make of the same sum.
FLOAT_NOISE = 1e-5
INPUT_LAYER, NORMALISATION_LAYER = "image_rgb", "input_normalisation"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Difference:
    """How far two arrays of one shape are apart.

    relative: max_abs as a share of the largest absolute value of the first array.
    """

    max_abs: float
    mean_abs: float
    relative: float
    cosine: float

    @property
    def is_noise(self) -> bool:
        """False for NaN too."""
        return self.relative <= FLOAT_NOISE

    def worse(self, other: "Difference") -> "Difference":
        """The worse of both in each respect; NaN is the worst."""
        return Difference(
            float(np.maximum(self.max_abs, other.max_abs)),
            float(np.maximum(self.mean_abs, other.mean_abs)),
            float(np.maximum(self.relative, other.relative)),
            float(np.minimum(self.cosine, other.cosine)),
        )


@dataclass(frozen=True)
class Setting:
    """A value of the architecture or of the input in both networks."""

    name: str
    a: str
    b: str


@dataclass(frozen=True)
class Pair:
    """A layer or a tensor of both networks.

    shape_a, shape_b: without the batch; None where that network does not have it.
    difference:       the worst over all images; None unless the shapes are equal.
    """

    name: str
    shape_a: Shape | None
    shape_b: Shape | None
    difference: Difference | None = None

    @property
    def differs(self) -> bool:
        return self.difference is None or not self.difference.is_noise


def difference(a: np.ndarray, b: np.ndarray) -> Difference:
    """Of two arrays of the same shape."""
    apart = np.abs(a - b)
    largest, max_abs = float(np.abs(a).max(initial=0.0)), float(apart.max(initial=0.0))
    relative = max_abs / largest if largest else max_abs and np.inf
    return Difference(max_abs, float(apart.mean()), float(relative), cosine(a, b))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of the angle between two arrays taken as vectors; 1 for two of zeros."""
    lengths = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    if lengths == 0.0:
        return float(not a.any() and not b.any())
    return float(np.minimum(np.vdot(a, b) / lengths, 1.0))


def settings(a: NetVLADNetwork, b: NetVLADNetwork) -> list[Setting]:
    """How both take their input, and whatever else of their architecture is not the same."""
    return [
        Setting(name, _text(getattr(a.network, name)), _text(getattr(b.network, name)))
        for name in (item.name for item in dataclasses.fields(NetworkConfig))
        if name.startswith(("input_", "channel_"))
        or getattr(a.network, name) != getattr(b.network, name)
    ]


def weights(a: NetVLADNetwork, b: NetVLADNetwork) -> list[Pair]:
    """Each tensor of either network, in the order of the first."""
    ours, theirs = ({weight.path: weight for weight in one.weights} for one in (a, b))
    names = [*ours, *(name for name in theirs if name not in ours)]
    return [
        _pair(
            name,
            *(
                keras.ops.convert_to_numpy(each[name]) if name in each else None
                for each in (ours, theirs)
            ),
        )
        for name in names
    ]


def layers(
    a: NetVLADNetwork, b: NetVLADNetwork, inputs: Iterable[tuple[np.ndarray, np.ndarray]]
) -> Iterator[tuple[list[Pair], np.ndarray, np.ndarray]]:
    """For each image, the pairs of layers so far and both descriptors.

    inputs: for each image the (H, W, 3) input of a and that of b.
    """
    names = _aligned([layer.name for layer in a.layers], [layer.name for layer in b.layers])
    worst: list[Pair] = []
    for input_a, input_b in inputs:
        outputs_a, outputs_b = layer_outputs(a, input_a), layer_outputs(b, input_b)
        last_a = last_b = np.empty(0, np.float32)
        pairs = []
        for name, in_a, in_b in names:
            x = next(outputs_a)[1] if in_a else None
            y = next(outputs_b)[1] if in_b else None
            pairs.append(_pair(name, x, y))
            last_a, last_b = last_a if x is None else x, last_b if y is None else y
        worst = [_worse(*both) for both in zip(worst, pairs, strict=True)] if worst else pairs
        yield worst, last_a, last_b


def input_channels(
    a: NetVLADNetwork, b: NetVLADNetwork, inputs: Iterable[tuple[np.ndarray, np.ndarray]]
) -> list[Difference]:
    """The normalised input channel by channel, as the first convolution gets it; none if shapes differ."""
    worst: list[Difference] = []
    for input_a, input_b in inputs:
        x, y = _normalised(a, input_a), _normalised(b, input_b)
        if x.shape != y.shape:
            return []
        now = [difference(x[..., channel], y[..., channel]) for channel in range(x.shape[-1])]
        worst = [one.worse(two) for one, two in zip(worst, now, strict=True)] if worst else now
    return worst


def _normalised(network: NetVLADNetwork, image: np.ndarray) -> np.ndarray:
    return next(out for name, out in layer_outputs(network, image) if name == NORMALISATION_LAYER)


def _aligned(a: list[str], b: list[str]) -> list[tuple[str, bool, bool]]:
    """Each name in an order that fits both lists, and whether it is in a and in b."""
    aligned = []
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    for kind, start_a, end_a, start_b, end_b in matcher.get_opcodes():
        if kind == "equal":
            aligned += [(name, True, True) for name in a[start_a:end_a]]
        else:
            aligned += [(name, True, False) for name in a[start_a:end_a]]
            aligned += [(name, False, True) for name in b[start_b:end_b]]
    return aligned


def _pair(name: str, a: np.ndarray | None, b: np.ndarray | None) -> Pair:
    shapes = (None if a is None else a.shape), (None if b is None else b.shape)
    if a is None or b is None or a.shape != b.shape:
        return Pair(name, *shapes)
    return Pair(name, *shapes, difference(a, b))


def _worse(one: Pair, two: Pair) -> Pair:
    if one.difference is None or two.difference is None:
        return dataclasses.replace(one, difference=None)
    return dataclasses.replace(one, difference=one.difference.worse(two.difference))


def _text(value: object) -> str:
    return ", ".join(f"{one:g}" for one in value) if isinstance(value, tuple) else str(value)
