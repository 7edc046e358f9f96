# SPDX-License-Identifier: MIT
"""OpenVINO files of other projects, such as Open Model Zoo's netvlad-tf, run as they are.

Their weights stay as they were converted. What is added is the way from a uint8 RGB image to their input,
which their files do not say, and a description.
"""

import hashlib
from pathlib import Path

import numpy as np
import openvino as ov
from openvino.preprocess import ColorFormat, PrePostProcessor

from netvlad_ros.errors import WeightsError
from netvlad_ros.runtime.model import ModelDescription
from netvlad_ros.runtime.openvino_model import OpenVINOModel, attach_description

# Name of --input -> the colours that the network sees, 0 to 255; its own graph does the rest.
PRESETS = {"openvino-rgb": ColorFormat.RGB, "openvino-bgr": ColorFormat.BGR}
# How far the length of a descriptor may be off one; files are often in half precision.
LENGTH_TOLERANCE = 0.01


def import_openvino(source: Path, preset: str | None, output: Path) -> ModelDescription:
    """Writes output (.xml, .bin), which the extractor takes. Raises WeightsError.

    source: .xml beside its .bin, one input of shape (1, H, W, 3) or (1, 3, H, W), one output (1, dims).
    preset: openvino-rgb, or openvino-bgr for files converted with reverse_input_channels, as Open Model
            Zoo's are.
    """
    model = _read(source)
    if preset not in PRESETS:
        got = f"got {preset}" if preset else "the file does not say it"
        raise WeightsError(
            f"{source}: expected --input openvino-bgr (as Open Model Zoo converts) or openvino-rgb, the "
            f"order of the colours that the network sees; {got}."
        )
    shape = _input_shape(source, model)
    layout = "NHWC" if shape[-1] == 3 else "NCHW"
    height, width = (shape[1], shape[2]) if layout == "NHWC" else (shape[2], shape[3])
    model = _with_our_input(model, layout, PRESETS[preset])
    description = ModelDescription(
        fingerprint=_fingerprint(source, preset),
        descriptor_dims=_dims(source, model),
        input_width_px=width,
        input_height_px=height,
        has_fixed_size=True,
    )
    _refuse_other_output(source, model, description)
    ov.save_model(model, output, compress_to_fp16=False)
    attach_description(output, description)
    return description


def _read(source: Path) -> ov.Model:
    try:
        return ov.Core().read_model(source)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:150]
        raise WeightsError(
            f"{source}: OpenVINO can't load this file ({reason}); are both .xml and .bin there, and whole?"
        ) from None


def _input_shape(source: Path, model: ov.Model) -> list[int]:
    shape = model.inputs[0].partial_shape if len(model.inputs) == 1 else ov.PartialShape([])
    sides = list(shape.to_shape()) if shape.is_static else []
    if len(sides) != 4 or 3 not in (sides[1], sides[3]) or sides[0] != 1:
        raise WeightsError(
            f"{source}: expected one input of shape (1, height, width, 3) or (1, 3, height, width), got "
            f"{[str(each.partial_shape) for each in model.inputs]}."
        )
    return sides


def _dims(source: Path, model: ov.Model) -> int:
    shape = model.outputs[0].partial_shape
    if len(model.outputs) != 1 or len(shape) != 2 or not shape.is_static:
        raise WeightsError(
            f"{source}: expected one output of shape (1, dims), a descriptor, got "
            f"{[str(each.partial_shape) for each in model.outputs]}."
        )
    return int(shape.to_shape()[1])


def _with_our_input(model: ov.Model, layout: str, colours: ColorFormat) -> ov.Model:
    steps = PrePostProcessor(model)
    image = steps.input()
    image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    image.tensor().set_color_format(ColorFormat.RGB)
    image.model().set_layout(ov.Layout(layout))
    image.preprocess().convert_element_type(ov.Type.f32).convert_color(colours)
    return steps.build()


def _fingerprint(source: Path, preset: str) -> str:
    digest = hashlib.sha256(preset.encode())
    for file in (source, source.with_suffix(".bin")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _refuse_other_output(source: Path, model: ov.Model, description: ModelDescription) -> None:
    size = (1, description.input_height_px, description.input_width_px, 3)
    image = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    length = float(np.linalg.norm(OpenVINOModel(model, description, "CPU", 0).forward(image)))
    if not abs(length - 1.0) < LENGTH_TOLERANCE:
        raise WeightsError(
            f"{source}: expected descriptors of unit length, got one of length {length:.3g} for an image of "
            "noise; what network is it?"
        )
