# SPDX-License-Identifier: MIT
"""The descriptor node with models of other runtimes: the same descriptors, without TensorFlow."""

from pathlib import Path

import numpy as np
import pytest
from live_nodes import Camera, Ros, Start, picture, raw_image

from netvlad_ros.export.exporter import export_network
from netvlad_ros.export.formats import format_of
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.model import load_model
from netvlad_ros.msg import GlobalDescriptor

pytestmark = pytest.mark.needs("rclpy", "openvino", "onnx", "onnxruntime", "ai_edge_litert")


@pytest.mark.parametrize("name", ["m.xml", "m.onnx", "m.tflite"])
def test_a_node_runs_an_exported_model(
    name: str, ros: Ros, start: Start, keras_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / name
    export_network(load_model(keras_model), path, format_of(path, None), "fp32", (160, 120))
    node = start("descriptor_node", {"extractor.model": str(path)})
    node.until_ready()
    descriptors = ros.listen(GlobalDescriptor, node.topic("global_descriptor"))
    described = Camera(node).send_until_described(raw_image(picture()), descriptors)
    expected = NetVLADExtractor(keras_model)
    assert described.fingerprint == expected.fingerprint
    assert np.abs(np.array(described.descriptor) - expected.extract(picture())).max() < 1e-5
    assert "libtensorflow" not in Path(f"/proc/{node.pid}/maps").read_text()
