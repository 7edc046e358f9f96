# SPDX-License-Identifier: MIT
"""Cameras that are given by hand: a file of a calibration, or four numbers."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml

from netvlad_ros.errors import CameraError
from netvlad_ros.image_data import CameraModel
from netvlad_ros.sensors.camera_info import camera_model

FORMS = (
    "a YAML file (of camera_calibration, or what `ros2 topic echo --once camera_info` prints) or "
    "`fx,fy,cx,cy` in pixels"
)


def camera_of(text: str, width_px: int, height_px: int) -> CameraModel:
    """The camera of images of this size; from a file it is scaled to it. Raises CameraError.

    text: one of FORMS; four numbers are without distortion.
    """
    parts = text.split(",")
    if len(parts) == 4:
        return _of_numbers(parts, width_px, height_px)
    try:
        given = next(yaml.safe_load_all(Path(text).read_text(encoding="utf-8")), None)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise CameraError(f"{text}: can't be read ({reason}); expected {FORMS}.") from None
    try:
        return camera_model(_message(given))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CameraError(f"{text}: holds no camera; expected {FORMS}.") from None


def _of_numbers(parts: list[str], width_px: int, height_px: int) -> CameraModel:
    try:
        fx, fy, cx, cy = map(float, parts)
    except ValueError:
        raise CameraError(f"{','.join(parts)}: expected {FORMS}.") from None
    k = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    return CameraModel(width_px, height_px, "plumb_bob", k, np.zeros(0))


def _message(given: Any) -> Any:
    """As a CameraInfo. Raises what a dictionary of another kind raises."""
    is_calibration = "camera_matrix" in given
    names = ("image_width", "image_height") if is_calibration else ("width", "height")
    width, height = (int(given[name]) for name in names)
    k = given["camera_matrix"]["data"] if is_calibration else given["k"]
    d = given["distortion_coefficients"]["data"] if is_calibration else given["d"]
    p = given.get("projection_matrix", {"data": np.zeros(12)})["data"]
    return SimpleNamespace(
        header=SimpleNamespace(frame_id=""),
        width=width,
        height=height,
        distortion_model=given.get("distortion_model", "plumb_bob"),
        k=k,
        d=d,
        p=p,
        roi=SimpleNamespace(width=0, height=0, x_offset=0, y_offset=0),
        binning_x=0,
        binning_y=0,
    )
