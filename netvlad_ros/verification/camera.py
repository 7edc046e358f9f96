# SPDX-License-Identifier: MIT
"""From pixels of a lens that distorts to those of one that does not."""

from dataclasses import replace

import cv2
import numpy as np

from netvlad_ros.errors import CameraError
from netvlad_ros.image_data import CameraModel

# How many coefficients each of sensor_msgs/CameraInfo's models has; OpenCV takes the first two in one order.
_COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}


def check_camera(camera: CameraModel, width_px: int = 0, height_px: int = 0) -> CameraModel:
    """The camera for an image of this size (0: its own), with intrinsics scaled where the image was.

    Raises CameraError for what no pinhole camera has.
    """
    focal = np.diag(camera.k)[:2]
    if not np.isfinite(camera.k).all() or not np.isfinite(camera.d).all():
        raise CameraError(
            "camera_info: expected numbers, got NaN or infinity; calibrate the camera."
        )
    if not (focal > 0).all():
        raise CameraError(
            f"camera_info: expected focal lengths above 0 pixels, got {focal[0]:g} and {focal[1]:g}; "
            "is the camera calibrated? (K of camera_info)"
        )
    allowed = _COEFFICIENTS.get(camera.distortion_model)
    if camera.d.any() and (allowed is None or len(camera.d) not in allowed):
        raise CameraError(
            "camera_info: expected plumb_bob with 4 or 5 coefficients, rational_polynomial with 8, 12 or "
            f"14, or equidistant with 4, got {camera.distortion_model!r} with {len(camera.d)}."
        )
    if not width_px or (camera.width_px, camera.height_px) == (width_px, height_px):
        return camera
    return _resized(camera, width_px, height_px)


def undistorted(camera: CameraModel, points_px: np.ndarray) -> np.ndarray:
    """Pixels (n, 2), float64, where a camera with the same K and without distortion would see the same."""
    points = np.asarray(points_px, np.float64).reshape(-1, 1, 2)
    if not len(points) or not camera.d.any():
        return points[:, 0]
    if camera.distortion_model == "equidistant":
        return cv2.fisheye.undistortPoints(points, camera.k, camera.d, P=camera.k)[:, 0]
    return cv2.undistortPoints(points, camera.k, camera.d, P=camera.k)[:, 0]


def rays(camera: CameraModel, points_px: np.ndarray) -> np.ndarray:
    """(n, 3) float64, the points of the rays of these pixels whose depth is 1, in the optical frame."""
    plain = undistorted(camera, points_px)
    x = (plain - camera.k[:2, 2]) / np.diag(camera.k)[:2]
    return np.column_stack([x, np.ones(len(x))])


def pinhole(camera: CameraModel) -> dict[str, object]:
    """The camera without distortion, as PoseLib takes it."""
    k = camera.k
    return {
        "model": "PINHOLE",
        "width": camera.width_px,
        "height": camera.height_px,
        "params": [k[0, 0], k[1, 1], k[0, 2], k[1, 2]],
    }


def _resized(camera: CameraModel, width_px: int, height_px: int) -> CameraModel:
    """Raises CameraError if the image can't be the camera's, made smaller or larger as a whole."""
    if camera.width_px <= 0 or camera.height_px <= 0:
        raise CameraError(
            f"camera_info: expected a size in pixels, got {camera.width_px} x {camera.height_px}; let "
            "the driver set its width and height."
        )
    x, y = width_px / camera.width_px, height_px / camera.height_px
    if abs(x / y - 1) > 0.01:
        raise CameraError(
            f"camera_info is of images of {camera.width_px} x {camera.height_px} pixels, which can't be "
            f"scaled to {width_px} x {height_px}; is it of another camera, or of images before they were cut?"
        )
    # Pixel centres have whole numbers: the left edge is at -0.5.
    scale = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
    return replace(camera, width_px=width_px, height_px=height_px, k=scale @ camera.k)
