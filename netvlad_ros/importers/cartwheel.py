# SPDX-License-Identifier: MIT
"""Keras 2 models of mpkuse/cartwheel_train: MobileNet or VGG16, cut, then (Ghost)NetVLAD with bias.

They come as one HDF5 file, as model.json with an HDF5 file of weights, or frozen by TensorFlow 1 (.pb). None
of these says how its input is scaled and ordered, so the user has to.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_ros.config import NetworkConfig
from netvlad_ros.errors import WeightsError
from netvlad_ros.importers.canonical import CanonicalWeights, Importer, InputPreset
from netvlad_ros.importers.cartwheel_graph import graph_arrays, graph_layers, vlad_scope
from netvlad_ros.importers.frozen_graph import FrozenGraph, operations
from netvlad_ros.importers.keras_model import KerasLayer, described_layers

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
VLAD_KINDS = ("NetVLADLayer", "GhostVLADLayer")
# What Keras calls these layers where it is not told.
VLAD_NAMES = ("net_vlad_layer", "ghost_vlad_layer")
# Where the training leaves the architecture, beside its weights.
ARCHITECTURE = "model.json"
MAX_ARCHITECTURE_BYTES = 4 << 20

Arrays = dict[tuple[str, str], np.ndarray]


def recognises(path: Path) -> bool:
    """Whether a file or a folder holds a Keras 2 model with their layer, or the weights of one."""
    path = _architecture_in(path)
    if path.suffix == ".json":
        return _has_vlad(_json_layers(path))
    if _is_hdf5(path):
        return _has_vlad(_hdf5_layers(path)) or _holds_vlad(path)
    return vlad_scope(operations(path)) is not None


def read(path: Path, preset: InputPreset | None) -> CanonicalWeights:
    """Raises WeightsError if the preset is missing or the file does not hold what such files hold."""
    if preset is None:
        choices = "; ".join(f"{name} ({item.meaning})" for name, item in PRESETS.items())
        raise WeightsError(
            f"{path}: a cartwheel model does not say how its input is scaled; name it with --input: "
            f"{choices}."
        )
    layers, arrays = _model(_architecture_in(path))
    first, *backbone, vlad = layers
    if not backbone or vlad.kind not in VLAD_KINDS:
        raise WeightsError(f"{path}: expected their NetVLAD layer to be the last, got {vlad.kind}.")
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


def _architecture_in(path: Path) -> Path:
    """The model.json of a folder that has one."""
    return path / ARCHITECTURE if (path / ARCHITECTURE).is_file() else path


def _model(path: Path) -> tuple[list[KerasLayer], Arrays]:
    """The layers in order and their arrays, which may lie in another file."""
    if path.suffix == ".json":
        return _json_layers(path), _arrays(_weights_beside(path))
    if not _is_hdf5(path):
        graph = FrozenGraph(path)
        return graph_layers(graph), graph_arrays(graph)
    layers = _hdf5_layers(path) or _json_layers(path.with_name(ARCHITECTURE))
    if not _has_vlad(layers):
        raise WeightsError(
            f"{path}: holds weights without their architecture; put the {ARCHITECTURE} of its training "
            "beside it."
        )
    return layers, _arrays(path)


def _weights_beside(path: Path) -> Path:
    found = [each for each in sorted(path.parent.iterdir()) if _is_hdf5(each) and _holds_vlad(each)]
    if len(found) != 1:
        names = ", ".join(each.name for each in found[:5]) or "none"
        raise WeightsError(
            f"{path}: expected one HDF5 file of its weights beside it, got {names}; name the one to import."
        )
    return found[0]


def _has_vlad(layers: list[KerasLayer]) -> bool:
    return any(layer.kind in VLAD_KINDS for layer in layers)


def _is_hdf5(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE
    except OSError:  # absent, or a folder
        return False


def _json_layers(path: Path) -> list[KerasLayer]:
    """The layers that a JSON file describes; none if it is absent or something else."""
    try:
        with path.open("rb") as file:
            return described_layers(file.read(MAX_ARCHITECTURE_BYTES))
    except OSError:
        return []


def _hdf5_layers(path: Path) -> list[KerasLayer]:
    """The layers of the architecture that is stored with the weights; none where there is no such thing."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return described_layers(file.attrs["model_config"])
    except Exception:  # whatever a file can hold that is something else
        return []


def _holds_vlad(path: Path) -> bool:
    """Whether an HDF5 file holds the weights of a layer that has the name of theirs."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return any(name.startswith(VLAD_NAMES) for name in file.get("model_weights", file))
    except Exception:
        return False


def _arrays(path: Path) -> Arrays:
    """(layer, weight) -> array; in between, files have their own sub-groups and suffixes."""
    import h5py

    arrays: Arrays = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            if item.dtype.kind != "f":
                raise WeightsError(f"{path}: expected numbers in {name}, got {item.dtype}.")
            parts = name.split("/")
            arrays[parts[0], parts[-1].removesuffix(":0")] = item[()].astype(np.float32)

    try:
        with h5py.File(path, "r") as file:
            _refuse_huge(path, file)
            file.get("model_weights", file).visititems(visit)
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


def _backbone(path: Path, arrays: Arrays) -> dict[str, Any]:
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


def _clusters(path: Path, vlad: KerasLayer, arrays: Arrays) -> dict[str, Any]:
    """The number of clusters is not always stored, but a bias has one value for each and for each ghost."""
    ghosts = vlad.config.get("num_ghost_clusters") if vlad.kind == "GhostVLADLayer" else 0
    if not isinstance(ghosts, int):
        raise WeightsError(f"{path}: {vlad.name} does not say how many of its clusters are ghosts.")
    assigned = _weight(path, arrays, vlad.name, "bias").size
    return {"clusters": assigned - ghosts, "ghost_clusters": ghosts}


def _input(path: Path, first: KerasLayer, preset: InputPreset) -> dict[str, Any]:
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


def _settings(layer: KerasLayer) -> dict[str, Any]:
    stored = {key: layer.config[key] for key in SETTINGS if key in layer.config}
    return {"class_name": layer.kind} | stored


def _weight(path: Path, arrays: Arrays, layer: str, weight: str) -> np.ndarray:
    if (layer, weight) not in arrays:
        raise WeightsError(f"{path}: the weights of {layer} are missing; is the file complete?")
    return arrays[layer, weight]


def _canonical(
    path: Path, arrays: Arrays, vlad_layer: str, clusters: int
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
