# SPDX-License-Identifier: MIT
"""A robot that drives round a block, and what drifting odometry makes of that."""

from itertools import pairwise

import numpy as np

from netvlad_ros.image_data import Pose
from netvlad_ros.verification.rigid import exp, inverse, quaternion_of

LAP = 40  # keyframes


def square(count: int) -> list[np.ndarray]:
    """Poses (4, 4), 2 m from each to the next, round a block of 20 m."""
    poses = [np.eye(4)]
    for step in range(1, count):
        turn = np.pi / 2 if step % 10 == 0 else 0.0
        moved = exp(np.array([2.0, 0, 0, 0, 0, 0])) @ exp(np.array([0, 0, 0, 0, 0, turn]))
        poses.append(poses[-1] @ moved)
    return poses


def drifted(poses: list[np.ndarray], per_step: np.ndarray) -> list[np.ndarray]:
    """Each step is off by the same small motion (6,)."""
    odometry = [poses[0]]
    for before, pose in pairwise(poses):
        odometry.append(odometry[-1] @ inverse(before) @ pose @ exp(per_step))
    return odometry


def pose_of(matrix: np.ndarray, frame_id: str = "odom") -> Pose:
    return Pose(frame_id, "base", matrix[:3, 3], quaternion_of(matrix[:3, :3]))


TRUTH = square(2 * LAP)
ODOMETRY = drifted(TRUTH, np.array([0.02, 0.01, 0, 0, 0, 0.004]))
