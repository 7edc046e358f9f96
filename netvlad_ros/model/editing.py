# SPDX-License-Identifier: MIT
"""A trained network made into another one: input size, colour, whitening and dimensions.

Each function returns a new network and leaves the one that it is given alone.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from netvlad_ros.config import NetworkConfig
from netvlad_ros.constants import GREY_BITS, GREY_WEIGHTS
from netvlad_ros.errors import ModelError
from netvlad_ros.model.network import NetVLADNetwork, build_network
from netvlad_ros.model.whitening import Whitening

KERNEL, BIAS = "whitening/kernel", "whitening/bias"
# How far components may be off after an edit that changes nothing but the order of additions. The first
# convolution adds other numbers, and what a deep network makes of their rounding grows with its depth.
TOLERANCE = 1e-5
# Height and width of the pictures that networks are compared on: small, but enough for every backbone.
PROBE_SHAPE_PX = (96, 128)


def with_input_size(model: NetVLADNetwork, width_px: int, height_px: int) -> NetVLADNetwork:
    """The network for images that are resized to this size by default, or to none if both are 0.

    The layers stay as they are: they take images of any size.
    """
    if bool(width_px) != bool(height_px):
        raise ModelError(
            f"input size: expected both sides or none, got {width_px} and {height_px} pixels."
        )
    return _rebuilt(model, {"input_width_px": width_px, "input_height_px": height_px})


def with_channels(model: NetVLADNetwork, order: str) -> NetVLADNetwork:
    """The network with a first convolution for grey, rgb or bgr.

    A grey image keeps its descriptor, whatever the change; a colour image does from rgb to bgr and back.
    A network that is made grey no longer sees colour. One that was grey and is made rgb or bgr weighs the
    colours as before, but without rounding grey values to whole numbers.
    """
    old = model.network.channel_order
    if order == old:
        return _rebuilt(model, {})
    if order == "grey":
        return _colour_to_grey(model)
    return _grey_to_colour(model, order) if old == "grey" else _flipped(model, order)


def without_whitening(model: NetVLADNetwork) -> NetVLADNetwork:
    """The network up to the aggregated descriptor: neither whitening nor truncation."""
    return _rebuilt(model, {"whitening_dims": 0, "descriptor_dims": 0})


def with_whitening(model: NetVLADNetwork, whitening: Whitening) -> NetVLADNetwork:
    """The network with this whitening, instead of what it has after its aggregated descriptor.

    Raises ModelError if the whitening takes descriptors of another length.
    """
    length = aggregated_dims(model)
    if whitening.kernel.shape[0] != length:
        raise ModelError(
            f"whitening: expected one that takes {length} dimensions, as the model gives before whitening, "
            f"got {whitening.kernel.shape[0]}; was it made for another model?"
        )
    changes = {"whitening_dims": whitening.dims, "descriptor_dims": 0}
    return _rebuilt(model, changes, {KERNEL: whitening.kernel, BIAS: whitening.bias})


def with_dims(model: NetVLADNetwork, dims: int) -> NetVLADNetwork:
    """The network that gives the first so many dimensions of its whitened descriptor, at unit length.

    The rest of the whitening is left out, so that it takes neither memory nor time. Raises ModelError for
    a network without a whitening: its first dimensions are those of its first clusters, not the best ones.
    """
    whitening = whitening_of(model)
    if whitening is None:
        raise ModelError(
            "dims: expected a model with a whitening, whose first dimensions carry the most; fit one "
            "(--fit-whitening) or give one (--whitening)."
        )
    if not 1 <= dims <= model.descriptor_dims:
        raise ModelError(
            f"dims: expected 1 to {model.descriptor_dims}, which the model has, got {dims}."
        )
    return with_whitening(model, whitening.first(dims))


def with_all_dims(model: NetVLADNetwork) -> NetVLADNetwork:
    """The network without truncation of its descriptor; dimensions that with_dims() left out are gone."""
    return _rebuilt(model, {"descriptor_dims": 0})


def whitening_of(model: NetVLADNetwork) -> Whitening | None:
    """The whitening in the network, or None."""
    if not model.network.whitening_dims:
        return None
    return Whitening(_array(model, KERNEL), _array(model, BIAS))


def aggregated_dims(model: NetVLADNetwork) -> int:
    """Length of a descriptor before whitening and truncation."""
    return int(model.get_layer("descriptor_norm").output.shape[-1])


def changes(before: NetVLADNetwork, after: NetVLADNetwork) -> dict[str, tuple[Any, Any]]:
    """What is different, by name, as (old, new): of its NetworkConfig, its dimensions, its parameters."""
    old, new = (
        dataclasses.asdict(model.network)
        | {"dimensions": model.descriptor_dims, "parameters": model.count_params()}
        for model in (before, after)
    )
    return {name: (old[name], new[name]) for name in old if old[name] != new[name]}


def refuse_wrong_edit(before: NetVLADNetwork, after: NetVLADNetwork) -> float:
    """The largest difference between descriptors of made-up pictures that the edits should have kept.

    Grey pictures, where one of the two networks is grey. A whitening that is in one of the networks only,
    or a shorter one, is computed here, from the descriptors of the other.
    Raises ModelError if a difference is above TOLERANCE.
    """
    orders = {before.network.channel_order, after.network.channel_order}
    pictures = _made_up_pictures(grey="grey" in orders and len(orders) > 1)
    got = _run(after, after.output, pictures)
    difference = float(np.abs(got - _expected(before, after, pictures)).max())
    if not difference <= TOLERANCE:
        raise ModelError(
            f"the edited model gives other descriptors than it should (by {difference:.1e}, more than "
            f"{TOLERANCE:g}); its weights must be far from those of a trained network."
        )
    return difference


def _rebuilt(
    model: NetVLADNetwork,
    changes: Mapping[str, Any],
    replaced: Mapping[str, np.ndarray] | None = None,
) -> NetVLADNetwork:
    """A network with other values in its NetworkConfig, other weights where replaced, else the same.

    What the similarities of the old one mean is known of the new one only if nothing is different.
    """
    replaced = replaced or {}
    kept = {weight.path: weight for weight in model.weights}
    rebuilt = build_network(dataclasses.replace(model.network, **changes))
    if rebuilt.network == model.network and not replaced:
        rebuilt.calibration = model.calibration
    for weight in rebuilt.weights:  # one by one: a whitening can have half a gigabyte
        path = weight.path
        weight.assign(replaced[path] if path in replaced else kept[path])
    return rebuilt


def _array(model: NetVLADNetwork, path: str) -> np.ndarray:
    weight = next(weight for weight in model.weights if weight.path == path)
    return keras.ops.convert_to_numpy(weight)


def _first_kernel(model: NetVLADNetwork) -> str:
    """The path of the kernel, (h, w, channels, filters), that sees the normalised image."""
    return next(
        layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)
    ).kernel.path


def _colour_to_grey(model: NetVLADNetwork) -> NetVLADNetwork:
    """With g for every colour, sum_c w_c s_c (g - o) is one channel g - o with kernel sum_c w_c s_c.

    That needs one offset o: zeros are padded after it is subtracted, so where offsets differ, a bias could
    make up for it inside the image but not at its border. Then all three kernels are kept, for three times g.
    """
    offset, scale = (np.broadcast_to(np.asarray(each), 3) for each in _input(model.network))
    if np.ptp(offset) > 0:
        return _rebuilt(model, {"channel_order": "grey"})
    path = _first_kernel(model)
    common = float(scale.mean())
    kernel = (_array(model, path) * (scale / common)[:, None]).sum(axis=2, keepdims=True)
    return _rebuilt(
        model,
        {"channel_order": "grey", "input_offset": (float(offset[0]),), "input_scale": (common,)},
        {path: kernel},
    )


def _grey_to_colour(model: NetVLADNetwork, order: str) -> NetVLADNetwork:
    """With g = sum_c a_c x_c and sum_c a_c = 1, w s (g - o) is the sum of w a_c s (x_c - o)."""
    path = _first_kernel(model)
    kernel = _array(model, path)
    if kernel.shape[2] == 3:  # a colour network that was made grey: each kernel sees a colour again
        return _rebuilt(model, {"channel_order": order})
    shares = np.array(GREY_WEIGHTS) / 2**GREY_BITS
    shares = shares if order == "rgb" else shares[::-1]
    return _rebuilt(model, {"channel_order": order}, {path: kernel * shares[:, None]})


def _flipped(model: NetVLADNetwork, order: str) -> NetVLADNetwork:
    path = _first_kernel(model)
    offset, scale = _input(model.network)
    flipped = _rebuilt(
        model,
        {"channel_order": order, "input_offset": offset[::-1], "input_scale": scale[::-1]},
        {path: _array(model, path)[:, :, ::-1]},
    )
    if model.calibration is not None:
        flipped.calibration = model.calibration.of_same_descriptors(
            model.fingerprint(), flipped.fingerprint()
        )
    return flipped


def _input(network: NetworkConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return network.input_offset, network.input_scale


def _expected(before: NetVLADNetwork, after: NetVLADNetwork, pictures: np.ndarray) -> np.ndarray:
    whitening = whitening_of(after)
    if _is_first_part(whitening, whitening_of(before)):
        stage = "whitened_norm" if whitening else "descriptor_norm"
        descriptors = _run(before, before.get_layer(stage).output, pictures)
    else:
        descriptors = _run(before, before.get_layer("descriptor_norm").output, pictures)
        descriptors = whitening.apply(descriptors) if whitening else descriptors
    first = descriptors[:, : after.descriptor_dims]
    return first / np.linalg.norm(first, axis=-1, keepdims=True)


def _is_first_part(part: Whitening | None, whole: Whitening | None) -> bool:
    if part is None or whole is None:
        return part is whole
    return np.array_equal(part.kernel, whole.kernel[:, : part.dims])


def _run(model: NetVLADNetwork, output: Any, pictures: np.ndarray) -> np.ndarray:
    part = keras.Model(model.input, output)
    return keras.ops.convert_to_numpy(part(pictures, training=False))


def _made_up_pictures(grey: bool) -> np.ndarray:
    """(2, H, W, 3) blocks of random colours, always the same."""
    height, width = PROBE_SHAPE_PX
    blocks = np.random.default_rng(0).integers(0, 256, (2, height // 8, width // 8, 3))
    blocks = np.repeat(blocks[..., :1], 3, axis=-1) if grey else blocks
    return blocks.repeat(8, axis=1).repeat(8, axis=2).astype(np.float32)
