# SPDX-License-Identifier: MIT
"""Which file of a model runs in which runtime, and why: extractor.runtime and what this machine has."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from netvlad_ros.config import ExtractorConfig
from netvlad_ros.errors import ModelError
from netvlad_ros.packages import is_installed
from netvlad_ros.runtime.model import RunnableModel
from netvlad_ros.runtime.runtimes import open_model, runtime_of
from netvlad_ros.shipped import LITERT_SIZE_PX, SHIPPED_LITERT, is_shipped, model_path

# Value of extractor.runtime -> ending of the files that `netvlad export` writes for it.
ENDINGS = {"tensorflow": "", "litert": ".tflite", "openvino": ".xml", "onnx": ".onnx"}
# Module of this package that runs a file -> value of extractor.runtime.
NAMES = {"keras": "tensorflow", "onnxruntime": "onnx"}
# What drivers put into /dev: NVIDIA's, those of Jetsons, AMD's and Windows' for Linux.
GPU_DEVICES = ("nvidia[0-9]*", "nvhost-gpu", "nvgpu", "kfd", "dxg")


@dataclass(frozen=True)
class Choice:
    """A file, the runtime that takes it (as extractor.runtime names it), and why."""

    path: Path
    runtime: str
    why: str


def choose(model: str | Path, config: ExtractorConfig) -> Choice:
    """What is to run of a model file, or where that is empty, of the model that comes with this package.

    Imports no runtime. Raises ModelError for a runtime that the file is not made for.
    """
    path = model_path(model)
    if not is_shipped(path):
        return _by_its_kind(path, config.runtime)
    match config.runtime:
        case "auto":
            return _of_the_shipped(path, config)
        case "tensorflow" | "litert":
            file = path if config.runtime == "tensorflow" else SHIPPED_LITERT
            return Choice(file, config.runtime, "extractor.runtime says so")
    raise _other_runtime(path, config.runtime)


def open_chosen(model: str | Path, config: ExtractorConfig) -> tuple[RunnableModel, Choice]:
    """Loads what is to run. Raises ModelError.

    Where LiteRT was nobody's wish and can't run, TensorFlow does, and the log says why.
    """
    choice = choose(model, config)
    try:
        return _opened(choice, config), choice
    except ModelError as error:
        is_own_choice = is_shipped(model_path(model)) and config.runtime == "auto"
        if not (is_own_choice and choice.runtime == "litert" and is_installed("tensorflow")):
            raise
        logging.getLogger(__name__).warning("TensorFlow runs the model, as LiteRT can't: %s", error)
    choice = Choice(model_path(model), "tensorflow", "LiteRT can't run here")
    return _opened(choice, config), choice


def gpu_device() -> str:
    """What tells, without importing TensorFlow, that it may find a GPU, such as /dev/nvidia0; else empty."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return ""
    found = (device for pattern in GPU_DEVICES for device in sorted(Path("/dev").glob(pattern)))
    return str(next(found, ""))


def _opened(choice: Choice, config: ExtractorConfig) -> RunnableModel:
    return open_model(choice.path, config.device, config.threads)


def _by_its_kind(path: Path, wanted: str) -> Choice:
    module = runtime_of(path)
    runtime = NAMES.get(module, module)
    if wanted not in ("auto", runtime):
        raise _other_runtime(path, wanted)
    return Choice(path, runtime, f"{path.name} is a file for it")


def _other_runtime(path: Path, wanted: str) -> ModelError:
    source = "" if is_shipped(path) else f" {path.with_suffix('.keras')}"
    return ModelError(
        f"extractor.runtime is {wanted}, which does not run {path.name}; "
        f"`netvlad export{source} -o {path.stem}{ENDINGS[wanted]}` makes a file that it runs, for "
        "extractor.model."
    )


def _of_the_shipped(path: Path, config: ExtractorConfig) -> Choice:
    if config.device == "gpu":
        return Choice(path, "tensorflow", "extractor.device is gpu")
    if not _takes_size(config):
        size = "x".join(map(str, LITERT_SIZE_PX))
        return Choice(path, "tensorflow", f"the file for LiteRT takes {size} pixels only")
    if not is_installed("ai_edge_litert"):
        return Choice(path, "tensorflow", "LiteRT is not installed: pip install ai-edge-litert")
    device = gpu_device() if config.device == "auto" else ""
    if not device:
        return Choice(SHIPPED_LITERT, "litert", "no GPU is to be used")
    if not is_installed("tensorflow"):
        return Choice(SHIPPED_LITERT, "litert", f"TensorFlow for {device} is not installed")
    return Choice(path, "tensorflow", f"there is {device}")


def _takes_size(config: ExtractorConfig) -> bool:
    width, height = LITERT_SIZE_PX
    wanted = (config.input_width_px or width, config.input_height_px or height)
    return config.resize and wanted == LITERT_SIZE_PX
