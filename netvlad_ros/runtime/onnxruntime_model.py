# SPDX-License-Identifier: MIT
"""An .onnx file, run by ONNX Runtime on a CPU or on what its build brings for GPUs."""

from pathlib import Path

import numpy as np
import onnxruntime

from netvlad_ros.errors import ModelError
from netvlad_ros.runtime.model import DESCRIPTION, ModelDescription, read_description
from netvlad_ros.threads import thread_count

CPU = "CPUExecutionProvider"


class ONNXRuntimeModel:
    """See RunnableModel; the images of a batch run at once, if the file takes batches."""

    def __init__(
        self, session: onnxruntime.InferenceSession, description: ModelDescription
    ) -> None:
        self.description = description
        self._session = session
        self._input = session.get_inputs()[0].name
        self._takes_one = session.get_inputs()[0].shape[:1] == [1]

    def forward(self, images_rgb: np.ndarray) -> np.ndarray:
        if self._takes_one and len(images_rgb) > 1:
            return np.concatenate([self.forward(image[None]) for image in images_rgb])
        return self._session.run(None, {self._input: images_rgb})[0]


def open_model(
    path: Path, device: str, threads: int, description: ModelDescription | None
) -> ONNXRuntimeModel:
    """See runtime.runtimes.open_model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count(threads)
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin while they wait take the core from whoever runs between two images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(path, options, providers=_providers(device))
    except Exception as error:  # its kinds of errors have no common base
        reason = str(error).strip().splitlines()[0][:150]
        raise ModelError(
            f"{path}: ONNX Runtime can't load this file ({reason}); copy it or export it again."
        ) from None
    stored = session.get_modelmeta().custom_metadata_map.get(DESCRIPTION)
    return ONNXRuntimeModel(session, description or read_description(stored, path))


def _providers(device: str) -> list[str]:
    gpu = [
        name
        for name in onnxruntime.get_available_providers()
        if name.startswith(("Tensorrt", "CUDA", "ROCM", "MIGraphX"))
    ]
    if device == "gpu" and not gpu:
        raise ModelError(
            "extractor.device is gpu, but this ONNX Runtime has no GPU provider; install onnxruntime-gpu, or "
            "set extractor.device to auto."
        )
    return [CPU] if device == "cpu" else [*gpu, CPU]


def attach_description(path: Path, description: ModelDescription) -> None:
    """Stores it in the file: serialised messages that follow each other are one message."""
    import onnx

    addition = onnx.ModelProto()
    addition.metadata_props.add(key=DESCRIPTION, value=description.to_json())
    with path.open("ab") as file:
        file.write(addition.SerializeToString())
