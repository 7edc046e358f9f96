# SPDX-License-Identifier: MIT
"""Which files can be written, for which runtime, in which precisions."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from netvlad_ros.errors import ModelError

if TYPE_CHECKING:
    import numpy as np

    from netvlad_ros.model.network import NetVLADNetwork

# Least mean cosine to the descriptors of Keras with which a file is accepted.
BARS = {"fp32": 0.99999, "fp16": 0.999, "bf16": 0.999, "int8": 0.99}


@dataclass(frozen=True)
class Format:
    """One kind of file.

    suffix: the ending of its name; none for a folder.
    module: of this package, with a function write_<name>(network, path, request).
    packages: to install for it.
    """

    name: str
    suffix: str
    module: str
    packages: str
    precisions: tuple[str, ...]

    def write(self, network: "NetVLADNetwork", path: Path, request: "Request") -> None:
        """Writes the file, without its description. Raises ModelError."""
        try:
            module = importlib.import_module(f"netvlad_ros.export.{self.module}")
        except ModuleNotFoundError as error:
            raise ModelError(
                f"export to {self.name}: {error.name} is not installed; pip install {self.packages}."
            ) from None
        getattr(module, f"write_{self.name.replace('-', '_')}")(network, path, request)


@dataclass(frozen=True)
class Request:
    """How a network is to be written.

    size_px:     (width, height), the only input size of the file.
    precision:   fp32, fp16, bf16 or int8.
    calibration: (N, height, width, 3) uint8 RGB, what int8 finds the ranges of values on; else empty.
    """

    size_px: tuple[int, int]
    precision: str
    calibration: "np.ndarray"


FORMATS = {
    format.name: format
    for format in (
        Format("savedmodel", "", "tensorflow_files", "tensorflow", ("fp32", "fp16", "bf16")),
        Format("frozen-pb", ".pb", "tensorflow_files", "tensorflow", ("fp32", "fp16", "bf16")),
        Format(
            "litert",
            ".tflite",
            "tensorflow_files",
            "tensorflow ai-edge-litert",
            ("fp32", "fp16", "int8"),
        ),
        Format("onnx", ".onnx", "onnx_file", "onnx onnxruntime", ("fp32", "fp16", "int8")),
        Format(
            "openvino",
            ".xml",
            "openvino_file",
            "openvino onnx nncf",
            ("fp32", "fp16", "bf16", "int8"),
        ),
        Format(
            "tensorrt", ".onnx", "onnx_file", "onnx onnxruntime", ("fp32", "fp16", "bf16", "int8")
        ),
    )
}


def format_of(path: Path, name: str | None) -> Format:
    """The format of that name, or the one that the ending of the path tells. Raises ModelError."""
    by_suffix = {each.suffix: each for each in reversed(FORMATS.values())}
    if name is None and path.suffix not in by_suffix:
        known = ", ".join(
            f"{each.suffix or 'no ending'} ({each.name})" for each in FORMATS.values()
        )
        raise ModelError(f"{path}: expected a name whose ending tells the format: {known}.")
    chosen = by_suffix[path.suffix] if name is None else FORMATS[name]
    if chosen.suffix != path.suffix:
        raise ModelError(
            f"{path}: expected a name ending in {chosen.suffix!r} for {chosen.name}, got {path.suffix!r}."
        )
    return chosen


def refuse_precision(chosen: Format, precision: str) -> None:
    """Raises ModelError, naming the formats that have this precision."""
    if precision not in chosen.precisions:
        others = ", ".join(each.name for each in FORMATS.values() if precision in each.precisions)
        raise ModelError(
            f"--precision {precision}: {chosen.name} files have {', '.join(chosen.precisions)}; "
            f"{precision} is to be had with {others}."
        )
