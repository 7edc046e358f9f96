# SPDX-License-Identifier: MIT
"""RootSIFT as a network: what its first weights compute, before anything is learned."""

import cv2
import keras
import numpy as np
import pytest

from netvlad_ros.config import NetworkConfig
from netvlad_ros.inspection.cost import network_cost
from netvlad_ros.model import NetVLADNetwork, build_network, load_model, save_model
from netvlad_ros.model.assignments import ClusterView
from netvlad_ros.model.rootsift import FEATURE_DIMS, SIZES

CONFIG = NetworkConfig(
    backbone="rootsift",
    channel_order="grey",
    input_scale=(1 / 255,),
    clusters=4,
    assignment_bias=True,
)


@pytest.fixture(scope="module")
def network() -> NetVLADNetwork:
    keras.utils.set_random_seed(0)
    return build_network(CONFIG)


def outputs(network: NetVLADNetwork, layer: str, image: np.ndarray) -> np.ndarray:
    inside = keras.Model(network.input, network.get_layer(layer).output)
    return keras.ops.convert_to_numpy(inside(image[None].astype(np.float32)))[0]


def texture(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 1), np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3).astype(np.float64)
    smooth = (smooth - smooth.mean()) / smooth.std() * 40 + 128
    return np.repeat(smooth.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def test_an_edge_shows_in_the_direction_that_gets_brighter(network):
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:] = 200
    towards = outputs(network, "directions", image)[15, 15]
    assert towards.argmax() == 0
    assert towards[4] == 0
    towards = outputs(network, "directions", image.transpose(1, 0, 2))[15, 15]
    assert towards.argmax() == 2  # rows count downwards


def test_patches_that_reach_beyond_the_image_are_left_out(network):
    flat = np.full((120, 160, 3), 90, np.uint8)
    patches = outputs(network, "patches", flat)
    assert np.ptp(patches, axis=(0, 1)).max() < 1e-4
    found = [outputs(network, f"patches_{size}", flat).shape[:2] for size in SIZES]
    assert found == [(13, 18), (12, 17), (9, 14), (6, 11)]
    assert len(patches) == sum(h * w for h, w in found)


def test_brightness_changes_nothing_and_contrast_next_to_nothing(network):
    image = texture(1) // 2
    before = outputs(network, "feature_norm", image)
    brighter = outputs(network, "feature_norm", image + 40)
    stronger = outputs(network, "feature_norm", image * 2)
    np.testing.assert_allclose(brighter, before, atol=1e-4)
    assert (before * stronger).sum(-1).min() > 0.999


def test_patches_are_as_alike_as_those_of_sift(network):
    image = texture(2)
    ours = outputs(network, "patches_8px", image)
    h, w = ours.shape[:2]
    # Cells of 8 pixels, the first of which lies around pixel 4; OpenCV's are 1.5 times the diameter.
    points = [cv2.KeyPoint(16 + 8 * x, 16 + 8 * y, 16 / 3, 0) for y in range(h) for x in range(w)]
    _, theirs = cv2.SIFT.create().compute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), points)
    theirs = np.sqrt(theirs / theirs.sum(axis=1, keepdims=True))
    ours = ours.reshape(-1, FEATURE_DIMS)
    ours /= np.linalg.norm(ours, axis=1, keepdims=True)
    pairs = np.triu_indices(len(ours), 1)
    assert np.corrcoef((ours @ ours.T)[pairs], (theirs @ theirs.T)[pairs])[0, 1] > 0.8


def test_waves_are_orthonormal(network):
    kernel = np.asarray(network.get_layer("patches_8px").kernel).reshape(-1, FEATURE_DIMS)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(FEATURE_DIMS), atol=1e-6)


def test_every_weight_can_be_learned(network):
    names = {weight.path.split("/")[0] for weight in network.trainable_weights}
    assert names >= {"derivatives", "sharpening", "cells_4px", "cells_24px", "patches_16px"}


def test_its_file_gives_the_same_descriptors(network, tmp_path):
    save_model(network, tmp_path / "model.keras")
    image = texture(3)[None].astype(np.float32)
    found = load_model(tmp_path / "model.keras")(image)
    np.testing.assert_allclose(found, network(image), atol=1e-6)


def test_its_clusters_are_shown_where_the_patches_lie(network):
    image = np.full((120, 160, 3), 128, np.uint8)
    image[:, 80:] = texture(5)[:, 80:]
    found = ClusterView(network).assignments(image)
    assert found.weights.shape == (13, 18, 4)
    np.testing.assert_allclose(found.weights.sum(-1), 1.0)
    # What has nothing to see is assigned in the same way everywhere.
    left, right = found.weights[:, :3], found.weights[3:10, 10:15]
    assert np.ptp(left, axis=(0, 1)).max() < 1e-3 < np.ptp(right, axis=(0, 1)).max()


def test_its_cost_is_known(network):
    cost = network_cost(network, 320, 240)
    # 38 x 28 + 37 x 27 + 34 x 24 + 31 x 21 patches, to 4 clusters and back
    of_netvlad = next(layer for layer in cost.layers if layer.name == "netvlad")
    assert of_netvlad.multiply_adds == 3530 * FEATURE_DIMS * 8


def test_onnx_gives_the_same_descriptors(network):
    runtime = pytest.importorskip("onnxruntime")
    from netvlad_ros.export.onnx_graph import onnx_model

    model = onnx_model(network, (160, 120), "fp32")
    session = runtime.InferenceSession(model.SerializeToString())
    image = texture(4)[None]
    found = session.run(None, {session.get_inputs()[0].name: image})[0]
    np.testing.assert_allclose(found, network(image.astype(np.float32)), atol=1e-5)
