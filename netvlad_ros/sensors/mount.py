# SPDX-License-Identifier: MIT
"""How the camera is mounted on the robot, as a parameter says it."""

import numpy as np

from netvlad_ros.errors import ConfigError
from netvlad_ros.verification.rigid import rigid, rotation_of

# Ask tf2.
TF = "tf"


def mount_of(text: str) -> np.ndarray | None:
    """(4, 4) base_from_camera out of sensors.base_from_camera; None if it is empty or `tf`.

    Raises ConfigError.
    """
    words = text.replace(",", " ").split()
    if not words or words == [TF]:
        return None
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError:
        numbers = np.empty(0)
    position_m, turned = numbers[:3], numbers[3:]
    if not np.isfinite(numbers).all() or len(turned) not in (3, 4):
        raise ConfigError(
            "sensors.base_from_camera: expected x y z qx qy qz qw, or x y z roll pitch yaw, or tf; got "
            f"{text!r}."
        )
    if len(turned) == 3:
        return rigid(_of_euler(*turned.tolist()), position_m)
    length = float(np.linalg.norm(turned))
    if abs(length - 1.0) > 0.01:
        raise ConfigError(
            f"sensors.base_from_camera: expected a quaternion of unit length, got length {length:.3g}."
        )
    return rigid(rotation_of(turned / length), position_m)


def _of_euler(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """About the fixed axes x, y, z, in this order, as static_transform_publisher and URDF have it."""
    about_x = rotation_of(np.array([np.sin(roll / 2), 0.0, 0.0, np.cos(roll / 2)]))
    about_y = rotation_of(np.array([0.0, np.sin(pitch / 2), 0.0, np.cos(pitch / 2)]))
    about_z = rotation_of(np.array([0.0, 0.0, np.sin(yaw / 2), np.cos(yaw / 2)]))
    return about_z @ about_y @ about_x
