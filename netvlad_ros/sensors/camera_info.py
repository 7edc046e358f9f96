# SPDX-License-Identifier: MIT
"""Cameras and stereo pairs out of sensor_msgs/CameraInfo."""

from dataclasses import fields
from typing import Any

import numpy as np

from netvlad_ros.errors import CameraError
from netvlad_ros.image_data import CameraModel
from netvlad_ros.verification.camera import check_camera
from netvlad_ros.verification.sensors import StereoRig

# Models of distortion that have another name elsewhere; without coefficients, any is that of no distortion.
_MODELS = {"fisheye": "equidistant", "Kannala-Brandt4": "equidistant"}


def camera_model(message: Any, is_rectified: bool = False) -> CameraModel:
    """The camera of a message of rclpy or rosbags, at the size of its images.

    is_rectified: whether they are rectified, so that P holds and not K with D.
    Raises CameraError for what no camera is.
    """
    k, p, d = _matrix(message, "k", 3, 3), _matrix(message, "p", 3, 4), _values(message, "d")
    model = str(message.distortion_model)
    if is_rectified or not d.any():
        model, d = "plumb_bob", np.zeros(0)
    width_px, height_px = _image_size(message)
    camera = CameraModel(
        width_px,
        height_px,
        _MODELS.get(model, model),
        _of_image(p[:, :3] if is_rectified else k, message),
        d,
        _baseline_m(p),
        str(message.header.frame_id),
    )
    if min(width_px, height_px) < 1:
        raise CameraError(
            f"camera_info: expected images of some size, got {width_px} x {height_px} pixels; let the driver "
            "set its width and height."
        )
    return check_camera(camera)


def stereo_rig(
    left: Any, right: Any, is_rectified: bool = False, baseline_m: float = 0.0
) -> StereoRig:
    """The two cameras of a stereo pair, out of the messages of both.

    right:      None where the right camera sends none: it is then like the left one, and only where both are
                rectified.
    baseline_m: taken instead of what the right camera says, if it is above 0.
    Raises CameraError if the distance between the two is not known.
    """
    if right is None and not is_rectified and _values(left, "d").any():
        raise CameraError(
            "the right camera sends no camera_info, without which images that are not rectified can't be "
            "compared; publish it, or use rectified images (sensors.rectified)."
        )
    other = left if right is None else right
    left_p, right_p = (_projection(each) for each in (left, other))
    if baseline_m > 0.0:
        right_p[0, 3] = -right_p[0, 0] * baseline_m
    if right_p[0, 3] >= 0.0 or right_p[0, 0] <= 0.0:
        raise CameraError(
            "the camera_info of the right image tells no baseline (P[3] is not below 0); calibrate the pair "
            "as stereo, exchange left and right, or set sensors.baseline_m."
        )
    return StereoRig(
        np.eye(3) if is_rectified else _rotation(left),
        left_p,
        camera_model(other, is_rectified),
        np.eye(3) if is_rectified else _rotation(other),
        right_p,
    )


def is_same(one: CameraModel, other: CameraModel) -> bool:
    """Whether two messages tell of the same camera."""
    return all(
        np.array_equal(getattr(one, each.name), getattr(other, each.name)) for each in fields(one)
    )


def _values(message: Any, name: str) -> np.ndarray:
    """A field, which ROS 1 writes with a capital letter."""
    values = getattr(message, name) if hasattr(message, name) else getattr(message, name.upper())
    return np.array(values, np.float64).reshape(-1)


def _matrix(message: Any, name: str, rows: int, columns: int) -> np.ndarray:
    matrix = _values(message, name)
    if matrix.size != rows * columns:
        raise CameraError(
            f"camera_info: expected {rows * columns} values in {name.upper()}, got {matrix.size}."
        )
    return matrix.reshape(rows, columns)


def _projection(message: Any) -> np.ndarray:
    """(3, 4) P, at the size of the images."""
    p = _matrix(message, "p", 3, 4)
    return np.column_stack([_of_image(p[:, :3], message), p[:, 3] / _bins(message)])


def _rotation(message: Any) -> np.ndarray:
    """(3, 3) R; a driver that leaves it empty says that there is none."""
    rotation = _matrix(message, "r", 3, 3)
    if not rotation.any():
        return np.eye(3)
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
        raise CameraError("camera_info: expected a rotation in R; calibrate the pair as stereo.")
    return rotation


def _baseline_m(p: np.ndarray) -> float | None:
    """To the left camera of a pair, as P of the right one says; None if it says nothing of one."""
    if not np.isfinite(p).all() or p[0, 0] <= 0.0 or p[0, 3] >= 0.0:
        return None
    return float(-p[0, 3] / p[0, 0])


def _image_size(message: Any) -> tuple[int, int]:
    """Width and height of the images, which may be a part of the sensor, or binned."""
    size_px = message.roi.width or message.width, message.roi.height or message.height
    width_px, height_px = (np.array(size_px) // _bins(message)[:2]).astype(int).tolist()
    return width_px, height_px


def _bins(message: Any) -> np.ndarray:
    """(3,) how many pixels of the sensor's rows and columns are one of the image; and 1."""
    return np.array([max(message.binning_x, 1), max(message.binning_y, 1), 1], np.float64)


def _of_image(k: np.ndarray, message: Any) -> np.ndarray:
    """Intrinsics of the whole sensor become those of the image. Centres of pixels are at whole numbers."""
    bins = _bins(message)
    at_image = k.copy()
    at_image[:2, 2] -= (message.roi.x_offset, message.roi.y_offset)
    at_image /= bins[:, None]
    at_image[:2, 2] -= (bins[:2] - 1.0) / (2.0 * bins[:2])
    return at_image
