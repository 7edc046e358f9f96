# SPDX-License-Identifier: MIT
"""Keras 2 HDF5 models of mpkuse/cartwheel_train: MobileNet or VGG16, cut, then (Ghost)NetVLAD with bias.

Such a file says nothing of how its input is scaled and ordered, so the user has to.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_ros.config import NetworkConfig
from netvlad_ros.errors import WeightsError
from netvlad_ros.weights.canonical import CanonicalWeights, Importer, InputPreset

PRESETS = {
    "cartwheel-centred": InputPreset(
        "bgr", (128.0,), (2 / 255,), "BGR or grey, -1 to 1; cartwheel's usual"
    ),
    "cartwheel-half-centred": InputPreset(
        "bgr", (128.0,), (1 / 255,), "BGR or grey, -0.5 to 0.5; some grey models"
    ),
    "cartwheel-raw": InputPreset(
        "bgr", (0.0,), (1.0,), "BGR or grey, 0 to 255; models before centring"
    ),
}
# Weight of an ordinary layer: their name -> our name.
TENSORS = {
    "kernel": "kernel",
    "depthwise_kernel": "kernel",
    "bias": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "moving_mean",
    "moving_variance": "moving_variance",
}
# Weight of their NetVLADLayer: their name -> our name, transform for K clusters.
VLAD_TENSORS = {
    "kernel": (
        "netvlad/assignment",
        lambda w, k: w.reshape(w.shape[-2:]),
    ),  # (1, 1, D, K+G) -> (D, K+G)
    "bias": ("netvlad/bias", lambda w, k: w.reshape(-1)),  # (1, 1, K+G) -> (K+G,)
    "cluster_centers": (
        "netvlad/centres",
        lambda w, k: -w.reshape(w.shape[-2:])[:, :k].T,
    ),  # -> (K, D)
}
# What can differ where names and shapes of weights do not. Padding is not among it: Keras 3 pads inside
# the first convolution, which is the same for an even width and height.
SETTINGS = (
    "activation",
    "depth_multiplier",
    "dilation_rate",
    "epsilon",
    "kernel_size",
    "max_value",
    "pool_size",
    "strides",
)
# A layer that only one backbone has.
TELLTALE_LAYERS = {
    "conv_dw_1": "mobilenet",
    "expanded_conv_depthwise": "mobilenet_v2",
    "block1_conv1": "vgg16",
}
# The width of a MobileNet shows in the filters of this layer, which are 32 at width 1.
FIRST_CONVOLUTION = {"mobilenet": "conv1", "mobilenet_v2": "Conv1"}
# The models that were published take 6 MB; this is room for VGG16, not for a file made to fill the memory.
MAX_BYTES = 1 << 30
# Weights hardly compress; what claims to be so much larger than its file is no model.
MAX_COMPRESSION = 4

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class _Layer:
    kind: str
    name: str
    config: dict[str, Any]


def recognises(path: Path) -> bool:
    """Whether this is an HDF5 file with a Keras 2 model that has their layer."""
    try:
        with path.open("rb") as file:
            if file.read(len(HDF5_SIGNATURE)) != HDF5_SIGNATURE:
                return False
    except OSError:  # absent, or a folder
        return False
    return any(layer.kind in ("NetVLADLayer", "GhostVLADLayer") for layer in _layers(path))


def read(path: Path, preset: InputPreset | None) -> CanonicalWeights:
    """Raises WeightsError if the preset is missing or the file does not hold what such files hold."""
    if preset is None:
        choices = "; ".join(f"{name} ({item.meaning})" for name, item in PRESETS.items())
        raise WeightsError(
            f"{path}: a cartwheel model does not say how its input is scaled; name it with --input: "
            f"{choices}."
        )
    first, *backbone, vlad = _layers(path)
    if not backbone or not vlad.kind.endswith("VLADLayer"):
        raise WeightsError(f"{path}: expected their NetVLAD layer to be the last, got {vlad.kind}.")
    arrays = _arrays(path)
    network = NetworkConfig(
        cut_layer=backbone[-1].name,
        normalise_features=False,
        norm_safeguard="clamped_square",
        assignment_bias=True,
        **_backbone(path, arrays),
        **_clusters(path, vlad, arrays),
        **_input(path, first, preset),
    )
    tensors = dict(_canonical(path, arrays, vlad.name, network.clusters))
    settings = {layer.name: _settings(layer) for layer in backbone if layer.kind != "ZeroPadding2D"}
    return CanonicalWeights(network, tensors, settings)


def _layers(path: Path) -> list[_Layer]:
    """The layers of the stored architecture, in order, as plain data; none where there is no such thing."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            layers = json.loads(file.attrs["model_config"])["config"]["layers"]
        return [
            _Layer(each["class_name"], each["config"]["name"], each["config"]) for each in layers
        ]
    except Exception:  # whatever a file can hold that is something else
        return []


def _arrays(path: Path) -> dict[tuple[str, str], np.ndarray]:
    """(layer, weight) -> array; in between, files have their own sub-groups and suffixes."""
    import h5py

    arrays: dict[tuple[str, str], np.ndarray] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            if item.dtype.kind != "f":
                raise WeightsError(f"{path}: expected numbers in {name}, got {item.dtype}.")
            parts = name.split("/")
            arrays[parts[0], parts[-1].removesuffix(":0")] = item[()].astype(np.float32)

    try:
        with h5py.File(path, "r") as file:
            _refuse_huge(path, file)
            file["model_weights"].visititems(visit)
    except WeightsError:
        raise
    except Exception as error:  # h5py has many kinds for one cause
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{path}: can't be read to its end ({reason}); download or copy it again."
        ) from None
    return arrays


def _refuse_huge(path: Path, file: Any) -> None:
    sizes: list[int] = []
    file.visititems(lambda _, item: sizes.append(getattr(item, "nbytes", 0)))
    allowed = min(MAX_BYTES, MAX_COMPRESSION * path.stat().st_size)
    if sum(sizes) > allowed:
        raise WeightsError(
            f"{path}: expected at most {allowed} bytes of weights, got {sum(sizes)}; what is it?"
        )


def _backbone(path: Path, arrays: dict[tuple[str, str], np.ndarray]) -> dict[str, Any]:
    """Which backbone it is, from the layers that have weights, and its width."""
    names = [layer for layer, _ in arrays]
    backbone = next((each for layer, each in TELLTALE_LAYERS.items() if layer in names), None)
    if backbone is None:
        raise WeightsError(
            f"{path}: expected MobileNet, MobileNetV2 or VGG16, got layers {names[:4]}."
        )
    if backbone not in FIRST_CONVOLUTION:
        return {"backbone": backbone}
    kernel = _weight(path, arrays, FIRST_CONVOLUTION[backbone], "kernel")
    return {"backbone": backbone, "backbone_width": kernel.shape[-1] / 32 if kernel.ndim else 0.0}


def _clusters(
    path: Path, vlad: _Layer, arrays: dict[tuple[str, str], np.ndarray]
) -> dict[str, Any]:
    """The number of clusters is not always stored, but a bias has one value for each and for each ghost."""
    ghosts = vlad.config.get("num_ghost_clusters") if vlad.kind == "GhostVLADLayer" else 0
    if not isinstance(ghosts, int):
        raise WeightsError(f"{path}: {vlad.name} does not say how many of its clusters are ghosts.")
    assigned = _weight(path, arrays, vlad.name, "bias").size
    return {"clusters": assigned - ghosts, "ghost_clusters": ghosts}


def _input(path: Path, first: _Layer, preset: InputPreset) -> dict[str, Any]:
    match first.config.get("batch_input_shape"):
        case [_, height, width, (1 | 3) as channels]:
            return {
                "channel_order": "grey" if channels == 1 else preset.channel_order,
                "input_offset": preset.offset,
                "input_scale": preset.scale,
                "input_width_px": width or 0,
                "input_height_px": height or 0,
            }
        case shape:
            raise WeightsError(
                f"{path}: expected an input of shape (None, H, W, 1 or 3), got {shape}."
            )


def _settings(layer: _Layer) -> dict[str, Any]:
    stored = {key: layer.config[key] for key in SETTINGS if key in layer.config}
    return {"class_name": layer.kind} | stored


def _weight(
    path: Path, arrays: dict[tuple[str, str], np.ndarray], layer: str, weight: str
) -> np.ndarray:
    if (layer, weight) not in arrays:
        raise WeightsError(f"{path}: the weights of {layer} are missing; is the file complete?")
    return arrays[layer, weight]


def _canonical(
    path: Path, arrays: dict[tuple[str, str], np.ndarray], vlad_layer: str, clusters: int
) -> Iterator[tuple[str, np.ndarray]]:
    for (layer, weight), array in arrays.items():
        try:
            if layer == vlad_layer:
                name, transform = VLAD_TENSORS[weight]
                yield name, transform(array, clusters)
            else:
                yield f"{layer}/{TENSORS[weight]}", array
        except KeyError:
            raise WeightsError(
                f"{path}: the weight {weight!r} of layer {layer!r} is not known here."
            ) from None
        except (ValueError, IndexError):
            raise WeightsError(
                f"{path}: the weight {weight!r} of layer {layer!r} can't have shape {array.shape}."
            ) from None


IMPORTER = Importer("mpkuse/cartwheel_train", recognises, read, PRESETS)
