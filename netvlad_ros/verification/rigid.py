# SPDX-License-Identifier: MIT
"""Rigid motions as (4, 4) matrices, and how small motions pass through them.

A small motion is six numbers, translation (m) before rotation (rad), in the frame of the child:
T exp(xi), as GTSAM has it but for the order. Barfoot, State Estimation for Robotics, chapter 7.
Where many are meant, they have leading dimensions: (..., 4, 4) and (..., 6).
"""

import cv2
import numpy as np

from netvlad_ros.image_data import Pose

_EYE = np.eye(3)


def rigid(rotation: np.ndarray, translation_m: np.ndarray) -> np.ndarray:
    """(4, 4) of a rotation (3, 3) and a translation (3,)."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, translation_m
    return matrix


def inverse(matrix: np.ndarray) -> np.ndarray:
    """Of one rigid motion or many."""
    rotations = np.swapaxes(matrix[..., :3, :3], -1, -2)
    return _rigid(rotations, -rotations @ matrix[..., :3, 3:])


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
    """The matrices (..., 3, 3) of the cross product with vectors (..., 3) from the left."""
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    result = np.zeros((*vector.shape, 3))
    result[..., 0, 1], result[..., 0, 2], result[..., 1, 2] = -z, y, -x
    result[..., 1, 0], result[..., 2, 0], result[..., 2, 1] = z, -y, x
    return result


def adjoint(matrix: np.ndarray) -> np.ndarray:
    """How small motions look from the other side, (..., 6, 6): T exp(xi) is exp(adjoint @ xi) T."""
    rotation = matrix[..., :3, :3]
    result = np.zeros((*matrix.shape[:-2], 6, 6))
    result[..., :3, :3] = result[..., 3:, 3:] = rotation
    result[..., :3, 3:] = hat(matrix[..., :3, 3]) @ rotation
    return result


def exp(xi: np.ndarray) -> np.ndarray:
    """From six numbers (..., 6) to the motion (..., 4, 4)."""
    jacobian = _left_jacobian(xi[..., 3:])
    return _rigid(_EYE + hat(xi[..., 3:]) @ jacobian, jacobian @ xi[..., :3, None])


def log(matrix: np.ndarray) -> np.ndarray:
    """From the motion (4, 4) to its six numbers, the inverse of exp."""
    rotation = cv2.Rodrigues(np.ascontiguousarray(matrix[:3, :3], np.float64))[0][:, 0]
    return np.append(np.linalg.solve(_left_jacobian(rotation), matrix[:3, 3]), rotation)


def angle_deg(rotation: np.ndarray) -> float:
    """By how much a rotation (3, 3) or motion (4, 4) turns, 0 to 180."""
    rotation = np.ascontiguousarray(rotation[:3, :3], np.float64)
    return float(np.degrees(np.linalg.norm(cv2.Rodrigues(rotation)[0])))


def _rigid(rotation: np.ndarray, translation_m: np.ndarray) -> np.ndarray:
    """(..., 4, 4) of rotations (..., 3, 3) and translations (..., 3, 1)."""
    result = np.zeros((*rotation.shape[:-2], 4, 4))
    result[..., :3, :3], result[..., :3, 3:], result[..., 3, 3] = rotation, translation_m, 1.0
    return result


def _left_jacobian(rotation: np.ndarray) -> np.ndarray:
    """(..., 3, 3) of rotation vectors (..., 3)."""
    angle, cross = np.sqrt((rotation * rotation).sum(-1))[..., None, None], hat(rotation)
    angle = np.maximum(angle, 1e-6)  # below, what follows is as good as it is at this angle
    a, b = (1 - np.cos(angle)) / angle**2, (angle - np.sin(angle)) / angle**3
    return np.asarray(_EYE + a * cross + b * (cross @ cross))
