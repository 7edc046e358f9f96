# SPDX-License-Identifier: MIT
"""Rigid motions as (4, 4) matrices, and how small motions pass through them.

A small motion is six numbers, translation (m) before rotation (rad), in the frame of the child:
T exp(xi), as GTSAM has it but for the order. Barfoot, State Estimation for Robotics, chapter 7.
"""

import cv2
import numpy as np

from netvlad_ros.image_data import Pose


def rigid(rotation: np.ndarray, translation_m: np.ndarray) -> np.ndarray:
    """(4, 4) of a rotation (3, 3) and a translation (3,)."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, translation_m
    return matrix


def inverse(matrix: np.ndarray) -> np.ndarray:
    """Of a rigid motion."""
    rotation = matrix[:3, :3].T
    return rigid(rotation, -rotation @ matrix[:3, 3])


def of_pose(pose: Pose) -> np.ndarray:
    """(4, 4): p_frame = matrix p_child."""
    return rigid(rotation_of(pose.orientation_xyzw), pose.position_m)


def rotation_of(quaternion_xyzw: np.ndarray) -> np.ndarray:
    """(3, 3) of a unit quaternion."""
    x, y, z, w = quaternion_xyzw
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_of(rotation: np.ndarray) -> np.ndarray:
    """(4,) x, y, z, w with w not negative."""
    vector = cv2.Rodrigues(np.ascontiguousarray(rotation, np.float64))[0][:, 0]
    half = np.linalg.norm(vector) / 2
    scale = np.sin(half) / (2 * half) if half > 1e-12 else 0.5
    return np.append(vector * scale, np.cos(half))


def hat(vector: np.ndarray) -> np.ndarray:
    """The (3, 3) matrix of the cross product with a vector from the left."""
    x, y, z = vector
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])


def adjoint(matrix: np.ndarray) -> np.ndarray:
    """How a small motion looks from the other side, (6, 6): T exp(xi) is exp(adjoint @ xi) T."""
    rotation = matrix[:3, :3]
    result = np.zeros((6, 6))
    result[:3, :3] = result[3:, 3:] = rotation
    result[:3, 3:] = hat(matrix[:3, 3]) @ rotation
    return result


def exp(xi: np.ndarray) -> np.ndarray:
    """From six numbers to the motion (4, 4)."""
    rotation, _ = cv2.Rodrigues(np.asarray(xi[3:], np.float64))
    return rigid(rotation, _left_jacobian(xi[3:]) @ xi[:3])


def log(matrix: np.ndarray) -> np.ndarray:
    """From the motion (4, 4) to its six numbers, the inverse of exp."""
    rotation = cv2.Rodrigues(np.ascontiguousarray(matrix[:3, :3], np.float64))[0][:, 0]
    return np.append(np.linalg.solve(_left_jacobian(rotation), matrix[:3, 3]), rotation)


def angle_deg(rotation: np.ndarray) -> float:
    """By how much a rotation (3, 3) or motion (4, 4) turns, 0 to 180."""
    rotation = np.ascontiguousarray(rotation[:3, :3], np.float64)
    return float(np.degrees(np.linalg.norm(cv2.Rodrigues(rotation)[0])))


def _left_jacobian(rotation: np.ndarray) -> np.ndarray:
    angle, cross = float(np.linalg.norm(rotation)), hat(rotation)
    if angle < 1e-6:
        return np.eye(3) + cross / 2
    a, b = (1 - np.cos(angle)) / angle**2, (angle - np.sin(angle)) / angle**3
    return np.eye(3) + a * cross + b * cross @ cross
