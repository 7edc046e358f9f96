# SPDX-License-Identifier: MIT
"""Writes .onnx files, in 8 bits too."""

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx

from netvlad_ros.errors import ModelError
from netvlad_ros.export.formats import Request
from netvlad_ros.export.onnx_graph import INPUT, is_precise, onnx_model
from netvlad_ros.model.network import NetVLADNetwork


def write_onnx(network: NetVLADNetwork, path: Path, request: Request) -> None:
    """For ONNX Runtime: 8-bit activations are unsigned, as its CPU kernels are fastest."""
    if request.precision == "int8":
        _write_quantised(network, path, request, symmetric=False)
    else:
        save_onnx(network, path, request.size_px, request.precision)


def write_tensorrt(network: NetVLADNetwork, path: Path, request: Request) -> None:
    """For TensorRT, which takes half precision by a flag and 8-bit activations only if symmetric."""
    if request.precision == "int8":
        _write_quantised(network, path, request, symmetric=True)
    else:
        save_onnx(network, path, request.size_px, "fp32")


def save_onnx(
    network: NetVLADNetwork, path: Path, size_px: tuple[int, int], precision: str
) -> None:
    """Writes a file. Raises ModelError above the 2 GB that one ONNX file can have."""
    try:
        onnx.save(onnx_model(network, size_px, precision), path)
    except ValueError as error:
        raise ModelError(
            f"an ONNX file holds at most 2 GB ({str(error)[:100]}); export to savedmodel."
        ) from None


def _write_quantised(
    network: NetVLADNetwork, path: Path, request: Request, symmetric: bool
) -> None:
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    kind = quantization.QuantType.QInt8 if symmetric else quantization.QuantType.QUInt8
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        plain, prepared = Path(folder) / "plain.onnx", Path(folder) / "prepared.onnx"
        save_onnx(network, plain, request.size_px, "fp32")
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        nodes = onnx.load(prepared).graph.node
        precise = [node.name for node in nodes if is_precise(node.name, network)]
        # The first convolution costs little, and what it gets wrong goes through all others.
        first = next(node.name for node in nodes if node.op_type == "Conv")

        def quantise(**ranges: bool) -> None:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
                quantization.quantize_static(
                    prepared,
                    path,
                    _Calibration(request.calibration),
                    quant_format=quantization.QuantFormat.QDQ,
                    per_channel=True,
                    activation_type=kind,
                    weight_type=quantization.QuantType.QInt8,
                    nodes_to_exclude=[*precise, first],
                    calibrate_method=quantization.CalibrationMethod.Percentile,
                    extra_options={"ActivationSymmetric": symmetric, **ranges},
                )

        try:
            quantise()
        except (
            ValueError
        ):  # too many bins from least to greatest for values that are nearly the same
            _quantise_around_zero(quantise)


def _quantise_around_zero(quantise: Callable[..., None]) -> None:
    """With bins on both sides of zero: half as fine, but values that are nearly the same fit in."""
    try:
        quantise(CalibTensorRangeSymmetric=False)
    except ValueError as error:
        raise ModelError(
            f"--precision int8: ONNX Runtime finds no ranges of values for this network ({error}); export "
            "to openvino or litert, or in fp16."
        ) from None


class _Calibration:
    """What ONNX Runtime's quantiser draws images from."""

    def __init__(self, images: np.ndarray) -> None:
        self._images: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {INPUT: image[None]}
