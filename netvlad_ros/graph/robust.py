# SPDX-License-Identifier: MIT
"""Pose graphs whose loop closures may be wrong, solved by GTSAM."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from netvlad_ros.errors import GraphError
from netvlad_ros.graph.conventions import gtsam_covariance
from netvlad_ros.graph.g2o import Edge
from netvlad_ros.verification.motion import Motion

# A closure that is right passes with this probability, if its covariance and that of odometry are right.
INLIER_PROBABILITY = 0.99
# By how much the cost grows less convex in each step, and how often it is linearised in between.
STEP, ITERATIONS = 4.0, 5
# What holds a part of the graph where it was put, should all its closures be wrong: it weighs nothing.
LOOSE_M, LOOSE_RAD = 1e3, 1e2
LEVEL_RAD = np.radians(1.0)
LEAST_VARIANCE = 1e-10


def gtsam_module() -> Any:
    """GTSAM. Raises GraphError where it is not installed."""
    try:
        import gtsam
    except ImportError:
        raise GraphError(
            "gtsam is not installed, which solves pose graphs; install it: pip install 'gtsam>=4.3'."
        ) from None
    return gtsam


def solve(
    poses: Mapping[int, np.ndarray],
    priors: Mapping[int, Motion],
    ups: Mapping[int, np.ndarray],
    odometry: Sequence[Edge],
    closures: Sequence[Edge],
) -> tuple[dict[int, np.ndarray], list[bool]]:
    """The poses of all vertices, and for each closure whether it is right.

    Graduated non-convexity with truncated least squares; what is not a closure is taken as it is.
    Yang et al., Graduated Non-Convexity for Robust Spatial Perception, RA-L 2020.

    poses:  by the numbers of vertices, a first guess of each (4, 4).
    priors: where vertices are, as somebody knows.
    ups:    (3,) what is up in a vertex' frame, where z of the graph is up and gravity is measured.
    Raises GraphError if GTSAM is not installed or can't solve it.
    """
    gtsam = gtsam_module()
    graph, guess = gtsam.NonlinearFactorGraph(), gtsam.Values()
    loose = gtsam.noiseModel.Diagonal.Sigmas(np.repeat([LOOSE_RAD, LOOSE_M], 3))
    for number, pose in poses.items():
        guess.insert(number, gtsam.Pose3(pose))
    children = {edge.child for edge in odometry} | priors.keys()
    for number in poses.keys() - children:
        graph.add(gtsam.PriorFactorPose3(number, gtsam.Pose3(poses[number]), loose))
    for number, motion in priors.items():
        pose = gtsam.Pose3(motion.matrix)
        graph.add(gtsam.PriorFactorPose3(number, pose, _noise(gtsam, motion)))
    level, upright = gtsam.noiseModel.Isotropic.Sigma(2, LEVEL_RAD), gtsam.Unit3([0, 0, 1])
    for number, up in ups.items():
        graph.add(gtsam.AttitudeFactorPose3(number, upright, level, gtsam.Unit3(up)))
    for edge in (*odometry, *closures):
        moved = gtsam.Pose3(edge.motion.matrix)
        noise = _noise(gtsam, edge.motion)
        graph.add(gtsam.BetweenFactorPose3(edge.parent, edge.child, moved, noise))
    taken = graph.size() - len(closures)
    try:
        found, weights = _optimized(gtsam, graph, guess, taken)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise GraphError(f"the pose graph can't be solved: {reason}") from None
    solved = {number: found.atPose3(number).matrix() for number in poses}
    return solved, [bool(weight > 0.5) for weight in weights[taken:]]


def _optimized(gtsam: Any, graph: Any, guess: Any, taken: int) -> tuple[Any, np.ndarray]:
    """taken: how many of the factors, the first ones, are right in any case."""
    steps = gtsam.LevenbergMarquardtParams()
    steps.setMaxIterations(ITERATIONS)
    params = gtsam.GncLMParams(steps)
    params.setLambdaStep(STEP)
    params.setKnownInliers(list(range(taken)))
    optimizer = gtsam.GncLMOptimizer(graph, guess, params)
    optimizer.setInlierCostThresholdsAtProbability(INLIER_PROBABILITY)
    optimizer.setWeights(_first_weights(graph, guess, taken, optimizer.getInlierCostThresholds()))
    found = optimizer.optimize()
    return found, optimizer.getWeights()


def _first_weights(graph: Any, guess: Any, taken: int, limits: np.ndarray) -> np.ndarray:
    """The less, the further a closure is from the guess: one that is far off would else bend all others.

    limits: what each factor costs at most if it is right.
    """
    costs = np.array([graph.at(each).error(guess) for each in range(graph.size())])
    weights = limits / np.maximum(costs, limits)
    weights[:taken] = 1.0
    return weights


def _noise(gtsam: Any, motion: Motion) -> Any:
    covariance = gtsam_covariance(motion) + LEAST_VARIANCE * np.eye(6)
    return gtsam.noiseModel.Gaussian.Covariance(covariance)
