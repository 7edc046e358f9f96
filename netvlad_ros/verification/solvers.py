# SPDX-License-Identifier: MIT
"""Poses from point matches, by PoseLib; the same points always give the same pose."""

from typing import Any

import numpy as np

from netvlad_ros.errors import CameraError
from netvlad_ros.image_data import CameraModel
from netvlad_ros.verification.camera import pinhole
from netvlad_ros.verification.rigid import rigid

# Least point matches: one more than the least that each solver needs.
PNP_POINTS, ESSENTIAL_POINTS, FUNDAMENTAL_POINTS = 4, 6, 8
_SEED = 0
_ITERATIONS = {"min_iterations": 100, "max_iterations": 2000}


def absolute_pose(
    points_m: np.ndarray, pixels: np.ndarray, camera: CameraModel, max_error_px: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """camera_from_points (4, 4) and which points (n,) are inliers, refined on all of them; None without any.

    points_m: (n, 3); pixels: (n, 2) where they are seen, without distortion.
    """
    if len(points_m) < PNP_POINTS:
        return None
    options = {"max_reproj_error": max_error_px, "seed": _SEED, **_ITERATIONS}
    pose, found = _poselib().estimate_absolute_pose(pixels, points_m, pinhole(camera), options)
    return _checked(rigid(pose.R, pose.t), found)


def relative_pose(
    match_px: np.ndarray,
    query_px: np.ndarray,
    match_camera: CameraModel,
    query_camera: CameraModel,
    max_error_px: float,
) -> tuple[np.ndarray, np.ndarray] | None:
    """query_from_match (4, 4), its translation of length 1, and the inliers (n,); None without any."""
    if len(match_px) < ESSENTIAL_POINTS:
        return None
    options = {"max_epipolar_error": max_error_px, "seed": _SEED, **_ITERATIONS}
    pose, found = _poselib().estimate_relative_pose(
        match_px, query_px, pinhole(match_camera), pinhole(query_camera), options
    )
    length = np.linalg.norm(pose.t)
    if not length > 0:
        return None
    return _checked(rigid(pose.R, pose.t / length), found)


def fundamental(
    match_px: np.ndarray, query_px: np.ndarray, max_error_px: float
) -> np.ndarray | None:
    """Which point matches (n,) agree with one fundamental matrix; None if there is none."""
    if len(match_px) < FUNDAMENTAL_POINTS:
        return None
    options = {"max_epipolar_error": max_error_px, "seed": _SEED, **_ITERATIONS}
    matrix, found = _poselib().estimate_fundamental(match_px, query_px, options)
    checked = _checked(matrix, found)
    return None if checked is None else checked[1]


def _poselib() -> Any:
    try:
        import poselib
    except ImportError as error:
        raise CameraError(
            f"comparing images by geometry needs PoseLib ({error}); install it with: pip install "
            "poselib (on aarch64 see docs/platforms.md), or set verification.features to none."
        ) from None
    return poselib


def _checked(result: np.ndarray, found: dict[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    inliers = np.array(found["inliers"], bool)
    return (result, inliers) if inliers.any() and np.isfinite(result).all() else None
