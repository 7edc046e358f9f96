# SPDX-License-Identifier: MIT
"""The whole network, step by step in the order of the paper."""

import dataclasses
import re
from typing import Any

import keras
import numpy as np
import pytest

from netvlad_ros.config import NetworkConfig, param
from netvlad_ros.errors import ModelError
from netvlad_ros.model import NetVLADNetwork, build_network

RNG = np.random.default_rng(3)
SMALL: dict[str, Any] = {
    "backbone": "mobilenet",
    "backbone_width": 0.25,
    "cut_layer": "conv_pw_2_relu",
    "clusters": 4,
}
BACKBONES = ["vgg16", "alexnet", "mobilenet", "mobilenet_v2"]


def pictures(count: int, height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, height, width, 3), np.uint8).astype(np.float32)


def network(**values: Any) -> NetVLADNetwork:
    """A small network with random weights everywhere, biases included."""
    model = build_network(NetworkConfig(**SMALL | values))
    for weight in model.weights:
        low = 0.5 if "variance" in weight.path or "exponent" in weight.path else -0.5
        weight.assign(RNG.uniform(low, low + 1.0, weight.shape).astype(np.float32))
    return model


def run(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(images, training=False))


def part(model: keras.Model, layer: str, images: np.ndarray) -> np.ndarray:
    """What comes out of one of its layers."""
    return run(keras.Model(model.input, model.get_layer(layer).output), images)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x.astype(np.float64) ** 2).sum(-1, keepdims=True) + 1e-12)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("channel_order", ["rgb", "grey"])
def test_every_backbone_makes_unit_descriptors_of_any_input_size(backbone: str, channel_order: str):
    config = NetworkConfig(
        backbone=backbone, clusters=2, channel_order=channel_order, input_scale=(1 / 255,)
    )
    model = build_network(config)
    for height, width in ((64, 96), (75, 33)):
        descriptors = run(model, pictures(2, height, width))
        assert descriptors.shape == (2, model.descriptor_dims)
        np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1.0, atol=1e-5)


def test_the_usual_cuts_are_those_of_the_papers():
    dims = {name: build_network(NetworkConfig(backbone=name)).descriptor_dims for name in BACKBONES}
    assert dims == {
        "vgg16": 64 * 512,  # conv5_3
        "alexnet": 64 * 256,  # conv5
        "mobilenet": 64 * 1024,
        "mobilenet_v2": 64 * 1280,
    }


@pytest.mark.parametrize("backbone", ["vgg16", "alexnet"])
def test_a_convolution_at_the_cut_keeps_negative_values(backbone: str):
    model = build_network(NetworkConfig(backbone=backbone, input_scale=(1 / 255,)))
    cut = {"vgg16": "block5_conv3", "alexnet": "conv5"}[backbone]
    assert part(model, cut, pictures(1, 64, 64)).min() < 0.0


def test_the_convolutions_before_the_cut_are_rectified():
    model = build_network(NetworkConfig(cut_layer="block2_conv2", clusters=2))
    assert part(model, "block2_conv1", pictures(1, 32, 32)).min() == 0.0
    assert part(model, "block2_conv2", pictures(1, 32, 32)).min() < 0.0


@pytest.mark.parametrize("ghosts", [0, 3])
def test_a_descriptor_follows_the_paper(ghosts: int):
    model = network(ghost_clusters=ghosts, assignment_bias=True)
    weights = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}
    images = pictures(2, 32, 40)

    x = unit(part(model, "conv_pw_2_relu", images)).reshape(2, -1, 32)  # (B, N, D)
    scores = np.exp(x @ weights["netvlad/assignment"] + weights["netvlad/bias"])  # (B, N, K + G)
    a = (scores / scores.sum(-1, keepdims=True))[:, :, :4]  # (B, N, K)
    residuals = x[:, :, None, :] - weights["netvlad/centres"]  # (B, N, K, D)
    rows = unit((a[..., None] * residuals).sum(axis=1))  # (B, K, D)
    wanted = unit(rows.reshape(2, 4 * 32))  # cluster-major

    np.testing.assert_allclose(run(model, images), wanted, atol=1e-6)


def test_local_features_are_normalised_only_if_asked_for():
    images = pictures(1, 32, 32)
    model = network(normalise_features=False, pooling="avg")
    wanted = unit(part(model, "conv_pw_2_relu", images).mean(axis=(1, 2)))
    np.testing.assert_allclose(run(model, images), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("pooling", "formula"),
    [
        ("max", lambda x: x.max(axis=(1, 2))),
        ("avg", lambda x: x.mean(axis=(1, 2))),
        ("gem", lambda x: (np.maximum(x, 1e-6) ** 3).mean(axis=(1, 2)) ** (1 / 3)),
    ],
)
def test_each_pooling_is_its_formula_of_normalised_features(pooling: str, formula):
    model = build_network(NetworkConfig(**SMALL, pooling=pooling))
    images = pictures(2, 32, 40)
    features = unit(part(model, "conv_pw_2_relu", images))
    np.testing.assert_allclose(run(model, images), unit(formula(features)), atol=1e-5)


def test_whitening_is_a_rotation_a_shift_and_a_normalisation():
    model, images = network(whitening_dims=10), pictures(2, 32, 40)
    kernel, bias = (
        keras.ops.convert_to_numpy(weight) for weight in model.get_layer("whitening").weights
    )
    assert kernel.shape == (4 * 32, 10)
    before = part(model, "descriptor_norm", images).astype(np.float64)
    np.testing.assert_allclose(run(model, images), unit(before @ kernel + bias), atol=1e-6)


@pytest.mark.parametrize("whitening_dims", [0, 10])
def test_truncation_keeps_the_first_dimensions_and_normalises_them_again(whitening_dims: int):
    model, images = network(whitening_dims=whitening_dims, descriptor_dims=6), pictures(2, 32, 40)
    whole = part(model, "whitened_norm" if whitening_dims else "descriptor_norm", images)
    np.testing.assert_allclose(run(model, images), unit(whole[:, :6]), atol=1e-6)


@pytest.mark.parametrize("value", [{"whitening_dims": 129}, {"descriptor_dims": 129}])
def test_more_dimensions_than_come_in_are_refused(value: dict[str, Any]):
    (name,) = value
    with pytest.raises(ModelError, match=f"^{name}: expected at most 128, .*got 129"):
        build_network(NetworkConfig(**SMALL, **value))


def test_a_cut_at_a_layer_that_is_not_there_names_those_that_are():
    sentence = "mobilenet has no layer 'conv5_3' to cut at; it has "
    with pytest.raises(ModelError, match=f"^{sentence}.*conv1, .*conv_pw_13_relu") as error:
        build_network(NetworkConfig(**SMALL | {"cut_layer": "conv5_3"}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"input_offset": (1.0, 2.0)}, "input_offset: expected 1 or 3 values, .*got 2"),
        ({"input_scale": (1.0,) * 4}, "input_scale: expected 1 or 3 values, .*got 4"),
        (
            {"input_offset": (1.0,) * 2, "channel_order": "grey"},
            "input_offset: expected 1 or 3 values, .*got 2",
        ),
    ],
)
def test_offset_and_scale_have_one_value_or_one_a_channel(values: dict[str, Any], expected: str):
    with pytest.raises(ModelError, match=f"^{expected}"):
        build_network(NetworkConfig(**SMALL, **values))


def test_a_grey_network_sees_equal_channels_as_the_grey_image():
    model = network(channel_order="grey", input_scale=(1 / 255,))
    grey = pictures(1, 32, 32)[..., :1]
    colour = np.repeat(grey, 3, axis=-1)
    np.testing.assert_array_equal(
        part(model, "input_normalisation", colour), grey * np.float32(1 / 255)
    )


def test_a_grey_network_of_three_offsets_sees_the_grey_image_once_with_each():
    offset, scale = np.array([[1.0, 2.0, 3.0], [0.5, 0.25, 0.125]], np.float32)
    model = network(
        channel_order="grey", input_offset=tuple(offset.tolist()), input_scale=tuple(scale.tolist())
    )
    grey = pictures(1, 32, 32)[..., :1]
    seen = part(model, "input_normalisation", np.repeat(grey, 3, axis=-1))
    np.testing.assert_array_equal(seen, (grey - offset) * scale)


def test_a_place_in_the_batch_does_not_change_a_descriptor():
    model, images = network(), pictures(3, 32, 40)
    together = run(model, images)
    for image, descriptor in zip(images, together, strict=True):
        np.testing.assert_allclose(run(model, image[None])[0], descriptor, atol=1e-6)


class TestFingerprint:
    """It changes with whatever changes a descriptor, and with nothing else."""

    def test_equal_weights_have_equal_fingerprints(self):
        model = network()
        copy = build_network(model.network)
        copy.set_weights(model.get_weights())
        assert copy.fingerprint() == model.fingerprint()
        assert re.fullmatch("[0-9a-f]{16}", model.fingerprint())

    def test_any_weight_changes_it(self):
        model = network(assignment_bias=True, whitening_dims=5)
        seen = {model.fingerprint()}
        for weight in model.weights:
            value = np.array(weight)
            value.flat[-1] = np.nextafter(value.flat[-1], np.float32(9))
            weight.assign(value)
            seen.add(model.fingerprint())
        assert len(seen) == 1 + len(model.weights)

    @pytest.mark.parametrize(
        "values",
        [
            {"channel_order": "bgr"},
            {"input_offset": (128.0,)},
            {"input_scale": (0.5,)},
            {"norm_safeguard": "clamped_norm"},
            {"normalise_features": False},
            {"descriptor_dims": 64},
            {"input_width_px": 320},
        ],
    )
    def test_preprocessing_and_architecture_change_it(self, values: dict[str, Any]):
        model = network()
        other = build_network(NetworkConfig(**SMALL | values))
        other.set_weights(model.get_weights())
        assert other.fingerprint() != model.fingerprint()

    def test_a_field_that_a_later_release_adds_does_not_change_it(self):
        new = [("new", int, param(0, "Something new."))]
        later = dataclasses.make_dataclass("Later", new, bases=(NetworkConfig,), frozen=True)
        model, same, other = (
            network(),
            build_network(later(**SMALL)),
            build_network(later(**SMALL, new=1)),
        )
        same.set_weights(model.get_weights())
        other.set_weights(model.get_weights())
        assert same.fingerprint() == model.fingerprint()
        assert other.fingerprint() != model.fingerprint()

    def test_it_is_the_same_in_every_release(self):
        """If this fails, every map that a user has stored would be refused: change the code, not the test."""
        model = network(assignment_bias=True, whitening_dims=5, input_offset=(128.0,))
        for weight in model.weights:
            weight.assign(np.full(weight.shape, 0.5, np.float32))
        assert model.fingerprint() == "9d1dc46785803de6"

    def test_how_a_number_was_written_does_not_change_it(self):
        written: Any = [128]
        model, other = network(input_offset=(128.0,)), network(input_offset=written)
        other.set_weights(model.get_weights())
        assert other.fingerprint() == model.fingerprint()
