# SPDX-License-Identifier: MIT
"""Odometry that drifts: as much as it was asked to, and as its covariance says."""

import numpy as np
import pytest

from netvlad_ros.errors import WorldError
from netvlad_ros.worlds.camera import Pose
from netvlad_ros.worlds.odometry import (
    Drift,
    about_z,
    base_from_camera,
    base_of,
    drifted,
    exact,
)

CORNERS_M = ((0.0, 0.0), (50.0, 0.0), (50.0, 50.0), (0.0, 50.0))
SQUARE = [
    Pose(x + way_m * np.cos(yaw), y + way_m * np.sin(yaw), 1.5, yaw, 0.02, -0.03)
    for (x, y), yaw in zip(CORNERS_M, np.arange(4) * np.pi / 2, strict=True)
    for way_m in np.arange(0.0, 50.0, 5.0)
]


def error(poses: list[Pose], drift: Drift, seed: int) -> np.ndarray:
    """(4,) of x, y, z and heading at the end, in odom."""
    last = drifted(poses, drift, seed)[-1]
    first, end = (base_of(pose) for pose in (poses[0], poses[-1]))
    expected_m = about_z(-first.yaw_rad) @ (end.position_m - first.position_m)
    x, y, z, w = last.orientation_xyzw
    heading = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    turned = (heading - (end.yaw_rad - first.yaw_rad) + np.pi) % (2 * np.pi) - np.pi
    return np.r_[last.position_m - expected_m, turned]


def test_without_drift_only_the_noise_of_reading_is_left():
    still = Drift(0.0, 0.0, 0.0)
    errors = np.array([error(SQUARE, still, seed) for seed in range(20)])
    assert np.abs(errors).max() < 0.005
    covariance = drifted(SQUARE, still, 0)[-1].covariance
    assert covariance is not None
    assert np.allclose(np.diag(covariance), [1e-6] * 3 + [2.5e-7] * 3)


def test_on_a_straight_way_it_errs_by_its_share_of_the_way():
    straight = [Pose(x, 0) for x in np.arange(0.0, 101.0, 10.0)]
    errors = np.array([error(straight, Drift(0.01, 0.0, 0.0), seed) for seed in range(150)])
    assert np.std(errors[:, 0]) == pytest.approx(1.0, rel=0.2)  # 1 % of 100 m
    assert np.abs(errors.mean(axis=0)).max() < 0.2
    turning = np.array([error(straight, Drift(0.0, 0.001, 0.0), seed) for seed in range(150)])
    assert np.std(turning[:, 3]) == pytest.approx(0.1, rel=0.2)


def test_the_error_is_as_large_as_the_covariance_says():
    drift, squared = Drift.of_share(0.01), []
    for seed in range(150):
        covariance = drifted(SQUARE, drift, seed)[-1].covariance
        assert covariance is not None
        off, shown = error(SQUARE, drift, seed), [0, 1, 2, 5]
        squared.append(off @ np.linalg.solve(covariance[np.ix_(shown, shown)], off))
    assert np.mean(squared) == pytest.approx(4.0, rel=0.15)  # of four dimensions
    assert 0.9 < np.mean(np.array(squared) < 9.49) < 0.99  # the 95 % ellipsoid


def test_the_covariance_grows_and_can_be_inverted_from_the_first_pose_on():
    reports = drifted(SQUARE, Drift.of_share(0.01), 3)
    covariances = np.array([report.covariance for report in reports])
    assert np.linalg.eigvalsh(covariances).min() > 0
    assert np.allclose(covariances, covariances.transpose(0, 2, 1))
    assert (np.diff(covariances[:, 5, 5]) > 0).all()
    assert np.array_equal(covariances[:, 3, 3], covariances[[0] * len(SQUARE), 3, 3])


def test_the_same_seed_drifts_the_same_way_and_another_one_otherwise():
    drift = Drift.of_share(0.01)
    one, same, other = (drifted(SQUARE, drift, seed)[-1].position_m for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_odometry_begins_where_the_base_stands_and_the_camera_is_mounted_on_it():
    camera = Pose(7.0, 3.0, 1.5, 2.0)
    first = drifted([camera], Drift.of_share(0.01), 0)[0]
    assert (first.frame_id, first.child_frame_id) == ("odom", "base_link")
    assert np.abs(first.position_m).max() < 0.01
    base = base_of(camera)
    body = np.eye(4)
    body[:3, :3], body[:3, 3] = base.rotation(), base.position_m
    assert np.allclose(body @ base_from_camera(), camera.matrix())
    assert base.z_m == pytest.approx(1.0)


def test_exact_odometry_is_of_the_cameras_body_in_the_map():
    pose = Pose(1.0, 2.0, 3.0, 0.4, 0.1, -0.2)
    report = exact(pose)
    assert (report.frame_id, report.child_frame_id) == ("map", "camera_link")
    assert np.array_equal(report.position_m, pose.position_m)
    assert np.array_equal(report.orientation_xyzw, pose.quaternion())


def test_negative_drift_is_refused():
    with pytest.raises(WorldError, match="expected numbers from 0, got -"):
        Drift(-0.01, 0.0, 0.0)
