# SPDX-License-Identifier: MIT
"""Keyframes between two whose corrected poses are known: what odometry was off by is spread over the way."""

from itertools import pairwise

import numpy as np

from netvlad_ros.verification.rigid import adjoint, exp, inverse, log

# Of the heading's error beside that of the position, in radians for each metre.
RAD_PER_M = 0.02
# What a level odometry says of roll and pitch is changed so much less.
LEVEL_SHARE = 1e-3
ROUNDS = 3


def spread(odometry: np.ndarray, first: np.ndarray, last: np.ndarray, is_level: bool) -> np.ndarray:
    """(n, 4, 4): the poses of a stretch that begins and ends at the given ones.

    Of all that do, the one whose steps differ least from those of odometry, where each metre may err alike.
    odometry: (n, 4, 4) as it came, n at least 2.
    is_level: it errs in position and heading only.
    """
    steps = np.array([inverse(a) @ b for a, b in pairwise(odometry)])
    ways_m = np.linalg.norm(steps[:, :3, 3], axis=1) + 1e-3
    for _ in range(ROUNDS):
        poses = _chained(first, steps)
        off = log(inverse(poses[-1]) @ last)
        carried = np.array([adjoint(inverse(last) @ pose) for pose in poses[1:]])
        weights = np.array([_weights(pose, is_level) for pose in poses[1:]]) * ways_m[:, None, None]
        weighed = weights @ carried.transpose(0, 2, 1)
        shares = weighed @ np.linalg.solve((carried @ weighed).sum(0), off)
        steps = np.array([step @ exp(share) for step, share in zip(steps, shares, strict=True)])
    poses = _chained(first, steps)
    poses[-1] = last
    return poses


def _chained(first: np.ndarray, steps: np.ndarray) -> np.ndarray:
    poses = [first]
    for step in steps:
        poses.append(poses[-1] @ step)
    return np.array(poses)


def _weights(pose: np.ndarray, is_level: bool) -> np.ndarray:
    """(6, 6) covariance of the error of one metre, up to a factor."""
    turns = np.eye(3)
    if is_level:
        up = pose[2, :3]
        turns = np.outer(up, up) + LEVEL_SHARE * np.eye(3)
    result = np.eye(6)
    result[3:, 3:] = RAD_PER_M**2 * turns
    return result
