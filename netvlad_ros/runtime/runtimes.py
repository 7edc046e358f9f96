# SPDX-License-Identifier: MIT
"""A model file in, something that runs out: the name of the file tells the runtime."""

import importlib
from pathlib import Path

from netvlad_ros.errors import ModelError
from netvlad_ros.packages import pip_install
from netvlad_ros.quiet import quiet_start_up
from netvlad_ros.runtime.model import ModelDescription, RunnableModel

# Ending of the file -> runtime, which is the module of this package that runs it. A folder is a SavedModel.
RUNTIMES = {
    ".keras": "keras",
    ".xml": "openvino",
    ".onnx": "onnxruntime",
    ".tflite": "litert",
    ".pb": "tensorflow",
    "": "tensorflow",
}
# Runtime -> the package that it is imported as, where that is another name.
PACKAGES = {"litert": "ai_edge_litert"}


def open_model(
    path: str | Path,
    device: str = "auto",
    threads: int = 0,
    description: ModelDescription | None = None,
) -> RunnableModel:
    """Loads a model file with its runtime.

    device:      auto, cpu or gpu.
    threads:     for one image; 0 takes all cores that this process may use.
    description: of a file that does not carry one (yet).
    Raises ModelError for a file that is none, is damaged, or whose runtime is not installed.
    """
    path = Path(path)
    runtime = runtime_of(path)
    if not path.exists():
        raise ModelError(
            f"{path}: there is no such model file; `netvlad import-weights` makes one from other projects' "
            "weights, `netvlad export` one for another runtime."
        )
    try:
        # Runtimes write notes to stderr when they are imported and when they start.
        with quiet_start_up():
            module = importlib.import_module(f"netvlad_ros.runtime.{runtime}_model")
            return module.open_model(path, device, threads, description)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"{path}: runs with {runtime}, and {error.name} is not installed; "
            f"{pip_install(PACKAGES.get(runtime, runtime))}."
        ) from None


def runtime_of(path: Path) -> str:
    """The runtime of a model file: keras, tensorflow, openvino, onnxruntime or litert."""
    suffix = "" if path.is_dir() else path.suffix
    if suffix not in RUNTIMES or (suffix == "" and path.is_file()):
        known = ", ".join(suffix or "a SavedModel folder" for suffix in RUNTIMES)
        raise ModelError(f"{path}: expected a model file ({known}), got another kind of file.")
    return RUNTIMES[suffix]
