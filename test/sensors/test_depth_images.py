# SPDX-License-Identifier: MIT
"""Depth images of every encoding become the same metres; what can't be depth of the image says why."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from recording import compressed_image, image
from sensor_messages import compressed_depth

from netvlad_ros.errors import NetVLADError
from netvlad_ros.sensors.depth import fitted, to_depth_m

DEPTH_M = np.linspace(0.5, 4.0, 12).reshape(3, 4).round(3).astype(np.float32)
DEPTH_M[0, 0] = np.nan
MILLIMETRES = np.nan_to_num(DEPTH_M * 1000).round().astype(np.uint16)
PICTURE = np.zeros((3, 4), np.uint8)


def to_m(message: Any) -> np.ndarray:
    return to_depth_m(message, 1000)


@pytest.mark.parametrize(
    "message",
    [
        image(0, MILLIMETRES, "16UC1"),
        image(0, MILLIMETRES, "mono16"),
        image(0, DEPTH_M, "32FC1"),
        image(0, np.nan_to_num(DEPTH_M, nan=np.inf), "32FC1"),
        image(0, np.nan_to_num(DEPTH_M, nan=-1.0), "32FC1"),
        compressed_depth(0, DEPTH_M),
    ],
)
def test_every_encoding_gives_metres_and_nan_where_nothing_is_known(message: Any):
    depth_m = to_m(message)
    assert depth_m.dtype == np.float32
    np.testing.assert_allclose(depth_m, DEPTH_M, atol=1e-6)


def test_quantised_depth_is_as_exact_as_it_was_sent():
    depth_m = to_m(compressed_depth(0, DEPTH_M, "32FC1"))
    np.testing.assert_allclose(depth_m, DEPTH_M, atol=1e-3)


def test_rows_with_padding_and_the_other_byte_order_are_read():
    rows = np.zeros((3, 6), ">u2")
    rows[:, :4] = MILLIMETRES
    message = image(0, rows, "16UC1")
    message.width, message.is_bigendian = 4, 1
    np.testing.assert_allclose(to_m(message), DEPTH_M, atol=1e-6)


def cut(message: Any) -> Any:
    message.data = message.data[:-1]
    return message


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (image(0, np.zeros((3, 4), np.uint16), "16UC1"), "0 of 12 pixels have a depth"),
        (image(0, np.full((3, 4), np.nan, np.float32), "32FC1"), "0 of 12 pixels have a depth"),
        (image(0, np.full((3, 4), 2, np.uint16), "16UC1"), r"median is 0\.002 m.*another unit"),
        (image(0, np.full((3, 4), 2000, np.float32), "32FC1"), r"median is 2e\+03 m.*another unit"),
        (image(0, PICTURE, "mono8"), "its encoding is 'mono8', expected 16UC1"),
        (cut(image(0, MILLIMETRES, "16UC1")), "23 bytes in rows of 8 are no 4 x 3 16UC1"),
        (cut(compressed_depth(0, DEPTH_M)), "a whole PNG file"),
        (compressed_image(0, b"", "16UC1; compressedDepth png"), "0 bytes of format"),
        (compressed_image(0, bytes(50), "16UC1; compressedDepth rvl"), "set the publisher's param"),
        (compressed_image(0, b"", "jpeg"), "its format is 'jpeg'"),
        (image(0, np.full((40, 40), 2000, np.uint16), "16UC1"), "40 x 40 pixels"),
    ],
)
def test_what_is_no_depth_says_why(message: Any, sentence: str):
    with pytest.raises(NetVLADError, match=sentence):
        to_m(message)


def test_a_hostile_message_is_refused():
    message = SimpleNamespace(
        encoding="16UC1", width=4, height=3, step=2**32 - 1, is_bigendian=0, data=b"1"
    )
    with pytest.raises(NetVLADError, match="are no 4 x 3 16UC1"):
        to_m(message)


def test_depth_of_another_size_is_scaled_without_mixing_near_and_far():
    large = np.zeros((6, 8), np.uint8)
    scaled = fitted(DEPTH_M, large)
    assert scaled.shape == (6, 8)
    np.testing.assert_array_equal(scaled[::2, ::2], DEPTH_M)
    assert fitted(DEPTH_M, PICTURE) is DEPTH_M


def test_depth_of_other_proportions_shows_something_else():
    with pytest.raises(
        NetVLADError, match="4 x 3 pixels and the image 6 x 3, so it is not aligned"
    ):
        fitted(DEPTH_M, np.zeros((3, 6), np.uint8))
