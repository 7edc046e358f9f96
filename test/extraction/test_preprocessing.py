# SPDX-License-Identifier: MIT
"""The way from an image to the network's input, and what is refused on it."""

from typing import Any

import numpy as np
import pytest

from netvlad_ros.config import ExtractorConfig
from netvlad_ros.errors import ImageError
from netvlad_ros.extraction.preprocessing import network_input, resize

CONFIG = ExtractorConfig()
RNG = np.random.default_rng(11)


def picture(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


def refusal(image: Any, **values: Any) -> str:
    with pytest.raises(ImageError) as error:
        network_input(image, None, ExtractorConfig(**values))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("shape", [(48, 64, 3), (31, 33, 3), (480, 640, 3), (77, 50), (40, 640)])
def test_any_size_becomes_the_wanted_size(shape: tuple[int, ...]):
    result = network_input(picture(*shape), (48, 40), ExtractorConfig(min_side_px=31))
    assert result.shape == (40, 48, 3)
    assert result.dtype == np.uint8


def test_without_a_wanted_size_an_image_keeps_its_own():
    image = picture(37, 53, 3)
    np.testing.assert_array_equal(network_input(image, None, CONFIG), image)


def test_an_image_of_the_wanted_size_is_not_copied():
    image = picture(40, 48, 3)
    assert network_input(image, (48, 40), CONFIG) is image


@pytest.mark.parametrize("size_px", [None, (40, 32), (64, 48), (100, 90), (33, 200)])
def test_grey_is_the_same_as_equal_colours(size_px: tuple[int, int] | None):
    grey = picture(96, 128)
    colour = np.repeat(grey[:, :, None], 3, axis=2)
    result = network_input(grey, size_px, CONFIG)
    np.testing.assert_array_equal(result, network_input(colour, size_px, CONFIG))


def test_shrinking_takes_the_mean_of_an_area():
    image = picture(160, 200)
    means = image.reshape(40, 4, 50, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(resize(image, (50, 40)), means, atol=0.501)


@pytest.mark.parametrize(("width", "height"), [(50, 160), (200, 40)])
def test_shrinking_one_side_only_takes_the_mean_too(width: int, height: int):
    image = picture(160, 200)
    rows, columns = 160 // height, 200 // width
    means = image.reshape(height, rows, width, columns).mean(axis=(1, 3))
    np.testing.assert_allclose(resize(image, (width, height)), means, atol=0.501)


def test_enlarging_interpolates_between_neighbours():
    image = np.array([[0, 100]] * 2, np.uint8)
    np.testing.assert_array_equal(resize(image, (4, 2)), [[0, 25, 75, 100]] * 2)


def test_the_channels_stay_in_their_order():
    red = np.zeros((64, 64, 3), np.uint8)
    red[:32, :, 0] = 255
    result = network_input(red, (32, 32), CONFIG)
    assert result[0, 0].tolist() == [255, 0, 0]


def test_the_image_is_left_as_it_was():
    image = picture(64, 64, 3)
    before = image.copy()
    network_input(image, (32, 32), CONFIG)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    "view",
    [
        lambda image: image[::2, ::2],
        lambda image: image[:, ::-1],
        lambda image: image[::-1],
        lambda image: image[..., ::-1],
        lambda image: image[5:70, 7:80],
        lambda image: image.transpose(1, 0, 2),
        lambda image: np.asfortranarray(image),
        lambda image: image[..., 1],
    ],
)
@pytest.mark.parametrize("size_px", [None, (40, 32), (140, 132)])
def test_a_view_into_another_array_is_the_same_as_its_copy(view, size_px: tuple[int, int] | None):
    image = view(picture(96, 128, 3))
    wanted = network_input(np.ascontiguousarray(image), size_px, CONFIG)
    np.testing.assert_array_equal(network_input(image, size_px, CONFIG), wanted)


@pytest.mark.parametrize("shape", [(64, 64, 3), (64, 64)])
@pytest.mark.parametrize("size_px", [None, (40, 32)])
def test_an_image_that_may_not_be_written_is_as_good_as_any(
    shape: tuple[int, ...], size_px: tuple[int, int] | None
):
    image = np.frombuffer(picture(*shape).tobytes(), np.uint8).reshape(shape)
    wanted = network_input(image.copy(), size_px, CONFIG)
    np.testing.assert_array_equal(network_input(image, size_px, CONFIG), wanted)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (np.full((64, 64, 3), np.nan), "float64"),
        (np.zeros((64, 64, 3), np.float32), "float32"),
        (np.zeros((64, 64), np.uint16), "uint16"),
        (np.zeros((64, 64), np.int8), "int8"),
        (np.zeros((64, 64), bool), "bool"),
        ([[1, 2], [3, 4]], "list"),
        (b"jpeg", "bytes"),
        (None, "NoneType"),
    ],
)
def test_other_values_than_bytes_are_refused(image: Any, kind: str):
    sentence = f"expected an image of uint8 values (0 to 255), got {kind}; convert it first."
    assert refusal(image) == sentence


@pytest.mark.parametrize(
    "shape", [(64, 64, 4), (64, 64, 1), (1, 64, 64, 3), (64,), (), (3, 64, 64)]
)
def test_another_shape_is_refused(shape: tuple[int, ...]):
    assert refusal(np.zeros(shape, np.uint8)).endswith(f"grey; got {shape}.")


@pytest.mark.parametrize(
    "shape", [(2, 2, 3), (31, 640, 3), (480, 31), (0, 0, 3), (0, 64), (64, 0, 3)]
)
def test_an_image_with_a_short_side_is_refused_with_the_parameter(shape: tuple[int, ...]):
    sentence = refusal(np.zeros(shape, np.uint8))
    assert f"at least 32 pixels a side, got {shape[1]}x{shape[0]};" in sentence
    assert sentence.endswith("(extractor.min_side_px)")


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("shape", [(64, 64, 3), (64, 64)])
def test_an_image_with_nothing_to_see_is_refused_with_the_parameter(
    level: int, shape: tuple[int, ...]
):
    sentence = refusal(np.full(shape, level, np.uint8))
    assert (
        f"standard deviation 0.00 (mean {level}, values {level} to {level} of 255), below 1:"
        in sentence
    )
    assert sentence.endswith("(extractor.min_contrast)")


def test_the_least_contrast_can_be_chosen():
    image = np.full((64, 64), 100, np.uint8)
    image[:32] += 10  # a standard deviation of 5
    network_input(image, None, ExtractorConfig(min_contrast=5.0))
    assert "standard deviation 5.00" in refusal(image, min_contrast=5.01)


def test_contrast_in_one_colour_is_enough():
    image = np.full((64, 64, 3), 100, np.uint8)
    image[:32, :, 2] += 10
    network_input(image, None, CONFIG)
