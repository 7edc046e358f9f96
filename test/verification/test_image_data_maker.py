# SPDX-License-Identifier: MIT
"""What is kept of a keyframe beside its descriptor: a small picture among it."""

import cv2
import numpy as np
import pytest

from netvlad_ros.config import VerificationConfig
from netvlad_ros.verification.image_data_maker import ImageDataMaker


def thumbnail(image: np.ndarray, side_px: int) -> np.ndarray | None:
    """BGR or grey, as it was kept."""
    jpeg = ImageDataMaker(VerificationConfig(thumbnail_px=side_px)).make(image).thumbnail
    if jpeg is None:
        return None
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((480, 640, 3), (240, 320, 3)),
        ((480, 640), (240, 320)),
        ((640, 480, 3), (320, 240, 3)),
        ((120, 160, 3), (120, 160, 3)),
        ((2, 6000), (1, 320)),
    ],
)
def test_a_thumbnail_is_as_small_as_asked_for_and_never_larger_than_the_image(
    shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    small = thumbnail(np.full(shape, 90, np.uint8), 320)
    assert small is not None
    assert small.shape == expected


def test_its_colours_are_those_of_the_image() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :, 0] = 200  # red
    small = thumbnail(image, 320)
    assert small is not None
    assert small[32, 32].tolist() == pytest.approx([0, 0, 200], abs=3)


def test_without_a_size_there_is_none() -> None:
    assert thumbnail(np.zeros((64, 64), np.uint8), 0) is None
