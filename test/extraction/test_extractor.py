# SPDX-License-Identifier: MIT
"""A model file in, descriptors out: the same one for the same image, whatever way it comes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netvlad_ros.config import ExtractorConfig, NetworkConfig
from netvlad_ros.errors import DescriptorError, ImageError, ModelError
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.model import build_network, save_model

SMALL: dict[str, Any] = {
    "backbone": "mobilenet",
    "backbone_width": 0.25,
    "cut_layer": "conv_pw_2_relu",
    "clusters": 4,
    "input_scale": (1 / 255,),
}
DIMS = 4 * 32
RNG = np.random.default_rng(21)


def picture(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


def saved(folder: Path, **values: Any) -> Path:
    """A model file with random weights."""
    path = folder / "model.keras"
    save_model(build_network(NetworkConfig(**SMALL | values)), path)
    return path


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained at 48 x 40 pixels."""
    return saved(tmp_path_factory.mktemp("sized"), input_width_px=48, input_height_px=40)


@pytest.fixture(scope="module")
def unsized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of any input size."""
    return saved(tmp_path_factory.mktemp("unsized"))


@pytest.fixture(scope="module")
def extractor(sized: Path) -> NetVLADExtractor:
    return NetVLADExtractor(sized)


@pytest.mark.parametrize("shape", [(40, 48, 3), (40, 48), (480, 640, 3), (33, 99), (101, 67, 3)])
def test_any_image_becomes_a_float32_vector_of_unit_length(
    extractor: NetVLADExtractor, shape: tuple[int, ...]
):
    descriptor = extractor.extract(picture(*shape))
    assert descriptor.shape == (extractor.dims,) == (DIMS,)
    assert descriptor.dtype == np.float32
    assert np.linalg.norm(descriptor) == pytest.approx(1.0, abs=1e-6)


def test_a_grey_image_has_the_descriptor_of_equal_colours(extractor: NetVLADExtractor):
    grey = picture(96, 128)
    colour = np.repeat(grey[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(extractor.extract(grey), extractor.extract(colour))


def test_an_image_is_resized_to_the_size_the_model_was_trained_at(
    extractor: NetVLADExtractor, sized: Path
):
    small = picture(40, 48, 3)
    large = small.repeat(10, axis=0).repeat(10, axis=1)
    assert extractor.size_px == (48, 40)
    np.testing.assert_array_equal(extractor.extract(large), extractor.extract(small))


def test_the_input_size_can_be_chosen(sized: Path):
    image = picture(64, 80, 3)
    as_it_is = NetVLADExtractor(sized, ExtractorConfig(resize=False))
    chosen = NetVLADExtractor(sized, ExtractorConfig(input_width_px=80, input_height_px=64))
    assert as_it_is.size_px is None
    assert chosen.size_px == (80, 64)
    np.testing.assert_array_equal(chosen.extract(image), as_it_is.extract(image))


def test_half_a_size_is_refused(unsized: Path, sized: Path):
    with pytest.raises(ModelError, match=r"both input_width_px and .*got 80 and 0"):
        NetVLADExtractor(unsized, ExtractorConfig(input_width_px=80))
    assert NetVLADExtractor(sized, ExtractorConfig(input_width_px=80)).size_px == (80, 40)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_batch_equals_its_images_one_by_one(extractor: NetVLADExtractor, count: int):
    images = list(picture(count, 60, 70, 3))
    together = extractor.extract_batch(images)
    assert together.shape == (count, DIMS)
    for image, descriptor in zip(images, together, strict=True):
        np.testing.assert_allclose(extractor.extract(image), descriptor, atol=1e-6)


def test_images_of_several_sizes_are_one_batch(unsized: Path):
    extractor = NetVLADExtractor(unsized)
    images = [picture(40, 48, 3), picture(48, 40), picture(33, 77, 3)]
    together = extractor.extract_batch(images)
    for image, descriptor in zip(images, together, strict=True):
        np.testing.assert_allclose(extractor.extract(image), descriptor, atol=1e-6)


def test_no_images_have_no_descriptors(extractor: NetVLADExtractor):
    assert extractor.extract_batch([]).shape == (0, DIMS)


def test_a_descriptor_belongs_to_the_caller(extractor: NetVLADExtractor):
    image = picture(40, 48, 3)
    first = extractor.extract(image)
    kept = first.copy()
    extractor.extract(picture(40, 48, 3))
    np.testing.assert_array_equal(first, kept)
    first[:] = 0.0  # may be written
    np.testing.assert_array_equal(extractor.extract(image), kept)


@pytest.mark.parametrize(
    "view", [lambda image: image[::2, ::2], lambda image: image[..., ::-1], np.asfortranarray]
)
def test_a_view_has_the_descriptor_of_its_copy(extractor: NetVLADExtractor, view):
    image = view(picture(80, 96, 3))
    image.flags.writeable = False
    np.testing.assert_array_equal(extractor.extract(image), extractor.extract(image.copy()))


@pytest.mark.parametrize(
    "image",
    [
        np.full((64, 64, 3), np.nan, np.float32),
        picture(2, 2, 3),
        np.zeros((0, 64, 3), np.uint8),
        picture(64, 64, 4),
        np.zeros((64, 64, 3), np.uint8),
        np.full((64, 64), 255, np.uint8),
    ],
    ids=["NaN", "2x2", "empty", "RGBA", "black", "white"],
)
def test_one_image_that_is_no_picture_refuses_its_batch(
    extractor: NetVLADExtractor, image: np.ndarray
):
    with pytest.raises(ImageError):
        extractor.extract_batch([picture(64, 64, 3), image])


def test_an_input_too_small_to_convolve_is_refused(tmp_path: Path):
    model = saved(tmp_path, backbone="vgg16", cut_layer="")
    extractor = NetVLADExtractor(model, ExtractorConfig(min_side_px=1))
    with pytest.raises(
        ImageError, match=r"^an input of 15x17 pixels is too small for this network"
    ):
        extractor.extract(picture(17, 15, 3))


def test_an_image_smaller_than_the_largest_patches_is_refused(tmp_path: Path):
    path = saved(tmp_path, backbone="rootsift", cut_layer="", channel_order="grey")
    extractor = NetVLADExtractor(path, ExtractorConfig(resize=False))
    assert extractor.extract(picture(80, 80)).shape == (4 * 16,)
    with pytest.raises(ImageError, match=r"64x64 pixels is too small .* at least 80 a side"):
        extractor.extract(picture(64, 64))


class TestFingerprint:
    """Descriptors that cannot be compared have different fingerprints."""

    def test_it_names_the_model_and_the_size(self, extractor: NetVLADExtractor, unsized: Path):
        assert extractor.fingerprint.endswith("@48x40")
        assert NetVLADExtractor(unsized).fingerprint.endswith("@own size")

    def test_it_names_a_truncation(self, sized: Path):
        config = ExtractorConfig(descriptor_dims=16)
        assert NetVLADExtractor(sized, config).fingerprint.endswith("@48x40/16")

    def test_keeping_all_dimensions_is_no_truncation(
        self, extractor: NetVLADExtractor, sized: Path
    ):
        config = ExtractorConfig(descriptor_dims=DIMS)
        assert NetVLADExtractor(sized, config).fingerprint == extractor.fingerprint

    def test_another_size_or_model_has_another_one(
        self, extractor: NetVLADExtractor, sized: Path, unsized: Path
    ):
        others = [
            NetVLADExtractor(sized, ExtractorConfig(resize=False)),
            NetVLADExtractor(sized, ExtractorConfig(input_width_px=64, input_height_px=40)),
            NetVLADExtractor(unsized, ExtractorConfig(input_width_px=48, input_height_px=40)),
        ]
        assert extractor.fingerprint not in {other.fingerprint for other in others}

    def test_what_is_refused_does_not_change_it(self, extractor: NetVLADExtractor, sized: Path):
        config = ExtractorConfig(min_contrast=5.0, min_side_px=64, threads=0, device="cpu")
        assert NetVLADExtractor(sized, config).fingerprint == extractor.fingerprint


def test_truncation_keeps_the_first_dimensions_and_normalises_them_again(
    extractor: NetVLADExtractor, sized: Path
):
    image = picture(40, 48, 3)
    short = NetVLADExtractor(sized, ExtractorConfig(descriptor_dims=16))
    wanted = extractor.extract(image)[:16]
    assert short.dims == 16
    np.testing.assert_allclose(short.extract(image), wanted / np.linalg.norm(wanted), atol=1e-6)


def test_more_dimensions_than_the_model_has_are_refused(sized: Path):
    with pytest.raises(
        ModelError, match=rf"^extractor\.descriptor_dims: .*{DIMS}.*, got {DIMS + 1}"
    ):
        NetVLADExtractor(sized, ExtractorConfig(descriptor_dims=DIMS + 1))


@pytest.mark.parametrize("damage", [np.nan, 0.0])
def test_a_model_that_gives_no_descriptor_is_refused(damage: float, tmp_path: Path):
    model = build_network(NetworkConfig(**SMALL))
    for weight in model.weights:
        weight.assign(np.full(weight.shape, damage, np.float32))
    save_model(model, tmp_path / "model.keras")
    with pytest.raises(DescriptorError, match="without a length"):
        NetVLADExtractor(tmp_path / "model.keras").extract(picture(64, 64, 3))


def test_warming_up_compiles_for_the_size_that_comes(sized: Path, monkeypatch: pytest.MonkeyPatch):
    extractor = NetVLADExtractor(sized)
    seen, forward = [], extractor._forward

    def watched(batch: np.ndarray) -> np.ndarray:
        seen.append(batch.shape)
        return forward(batch)

    monkeypatch.setattr(extractor, "_forward", watched)
    extractor.warm_up()
    extractor.extract(picture(90, 90, 3))
    assert seen == [(1, 40, 48, 3)] * 2
