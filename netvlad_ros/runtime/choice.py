# SPDX-License-Identifier: MIT
"""Which file of a model runs in which runtime, and why: extractor.runtime and what this machine has."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from netvlad_ros.config import ExtractorConfig
from netvlad_ros.errors import ModelError
from netvlad_ros.packages import is_installed, pip_install
from netvlad_ros.runtime.model import RunnableModel
from netvlad_ros.runtime.runtimes import open_model, runtime_of
from netvlad_ros.shipped import LITERT_SIZE_PX, SHIPPED_LITERT, is_shipped, model_path

# Value of extractor.runtime -> ending of the files that `netvlad export` writes for it.
ENDINGS = {"tensorflow": "", "litert": ".tflite", "openvino": ".xml", "onnx": ".onnx"}
# Module of this package that runs a file -> value of extractor.runtime.
NAMES = {"keras": "tensorflow", "onnxruntime": "onnx"}
# What drivers put into /dev: NVIDIA's, those of Jetsons, AMD's and Windows' for Linux.
GPU_DEVICES = ("nvidia[0-9]*", "nvhost-gpu", "nvgpu", "kfd", "dxg")
ASKED_FOR, NO_GPU = "extractor.runtime says so", "no GPU is to be used"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """What is to run.

    runtime:   as extractor.runtime names it.
    why:       in words.
    device:    auto, cpu or gpu.
    otherwise: what runs if this can't; None if that is an error.
    """

    path: Path
    runtime: str
    why: str
    device: str
    otherwise: "Choice | None" = None


def choose(model: str | Path, config: ExtractorConfig) -> Choice:
    """What is to run of a model file, or where that is empty, of the model that comes with this package.

    Imports no runtime. Raises ModelError for a runtime that the file is not made for.
    """
    path = model_path(model)
    if is_shipped(path):
        return _of_the_shipped(path, config)
    module = runtime_of(path)
    runtime = NAMES.get(module, module)
    if config.runtime not in ("auto", runtime):
        raise _other_runtime(path, config.runtime)
    return Choice(path, runtime, f"{path.name} is a file for it", config.device)


def open_chosen(model: str | Path, config: ExtractorConfig) -> tuple[RunnableModel, Choice]:
    """Loads what is to run. Raises ModelError.

    Where that was nobody's wish and can't run, what runs otherwise does, and the log says why.
    """
    choice = choose(model, config)
    try:
        return open_model(choice.path, choice.device, config.threads), choice
    except ModelError as error:
        if choice.otherwise is None:
            raise
        choice = choice.otherwise
        logger.warning("%s runs the model, as %s: %s", choice.runtime, choice.why, error)
    return open_model(choice.path, choice.device, config.threads), choice


def gpu_device() -> str:
    """What tells, without importing TensorFlow, that it may find a GPU, such as /dev/nvidia0; else empty."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return ""
    found = (device for pattern in GPU_DEVICES for device in sorted(Path("/dev").glob(pattern)))
    return str(next(found, ""))


def _other_runtime(path: Path, wanted: str) -> ModelError:
    source = "" if is_shipped(path) else f" {path.with_suffix('.keras')}"
    return ModelError(
        f"extractor.runtime is {wanted}, which does not run {path.name}; "
        f"`netvlad export{source} -o {path.stem}{ENDINGS[wanted]}` makes a file that it runs, for "
        "extractor.model."
    )


def _of_the_shipped(path: Path, config: ExtractorConfig) -> Choice:
    tensorflow, litert = (
        partial(Choice, file, runtime, device=config.device)
        for file, runtime in ((path, "tensorflow"), (SHIPPED_LITERT, "litert"))
    )
    match config.runtime:
        case "tensorflow":
            return tensorflow(why=ASKED_FOR)
        case "litert":
            return litert(why=ASKED_FOR)
        case "auto":
            why = _why_not_litert(config)
            return tensorflow(why=why) if why else _with_or_without_gpu(tensorflow, litert, config)
    raise _other_runtime(path, config.runtime)


def _with_or_without_gpu(
    tensorflow: Callable[..., Choice], litert: Callable[..., Choice], config: ExtractorConfig
) -> Choice:
    gpu = gpu_device() if config.device == "auto" else ""
    if not is_installed("tensorflow"):
        return litert(why="TensorFlow is not installed" if gpu else NO_GPU)
    if not gpu:
        return litert(why=NO_GPU, otherwise=tensorflow(why="LiteRT can't"))
    other = litert(why=f"TensorFlow finds no GPU behind {gpu}", device="cpu")
    return tensorflow(why=f"there is {gpu}", device="gpu", otherwise=other)


def _why_not_litert(config: ExtractorConfig) -> str:
    """Empty if it runs the model."""
    if config.device == "gpu":
        return "extractor.device is gpu"
    size = LITERT_SIZE_PX
    wanted = (config.input_width_px or size[0], config.input_height_px or size[1])
    if not config.resize or wanted != size:
        return f"the file for LiteRT takes {size[0]}x{size[1]} pixels only"
    if not is_installed("ai_edge_litert"):
        return f"LiteRT is not installed: {pip_install('ai_edge_litert')}"
    return ""
