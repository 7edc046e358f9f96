# SPDX-License-Identifier: MIT
"""How uncertain an edge is, in the order in which each back-end takes it.

All of these disturb a pose from the right, in the frame of its child, as Motion does: T exp(xi).
"""

import numpy as np

from netvlad_ros.verification.motion import Motion

# Odometry that is said to be exact still weighs no more than this.
LEAST_VARIANCE = 1e-12
_ROTATION_FIRST = [3, 4, 5, 0, 1, 2]


def gtsam_covariance(motion: Motion) -> np.ndarray:
    """(6, 6), rotation (rad) before translation (m).

    For BetweenFactorPose3(match, query, Pose3(motion.matrix), noiseModel.Gaussian.Covariance(...)).
    """
    return motion.covariance[np.ix_(_ROTATION_FIRST, _ROTATION_FIRST)]


def g2o_information(motion: Motion) -> np.ndarray:
    """(6, 6), translation (m) before rotation (rad): the inverse of the covariance.

    For EDGE_SE3:QUAT as GTSAM, Ceres' pose_graph_3d and most others read it, where rotations are rotation
    vectors. g2o's own EdgeSE3 takes the vector part of the error's quaternion, half of that: to weigh the
    same in there, multiply the last three rows and the last three columns by 2.
    """
    variances, axes = np.linalg.eigh(motion.covariance)
    return (axes / np.maximum(variances, LEAST_VARIANCE)) @ axes.T
