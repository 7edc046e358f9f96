# SPDX-License-Identifier: MIT
"""Writes OpenVINO files: an .xml and its .bin."""

import logging
import tempfile
from pathlib import Path

import openvino as ov

from netvlad_ros.export.formats import Request
from netvlad_ros.export.onnx_file import save_onnx
from netvlad_ros.export.onnx_graph import is_precise
from netvlad_ros.model.network import NetVLADNetwork


def write_openvino(network: NetVLADNetwork, path: Path, request: Request) -> None:
    """By way of ONNX, whose graph OpenVINO runs faster than the one it makes of TensorFlow's."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        plain = Path(folder) / "plain.onnx"
        save_onnx(network, plain, request.size_px, "fp32")
        model = ov.convert_model(plain)
        width, height = request.size_px
        model.reshape([1, height, width, 3])
        if request.precision == "int8":
            model = _quantised(model, network, request)
        # There is no storage in bf16; fp16 has three more bits of mantissa, and weights fit its range.
        ov.save_model(model, path, compress_to_fp16=request.precision in ("fp16", "bf16"))


def _quantised(model: ov.Model, network: NetVLADNetwork, request: Request) -> ov.Model:
    import nncf

    nncf.set_log_level(logging.ERROR)
    names = [op.get_friendly_name() for op in model.get_ops() if op.get_type_name() != "Constant"]
    return nncf.quantize(
        model,
        nncf.Dataset(request.calibration, lambda image: image[None]),
        subset_size=len(request.calibration),
        ignored_scope=nncf.IgnoredScope(
            names=[name for name in names if is_precise(name, network)]
        ),
    )
