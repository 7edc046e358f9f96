# SPDX-License-Identifier: MIT
"""Keyframes between two whose corrected poses are known: what odometry was off by is spread over the way."""

import numpy as np

from netvlad_ros.verification.rigid import adjoint, exp, inverse, log

# Of the heading's error beside that of the position, in radians for each metre.
RAD_PER_M = 0.02
# What a level odometry says of roll and pitch is changed so much less.
LEVEL_SHARE = 1e-3
ROUNDS = 3


def spread(odometry: np.ndarray, rows: np.ndarray, known: np.ndarray, is_level: bool) -> np.ndarray:
    """(n, 4, 4): the poses of a drive that passes through the known ones.

    Of all that do, those whose steps differ least from those of odometry, where each metre may err alike.
    odometry: (n, 4, 4) as it came.
    rows:     (v,) which of them are known, in order, the first and the last among them; v at least 2.
    known:    (v, 4, 4) where they are.
    is_level: it errs in position and heading only.
    """
    steps = inverse(odometry[:-1]) @ odometry[1:]
    ways_m = np.linalg.norm(steps[:, :3, 3], axis=1) + 1e-3
    stretch = np.repeat(np.arange(len(rows) - 1), np.diff(rows))  # that each step is of
    for _ in range(ROUNDS):
        poses = _chained(known[:-1], rows, steps)
        reached = poses[rows[1:] - 1]
        off = np.array([log(each) for each in inverse(reached) @ known[1:]])
        carried = adjoint(inverse(known[1:])[stretch] @ poses)
        weights = _weights(poses, is_level) * ways_m[:, None, None]
        weighed = weights @ carried.transpose(0, 2, 1)
        together = np.add.reduceat(carried @ weighed, rows[:-1])
        shares = weighed @ np.linalg.solve(together, off[..., None])[stretch]
        steps = steps @ exp(shares[..., 0])
    poses = np.concatenate([known[:1], _chained(known[:-1], rows, steps)])
    poses[rows] = known
    return poses


def _chained(firsts: np.ndarray, rows: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(n - 1, 4, 4): where each step ends, if stretches begin at the first poses.

    By twice as many steps each time, as Hillis and Steele do.
    """
    poses = steps.copy()
    poses[rows[:-1]] = firsts @ steps[rows[:-1]]
    before = np.arange(len(steps)) - np.repeat(rows[:-1], np.diff(rows))  # in its stretch
    reach = 1
    while len(later := np.flatnonzero(before >= reach)):
        poses[later] = poses[later - reach] @ poses[later]
        reach *= 2
    return poses


def _weights(poses: np.ndarray, is_level: bool) -> np.ndarray:
    """(n, 6, 6) covariances of the errors of one metre before each pose (n, 4, 4), up to a factor."""
    turns = np.eye(3)
    if is_level:
        up = poses[:, 2, :3]
        turns = up[:, :, None] * up[:, None, :] + LEVEL_SHARE * np.eye(3)
    result = np.tile(np.eye(6), (len(poses), 1, 1))
    result[:, 3:, 3:] = RAD_PER_M**2 * turns
    return result
