# SPDX-License-Identifier: MIT
"""Networks as ONNX graphs: every kind of layer gives what Keras gives."""

from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from netvlad_ros.config import NetworkConfig
from netvlad_ros.export.onnx_graph import onnx_model
from netvlad_ros.model import build_network
from netvlad_ros.model.forward import compile_forward

pytestmark = pytest.mark.needs("onnx", "onnxruntime")

SIZE_PX = (96, 64)
SMALL: dict[str, Any] = {
    "backbone": "mobilenet",
    "backbone_width": 0.25,
    "cut_layer": "conv_pw_3_relu",
}
NETWORKS: dict[str, dict[str, Any]] = {
    "vgg16": {"clusters": 4, "input_offset": (123.68, 116.779, 103.939)},
    "alexnet": {"backbone": "alexnet", "clusters": 4},
    "mobilenet": {"backbone": "mobilenet", "backbone_width": 0.25, "clusters": 4},
    "mobilenet_v2": {"backbone": "mobilenet_v2", "backbone_width": 0.5, "clusters": 4},
    "grey": SMALL | {"channel_order": "grey", "input_offset": (128.0,), "input_scale": (1 / 255,)},
    "grey in three channels": SMALL | {"channel_order": "grey", "input_offset": (1.0, 2.0, 3.0)},
    "bgr": SMALL | {"channel_order": "bgr", "input_scale": (0.01, 0.02, 0.03)},
    "ghost clusters": SMALL | {"clusters": 4, "ghost_clusters": 2, "assignment_bias": True},
    "raw features": SMALL | {"normalise_features": False, "norm_safeguard": "clamped_square"},
    "PyTorch's norm": SMALL | {"norm_safeguard": "clamped_norm"},
    "whitened": SMALL | {"clusters": 4, "whitening_dims": 32, "descriptor_dims": 16},
    "max": SMALL | {"pooling": "max"},
    "avg": SMALL | {"pooling": "avg"},
    "gem": SMALL | {"pooling": "gem"},
}


def random_weights(config: NetworkConfig) -> keras.Model:
    """A network in which no weight is zero, one or trivially equal to another."""
    network = build_network(config)
    rng = np.random.default_rng(3)
    for weight in network.weights:
        fan = np.prod(weight.shape[:-1]) if len(weight.shape) > 1 else 1.0
        values = rng.standard_normal(weight.shape) / np.sqrt(fan)
        positive = weight.path.endswith(("variance", "gamma", "exponent"))
        weight.assign(np.abs(values) + 0.5 if positive else values)
    return network


@pytest.mark.parametrize("values", NETWORKS.values(), ids=NETWORKS)
def test_a_network_gives_the_same_descriptors_in_onnx(values: dict[str, Any]) -> None:
    network = random_weights(NetworkConfig(**values))
    images = np.random.default_rng(0).integers(0, 256, (2, *SIZE_PX[::-1], 3), np.uint8)
    model = onnx_model(network, SIZE_PX, "fp32")
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    [descriptors] = session.run(None, {"image_rgb": images})
    expected = compile_forward(network, "cpu")(images)
    assert descriptors.shape == expected.shape
    assert np.abs(descriptors - expected).max() < 1e-5


def test_in_half_precision_norms_and_sums_stay_single() -> None:
    network = random_weights(NetworkConfig(**NETWORKS["whitened"]))
    model = onnx_model(network, SIZE_PX, "fp16")
    onnx.checker.check_model(model, full_check=True)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds["conv1/kernel"] == kinds["whitening/kernel"] == onnx.TensorProto.FLOAT16
    assert kinds["netvlad/centres"] == kinds["intra_norm/epsilon"] == onnx.TensorProto.FLOAT
