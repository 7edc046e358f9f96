# SPDX-License-Identifier: MIT
"""Features get points in metres from depth, from a right image, or from motion; where in doubt, none."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from made_up_views import CAMERA, MOUNT, K, Scene, pose, standing

from netvlad_ros.config import VerificationConfig
from netvlad_ros.verification import points
from netvlad_ros.verification.image_data_maker import ImageDataMaker
from netvlad_ros.verification.rigid import inverse
from netvlad_ros.verification.sensors import Sensors, StereoRig

PIXELS = np.array([[320.0, 240], [100, 50], [600, 400]], np.float32)


def test_a_pixel_at_some_depth_is_a_point_on_its_ray() -> None:
    found = points.from_depth(PIXELS, CAMERA, np.full((480, 640), 2.0, np.float32), 40.0)
    assert found[0] == pytest.approx([0, 0, 2])
    assert found[1] == pytest.approx([-220 / 500 * 2, -190 / 500 * 2, 2])


@pytest.mark.parametrize("depth", [0.0, np.nan, np.inf, -1.0, 41.0])
def test_a_depth_that_is_unknown_gives_no_point(depth: float) -> None:
    image = np.full((480, 640), depth, np.float32)
    assert np.isnan(points.from_depth(PIXELS, CAMERA, image, 40.0)).all()


def test_an_edge_between_two_depths_gives_no_point() -> None:
    image = np.full((480, 640), 2.0, np.float32)
    image[:, 320:] = 3.0
    found = points.from_depth(PIXELS, CAMERA, image, 40.0)
    assert np.isnan(found[0]).all()
    assert found[1, 2] == 2.0
    assert found[2, 2] == 3.0


def test_a_keypoint_at_the_border_is_no_trouble() -> None:
    corners = np.array([[0, 0], [639.4, 479.4]], np.float32)
    found = points.from_depth(corners, CAMERA, np.full((480, 640), 2.0, np.float32), 40.0)
    assert found[:, 2] == pytest.approx([2.0, 2.0])


def texture(shift_px: float) -> np.ndarray:
    """A wall of blurred noise, moved to the left."""
    noise = np.random.default_rng(0).integers(0, 256, (480, 800)).astype(np.float32)
    wall = cv2.GaussianBlur(noise, (0, 0), 2.0)
    wall = (wall - wall.min()) / np.ptp(wall) * 255
    moved = cv2.warpAffine(wall, np.array([[1.0, 0, -shift_px], [0, 1, 0]]), (800, 480))
    return moved[:, :640].astype(np.uint8)


def rig(baseline_m: float) -> StereoRig:
    left = np.column_stack([K, np.zeros(3)])
    right = left.copy()
    right[0, 3] = -500 * baseline_m
    return StereoRig(np.eye(3), left, CAMERA, np.eye(3), right)


def test_a_wall_in_a_stereo_pair_is_as_far_as_its_disparity_says() -> None:
    keypoints = np.random.default_rng(1).uniform([60, 60], [580, 420], (100, 2)).astype(np.float32)
    found = points.from_stereo(keypoints, CAMERA, texture(0), texture(12.5), rig(0.1), 40.0)
    depths = found[np.isfinite(found[:, 2]), 2]
    assert len(depths) > 90
    assert np.median(depths) == pytest.approx(500 * 0.1 / 12.5, rel=0.01)


def test_what_the_right_image_does_not_show_has_no_point() -> None:
    keypoints = np.random.default_rng(1).uniform([60, 60], [580, 420], (100, 2)).astype(np.float32)
    other = np.random.default_rng(9).integers(0, 256, (480, 640)).astype(np.uint8)
    found = points.from_stereo(keypoints, CAMERA, texture(0), other, rig(0.1), 40.0)
    assert np.isfinite(found[:, 2]).mean() < 0.1


def test_motion_of_a_metre_to_the_side_measures_points() -> None:
    scene = Scene()
    before, now = (scene.seen_from(standing(0, y), points_from="") for y in (0.0, 1.0))
    assert now.features is not None
    assert before.features is not None
    moved = inverse(standing(0, 0) @ MOUNT) @ standing(0, 1.0) @ MOUNT
    found = points.from_motion(now.features, before.features, CAMERA, CAMERA, moved, 0.8)
    truth = scene.seen_from(standing(0, 1.0)).features
    assert truth is not None
    known = np.isfinite(found[:, 2])
    assert known.sum() > 100
    assert found[known] == pytest.approx(truth.points_m[known], rel=1e-3, abs=1e-3)  # type: ignore[index]


def test_standing_still_measures_nothing() -> None:
    view = Scene().seen_from(standing(), points_from="").features
    assert view is not None
    found = points.from_motion(view, view, CAMERA, CAMERA, np.eye(4), 0.8)
    assert np.isnan(found).all()


@pytest.mark.parametrize(
    ("sensors", "source"),
    [
        (Sensors(), ""),
        (Sensors(CAMERA), ""),
        (Sensors(CAMERA, np.full((480, 640), 2.0, np.float32)), "depth"),
        (Sensors(CAMERA, right=texture(12.5), rig=rig(0.1)), "stereo"),
        (
            Sensors(CAMERA, np.full((480, 640), 2.0, np.float32), texture(12.5), rig(0.1)),
            "depth",
        ),
    ],
)
def test_points_are_from_the_best_source_there_is(sensors: Sensors, source: str) -> None:
    features = ImageDataMaker(VerificationConfig()).make(texture(0), sensors).features
    assert features is not None
    assert features.points_from == source
    assert (features.points_m is not None) == bool(source)


@pytest.mark.parametrize("of_camera", [False, True])
def test_one_camera_with_odometry_measures_by_its_own_motion(of_camera: bool) -> None:
    """Whether odometry is of the base on which the camera is mounted, or of the camera itself."""
    maker = ImageDataMaker(VerificationConfig())
    for y_m, shift_px in ((0.0, 0.0), (-0.1, 12.5)):  # to the right
        odometry = pose(standing(0, y_m))
        if of_camera:
            odometry = replace(pose(standing(0, y_m) @ MOUNT), child_frame_id=CAMERA.frame_id)
        sensors = Sensors(CAMERA, odometry=odometry)
        features = maker.make(texture(shift_px), sensors).features
    assert features is not None
    assert features.points_from == "motion"
    assert features.points_m is not None
    depths = features.points_m[np.isfinite(features.points_m[:, 2]), 2]
    assert np.median(depths) == pytest.approx(4.0, rel=0.03)


def test_no_mount_and_no_motion_of_the_camera_itself_measure_nothing() -> None:
    maker = ImageDataMaker(VerificationConfig())
    camera = replace(CAMERA, base_from_camera=None)
    for y_m, shift_px in ((0.0, 0.0), (-0.1, 12.5)):
        sensors = Sensors(camera, odometry=pose(standing(0, y_m)))
        features = maker.make(texture(shift_px), sensors).features
    assert features is not None
    assert features.points_m is None


def test_no_features_are_asked_for_and_none_are_made() -> None:
    maker = ImageDataMaker(VerificationConfig(features="none"))
    data = maker.make(texture(0), Sensors(CAMERA))
    assert data.features is None
    assert data.camera is CAMERA


@pytest.mark.parametrize("method", ["orb", "sift", "rootsift"])
def test_an_image_without_any_corner_has_no_features(method: str) -> None:
    data = ImageDataMaker(VerificationConfig(features=method)).make(np.zeros((480, 640), np.uint8))
    assert data.features is not None
    assert len(data.features) == 0
    assert data.features.descriptors.shape[1] in (32, 128)
