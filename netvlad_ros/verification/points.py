# SPDX-License-Identifier: MIT
"""Where local features are, in metres: from a depth image, a right image, or the camera's motion."""

import cv2
import numpy as np

from netvlad_ros.image_data import CameraModel, LocalFeatures
from netvlad_ros.verification.camera import rays
from netvlad_ros.verification.matching import match
from netvlad_ros.verification.sensors import StereoRig

# Depths around a point that differ by more than this share are of two surfaces.
EDGE_SHARE = 0.05
# How far from the other image's row, in pixels, a point of a stereo pair may be found.
MAX_ROW_ERROR_PX = 1.5
# Points are followed by windows of this size, first in images made smaller so many times.
WINDOW_PX, PYRAMID_LEVELS = (15, 15), 5
# A disparity below this says only that a point is far away.
MIN_DISPARITY_PX = 1.0
# How far a point that was followed to the right image and back may end from where it began.
MAX_RETURN_PX = 1.0
# The angle between two rays below which their crossing says little.
MIN_PARALLAX_DEG = 1.0
MAX_TRIANGULATION_ERROR_PX = 2.0


def from_depth(
    keypoints_px: np.ndarray, camera: CameraModel, depth_m: np.ndarray, max_depth_m: float
) -> np.ndarray:
    """(n, 3) float32 points of these pixels; NaN where the depth is unknown, too large or of an edge.

    depth_m: (H, W), along the optical axis, aligned with the camera's image.
    """
    height, width = depth_m.shape
    x, y = np.rint(keypoints_px).astype(int).T
    around = np.stack(
        [
            depth_m[np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1)]
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        ]
    ).astype(np.float64)
    around[~((around > 0) & (around <= max_depth_m))] = np.nan
    known = np.isfinite(around).sum(0)
    around[:, known == 0] = 0.0  # nanmedian would complain
    depth = np.nanmedian(around, axis=0)
    is_edge = np.nanmax(around, axis=0) - np.nanmin(around, axis=0) > EDGE_SHARE * depth
    depth[(known < 5) | is_edge] = np.nan
    return (rays(camera, keypoints_px) * depth[:, None]).astype(np.float32)


def from_stereo(
    keypoints_px: np.ndarray,
    camera: CameraModel,
    left: np.ndarray,
    right: np.ndarray,
    rig: StereoRig,
    max_depth_m: float,
) -> np.ndarray:
    """(n, 3) float32 points in the left camera's optical frame; NaN where the right image does not show them.

    Points are followed from the left image to the right one, as they are, and triangulated by the rectified
    cameras (Lucas and Kanade, IJCAI 1981; Bouguet, 2001).
    """
    points = np.full((len(keypoints_px), 3), np.nan, np.float32)
    if not len(points):
        return points
    images = [cv2.cvtColor(i, cv2.COLOR_RGB2GRAY) if i.ndim == 3 else i for i in (left, right)]
    found_px, is_found = _followed(images[0], images[1], keypoints_px.astype(np.float32))
    in_left = _rectified(keypoints_px, camera, rig.left_r, rig.left_p)
    in_right = _rectified(found_px, rig.right, rig.right_r, rig.right_p)
    disparity = in_left[:, 0] - in_right[:, 0]
    focal_px, baseline_m = rig.left_p[0, 0], rig.baseline_m
    is_found &= np.abs(in_left[:, 1] - in_right[:, 1]) < MAX_ROW_ERROR_PX
    is_found &= disparity > max(MIN_DISPARITY_PX, focal_px * baseline_m / max_depth_m)
    depth = focal_px * baseline_m / disparity[is_found]
    x = (in_left[is_found] - rig.left_p[:2, 2]) / np.diag(rig.left_p)[:2]
    rectified = np.column_stack([x, np.ones(len(x))]) * depth[:, None]
    points[is_found] = rectified @ rig.left_r  # the inverse rotation
    return points


def from_motion(
    now: LocalFeatures,
    before: LocalFeatures,
    camera: CameraModel,
    camera_before: CameraModel,
    before_from_now: np.ndarray,
    max_ratio: float,
) -> np.ndarray:
    """(n, 3) float32 points of features in the optical frame of now, seen in an image before too; else NaN.

    before_from_now: (4, 4), how the camera moved between the two, in metres.
    """
    points = np.full((len(now), 3), np.nan, np.float32)
    pairs = match(now, before, max_ratio)
    if not len(pairs) or np.linalg.norm(before_from_now[:3, 3]) < 1e-3:
        return points
    rows, rows_before = pairs.T
    here, there = (
        rays(camera, now.keypoints_px[rows]),
        rays(camera_before, before.keypoints_px[rows_before]),
    )
    projections = np.eye(4)[:3], before_from_now[:3]
    crossing = cv2.triangulatePoints(*projections, here[:, :2].T, there[:, :2].T)
    crossing = (crossing[:3] / crossing[3]).T  # (m, 3)
    seen_before = crossing @ before_from_now[:3, :3].T + before_from_now[:3, 3]
    errors_px = np.maximum(
        _reprojection_px(crossing, here, camera),
        _reprojection_px(seen_before, there, camera_before),
    )
    turned = there @ before_from_now[:3, :3]  # the ray of before, in the frame of now
    is_good = (
        (crossing[:, 2] > 0)
        & (seen_before[:, 2] > 0)
        & (errors_px < MAX_TRIANGULATION_ERROR_PX)
        & (_angles_deg(here, turned) > MIN_PARALLAX_DEG)
    )
    points[rows[is_good]] = crossing[is_good]
    return points


def _followed(
    left: np.ndarray, right: np.ndarray, points_px: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where points (n, 2) of the left image are in the right one, and which of them were found."""
    guess = np.empty_like(points_px)
    there, status, _ = cv2.calcOpticalFlowPyrLK(
        left, right, points_px, guess, winSize=WINDOW_PX, maxLevel=PYRAMID_LEVELS
    )
    back, status_back, _ = cv2.calcOpticalFlowPyrLK(
        right, left, there, guess.copy(), winSize=WINDOW_PX, maxLevel=PYRAMID_LEVELS
    )
    is_found = np.logical_and(status, status_back).ravel()
    return there, is_found & (np.linalg.norm(back - points_px, axis=1) < MAX_RETURN_PX)


def _rectified(
    points_px: np.ndarray, camera: CameraModel, rotation: np.ndarray, projection: np.ndarray
) -> np.ndarray:
    """(n, 2) float64 pixels of the rectified image."""
    turned = rays(camera, points_px) @ rotation.T
    k = projection[:, :3]
    return (turned[:, :2] / turned[:, 2:]) * np.diag(k)[:2] + k[:2, 2]


def _reprojection_px(points: np.ndarray, seen: np.ndarray, camera: CameraModel) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        error = points[:, :2] / points[:, 2:] - seen[:, :2]
    return np.linalg.norm(error * np.diag(camera.k)[:2], axis=1)


def _angles_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    cosines = np.einsum("nd,nd->n", a, b) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return np.degrees(np.arccos(np.clip(cosines, -1, 1)))
