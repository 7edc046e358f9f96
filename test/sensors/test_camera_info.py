# SPDX-License-Identifier: MIT
"""camera_info becomes a camera or a stereo pair, or the sentence that says what is wrong with it."""

from typing import Any

import numpy as np
import pytest
from sensor_messages import camera_info

from netvlad_ros.errors import CameraError
from netvlad_ros.sensors.camera_info import camera_model, stereo_rig

RATIONAL = (0.1, 0.2, 0.0, 0.0, 0.1, 0.3, 0.2, 0.1)


@pytest.mark.parametrize(
    ("model", "d", "kept", "length"),
    [
        ("plumb_bob", (0.1, -0.2, 0.001, 0.0, 0.0), "plumb_bob", 5),
        ("plumb_bob", (), "plumb_bob", 0),
        ("plumb_bob", (0.0,) * 5, "plumb_bob", 0),
        ("rational_polynomial", RATIONAL, "rational_polynomial", 8),
        ("equidistant", (0.1, 0.2, 0.3, 0.4), "equidistant", 4),
        ("fisheye", (0.1, 0.2, 0.3, 0.4), "equidistant", 4),
        ("", (), "plumb_bob", 0),
        ("double_sphere", (), "plumb_bob", 0),
    ],
)
def test_each_model_of_distortion_is_kept(model: str, d: tuple[float, ...], kept: str, length: int):
    camera = camera_model(camera_info(d=d, model=model))
    assert (camera.distortion_model, len(camera.d)) == (kept, length)
    assert (camera.width_px, camera.height_px, camera.frame_id) == (32, 24, "camera")
    assert camera.k[0, 0] == 30.0
    assert camera.baseline_m is None


def binned(**fields: Any) -> Any:
    message = camera_info(size_px=(64, 48))
    for name, value in fields.items():
        target = message.roi if hasattr(message.roi, name) else message
        setattr(target, name, value)
    return message


def test_a_part_of_the_sensor_and_binned_pixels_have_intrinsics_of_their_own():
    camera = camera_model(binned(x_offset=8, y_offset=4, width=32, height=24))
    assert (camera.width_px, camera.height_px) == (32, 24)
    assert camera.k[:2, 2].tolist() == [24.0, 20.0]
    camera = camera_model(binned(binning_x=2, binning_y=2))
    assert (camera.width_px, camera.height_px) == (32, 24)
    assert camera.k[0, 0] == 15.0
    # The centre of the first pixel of four is half a pixel further in.
    assert camera.k[:2, 2].tolist() == [15.75, 11.75]
    assert camera.k[2].tolist() == [0.0, 0.0, 1.0]


def test_for_rectified_images_p_holds():
    message = camera_info(d=(0.1, 0.2, 0.0, 0.0, 0.0))
    message.p[[0, 5]] = 25.0
    camera = camera_model(message, is_rectified=True)
    assert camera.k[0, 0] == 25.0
    assert not camera.d.size


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (camera_info(focal_px=0.0), "focal lengths above 0 pixels, got 0 and 0"),
        (camera_info(focal_px=np.nan), "NaN"),
        (camera_info(size_px=(0, 0)), "got 0 x 0 pixels"),
        (camera_info(d=(0.1, 0.2)), "got 'plumb_bob' with 2"),
        (camera_info(d=(0.1, np.inf, 0.0, 0.0)), "NaN or infinity"),
        (camera_info(d=(0.1,) * 6, model="double_sphere"), "got 'double_sphere' with 6"),
    ],
)
def test_what_no_camera_is_says_why(message: Any, sentence: str):
    with pytest.raises(CameraError, match=sentence):
        camera_model(message)


def test_the_right_camera_says_how_far_it_is_from_the_left_one():
    assert camera_model(camera_info(baseline_m=0.12)).baseline_m == pytest.approx(0.12)
    rig = stereo_rig(camera_info(), camera_info(baseline_m=0.12))
    assert rig.baseline_m == pytest.approx(0.12)


def test_a_known_distance_stands_in_for_what_the_right_camera_does_not_say():
    assert stereo_rig(camera_info(), camera_info(), baseline_m=0.2).baseline_m == pytest.approx(0.2)
    assert stereo_rig(camera_info(), None, baseline_m=0.2).baseline_m == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("left", "right", "sentence"),
    [
        (camera_info(), camera_info(), "tells no baseline"),
        (camera_info(), camera_info(baseline_m=-0.1), "exchange left and right"),
        (camera_info(), None, "tells no baseline"),
        (camera_info(d=(0.1, 0.0, 0.0, 0.0)), None, "the right camera sends no camera_info"),
    ],
)
def test_a_right_image_without_a_baseline_says_what_to_do(left: Any, right: Any, sentence: str):
    with pytest.raises(CameraError, match=sentence):
        stereo_rig(left, right)
