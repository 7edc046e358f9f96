# SPDX-License-Identifier: MIT
"""An OpenVINO file (.xml beside its .bin), run on a CPU or an Intel GPU."""

import threading
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import openvino as ov

from netvlad_ros.errors import ModelError
from netvlad_ros.runtime.model import DESCRIPTION, ModelDescription, read_description
from netvlad_ros.threads import thread_count

# OpenVINO takes half precision by itself where the processor has it; a file says what it was checked with.
PRECISIONS = {"fp32": "f32", "int8": "f32", "fp16": "f16", "bf16": "bf16"}
DEVICES = {"auto": "CPU", "cpu": "CPU", "gpu": "GPU"}


class OpenVINOModel:
    """See RunnableModel; one image at a time."""

    def __init__(
        self, model: ov.Model, description: ModelDescription, device: str, threads: int
    ) -> None:
        self.description = description
        settings: dict[str, str | int] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": PRECISIONS[description.precision],
        }
        if device == "CPU":
            settings["INFERENCE_NUM_THREADS"] = thread_count(threads)
        model.reshape([1, *list(model.input().partial_shape)[1:]])
        self._request = ov.Core().compile_model(model, device, settings).create_infer_request()
        self._running = threading.Lock()

    def forward(self, images_rgb: np.ndarray) -> np.ndarray:
        return np.concatenate([self._one(image) for image in images_rgb])

    def _one(self, image_rgb: np.ndarray) -> np.ndarray:
        with self._running:
            self._request.infer([np.ascontiguousarray(image_rgb)[None]])
            return self._request.get_output_tensor().data.copy()  # the next image overwrites it


def open_model(
    path: Path, device: str, threads: int, description: ModelDescription | None
) -> OpenVINOModel:
    """See runtime.runtimes.open_model."""
    core = ov.Core()
    if not path.with_suffix(".bin").is_file():
        raise ModelError(f"{path}: its weights are missing; copy {path.stem}.bin beside it.")
    if DEVICES[device] not in {name.partition(".")[0] for name in core.available_devices}:
        raise ModelError(
            f"extractor.device is {device}, but OpenVINO sees only {', '.join(core.available_devices)}; "
            "install the driver of the GPU, or set extractor.device to auto."
        )
    description = description or read_description(_stored_description(path), path)
    try:
        return OpenVINOModel(core.read_model(path), description, DEVICES[device], threads)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:150]
        raise ModelError(
            f"{path}: OpenVINO can't load this file ({reason}); copy both files or export again."
        ) from None


def _stored_description(path: Path) -> str | None:
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise ModelError(f"{path}: is no complete XML file ({error}); copy it again.") from None
    found = root.find(f"rt_info/{DESCRIPTION}")
    return None if found is None else found.get("value")


def attach_description(path: Path, description: ModelDescription) -> None:
    """Stores it in the file."""
    tree = ET.parse(path)
    root = tree.getroot()
    info = root.find("rt_info")
    if info is None:
        info = ET.SubElement(root, "rt_info")
    for old in info.findall(DESCRIPTION):
        info.remove(old)
    ET.SubElement(info, DESCRIPTION, value=description.to_json())
    tree.write(path, encoding="utf-8", xml_declaration=True)
