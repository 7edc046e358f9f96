# SPDX-License-Identifier: MIT
"""Small motions pass through rigid ones as the adjoint says, and so do their covariances."""

import numpy as np
import pytest

from netvlad_ros.image_data import Pose
from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.rigid import (
    adjoint,
    angle_deg,
    exp,
    inverse,
    log,
    quaternion_of,
    rigid,
    rotation_of,
)

RNG = np.random.default_rng(3)
MOTIONS = [exp(np.r_[RNG.normal(0, 2, 3), RNG.normal(0, 1, 3)]) for _ in range(5)]
SMALL = [np.diag(RNG.uniform(0.5, 2, 6) * 1e-6) for _ in range(5)]


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e-3, 1.0, 3.0])
def test_log_undoes_exp(scale: float) -> None:
    xi = scale * np.array([1.0, -2.0, 0.5, 0.6, -0.7, 0.2])
    assert log(exp(xi)) == pytest.approx(xi, abs=1e-9)


def test_a_half_turn_is_180_degrees() -> None:
    assert angle_deg(exp(np.array([0, 0, 0, np.pi, 0, 0]))) == pytest.approx(180.0)


@pytest.mark.parametrize("motion", MOTIONS)
def test_quaternions_are_the_same_rotation(motion: np.ndarray) -> None:
    assert rotation_of(quaternion_of(motion[:3, :3])) == pytest.approx(motion[:3, :3], abs=1e-9)


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_adjoint_moves_a_small_motion_to_the_other_side(motion: np.ndarray) -> None:
    xi = np.array([0.1, -0.2, 0.3, 0.02, 0.01, -0.03])
    assert motion @ exp(xi) == pytest.approx(exp(adjoint(motion) @ xi) @ motion, abs=1e-9)


def drawn(motion: Motion, count: int = 20_000) -> list[np.ndarray]:
    errors = np.random.default_rng(1).multivariate_normal(np.zeros(6), motion.covariance, count)
    return [motion.matrix @ exp(xi) for xi in errors]


def spread(matrix: np.ndarray, samples: list[np.ndarray]) -> np.ndarray:
    return np.cov(np.stack([log(inverse(matrix) @ each) for each in samples]).T)


def close(found: np.ndarray, expected: np.ndarray) -> None:
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.abs(found / scale - expected / scale).max() < 0.1


def test_covariances_of_the_way_back_are_those_of_samples() -> None:
    there = Motion(MOTIONS[0], SMALL[0])
    back = there.inverse()
    close(spread(back.matrix, [inverse(each) for each in drawn(there, 5000)]), back.covariance)


def test_covariances_of_motions_that_follow_each_other_are_those_of_samples() -> None:
    a, b = Motion(MOTIONS[1], SMALL[1]), Motion(MOTIONS[2], SMALL[2])
    both = a.then(b)
    rng = np.random.default_rng(2)
    samples = [
        a.matrix
        @ exp(rng.multivariate_normal(np.zeros(6), a.covariance))
        @ b.matrix
        @ exp(rng.multivariate_normal(np.zeros(6), b.covariance))
        for _ in range(5000)
    ]
    close(spread(both.matrix, samples), both.covariance)


def test_the_motion_of_the_base_has_the_covariance_of_samples() -> None:
    camera = Motion(MOTIONS[0], SMALL[3])
    mounts = MOTIONS[3], MOTIONS[4]
    base = camera.between_others(*mounts)
    samples = [mounts[0] @ each @ inverse(mounts[1]) for each in drawn(camera, 5000)]
    close(spread(base.matrix, samples), base.covariance)


def test_a_deviation_counts_standard_deviations() -> None:
    still = Motion(np.eye(4), np.eye(6) * 0.5)
    moved = Motion(exp(np.array([3.0, 0, 0, 0, 0, 0])), np.eye(6) * 0.5)
    assert still.deviation(moved) == pytest.approx(3.0)
    assert moved.least_length_m(2.0) == pytest.approx(3.0 - 2.0 * np.sqrt(0.5))
    assert still.least_length_m(2.0) == 0.0


def test_a_covariance_becomes_that_of_ros_and_back() -> None:
    """REP 103: of the position in the header's frame, then of turns about the axes of that frame."""
    rng = np.random.default_rng(5)
    spread = rng.normal(size=(6, 6)) * 1e-3
    motion = Motion(exp(np.array([4.0, -2, 1, 0.5, -0.9, 2.0])), spread @ spread.T)
    drawn = rng.multivariate_normal(np.zeros(6), motion.covariance, 20_000)
    rows = []
    for xi in drawn:
        moved = motion.matrix @ exp(xi)
        turn = moved[:3, :3] @ motion.matrix[:3, :3].T
        rows.append(
            np.append(moved[:3, 3] - motion.matrix[:3, 3], log(rigid(turn, np.zeros(3)))[3:])
        )
    measured = np.cov(np.array(rows).T)
    scale = np.sqrt(np.outer(np.diag(measured), np.diag(measured)))
    assert motion.covariance_in_parent / scale == pytest.approx(measured / scale, abs=0.03)
    turn = motion.matrix[:3, :3]
    pose = Pose("", "", motion.matrix[:3, 3], quaternion_of(turn), motion.covariance_in_parent)
    again = Motion.of_pose(pose)
    assert again.matrix == pytest.approx(motion.matrix)
    assert again.covariance == pytest.approx(motion.covariance)
