# SPDX-License-Identifier: MIT
"""A .tflite file, run by LiteRT on a CPU."""

import threading
import zipfile
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from netvlad_ros.errors import ModelError
from netvlad_ros.runtime.model import DESCRIPTION, ModelDescription, read_description
from netvlad_ros.threads import thread_count


class LiteRTModel:
    """See RunnableModel; one image at a time."""

    def __init__(self, interpreter: Interpreter, description: ModelDescription) -> None:
        self.description = description
        self._interpreter = interpreter
        self._input = interpreter.get_input_details()[0]["index"]
        self._output = interpreter.get_output_details()[0]["index"]
        self._running = threading.Lock()

    def forward(self, images_rgb: np.ndarray) -> np.ndarray:
        return np.concatenate([self._one(image) for image in images_rgb])

    def _one(self, image_rgb: np.ndarray) -> np.ndarray:
        with self._running:
            self._interpreter.set_tensor(self._input, image_rgb[None])
            self._interpreter.invoke()
            return self._interpreter.get_tensor(self._output)


def open_model(
    path: Path, device: str, threads: int, description: ModelDescription | None
) -> LiteRTModel:
    """See runtime.runtimes.open_model."""
    if device == "gpu":
        raise ModelError("extractor.device is gpu, but LiteRT runs on CPUs here; set it to auto.")
    description = description or read_description(_stored_description(path), path)
    try:
        interpreter = Interpreter(str(path), num_threads=thread_count(threads))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:150]
        raise ModelError(
            f"{path}: LiteRT can't load this file ({reason}); copy it or export it again."
        ) from None
    return LiteRTModel(interpreter, description)


def _stored_description(path: Path) -> bytes | None:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(DESCRIPTION)
    except (zipfile.BadZipFile, KeyError):
        return None


def attach_description(path: Path, description: ModelDescription) -> None:
    """Stores it in the file, as .tflite files carry associated files: in a zip archive behind the model."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(DESCRIPTION, description.to_json())
