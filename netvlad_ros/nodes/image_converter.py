# SPDX-License-Identifier: MIT
"""What turns image messages into arrays: cv_bridge where it works, or OpenCV alone."""

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from netvlad_ros.config import DEFAULT_CAMERA, CameraConfig
from netvlad_ros.data.image_messages import ENCODINGS, CompressedImage, check, to_image
from netvlad_ros.errors import ConfigError


class Converter(Protocol):
    """A sensor_msgs image in, RGB (H, W, 3) or grey (H, W) of uint8 out."""

    def __call__(self, message: Any, camera: CameraConfig = DEFAULT_CAMERA) -> np.ndarray: ...


# Encoding -> what cv_bridge is asked for; every release knows these.
_TARGETS = {
    name: "mono8" if name.startswith("mono") else "rgb8"
    for name in ENCODINGS
    if (name.startswith(("rgb", "bgr", "mono", "bayer")) and name.endswith("8")) or name == "yuv422"
}

# cv_bridge's own binary module is compiled for one generation of numpy. With another one importing it
# prints a page, and the first colour conversion may crash the process: so another process tries it.
_TRIAL = """
from types import SimpleNamespace
from cv_bridge import CvBridge
fields = dict(height=1, width=1, encoding="bgr8", is_bigendian=0, step=3, data=bytes([1, 2, 3]))
assert CvBridge().imgmsg_to_cv2(SimpleNamespace(**fields), "rgb8").tolist() == [[[3, 2, 1]]]
"""


def image_converter(name: str) -> Converter:
    """The function from a sensor_msgs image and the camera's configuration to RGB or grey, uint8.

    name: `opencv`; `cv_bridge`; or `auto`, which is cv_bridge if it works and OpenCV if not. Both give
    the same pixels and the same errors. Raises ConfigError if cv_bridge is asked for and does not work.
    """
    if name == "opencv":
        return to_image
    trouble = _trouble_with_cv_bridge()
    if not trouble:
        return _cv_bridge_converter()
    if name == "cv_bridge":
        raise ConfigError(
            f"cv_bridge {trouble}; set camera.converter to opencv, which gives the same pixels."
        )
    return to_image


def _trouble_with_cv_bridge() -> str:
    """Why cv_bridge can't be used here; empty if it can."""
    if find_spec("cv_bridge") is None:
        return "is not installed"
    command = [sys.executable, "-c", _TRIAL]
    trial = subprocess.run(command, check=False, capture_output=True, text=True)
    if trial.returncode == 0:
        return ""
    if trial.returncode < 0:
        return f"crashes with the installed numpy {np.__version__}"
    return f"does not work ({trial.stderr.strip().splitlines()[-1]})"


def _cv_bridge_converter() -> Converter:
    bridge = import_module("cv_bridge").CvBridge()

    def convert(message: Any, camera: CameraConfig = DEFAULT_CAMERA) -> np.ndarray:
        if isinstance(message, CompressedImage) or not _is_for_cv_bridge(message):
            return to_image(message, camera)
        check(message, camera)
        return bridge.imgmsg_to_cv2(message, _TARGETS[message.encoding])

    return convert


def _is_for_cv_bridge(message: Any) -> bool:
    """False for what it lacks or gets wrong: generic types, other byte orders, padding by odd bytes.

    Nor are compressed images, grey ones of which it makes colour, and 16 bits, which it takes for all in use.
    """
    return (
        message.encoding in _TARGETS
        and not message.is_bigendian
        and message.step % ENCODINGS[message.encoding].size == 0
    )
