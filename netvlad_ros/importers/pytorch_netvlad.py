# SPDX-License-Identifier: MIT
"""State dicts of PyTorch projects, saved by torch.save or as .safetensors.

| origin                                          | input                              | whitening columns |
|-------------------------------------------------|------------------------------------|-------------------|
| Nanne/pytorch-NetVlad                           | RGB 0..1, ImageNet mean/std        | none              |
| QVPR/Patch-NetVLAD                              | the same, 640 x 480                | k * D + d         |
| gmberton/deep-visual-geo-localization-benchmark | the same, 640 x 480                | none              |
| yxgeee/OpenIBL                                  | RGB 0..255 less a mean, 640 x 480  | k * D + d         |
| cvg/Hierarchical-Localization                   | RGB 0..255 less the .mat's mean    | d * K + k         |

Swarm-SLAM's (lajoiepy/cslam) are those of pytorch-NetVlad, with images cropped and resized to 224 x 224.
"""

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_ros.config import NetworkConfig
from netvlad_ros.errors import WeightsError
from netvlad_ros.importers import safetensors_file, torch_file
from netvlad_ros.importers.canonical import CanonicalWeights, Importer, InputPreset
from netvlad_ros.importers.torch_file import Tensor

logger = logging.getLogger(__name__)

Transform = Callable[[np.ndarray, int], np.ndarray]  # of a tensor and K

_VGG_MEAN = (123.68, 116.779, 103.939)
# OpenIBL's and Nanne's transforms; (x / 255 - mean) / std as (x - offset) * scale.
_VGG_INPUT = InputPreset("rgb", _VGG_MEAN, (1.0,), "RGB 0 to 255 less the mean of VGG16")
_IMAGENET_INPUT = InputPreset(
    "rgb",
    tuple(255 * mean for mean in (0.485, 0.456, 0.406)),
    tuple(1 / (255 * std) for std in (0.229, 0.224, 0.225)),
    "RGB 0 to 1, ImageNet mean and standard deviation",
)
# hloc takes the mean from the Matlab file of its weights; its state dict does not hold it.
HLOC_PRESETS = {
    "hloc-pitts30k": InputPreset("rgb", _VGG_MEAN, (1.0,), "of VGG16-NetVLAD-Pitts30K"),
    "hloc-tokyotm": InputPreset(
        "rgb", (122.6778, 116.6522, 103.9997), (1.0,), "of VGG16-NetVLAD-TokyoTM"
    ),
}

# Place in torchvision's `features` -> our name of the convolution.
BACKBONES = {
    "vgg16": {
        0: "block1_conv1",
        2: "block1_conv2",
        5: "block2_conv1",
        7: "block2_conv2",
        10: "block3_conv1",
        12: "block3_conv2",
        14: "block3_conv3",
        17: "block4_conv1",
        19: "block4_conv2",
        21: "block4_conv3",
        24: "block5_conv1",
        26: "block5_conv2",
        28: "block5_conv3",
    },
    "alexnet": {0: "conv1", 3: "conv2", 6: "conv3", 8: "conv4", 10: "conv5"},
}
# By the edge of the first kernel.
BACKBONE_BY_KERNEL_PX = {3: "vgg16", 11: "alexnet"}


def _as_is(w: np.ndarray, k: int) -> np.ndarray:
    return w


def _transposed(w: np.ndarray, k: int) -> np.ndarray:
    return w.reshape(w.shape[:2]).T  # (out, in) or (out, in, 1, 1) -> (in, out)


def _cluster_major(w: np.ndarray, k: int) -> np.ndarray:
    """(dims, D * K) with the clusters fast -> (K * D, dims)."""
    return w.reshape(len(w), -1, k).transpose(2, 1, 0).reshape(-1, len(w))


CONVOLUTION: dict[str, tuple[str, Transform]] = {
    "weight": (
        "kernel",
        lambda w, k: w.transpose(2, 3, 1, 0),
    ),  # (out, in, h, w) -> (h, w, in, out)
    "bias": ("bias", _as_is),
}


@dataclass(frozen=True)
class Layout:
    """The names of one project.

    backbone:    what precedes the place of a convolution.
    centres:     name of the cluster centres, and which of their axes counts the clusters.
    tensors:     their name -> our name and transform, for all that is no convolution.
    input:       how images are scaled; None if the user has to say it.
    whitened_px: (width, height) that images have where there is a whitening.
    plain_px:    the same where there is none.
    """

    backbone: str
    centres: tuple[str, int]
    tensors: dict[str, tuple[str, Transform]]
    input: InputPreset | None
    whitened_px: tuple[int, int] = (0, 0)
    plain_px: tuple[int, int] = (0, 0)


NANNE = Layout(
    "encoder.",
    ("pool.centroids", 0),
    {
        "pool.centroids": ("netvlad/centres", _as_is),  # (K, D)
        "pool.conv.weight": ("netvlad/assignment", _transposed),  # (K, D, 1, 1) -> (D, K)
        "pool.conv.bias": ("netvlad/bias", _as_is),  # of vladv2
        "WPCA.0.weight": ("whitening/kernel", _transposed),  # (dims, K * D, 1, 1)
        "WPCA.0.bias": ("whitening/bias", _as_is),
    },
    _IMAGENET_INPUT,
    (640, 480),
)
BENCHMARK = Layout(
    "backbone.",
    ("aggregation.centroids", 0),
    {
        "aggregation.centroids": ("netvlad/centres", _as_is),
        "aggregation.conv.weight": ("netvlad/assignment", _transposed),
    },
    _IMAGENET_INPUT,
    plain_px=(640, 480),
)
OPENIBL = Layout(
    "base_model.base.",
    ("net_vlad.centroids", 0),
    {
        "net_vlad.centroids": ("netvlad/centres", _as_is),
        "net_vlad.conv.weight": ("netvlad/assignment", _transposed),
        "pca_layer.weight": ("whitening/kernel", _transposed),
        "pca_layer.bias": ("whitening/bias", _as_is),
    },
    _VGG_INPUT,
    (640, 480),
)
HLOC = Layout(
    "backbone.",
    ("netvlad.centers", 1),
    {
        "netvlad.centers": ("netvlad/centres", _transposed),  # (D, K) -> (K, D)
        "netvlad.score_proj.weight": ("netvlad/assignment", lambda w, k: w[..., 0].T),  # (K, D, 1)
        "netvlad.score_proj.bias": ("netvlad/bias", _as_is),
        "whiten.weight": ("whitening/kernel", _cluster_major),
        "whiten.bias": ("whitening/bias", _as_is),
    },
    None,
)
LAYOUTS = (NANNE, BENCHMARK, OPENIBL, HLOC)

# Where their training saves: the best so far by recall, and the latest.
CHECKPOINTS = ("model_best.pth.tar", "best_model.pth", "checkpoint.pth.tar", "last_model.pth")
# What a checkpoint calls its state dict.
STATE_NAMES = ("state_dict", "model_state_dict", "model", "net")
SAFETENSORS = ".safetensors"
ENDINGS = (".pth", ".pth.tar", ".pt", ".ckpt", SAFETENSORS)
# Files that users may take for one.
OTHER_KINDS = {
    ".onnx": "an ONNX program; import the checkpoint that it was exported from",
}
MAX_FLAGS_BYTES = 1 << 20


@dataclass(frozen=True)
class _State:
    """The tensors of a checkpoint by their names in the layout, and what else is known of them."""

    path: Path
    tensors: dict[str, Tensor]
    layout: Layout
    flags: dict[str, Any] = field(default_factory=dict)

    @property
    def ours(self) -> dict[str, Tensor]:
        """The tensors that are no convolutions, under our names."""
        names = {theirs: name for theirs, (name, _) in self.layout.tensors.items()}
        return {names[each]: tensor for each, tensor in self.tensors.items() if each in names}


def recognises(path: Path) -> bool:
    """Whether this is a file of tensors, judging by content or name, or a folder of a training run."""
    if path.is_dir():
        return bool(_checkpoints(path))
    by_name = path.name.endswith((*ENDINGS, *OTHER_KINDS))
    return path.is_file() and (by_name or torch_file.recognises(path))


def recognises_hloc(path: Path) -> bool:
    """Whether this is a state dict of hloc's extractor."""
    if not path.is_file() or not (path.suffix == SAFETENSORS or torch_file.recognises(path)):
        return False
    try:
        return _state(path).layout is HLOC
    except WeightsError:
        return False


def read(path: Path, preset: InputPreset | None) -> CanonicalWeights:
    """Raises WeightsError if the file is damaged, is code, or does not hold what such files hold."""
    if path.suffix in OTHER_KINDS:
        raise WeightsError(
            f"{path}: expected a file of torch.save, got {OTHER_KINDS[path.suffix]}."
        )
    state = _state(_checkpoint(path) if path.is_dir() else path)
    network = _network(state, state.layout.input or _named(state.path, preset))
    _refuse_contradiction(state, network)
    return CanonicalWeights(network, _canonical(state, network))


def _named(path: Path, preset: InputPreset | None) -> InputPreset:
    if preset is None:
        choices = "; ".join(f"{name} ({item.meaning})" for name, item in HLOC_PRESETS.items())
        raise WeightsError(
            f"{path}: a state dict of hloc does not say what mean is subtracted from images; name it with "
            f"--input: {choices}."
        )
    return preset


def _checkpoints(folder: Path) -> list[Path]:
    places = (place / name for place in (folder, folder / "checkpoints") for name in CHECKPOINTS)
    return [place for place in places if place.is_file()]


def _checkpoint(folder: Path) -> Path:
    """The best of a run, which is what its authors evaluate, or the latest."""
    best, *others = _checkpoints(folder)
    if others:
        logger.warning(
            "%s: took %s, not %s; name the file to take it.", folder, best.name, others[0].name
        )
    return best


def _state(path: Path) -> _State:
    stored = _stored_tensors(path)
    # Parallel training puts `module.` before a name or into it.
    names = {key: ".".join(p for p in key.split(".") if p != "module") for key in stored}
    layout, prefix = _layout(path, names.values())
    tensors: dict[str, Tensor] = {}
    for key, name in names.items():
        short = name.removeprefix(prefix)
        if short in tensors:
            raise WeightsError(
                f"{path}: {short[:80]!r} is there twice, with and without `module.` or another prefix; "
                "save one of both."
            )
        tensors[short] = stored[key]
    return _State(path, tensors, layout, _flags(path) if layout is NANNE else {})


def _layout(path: Path, names: Iterable[str]) -> tuple[Layout, str]:
    """The layout of these names, and the prefix that they have in this file."""
    first_convolution = f"{NANNE.backbone}0.weight"  # all there is with max or average pooling
    for layout, known in [
        *((each, each.centres[0]) for each in LAYOUTS),
        (NANNE, first_convolution),
    ]:
        for name in names:
            if f".{name}".endswith(f".{known}"):
                return layout, name.removesuffix(known)
    known_centres = ", ".join(each.centres[0] for each in LAYOUTS)
    raise WeightsError(
        f"{path}: expected the tensors of a NetVLAD network, one of {known_centres} among them, got "
        f"{[name[:80] for name in names][:4] or 'none'}; is it a checkpoint of another network?"
    )


def _stored_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict, saved alone or under one of its usual names."""
    content = (safetensors_file if path.suffix == SAFETENSORS else torch_file).load(path)
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path}: expected a dict of tensors, alone or as one of {', '.join(STATE_NAMES)}, got "
            f"{_kind(content)}; save model.state_dict()."
        )
    named = (content.get(name) for name in STATE_NAMES)
    state = next((each for each in named if isinstance(each, dict)), content)
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise WeightsError(
                f"{path}: expected a tensor for {str(key)[:80]!r}, got {_kind(value)}; save "
                "model.state_dict()."
            )
    if sum(tensor.bytes for tensor in state.values()) > path.stat().st_size:
        raise WeightsError(
            f"{path}: its tensors share their values, which those of a network don't."
        )
    return {str(key): tensor for key, tensor in state.items()}


def _kind(value: Any) -> str:
    """What a file holds instead of a tensor, in words that fit on a line."""
    return ascii(getattr(value, "name", type(value).__name__))[1:-1][:80]


def _flags(path: Path) -> dict[str, Any]:
    """How the training was started, if that was kept: in the folder of the checkpoint or above it."""
    for folder in (path.parent, path.parent.parent):
        flags = folder / "flags.json"
        if flags.is_file():
            return _read_flags(flags)
    return {}


def _read_flags(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            flags = json.loads(file.read(MAX_FLAGS_BYTES))
    except (OSError, ValueError, RecursionError):
        flags = None
    if not isinstance(flags, dict):
        raise WeightsError(
            f"{path}: expected the flags of a training as a JSON object, got something else; copy it again, "
            "or take it away and the tensors alone decide."
        )
    return flags


def _network(state: _State, preset: InputPreset) -> NetworkConfig:
    ours = state.ours
    layout = state.layout
    width, height = layout.whitened_px if "whitening/kernel" in ours else layout.plain_px
    return NetworkConfig(
        backbone=_backbone(state),
        channel_order=preset.channel_order,
        input_offset=preset.offset,
        input_scale=preset.scale,
        input_width_px=width,
        input_height_px=height,
        norm_safeguard="clamped_norm",
        whitening_dims=_size(state.path, ours, "whitening/kernel", 0),
        **_pooling(state),
    )


def _backbone(state: _State) -> str:
    name = f"{state.layout.backbone}0.weight"
    edge_px = _size(state.path, state.tensors, name, 3)
    if edge_px not in BACKBONE_BY_KERNEL_PX:
        raise WeightsError(
            f"{state.path}: expected {name} of VGG16 (3 x 3) or AlexNet (11 x 11), got "
            f"{edge_px or 'none'}; other backbones are not known here."
        )
    return BACKBONE_BY_KERNEL_PX[edge_px]


def _pooling(state: _State) -> dict[str, Any]:
    """What aggregates: NetVLAD where it has tensors, else what the flags say."""
    centres, axis = state.layout.centres
    if centres in state.tensors:
        return {
            "clusters": _size(state.path, state.tensors, centres, axis),
            "assignment_bias": "netvlad/bias" in state.ours,
        }
    pooling = state.flags.get("pooling")
    if pooling not in ("max", "avg"):
        raise WeightsError(
            f"{state.path}: expected {centres} or, beside it, a flags.json with pooling max or avg, got "
            "neither; is the file complete?"
        )
    return {"pooling": pooling, "normalise_features": False}


def _size(path: Path, tensors: dict[str, Tensor], name: str, axis: int) -> int:
    """How long a tensor is along an axis; 0 if it is not there."""
    shape = tensors[name].shape if name in tensors else None
    if shape is not None and axis >= len(shape):
        raise WeightsError(f"{path}: {name} can't have shape {shape}; was it saved whole?")
    return 0 if shape is None else shape[axis]


def _refuse_contradiction(state: _State, network: NetworkConfig) -> None:
    """If the tensors are not what the flags beside them ask for, one of both belongs to another run."""
    found: dict[str, Any] = {"arch": network.backbone, "pooling": network.pooling}
    if network.pooling == "netvlad":
        found |= {"num_clusters": network.clusters, "vladv2": network.assignment_bias}
    for flag, value in found.items():
        asked = state.flags.get(flag, value)
        if asked != value:
            raise WeightsError(
                f"{state.path}: expected {flag} {repr(asked)[:80]}, as flags.json says, got tensors of "
                f"{value!r}; do both come from the same run?"
            )


def _canonical(state: _State, network: NetworkConfig) -> dict[str, np.ndarray]:
    tensors = {}
    for name, tensor in state.tensors.items():
        ours, transform = _row(state, network, name)
        try:
            tensors[ours] = transform(tensor.array(), network.clusters)
        except (ValueError, IndexError) as error:
            raise WeightsError(
                f"{state.path}: {name} can't be used with shape {tensor.shape} ({error}); is the file "
                "complete?"
            ) from None
    return tensors


def _row(state: _State, network: NetworkConfig, name: str) -> tuple[str, Transform]:
    """Our name of a tensor and its transform, from the tables."""
    if name in state.layout.tensors:
        return state.layout.tensors[name]
    place, _, kind = name.removeprefix(state.layout.backbone).partition(".")
    layer = BACKBONES[network.backbone].get(int(place) if place.isdecimal() else -1)
    if layer is None or kind not in CONVOLUTION or not name.startswith(state.layout.backbone):
        raise WeightsError(
            f"{state.path}: {network.backbone} with NetVLAD has no tensor {name[:80]!r}; was the "
            "architecture changed?"
        )
    ours, transform = CONVOLUTION[kind]
    return f"{layer}/{ours}", transform


IMPORTER = Importer(
    "pytorch-NetVlad, Patch-NetVLAD, OpenIBL or deep-visual-geo-localization-benchmark",
    recognises,
    read,
)
HLOC_IMPORTER = Importer("hloc", recognises_hloc, read, HLOC_PRESETS)
