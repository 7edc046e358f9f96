# SPDX-License-Identifier: MIT
"""Of 16 bits the range that is used becomes 0 to 255, and what is none but noise is refused with it."""

import cv2
import numpy as np
import pytest

from netvlad_ros.config import ExtractorConfig
from netvlad_ros.data.sixteen_bit import eight_bit
from netvlad_ros.errors import ImageError
from netvlad_ros.extraction.preprocessing import network_input

RNG = np.random.default_rng(4)


def scene(*shape: int) -> np.ndarray:
    """A smooth uint8 picture that uses 0 to 255, both for one pixel in a hundred at least."""
    coarse = RNG.integers(0, 256, (8, 10, *shape[2:]), np.uint8)
    smooth = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    low, high = np.percentile(smooth, (1, 99))
    return np.clip((smooth - low) * (255 / (high - low)), 0, 255).astype(np.uint8)


GREY = scene(240, 320)


@pytest.mark.parametrize("shape", [(240, 320), (240, 320, 3)])
@pytest.mark.parametrize(
    ("scale", "offset"),
    [(257, 0), (64, 0), (16, 0), (4, 0), (4, 7000), (1, 0), (1, 30000), (20, 23000)],
    ids=["16 bits", "14", "12", "10", "thermal", "8", "8 with offset", "thermal of more counts"],
)
def test_the_bits_in_use_and_their_offset_make_no_difference(
    shape: tuple[int, ...], scale: int, offset: int
):
    picture = scene(*shape)
    result = eight_bit(picture.astype(np.uint16) * scale + np.uint16(offset))
    assert result.dtype == np.uint8
    assert result.shape == shape
    assert np.abs(result.astype(int) - picture).max() <= 3


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_dark_picture_of_few_bits_is_accepted_by_the_network(bits: int):
    dark = (GREY.astype(np.uint16) << bits - 8) // 8
    assert network_input(eight_bit(dark), (160, 120), ExtractorConfig()).std() > 20


def test_eight_bits_are_left_alone():
    assert eight_bit(GREY) is GREY


def test_a_picture_alone_is_as_it_is_after_others():
    counts = GREY.astype(np.uint16) * 4
    before = eight_bit(counts)
    eight_bit(np.flip(counts) * 9 + 500)
    np.testing.assert_array_equal(eight_bit(counts), before)


@pytest.mark.parametrize("value", [0, 65535])
@pytest.mark.parametrize(("side_px", "change"), [(10, 3), (35, 60)])
def test_dead_pixels_leave_the_rest_as_it_was_and_lamps_nearly(
    value: int, side_px: int, change: int
):
    """One pixel in a thousand, and two in a hundred of a value far away."""
    counts = GREY.astype(np.uint16) * 4 + 7000
    before = eight_bit(counts)
    patch = np.s_[100 : 100 + side_px, 50 : 50 + side_px]
    counts[patch] = value
    after = eight_bit(counts)
    after[patch] = before[patch]
    assert np.abs(after.astype(int) - before).max() <= change


def test_lamps_in_complete_darkness_are_a_picture():
    counts = np.zeros((240, 320), np.uint16)
    counts[100:120, 50:70] = 1001
    assert eight_bit(counts).max() == 255


def test_the_next_picture_of_a_drive_has_nearly_the_same_grey_levels():
    """A scene that moves by, and gets lighter, by a little."""
    counts = scene(240, 400).astype(np.float32) * 4 + 300
    levels = []
    for shift in range(0, 40, 4):
        seen = (counts[:, shift : shift + 320] * (1 + shift / 4000)).astype(np.uint16)
        levels.append(float(eight_bit(seen)[np.abs(seen.astype(int) - 800) < 9].mean()))
    assert np.abs(np.diff(levels)).max() < 4


def test_black_and_white_stay_black_and_white():
    steps = np.tile(np.array([0, 65535], np.uint16), (32, 16))
    assert np.unique(eight_bit(steps)).tolist() == [0, 255]


def test_bits_that_were_shifted_up_do_not_make_noise_a_picture():
    """12 bits that a camera moves to the top: their lowest bit counts, not that of 16."""
    counts = GREY.astype(np.uint16) // 16 + 9
    shifted, plain = eight_bit(counts << 4), eight_bit(counts)
    np.testing.assert_array_equal(shifted, plain)
    assert np.ptp(plain) == 15


@pytest.mark.parametrize("shape", [(240, 320), (240, 320, 3)])
@pytest.mark.parametrize(("level", "spread"), [(0, 0), (7000, 0), (65535, 0), (7000, 6)])
def test_a_flat_picture_is_refused_with_its_range(level: int, spread: int, shape: tuple[int, ...]):
    counts = np.full(shape, level, np.uint16)
    counts[120:] += np.uint16(spread)
    with pytest.raises(ImageError, match=f"16-bit values from {level} to {level + spread}, which"):
        eight_bit(counts)


@pytest.mark.parametrize("deviation", [3, 10, 50, 200])
def test_the_noise_behind_a_lens_cap_is_refused_with_its_range(deviation: int):
    counts = RNG.normal(2000, deviation, (480, 640)).astype(np.uint16)
    with pytest.raises(ImageError, match=r"16-bit values from \d+ to \d+ that differ .* noise"):
        eight_bit(counts)


def test_a_picture_with_as_much_noise_as_contrast_is_accepted():
    counts = 2000.0 + GREY + RNG.normal(0, GREY.std(), GREY.shape)
    assert eight_bit(counts.astype(np.uint16)).std() > 20


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 3), (2, 700), (5000, 3)])
def test_small_and_thin_pictures_are_read_or_refused(shape: tuple[int, int]):
    counts = RNG.integers(0, 65536, shape, np.uint16)
    if counts.size > 1:
        assert eight_bit(counts).shape == shape
    else:
        with pytest.raises(ImageError, match="too few different ones"):
            eight_bit(counts)
