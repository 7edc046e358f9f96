# SPDX-License-Identifier: MIT
"""An edited network gives the descriptors that the edit promises to keep, and is a model like any other."""

from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest

from netvlad_ros.calibration import Calibration, Curve
from netvlad_ros.config import NetworkConfig
from netvlad_ros.errors import ModelError
from netvlad_ros.model import NetVLADNetwork, build_network, editing, load_model, save_model
from netvlad_ros.model.whitening import Whitening, fit_whitening

SMALL: dict[str, Any] = {
    "backbone": "mobilenet",
    "backbone_width": 0.25,
    "cut_layer": "conv_pw_2_relu",
    "clusters": 4,
    "input_scale": (2 / 255,),
}
DIMS = 4 * 32
BACKBONES: list[dict[str, Any]] = [
    {},
    {"backbone": "mobilenet_v2", "cut_layer": "block_1_project_BN"},
    {"backbone": "vgg16", "cut_layer": "block2_conv2"},
    {"backbone": "alexnet", "cut_layer": "conv2"},
]
MANY_TIMES = [BACKBONES[0], *(pytest.param(each, marks=pytest.mark.slow) for each in BACKBONES[1:])]
# A network sees the same numbers added up in another order.
ROUNDING = 3e-6


def network(**values: Any) -> NetVLADNetwork:
    """A small network with random weights, biases too, and features that neither vanish nor explode."""
    keras.utils.set_random_seed(5)
    model = build_network(NetworkConfig(**SMALL | values))
    rng = np.random.default_rng(5)
    for weight in model.weights:
        if weight.path.endswith(("bias", "beta", "moving_mean")):
            weight.assign(rng.uniform(-0.1, 0.1, weight.shape))
    return model


def pictures(count: int, height: int = 64, width: int = 72) -> np.ndarray:
    """Random blocks of colour: not so fine that all places look the same."""
    blocks = np.random.default_rng(7).integers(0, 256, (count, height // 8, width // 8, 3))
    return blocks.repeat(8, axis=1).repeat(8, axis=2).astype(np.float32)


def grey_pictures(count: int) -> np.ndarray:
    return pictures(count)[..., :1].repeat(3, axis=-1)


def run(model: NetVLADNetwork, images: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(images, training=False))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def whitening(dims: int) -> Whitening:
    rng = np.random.default_rng(9)
    kernel = rng.normal(size=(DIMS, dims)).astype(np.float32)
    return Whitening(kernel, rng.normal(size=dims).astype(np.float32))


class TestInputSize:
    """The size that images are resized to is a wish, not a layer."""

    def test_only_the_size_changes(self):
        before = network(input_width_px=320, input_height_px=240)
        after = editing.with_input_size(before, 0, 0)
        np.testing.assert_array_equal(run(after, pictures(2)), run(before, pictures(2)))
        assert editing.changes(before, after) == {
            "input_width_px": (320, 0),
            "input_height_px": (240, 0),
        }
        assert after.fingerprint() != before.fingerprint()

    def test_one_side_alone_is_refused(self):
        with pytest.raises(ModelError, match=r"^input size: expected both sides or none"):
            editing.with_input_size(network(), 320, 0)


class TestChannels:
    """Grey images keep their descriptors, whatever the network is made to see."""

    @pytest.mark.parametrize("backbone", MANY_TIMES)
    @pytest.mark.parametrize("order", ["rgb", "bgr"])
    @pytest.mark.parametrize("offset", [(128.0,), (123.68, 116.779, 103.939)])
    def test_a_colour_network_made_grey_sees_grey_images_as_before(
        self, backbone: dict[str, Any], order: str, offset: tuple[float, ...]
    ):
        before = network(
            channel_order=order, input_offset=offset, input_scale=(0.007, 0.008, 0.009), **backbone
        )
        after = editing.with_channels(before, "grey")
        assert after.network.channel_order == "grey"
        np.testing.assert_allclose(
            run(after, grey_pictures(2)), run(before, grey_pictures(2)), atol=ROUNDING
        )

    def test_one_offset_leaves_one_channel_and_several_keep_three(self):
        one = editing.with_channels(network(input_offset=(128.0,)), "grey")
        three = editing.with_channels(network(input_offset=(1.0, 2.0, 3.0)), "grey")
        assert one.get_layer("conv1").kernel.shape[2] == 1
        assert three.get_layer("conv1").kernel.shape[2] == 3

    def test_a_colour_network_made_grey_does_not_see_colour(self):
        after = editing.with_channels(network(), "grey")
        colour = pictures(1)
        weighted = cv2.cvtColor(colour[0].astype(np.uint8), cv2.COLOR_RGB2GRAY)
        grey = cv2.cvtColor(weighted, cv2.COLOR_GRAY2RGB)[None].astype(np.float32)
        np.testing.assert_allclose(run(after, colour), run(after, grey), atol=ROUNDING)
        assert np.abs(run(after, colour) - run(network(), colour)).max() > 1e-3

    @pytest.mark.parametrize("backbone", BACKBONES)
    @pytest.mark.parametrize("order", ["rgb", "bgr"])
    def test_a_grey_network_made_colour_keeps_descriptors_but_for_rounded_grey_values(
        self, backbone: dict[str, Any], order: str
    ):
        before = network(channel_order="grey", input_offset=(128.0,), **backbone)
        after = editing.with_channels(before, order)
        np.testing.assert_allclose(
            run(after, grey_pictures(2)), run(before, grey_pictures(2)), atol=ROUNDING
        )
        np.testing.assert_allclose(run(after, pictures(2)), run(before, pictures(2)), atol=2e-4)

    @pytest.mark.parametrize("order", ["rgb", "bgr"])
    def test_grey_with_an_offset_a_channel_goes_back_to_what_it_was(self, order: str):
        before = network(channel_order=order, input_offset=(1.0, 2.0, 3.0))
        after = editing.with_channels(editing.with_channels(before, "grey"), order)
        assert after.fingerprint() == before.fingerprint()

    @pytest.mark.parametrize("backbone", BACKBONES)
    def test_the_order_of_colours_changes_no_descriptor(self, backbone: dict[str, Any]):
        before = network(input_offset=(1.0, 2.0, 3.0), input_scale=(0.01,), **backbone)
        after = editing.with_channels(before, "bgr")
        assert after.network.input_offset == (3.0, 2.0, 1.0)
        np.testing.assert_allclose(run(after, pictures(2)), run(before, pictures(2)), atol=ROUNDING)
        assert editing.with_channels(after, "rgb").fingerprint() == before.fingerprint()

    def test_the_order_there_is_changes_nothing(self):
        before = network()
        assert editing.with_channels(before, "rgb").fingerprint() == before.fingerprint()


class TestCalibration:
    """What similarities mean is known of the edited network only where its descriptors are the same."""

    @staticmethod
    def calibrated(**values: Any) -> NetVLADNetwork:
        model = network(**values)
        curves = {"similarity": Curve((0.2, 0.6), (0.1, 0.99), 300)}
        model.calibration = Calibration(curves, "two streets", f"{model.fingerprint()}@own size")
        return model

    def test_another_order_of_colours_keeps_it(self):
        before = self.calibrated()
        after = editing.with_channels(before, "bgr")
        assert after.calibration is not None
        assert after.calibration.fingerprint == f"{after.fingerprint()}@own size"
        assert editing.with_channels(after, "rgb").calibration == before.calibration

    def test_an_edit_that_changes_nothing_keeps_it(self):
        before = self.calibrated()
        assert editing.with_channels(before, "rgb").calibration == before.calibration
        assert editing.with_input_size(before, 0, 0).calibration == before.calibration

    def test_other_descriptors_lose_it(self):
        before = self.calibrated(whitening_dims=16)
        for after in (
            editing.with_channels(before, "grey"),
            editing.with_dims(before, 8),
            editing.with_input_size(before, 64, 48),
            editing.without_whitening(before),
            editing.with_whitening(before, whitening(16)),
        ):
            assert after.calibration is None


class TestDimensions:
    """Whitened dimensions come best first, so that the first ones are kept."""

    def test_the_first_dimensions_are_those_of_the_whole_at_unit_length(self):
        before = editing.with_whitening(network(), whitening(20))
        after = editing.with_dims(before, 7)
        assert after.descriptor_dims == 7
        assert after.count_params() == before.count_params() - 13 * (DIMS + 1)
        wanted = unit(run(before, pictures(3))[:, :7])
        np.testing.assert_allclose(run(after, pictures(3)), wanted, atol=1e-6)

    def test_a_truncation_after_the_whitening_becomes_part_of_it(self):
        before = network(whitening_dims=20, descriptor_dims=9)
        after = editing.with_dims(before, 9)
        assert (after.network.whitening_dims, after.network.descriptor_dims) == (9, 0)
        np.testing.assert_allclose(run(after, pictures(3)), run(before, pictures(3)), atol=1e-6)

    def test_all_dimensions_come_back_where_they_are_still_there(self):
        before = network(whitening_dims=20, descriptor_dims=9)
        after = editing.with_all_dims(before)
        wanted = run(before, pictures(3))
        np.testing.assert_allclose(unit(run(after, pictures(3))[:, :9]), wanted, atol=1e-6)

    @pytest.mark.parametrize("dims", [0, 10])
    def test_dimensions_that_are_not_there_are_refused(self, dims: int):
        with pytest.raises(ModelError, match=f"^dims: expected 1 to 9, .*got {dims}"):
            editing.with_dims(network(whitening_dims=20, descriptor_dims=9), dims)

    def test_without_a_whitening_there_are_no_first_dimensions(self):
        with pytest.raises(ModelError, match=r"^dims: expected a model with a whitening"):
            editing.with_dims(network(), 7)


class TestWhitening:
    """It comes after the aggregated descriptor."""

    def test_a_given_one_follows_the_descriptor(self):
        before = network()
        after = editing.with_whitening(before, whitening(20))
        x = run(before, pictures(3))
        wanted = unit(x @ whitening(20).kernel + whitening(20).bias)
        np.testing.assert_allclose(run(after, pictures(3)), wanted, atol=1e-6)

    def test_a_new_one_takes_the_place_of_the_old(self):
        before = network(whitening_dims=3, descriptor_dims=2)
        after = editing.with_whitening(before, whitening(20))
        other = editing.with_whitening(editing.without_whitening(before), whitening(20))
        assert after.fingerprint() == other.fingerprint()

    def test_dropped_it_leaves_the_aggregated_descriptor(self):
        before = network()
        after = editing.without_whitening(editing.with_whitening(before, whitening(20)))
        assert after.fingerprint() == before.fingerprint()

    def test_one_of_another_model_is_refused(self):
        with pytest.raises(ModelError, match=r"^whitening: expected one that takes 128 dimensions"):
            editing.with_whitening(network(), Whitening(np.ones((64, 2)), np.ones(2)))

    def test_fitted_on_images_it_decorrelates_their_descriptors(self):
        before = network()
        descriptors = run(before, pictures(12))
        after = editing.with_whitening(before, fit_whitening(descriptors, 3))
        whitened = keras.ops.convert_to_numpy(after.get_layer("whitening")(descriptors))
        np.testing.assert_allclose(np.cov(whitened.T), np.eye(3), atol=2e-3)


def test_an_edited_network_is_saved_and_loaded_like_any_other(tmp_path: Path):
    edited = editing.with_channels(network(input_offset=(1.0, 2.0, 3.0)), "grey")
    edited = editing.with_dims(editing.with_whitening(edited, whitening(20)), 6)
    save_model(edited, tmp_path / "edited.keras")
    loaded = load_model(tmp_path / "edited.keras")
    assert loaded.fingerprint() == edited.fingerprint()
    np.testing.assert_array_equal(run(loaded, pictures(1)), run(edited, pictures(1)))


def test_an_edit_leaves_the_network_that_it_is_given_alone():
    before = network(whitening_dims=20)
    fingerprint = before.fingerprint()
    editing.with_dims(editing.with_channels(before, "grey"), 5)
    assert before.fingerprint() == fingerprint


class TestCheck:
    """What should have stayed the same is compared on made-up pictures."""

    def test_a_chain_of_edits_passes(self):
        before = network(input_offset=(1.0, 2.0, 3.0), whitening_dims=20)
        after = editing.with_dims(editing.with_channels(before, "grey"), 6)
        assert editing.refuse_wrong_edit(before, after) < ROUNDING
        assert editing.refuse_wrong_edit(before, editing.without_whitening(before)) < ROUNDING
        other = editing.with_whitening(before, whitening(9))
        assert editing.refuse_wrong_edit(before, other) < ROUNDING

    @pytest.mark.parametrize("weight", ["conv1/kernel", "netvlad/centres", "whitening/bias"])
    def test_a_weight_that_is_off_is_found(self, weight: str):
        before = network(whitening_dims=20)
        after = editing.with_dims(before, 20)
        wrong = next(each for each in after.weights if each.path == weight)
        wrong.assign(np.array(wrong) + 0.01)
        with pytest.raises(ModelError, match="gives other descriptors than it should"):
            editing.refuse_wrong_edit(before, after)
