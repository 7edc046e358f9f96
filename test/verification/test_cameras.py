# SPDX-License-Identifier: MIT
"""Pixels of lenses that distort become those of a pinhole camera; a camera that can not be is refused."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from made_up_views import CAMERA, K

from netvlad_ros.errors import CameraError
from netvlad_ros.image_data import CameraModel
from netvlad_ros.verification.camera import check_camera, rays, undistorted

POINTS_M = np.random.default_rng(0).uniform([-1, -0.7, 2], [1, 0.7, 4], (50, 3))
LENSES = {
    "plumb_bob": [-0.2, 0.05, 0.001, -0.002, 0.01],
    "rational_polynomial": [0.1, -0.05, 0.001, -0.001, 0.01, 0.2, -0.02, 0.01],
    "equidistant": [0.02, -0.01, 0.003, -0.001],
}


def with_lens(name: str, d: list[float]) -> CameraModel:
    return replace(CAMERA, distortion_model=name, d=np.array(d))


@pytest.mark.parametrize("name", list(LENSES))
def test_rays_of_distorted_pixels_go_through_the_points(name: str) -> None:
    camera = with_lens(name, LENSES[name])
    project = cv2.fisheye.projectPoints if name == "equidistant" else cv2.projectPoints
    pixels = project(POINTS_M[:, None], np.zeros(3), np.zeros(3), K, camera.d)[0][:, 0]
    assert np.abs(pixels - POINTS_M[:, :2] / POINTS_M[:, 2:] @ K[:2, :2] - K[:2, 2]).max() > 0.5
    expected = POINTS_M[:, :2] / POINTS_M[:, 2:] * 500 + K[:2, 2]
    assert undistorted(camera, pixels) == pytest.approx(expected, abs=0.05)
    assert rays(camera, pixels) == pytest.approx(POINTS_M / POINTS_M[:, 2:], abs=1e-4)


def test_a_smaller_image_has_a_smaller_focal_length() -> None:
    half = check_camera(CAMERA, 320, 240)
    assert half.k[0, 0] == 250.0
    # What was half a pixel from the left edge is a quarter of one now.
    assert half.k[0, 2] == pytest.approx((320 + 0.5) / 2 - 0.5)
    assert check_camera(CAMERA, 640, 480) is CAMERA


@pytest.mark.parametrize(
    ("camera", "says"),
    [
        (replace(CAMERA, k=np.zeros((3, 3))), "focal lengths above 0 pixels, got 0 and 0"),
        (replace(CAMERA, k=K * np.nan), "expected numbers, got NaN"),
        (with_lens("plumb_bob", [0.1] * 7), "got 'plumb_bob' with 7"),
        (with_lens("double_sphere", [0.1]), "got 'double_sphere' with 1"),
        (replace(CAMERA, height_px=640), "640 x 640 pixels, which can't be scaled to 320 x 240"),
        (replace(CAMERA, width_px=0), "expected a size in pixels, got 0 x 480"),
    ],
)
def test_a_camera_that_can_not_be_is_refused(camera: CameraModel, says: str) -> None:
    with pytest.raises(CameraError, match=says):
        check_camera(camera, 320, 240)
