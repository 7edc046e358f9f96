# SPDX-License-Identifier: MIT
"""What would have to be otherwise in a network for it to give the descriptors that were expected of it.

Each is a mistake that is easily made between two implementations of NetVLAD, and is tried out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from netvlad_ros.config import ExtractorConfig
from netvlad_ros.extraction.preprocessing import network_input
from netvlad_ros.inspection.differences import INPUT_LAYER, NORMALISATION_LAYER, cosine
from netvlad_ros.inspection.walk import Change, layer_outputs
from netvlad_ros.model import NetVLADNetwork
from netvlad_ros.model.backbones import USUAL_CUT
from netvlad_ros.model.layers import InputNormalisation

# On so many images; what explains some differences but not others explains nothing.
MAX_IMAGES = 2
# Not equal, but so near, and so much nearer than before, that nothing of importance is left.
NEAR_COSINE = 0.9999
MUCH_NEARER = 10.0
UNIT_TOLERANCE = 1e-3
# How else images are scaled: offset and scale, of red, green and blue where these differ.
KNOWN_INPUTS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "0 to 255 (x)": ((0.0,), (1.0,)),
    "0 to 1 (x / 255)": ((0.0,), (1 / 255,)),
    "-0.5 to 0.5 ((x - 128) / 255)": ((128.0,), (1 / 255,)),
    "-1 to 1 ((x - 128) * 2 / 255)": ((128.0,), (2 / 255,)),
    "-1 to 1 (x / 127.5 - 1)": ((127.5,), (1 / 127.5,)),
    "PyTorch has it (x / 255, ImageNet's mean and deviation)": (
        (123.675, 116.28, 103.53),
        (1 / 58.395, 1 / 57.12, 1 / 57.375),
    ),
    "VGG has it (x - 123.68, 116.779, 103.939)": ((123.68, 116.779, 103.939), (1.0,)),
}


@dataclass(frozen=True)
class Trial:
    """One thing done otherwise.

    meaning:  completes `with ... in MODEL`; empty if nothing is.
    changes:  by layer, what is done in its place.
    last:     the layer whose output is the descriptor; empty for the last one.
    own_size: whether images keep their own size.
    """

    meaning: str
    changes: Mapping[str, Change] = field(default_factory=dict)
    last: str = ""
    own_size: bool = False


def explanations(
    network: NetVLADNetwork,
    name: str,
    images: Sequence[np.ndarray],
    expected: np.ndarray,
    tolerance: float,
) -> list[str]:
    """A sentence for what has to be changed for the network to come to what is expected.

    images:   uint8 RGB.
    expected: (images, dims), of any length.
    """
    images, expected = images[:MAX_IMAGES], expected[:MAX_IMAGES].astype(np.float32)
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    if not np.all(lengths > 0.0):
        return []
    stretched = not np.allclose(lengths, 1.0, rtol=0.0, atol=UNIT_TOLERANCE)
    tried = []
    for trial in trials(network):
        got, truncated = _first(_descriptors(network, images, trial), expected.shape[1])
        conditions = [f"{trial.meaning} in {name}"] if trial.meaning else []
        conditions += [f"only the first {expected.shape[1]} dimensions kept"] if truncated else []
        conditions += ["the other vectors brought to unit length"] if stretched else []
        if got.shape == expected.shape:
            tried.append(_Outcome(" and ".join(conditions), got, expected / lengths))
    return _best(tried, tolerance)


class _Outcome:
    """How near a trial came."""

    def __init__(self, conditions: str, got: np.ndarray, unit: np.ndarray) -> None:
        self.conditions = conditions
        self.max_abs = float(np.abs(got - unit).max())
        self.cosine = min(map(cosine, got, unit))


def _best(tried: list[_Outcome], tolerance: float) -> list[str]:
    """All that are equal, or else the nearest one, if it is much nearer than without any change.

    What is equal without a change inside the network needs none.
    """
    equal = [
        f"With {outcome.conditions}, both are equal within {tolerance:g}."
        for outcome in tried
        if outcome.max_abs <= tolerance and outcome.conditions
    ]
    if equal or not tried:
        return equal[:1] if tried and tried[0].max_abs <= tolerance else equal
    unchanged, best = tried[0], min(tried, key=lambda outcome: outcome.max_abs)
    if best.cosine < NEAR_COSINE or best.max_abs * MUCH_NEARER > unchanged.max_abs:
        return []
    return [f"With {best.conditions}, both are nearly equal (cosine {best.cosine:.6f})."]


def _first(vectors: np.ndarray, dims: int) -> tuple[np.ndarray, bool]:
    """The first so many dimensions, at unit length if they have any, and whether there were more."""
    first = vectors[:, :dims]
    lengths = np.linalg.norm(first, axis=1, keepdims=True)
    return first / np.where(lengths > 0.0, lengths, 1.0), vectors.shape[1] > dims


def _descriptors(network: NetVLADNetwork, images: Sequence[np.ndarray], trial: Trial) -> np.ndarray:
    size = None if trial.own_size else input_size(network)
    fed = [network_input(image, size, ExtractorConfig()) for image in images]
    return np.stack([_descriptor(network, image, trial) for image in fed])


def input_size(network: NetVLADNetwork) -> tuple[int, int] | None:
    """(width, height) that images are resized to; None if they keep their own."""
    width, height = network.network.input_width_px, network.network.input_height_px
    return (width, height) if width else None


def _descriptor(network: NetVLADNetwork, image: np.ndarray, trial: Trial) -> np.ndarray:
    last = trial.last or network.layers[-1].name
    return next(out for name, out in layer_outputs(network, image, trial.changes) if name == last)


def trials(network: NetVLADNetwork) -> Iterator[Trial]:
    """What can be done otherwise in this network."""
    names = {layer.name for layer in network.layers}
    yield Trial("")
    yield Trial("red and blue exchanged in the input", {INPUT_LAYER: lambda _, x: x[..., ::-1]})
    yield from _input_trials(network)
    if network.network.input_width_px:
        yield Trial("images kept in their own size", own_size=True)
    cut = network.network.cut_layer or USUAL_CUT[network.network.backbone]
    if isinstance(network.get_layer(cut), keras.layers.Conv2D):
        meaning = f"a ReLU after the last convolution ({cut})"
        yield Trial(meaning, {cut: lambda layer, x: keras.ops.relu(layer(x))})
    for layer, meaning in (
        ("feature_norm", "local features not normalised"),
        ("intra_norm", "the rows of the clusters not normalised"),
    ):
        if layer in names:
            yield Trial(meaning, {layer: lambda _, x: x})
    order, turned = (
        "the vector in the order d * K + k instead of k * D + d",
        {"flatten": _dimension_major},
    )
    if "netvlad" in names:
        yield Trial("the sign of the cluster centres turned", {"netvlad": _with_negative_centres})
        yield Trial(order, turned)
    if "whitening" in names:
        yield Trial("the whitening left out", last="descriptor_norm")
        if "netvlad" in names:
            yield Trial(f"the whitening left out and {order}", turned, last="descriptor_norm")


def _input_trials(network: NetVLADNetwork) -> Iterator[Trial]:
    config = network.network
    yield from _with_input(network, "the input's offset left out", (0.0,), config.input_scale)
    yield from _with_input(network, "the input's scale left out", config.input_offset, (1.0,))
    for meaning, (offset, scale) in KNOWN_INPUTS.items():
        if config.channel_order == "bgr":
            offset, scale = offset[::-1], scale[::-1]
        if config.channel_order != "grey" or len(offset) == 1:
            yield from _with_input(network, f"the input as {meaning}", offset, scale)


def _with_input(
    network: NetVLADNetwork, meaning: str, offset: tuple[float, ...], scale: tuple[float, ...]
) -> Iterator[Trial]:
    config = network.network
    if (offset, scale) != (config.input_offset, config.input_scale):
        other = InputNormalisation(config.channel_order, offset, scale)
        yield Trial(meaning, {NORMALISATION_LAYER: lambda _, x: other(x)})


def _with_negative_centres(layer: keras.layers.Layer, x: Any) -> Any:
    centres = keras.ops.convert_to_numpy(layer.centres)
    layer.centres.assign(-centres)
    try:
        return layer(x)
    finally:
        layer.centres.assign(centres)


def _dimension_major(layer: keras.layers.Layer, x: Any) -> Any:
    return layer(keras.ops.transpose(x, (0, 2, 1)))  # (B, K, D) -> (B, D, K) -> (B, D * K)
