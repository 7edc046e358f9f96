# SPDX-License-Identifier: MIT
"""Every tunable value once, with its default, unit, range and meaning.

YAML files, `--set`, `netvlad config` and the ROS parameters with their descriptions are all made from
these dataclasses; a value is checked when its section is made, wherever it came from.
"""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

from netvlad_ros.errors import ConfigError

# 1e-4, which YAML 1.1 takes for a word because it has no point.
_EXPONENTIAL = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]{1,3}")

Value = bool | int | float | str


@dataclass(frozen=True)
class Param:
    """What is known of one value besides its name, type and default."""

    help: str
    ge: float | None = None
    le: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False  # may be changed while a node runs


def param(default: Any, help: str, **known: Any) -> Any:
    """A dataclass field that carries a Param."""
    return field(default=default, metadata={"param": Param(help, **known)})


class Section:
    """A frozen dataclass whose values are checked against their Params when it is made."""

    def __post_init__(self) -> None:
        for name, value, info in parameters(self):
            object.__setattr__(self, name, checked(name, value, type(self), info))


def parameters(section: Any) -> Iterator[tuple[str, Any, Param]]:
    """Name, value and Param of every field of a section, or name, default and Param of its class."""
    for item in dataclasses.fields(section):
        value = item.default if isinstance(section, type) else getattr(section, item.name)
        yield item.name, value, item.metadata["param"]


def checked(name: str, value: Any, section: type, info: Param) -> Any:
    """The value in the type of its default. Raises ConfigError, saying what was expected."""
    default = {item.name: item.default for item in dataclasses.fields(section)}[name]
    if isinstance(default, tuple):
        words = bool(default) and isinstance(default[0], str)
        return _words(name, value, info) if words else _numbers(name, value, info)
    if isinstance(default, float) and isinstance(value, str) and _EXPONENTIAL.fullmatch(value):
        value = float(value)
    is_number = isinstance(default, int | float) and type(value) in (int, float)
    if is_number and not _inside(value, info):
        raise ConfigError(f"{name}: expected {range_text(info)}, got {value}. {info.help}")
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        expected = type(default).__name__
        raise ConfigError(f"{name}: expected {expected}, got {value!r}. {info.help}")
    if info.choices and value not in info.choices:
        raise ConfigError(f"{name}: expected one of {', '.join(info.choices)}; got {value!r}.")
    return value


def _numbers(name: str, value: Any, info: Param) -> tuple[float, ...]:
    """A tuple of floats, from the tuple or list of numbers that was written."""
    numbers = value if isinstance(value, tuple | list) else ()
    if not numbers or not all(type(one) in (int, float) and isfinite(one) for one in numbers):
        raise ConfigError(f"{name}: expected one or more numbers, got {value!r}. {info.help}")
    return tuple(map(float, numbers))


def _words(name: str, value: Any, info: Param) -> tuple[str, ...]:
    """A tuple of the words that can be chosen from, from one or a list of them."""
    words = (value,) if isinstance(value, str) else value if isinstance(value, tuple | list) else ()
    if not words or any(word not in info.choices for word in words):
        raise ConfigError(f"{name}: expected some of {', '.join(info.choices)}; got {value!r}.")
    return tuple(words)


def _inside(value: float, info: Param) -> bool:
    """False for NaN too, whatever the range."""
    return (
        (info.ge if info.ge is not None else -float("inf"))
        <= value
        <= (info.le if info.le is not None else float("inf"))
    )


def range_text(info: Param) -> str:
    """The range or the choices of a value in words; empty where everything is allowed."""
    if info.choices:
        return " | ".join(info.choices)
    low, high = (f"{bound:g}" if bound is not None else "" for bound in (info.ge, info.le))
    if low and high:
        return f"{low} to {high}"
    return f"at least {low}" if low else f"at most {high}" if high else ""


@dataclass(frozen=True)
class CameraConfig(Section):
    """Where images come from, and whose they are."""

    robot: str = param(
        "", "Name of the robot, written into every message; empty if there is only one."
    )
    compressed: bool = param(False, "Subscribe to sensor_msgs/CompressedImage instead of Image.")
    converter: str = param(
        "auto",
        "What turns messages into RGB: cv_bridge where it works with the installed numpy, or OpenCV.",
        choices=("auto", "cv_bridge", "opencv"),
    )


@dataclass(frozen=True)
class ExtractorConfig(Section):
    """How an image becomes a descriptor."""

    model: str = param(
        "",
        "Path of the model file; .keras, or what netvlad export wrote: its kind tells the runtime. Empty "
        "takes the model that comes with this package.",
    )
    device: str = param(
        "auto",
        "Where the network runs; auto takes a GPU if there is one.",
        choices=("auto", "cpu", "gpu"),
    )
    threads: int = param(
        0, "CPU threads for one image; 0 takes what the runtime chooses.", ge=0, le=256
    )
    resize: bool = param(True, "Resize images to the input size; if false, their own size is kept.")
    input_width_px: int = param(0, "Input width in pixels; 0 takes the model's own.", ge=0, le=8192)
    input_height_px: int = param(
        0, "Input height in pixels; 0 takes the model's own.", ge=0, le=8192
    )
    descriptor_dims: int = param(
        0, "Keep the first dimensions only and normalise again; 0 keeps all.", ge=0, le=1_000_000
    )
    min_side_px: int = param(
        32, "Images with a shorter side than this, in pixels, are refused.", ge=1, le=8192
    )
    min_contrast: float = param(
        1.0,
        "Images whose grey levels (0 to 255) have a standard deviation below this are refused: "
        "darkness looks like every other darkness.",
        ge=0.0,
        le=128.0,
        live=True,
    )


@dataclass(frozen=True)
class KeyframeConfig(Section):
    """Which images are kept in the database and looked up there."""

    min_interval_s: float = param(
        0.5, "Least time between two keyframes, in seconds.", ge=0.0, le=3600.0, live=True
    )
    min_descriptor_change: float = param(
        0.02,
        "Least change since the last keyframe, as 1 - cosine similarity; with 0 a robot that stands "
        "still fills the database with one view.",
        ge=0.0,
        le=2.0,
        live=True,
    )


@dataclass(frozen=True)
class DatabaseConfig(Section):
    """How keyframes are indexed, looked up and stored."""

    path: str = param(
        "",
        "Database file that is loaded at start and saved at shutdown; empty keeps it in memory only.",
        live=True,
    )
    autosave_s: float = param(
        30.0,
        "Save new keyframes every so many seconds; 0 saves at shutdown only.",
        ge=0.0,
        le=86400.0,
    )
    max_matches: int = param(20, "How many matches a search returns.", ge=1, le=1000, live=True)


@dataclass(frozen=True)
class CandidateConfig(Section):
    """When a match is reported as a loop-closure candidate."""

    min_similarity: float = param(
        0.45,
        "Cosine similarity that a candidate must reach. The default suits the model that comes with the "
        "package; descriptors without whitening are all more alike and need about 0.8.",
        ge=-1.0,
        le=1.0,
        live=True,
    )
    exclude_recent_s: float = param(
        30.0,
        "Keyframes of the same session younger than this, in seconds, never match. The database and the "
        "loop-closure node must use the same value.",
        ge=0.0,
        le=86400.0,
    )
    min_consistent_queries: int = param(
        1,
        "How many consecutive queries, this one included, must have found the same place.",
        ge=1,
        le=100,
        live=True,
    )
    max_keyframe_gap: int = param(
        5,
        "How far apart, in keyframes, the matches of consecutive queries may lie to be the same place.",
        ge=0,
        le=10000,
        live=True,
    )
    max_candidates: int = param(
        3, "How many candidates a query may have.", ge=1, le=1000, live=True
    )


@dataclass(frozen=True)
class DiagnosticsConfig(Section):
    """How the nodes report on themselves."""

    period_s: float = param(1.0, "Seconds between two reports on /diagnostics.", ge=0.1, le=60.0)
    silence_s: float = param(
        5.0, "Warn when nothing arrived for so many seconds.", ge=0.5, le=3600.0, live=True
    )


@dataclass(frozen=True)
class Config:
    """The sections of the configuration; each component takes its own."""

    camera: CameraConfig = field(default_factory=CameraConfig)
    extractor: ExtractorConfig = field(default_factory=ExtractorConfig)
    keyframes: KeyframeConfig = field(default_factory=KeyframeConfig)
    database: DatabaseConfig = field(default_factory=DatabaseConfig)
    candidates: CandidateConfig = field(default_factory=CandidateConfig)
    diagnostics: DiagnosticsConfig = field(default_factory=DiagnosticsConfig)


def sections_of(kind: Any) -> dict[str, type[Section]]:
    """The sections of a configuration by name: of Config, or of another one made like it."""
    return {item.name: item.default_factory for item in dataclasses.fields(kind)}  # type: ignore[misc]


SECTIONS = sections_of(Config)


def with_model(config: Config, model: str | Path) -> Config:
    """The configuration with another model file."""
    return replace(config, extractor=replace(config.extractor, model=str(model)))


def parameter_names(kind: Any = Config) -> list[str]:
    """`section.name` of every value there is."""
    return [
        f"{section}.{name}"
        for section, cls in sections_of(kind).items()
        for name, _, _ in parameters(cls)
    ]


@dataclass(frozen=True)
class NetworkConfig(Section):
    """The architecture of a network and what its weights need for input; it is stored in the model file."""

    backbone: str = param(
        "vgg16",
        "Convolutional network.",
        choices=("vgg16", "alexnet", "mobilenet", "mobilenet_v2", "rootsift"),
    )
    cut_layer: str = param(
        "", "Layer whose output is aggregated; empty takes the backbone's usual one."
    )
    backbone_width: float = param(
        1.0,
        "Width multiplier of the MobileNets (alpha) and of rootsift (times 64 dimensions).",
        ge=0.1,
        le=4.0,
    )
    channel_order: str = param(
        "rgb", "What the first convolution sees.", choices=("rgb", "bgr", "grey")
    )
    input_offset: tuple[float, ...] = param(
        (0.0,), "Subtracted from 0..255 values, one for all or one a channel in channel_order."
    )
    input_scale: tuple[float, ...] = param((1.0,), "Then multiplied, one for all or one a channel.")
    input_width_px: int = param(0, "Width the weights were trained at; 0 if any.", ge=0, le=8192)
    input_height_px: int = param(0, "Height the weights were trained at; 0 if any.", ge=0, le=8192)
    normalise_features: bool = param(
        True, "L2-normalise local features before they are aggregated."
    )
    norm_safeguard: str = param(
        "added",
        "How an L2 norm avoids dividing by zero: sqrt(sum + 1e-12) as matconvnet and the NetVLAD authors, "
        "sqrt(max(sum, 1e-12)) as TensorFlow, or max(norm, 1e-12) as PyTorch.",
        choices=("added", "clamped_square", "clamped_norm"),
    )
    pooling: str = param(
        "netvlad", "How local features are aggregated.", choices=("netvlad", "max", "avg", "gem")
    )
    clusters: int = param(64, "K, clusters of NetVLAD.", ge=1, le=4096)
    ghost_clusters: int = param(
        0, "Further clusters that are assigned to but not kept (GhostVLAD).", ge=0, le=4096
    )
    assignment_bias: bool = param(False, "Whether the soft assignment has a bias.")
    whitening_dims: int = param(
        0, "Dimensions after PCA whitening; 0 for no whitening.", ge=0, le=1_000_000
    )
    descriptor_dims: int = param(
        0, "Keep the first dimensions only and normalise again; 0 keeps all.", ge=0, le=1_000_000
    )
