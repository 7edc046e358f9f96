# SPDX-License-Identifier: MIT
"""Messages of sensors beside a camera, for tests: as rosbags makes them, without ROS."""

import struct
from typing import Any

import cv2
import numpy as np
from recording import ROS2, compressed_image, header

WIDTH, HEIGHT = 32, 24
IDENTITY = (0.0, 0.0, 0.0, 1.0)


def _type(name: str) -> Any:
    return ROS2.types[name]


def camera_info(
    stamp_ns: int = 0,
    focal_px: float = 30.0,
    size_px: tuple[int, int] = (WIDTH, HEIGHT),
    baseline_m: float = 0.0,
    d: tuple[float, ...] = (),
    model: str = "plumb_bob",
) -> Any:
    """A sensor_msgs/CameraInfo; with a baseline that of a right camera."""
    width, height = size_px
    k = np.array([focal_px, 0, width / 2, 0, focal_px, height / 2, 0, 0, 1])
    p = np.insert(k, [3, 6, 9], 0.0)
    p[3] = -focal_px * baseline_m
    roi = _type("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False)
    return _type("sensor_msgs/msg/CameraInfo")(
        header(stamp_ns), height, width, model, np.array(d), k, np.eye(3).ravel(), p, 0, 0, roi
    )


def odometry(
    stamp_ns: int,
    position_m: tuple[float, float, float] = (0.0, 0.0, 0.0),
    xyzw: tuple[float, float, float, float] = IDENTITY,
    covariance: np.ndarray | float = 0.01,
    child_frame_id: str = "base",
) -> Any:
    """A nav_msgs/Odometry; covariance: (6, 6), or the variance of each of the six."""
    matrix = np.eye(6) * covariance if isinstance(covariance, float) else covariance
    point = _type("geometry_msgs/msg/Point")(*position_m)
    pose = _type("geometry_msgs/msg/Pose")(point, _type("geometry_msgs/msg/Quaternion")(*xyzw))
    zero = _type("geometry_msgs/msg/Vector3")(0.0, 0.0, 0.0)
    twist = _type("geometry_msgs/msg/Twist")(zero, zero)
    head = header(stamp_ns)
    head.frame_id = "odom"
    return _type("nav_msgs/msg/Odometry")(
        head,
        child_frame_id,
        _type("geometry_msgs/msg/PoseWithCovariance")(pose, matrix.ravel()),
        _type("geometry_msgs/msg/TwistWithCovariance")(twist, np.zeros(36)),
    )


def compressed_depth(stamp_ns: int, depth_m: np.ndarray, encoding: str = "16UC1") -> Any:
    """As compressed_depth_image_transport makes it; NaN where depth is not known."""
    if encoding == "16UC1":
        head, values = struct.pack("<iff", 0, 0.0, 0.0), np.nan_to_num(depth_m * 1000)
    else:
        quantisation, max_m = 100.0, 10.0
        factor = quantisation * (quantisation + 1.0)
        offset = 1.0 - factor / max_m
        head = struct.pack("<iff", 1, factor, offset)
        values = np.nan_to_num(factor / depth_m + offset)
    _, png = cv2.imencode(".png", np.round(values).astype(np.uint16))
    return compressed_image(stamp_ns, head + png.tobytes(), f"{encoding}; compressedDepth png")
