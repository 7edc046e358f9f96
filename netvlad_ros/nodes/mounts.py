# SPDX-License-Identifier: MIT
"""How the camera is mounted: by parameter, or as tf2 knows it where that is installed."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from rclpy.node import Node
from rclpy.time import Time

from netvlad_ros.config import SensorsConfig
from netvlad_ros.errors import ConfigError, MessageError
from netvlad_ros.sensors.mount import TF, mount_of
from netvlad_ros.verification.rigid import rigid, rotation_of

# From the name of an optical frame to base_from_camera (4, 4); None where it is not known.
Mount = Callable[[str], np.ndarray | None]


def mount_lookup(node: Node, config: SensorsConfig) -> Mount:
    """Raises ConfigError; what is returned raises MessageError."""
    mount = mount_of(config.base_from_camera)
    if config.base_from_camera.strip() != TF:
        return lambda frame_id: mount
    if find_spec("tf2_ros") is None:
        raise ConfigError(
            "sensors.base_from_camera is tf, but tf2_ros is not installed; install it (ros-DISTRO-tf2-ros), "
            "or give x y z qx qy qz qw."
        )
    tf2 = import_module("tf2_ros")
    buffer = tf2.Buffer()
    buffer.listener = tf2.TransformListener(buffer, node)  # lives as long as what it fills

    def look_up(frame_id: str) -> np.ndarray:
        try:
            found = buffer.lookup_transform(config.base_frame, frame_id, Time()).transform
        except tf2.TransformException as error:
            raise MessageError(
                f"tf does not know how {frame_id} is mounted on {config.base_frame} ({error}); publish it, "
                "or set sensors.base_frame."
            ) from None
        at, turned = found.translation, found.rotation
        rotation = rotation_of(np.array([turned.x, turned.y, turned.z, turned.w]))
        return rigid(rotation, np.array([at.x, at.y, at.z]))

    return look_up
