# SPDX-License-Identifier: MIT
"""Keras 2 HDF5 models of mpkuse/cartwheel_train: MobileNet or VGG16 up to a cut, then (Ghost)NetVLAD with bias.

Such a file says nothing of how its input is scaled and ordered, so the user has to.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_ros.config import NetworkConfig
from netvlad_ros.errors import WeightsError
from netvlad_ros.weights.canonical import INPUT_PRESETS, CanonicalWeights, Importer, InputPreset

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
# A layer that only one backbone has.
TELLTALE_LAYERS = {
    "conv_dw_1": "mobilenet",
    "expanded_conv_depthwise": "mobilenet_v2",
    "block1_conv1": "vgg16",
}
# The models that were published take 6 MB; this is room for VGG16, not for a file made to fill the memory.
MAX_BYTES = 1 << 30

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def recognises(path: Path) -> bool:
    """Whether this is an HDF5 file with a Keras 2 model that ends in their layer."""
    with path.open("rb") as file:
        if file.read(len(HDF5_SIGNATURE)) != HDF5_SIGNATURE:
            return False
    return any(layer["class_name"] in ("NetVLADLayer", "GhostVLADLayer") for layer in _layers(path))


def read(path: Path, preset: InputPreset | None) -> CanonicalWeights:
    """Raises WeightsError if the preset is missing or the file does not hold what such files hold."""
    if preset is None:
        choices = "; ".join(f"{name} ({item.meaning})" for name, item in INPUT_PRESETS.items())
        raise WeightsError(
            f"{path}: a cartwheel model does not say how its input is scaled; name it with --input: {choices}."
        )
    layers = _layers(path)
    arrays = _arrays(path)
    network = _network(path, layers, arrays, preset)
    return CanonicalWeights(
        network, dict(_canonical(path, arrays, layers[-1]["config"]["name"], network.clusters))
    )


def _layers(path: Path) -> list[dict[str, Any]]:
    """The layers of the stored architecture, in order, as plain data; none where there is no such thing."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return json.loads(file.attrs["model_config"])["config"]["layers"]
    except (OSError, KeyError, ValueError, TypeError):
        return []


def _arrays(path: Path) -> dict[tuple[str, str], np.ndarray]:
    """(layer, weight) -> array; in between, files have their own sub-groups and suffixes."""
    import h5py

    arrays: dict[tuple[str, str], np.ndarray] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            parts = name.split("/")
            arrays[parts[0], parts[-1].removesuffix(":0")] = item[()].astype(np.float32)

    try:
        with h5py.File(path, "r") as file:
            _refuse_huge(path, file)
            file["model_weights"].visititems(visit)
    except (OSError, KeyError, ValueError) as error:
        raise WeightsError(
            f"{path}: can't be read to its end ({error}); download or copy it again."
        ) from None
    return arrays


def _refuse_huge(path: Path, file: Any) -> None:
    sizes: list[int] = []
    file.visititems(lambda _, item: sizes.append(getattr(item, "nbytes", 0)))
    if sum(sizes) > MAX_BYTES:
        raise WeightsError(
            f"{path}: expected at most {MAX_BYTES} bytes of weights, got {sum(sizes)}; what is it?"
        )


def _network(
    path: Path,
    layers: list[dict[str, Any]],
    arrays: dict[tuple[str, str], np.ndarray],
    preset: InputPreset,
) -> NetworkConfig:
    """The architecture, from layer names and the shapes of weights."""
    backbones = [
        backbone
        for layer, backbone in TELLTALE_LAYERS.items()
        if any(key[0] == layer for key in arrays)
    ]
    if not backbones:
        raise WeightsError(
            f"{path}: expected MobileNet, MobileNetV2 or VGG16, got layers {[k[0] for k in arrays][:4]}."
        )
    vlad, first = layers[-1]["config"], layers[0]["config"]
    _, height, width, channels = first["batch_input_shape"]
    ghosts = vlad.get("num_ghost_clusters", 0)
    try:
        assigned = arrays[vlad["name"], "bias"].size
        first_kernel = next(
            array for (_, name), array in arrays.items() if name == "kernel" and array.ndim == 4
        )
    except (KeyError, StopIteration):
        raise WeightsError(
            f"{path}: the weights of {vlad['name']} are missing; is the file complete?"
        ) from None
    return NetworkConfig(
        backbone=backbones[0],
        cut_layer=layers[-2]["config"]["name"],
        backbone_width=first_kernel.shape[-1] / 32 if backbones[0] != "vgg16" else 1.0,
        channel_order="grey" if channels == 1 else preset.channel_order,
        input_offset=preset.offset,
        input_scale=preset.scale,
        input_width_px=width or 0,
        input_height_px=height or 0,
        normalise_features=False,
        norm_safeguard="clamped_square",
        clusters=assigned - ghosts,
        ghost_clusters=ghosts,
        assignment_bias=True,
    )


def _canonical(
    path: Path, arrays: dict[tuple[str, str], np.ndarray], vlad_layer: str, clusters: int
):
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


IMPORTER = Importer("mpkuse/cartwheel_train", recognises, read)
