# SPDX-License-Identifier: MIT
"""What every runtime makes of a model file: its description, and images in, descriptors out."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from netvlad_ros.calibration import Calibration, calibration_from_json
from netvlad_ros.errors import ModelError

# Under this name a description is stored in the files of all runtimes.
DESCRIPTION = "netvlad_ros"
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
# How images may be resized: area averages where they shrink, bilinear, bicubic, or the nearest pixel.
INTERPOLATIONS = ("area", "linear", "cubic", "nearest")


@dataclass(frozen=True)
class ModelDescription:
    """What is known of a model without its weights.

    fingerprint:       equal for files whose descriptors can be compared.
    input_*_px:        the size that images are resized to; 0 if they keep their own.
    has_fixed_size:    whether this is the only size that the file takes.
    precision:         fp32, fp16, bf16 or int8.
    cosine:            mean similarity to the descriptors of the model it was made of.
    calibration:       what its similarities mean, if that was measured; see calibration_at().
    interpolation:     how images are resized, one of INTERPOLATIONS.
    preprocessing:     in words, what is made of images where that was stated for a file of another project.
    """

    fingerprint: str
    descriptor_dims: int
    input_width_px: int = 0
    input_height_px: int = 0
    has_fixed_size: bool = False
    precision: str = "fp32"
    cosine: float = 1.0
    calibration: Calibration | None = None
    interpolation: str = "area"
    preprocessing: str = ""

    def to_json(self) -> str:
        values = dataclasses.asdict(self)
        for name in ("calibration", "interpolation", "preprocessing"):
            if getattr(self, name) == getattr(ModelDescription, name):
                del values[name]  # older versions refuse what they do not know
        return json.dumps(values)

    def fingerprint_at(self, size_px: tuple[int, int] | None, dims: int) -> str:
        """Of descriptors of so many dimensions, from images of (width, height) or, if None, of their own."""
        size = "x".join(map(str, size_px)) if size_px else "own size"
        truncated = f"/{dims}" if dims < self.descriptor_dims else ""
        return f"{self.fingerprint}@{size}{truncated}"

    def calibration_at(self, fingerprint: str) -> Calibration | None:
        """The calibration, if it was measured with descriptors of this fingerprint."""
        is_measured = self.calibration and self.calibration.fingerprint == fingerprint
        return self.calibration if is_measured else None


class RunnableModel(Protocol):
    """A model file, loaded by its runtime."""

    description: ModelDescription

    def forward(self, images_rgb: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 RGB -> (B, dims) float32 of unit length; may be called from several threads."""


def read_description(text: str | bytes | None, path: Any) -> ModelDescription:
    """The description that an exported file carries. Raises ModelError if it is none of ours."""
    if text is None:
        raise ModelError(
            f"{path}: expected a file that `netvlad export` wrote, got one that does not say "
            "whose descriptors it makes; export it again from its .keras model (an OpenVINO or ONNX file of "
            "another project goes through `netvlad import-weights`)."
        )
    try:
        values = json.loads(text)
        calibration = calibration_from_json(values.pop("calibration", None))
        description = ModelDescription(**values, calibration=calibration)
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{path}: its description can't be read ({error}); export it again, with this version."
        ) from None
    wrong = [
        item.name
        for item in dataclasses.fields(ModelDescription)
        if item.name != "calibration" and type(getattr(description, item.name)) is not item.type
    ]
    if wrong:
        raise ModelError(
            f"{path}: its description is damaged ({', '.join(wrong)}); export it again."
        )
    for name, known in (("precision", PRECISIONS), ("interpolation", INTERPOLATIONS)):
        if getattr(description, name) not in known:
            raise ModelError(
                f"{path}: expected {name} {', '.join(known)}, got {name} {getattr(description, name)}; "
                "update the package, or export it again."
            )
    return description
