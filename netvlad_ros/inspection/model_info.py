# SPDX-License-Identifier: MIT
"""All there is to know of a model file: what it is, what it costs, how fast it is."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from netvlad_ros.calibration import Calibration
from netvlad_ros.config import ExtractorConfig, NetworkConfig
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.inspection.timing import Timing, time_sizes
from netvlad_ros.packages import is_installed
from netvlad_ros.quiet import quiet_start_up
from netvlad_ros.runtime.choice import choose
from netvlad_ros.runtime.runtimes import runtime_of
from netvlad_ros.shipped import is_shipped

if TYPE_CHECKING:
    from netvlad_ros.inspection.cost import NetworkCost

# Where neither the model nor the user names a size: that of most cameras' smallest mode.
USUAL_SIZE_PX = (640, 480)


@dataclass(frozen=True)
class ModelInfo:
    """What a model file is.

    runtime, why:  what an extractor runs it with by default, and why.
    network, cost, open_model_zoo: None and empty for files of other runtimes, which do not show their inside,
                                   and for the model of this package where Keras is not installed.
    has_own_size: whether the model names the size that images are resized to.
    preprocessing: of a file of another project, what is made of images, in words.
    calibration:  what similarities mean at the model's own size; None if that was not measured.
    """

    model: str
    runtime: str
    why: str
    fingerprint: str
    precision: str
    descriptor_dims: int
    width_px: int
    height_px: int
    has_own_size: bool
    calibration: Calibration | None
    preprocessing: str = ""
    network: NetworkConfig | None = None
    cost: "NetworkCost | None" = None
    open_model_zoo: dict[str, int] = field(default_factory=dict)
    timings: list[Timing] = field(default_factory=list)


def model_info(path: Path, size_px: tuple[int, int] | None, timed: bool) -> ModelInfo:
    """Reads a model file of any runtime, and runs it if it is to be timed. Raises ModelError.

    size_px: (width, height); None takes the model's own.
    """
    if runtime_of(path) != "keras" or (is_shipped(path) and not is_installed("keras")):
        return _of_other_runtime(path, size_px, timed)
    with quiet_start_up():
        from netvlad_ros.inspection.cost import network_cost
        from netvlad_ros.inspection.open_model_zoo import open_model_zoo_flops
        from netvlad_ros.model import load_model
        from netvlad_ros.runtime.keras_model import describe

    network, choice = load_model(path), choose(path, ExtractorConfig())
    config = network.network
    own = (config.input_width_px, config.input_height_px) if config.input_width_px else None
    width, height = size_px or own or USUAL_SIZE_PX
    description = describe(network)
    cost = network_cost(network, width, height)
    return ModelInfo(
        str(path),
        choice.runtime,
        choice.why,
        description.fingerprint,
        description.precision,
        description.descriptor_dims,
        width,
        height,
        own is not None,
        description.calibration_at(description.fingerprint_at(own, network.descriptor_dims)),
        "",
        config,
        cost,
        open_model_zoo_flops(cost),
        _timings(path, width, height) if timed else [],
    )


def input_in_words(config: NetworkConfig) -> str:
    """How an image comes to the first convolution."""
    channels = {"rgb": "RGB", "bgr": "BGR", "grey": "grey"}[config.channel_order]
    words = f"{channels}, 0 to 255"
    if any(config.input_offset):
        words += f", minus {_numbers(config.input_offset)}"
    if set(config.input_scale) != {1.0}:
        words += f", times {_numbers(config.input_scale)}"
    return words


def _numbers(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"({', '.join(f'{one:g}' for one in values)})"


def _of_other_runtime(path: Path, size_px: tuple[int, int] | None, timed: bool) -> ModelInfo:
    extractor = NetVLADExtractor(path)
    description = extractor.description
    own = (description.input_width_px, description.input_height_px)
    has_own = bool(description.input_width_px)
    width, height = size_px or (own if has_own else USUAL_SIZE_PX)
    return ModelInfo(
        str(path),
        extractor.choice.runtime,
        extractor.choice.why,
        description.fingerprint,
        description.precision,
        description.descriptor_dims,
        width,
        height,
        has_own,
        extractor.calibration,
        description.preprocessing,
        timings=_timings(path, width, height) if timed else [],
    )


def _timings(path: Path, width: int, height: int) -> list[Timing]:
    fixed = NetVLADExtractor(path, ExtractorConfig(input_width_px=width, input_height_px=height))
    if fixed.description.has_fixed_size:
        return list(time_sizes(fixed, width, height, (1.0,)))
    return list(time_sizes(NetVLADExtractor(path, ExtractorConfig(resize=False)), width, height))
