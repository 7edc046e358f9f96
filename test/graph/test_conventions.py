# SPDX-License-Identifier: MIT
"""An edge weighs the same wherever it goes: orders are permuted, frames carried by the adjoint."""

from pathlib import Path

import numpy as np
import pytest

from netvlad_ros.graph.conventions import g2o_information, gtsam_covariance
from netvlad_ros.graph.g2o import Edge, write_g2o
from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.rigid import adjoint, exp, inverse, log, quaternion_of

MATRIX = exp(np.array([1.5, -0.4, 0.3, 0.3, -1.1, 0.7]))


def covariance(seed: int = 0) -> np.ndarray:
    """With all of its parts correlated, small enough that motions add up."""
    parts = np.random.default_rng(seed).normal(size=(6, 6)) * np.array([[0.02] * 3 + [0.004] * 3]).T
    return parts @ parts.T + 1e-8 * np.eye(6)


MOTION = Motion(MATRIX, covariance())


def samples(count: int) -> np.ndarray:
    """(count, 6) small motions of this covariance, translation before rotation."""
    return np.random.default_rng(1).multivariate_normal(np.zeros(6), MOTION.covariance, count)


def test_gtsam_takes_the_rotation_first():
    rotation_first = gtsam_covariance(MOTION)
    np.testing.assert_array_equal(rotation_first[:3, :3], MOTION.covariance[3:, 3:])
    np.testing.assert_array_equal(rotation_first[3:, 3:], MOTION.covariance[:3, :3])
    np.testing.assert_array_equal(rotation_first[:3, 3:], MOTION.covariance[3:, :3])


def test_the_way_back_and_other_frames_are_as_uncertain_as_disturbed_poses_are():
    """Poses that are disturbed a little from the right are carried there, and looked at again."""
    mount = exp(np.array([0.2, 0.1, 0.5, 1.2, -1.2, 1.2]))
    carried = {
        "back": (MOTION.inverse(), inverse),
        "base": (MOTION.between_others(mount, mount), lambda t: mount @ t @ inverse(mount)),
    }
    step = 1e-3  # OpenCV takes rotations below 1e-5 for none
    for motion, carry in carried.values():
        ahead, behind = (
            [
                log(inverse(motion.matrix) @ carry(MATRIX @ exp(xi)))
                for xi in sign * step * np.eye(6)
            ]
            for sign in (1, -1)
        )
        off = (np.array(ahead) - np.array(behind)).T / (2 * step)
        expected = off @ MOTION.covariance @ off.T
        np.testing.assert_allclose(motion.covariance, expected, atol=1e-4 * expected.max())


def test_what_an_edge_costs_is_the_same_in_each_order_and_frame():
    xi = samples(1)[0]
    cost = xi @ np.linalg.solve(MOTION.covariance, xi)
    rotation_first = xi[[3, 4, 5, 0, 1, 2]]
    assert rotation_first @ np.linalg.solve(
        gtsam_covariance(MOTION), rotation_first
    ) == pytest.approx(cost)
    assert xi @ g2o_information(MOTION) @ xi == pytest.approx(cost)
    from_left = adjoint(MATRIX) @ xi  # exp(from_left) T is T exp(xi)
    np.testing.assert_allclose(exp(from_left) @ MATRIX, MATRIX @ exp(xi), atol=1e-12)


def test_a_motion_that_is_said_to_be_exact_has_a_weight_too():
    information = g2o_information(Motion(MATRIX, np.zeros((6, 6))))
    np.testing.assert_allclose(information, 1e12 * np.eye(6))


def test_in_g2o_itself_twice_the_rotation_rows_and_columns_weigh_the_same():
    """Its error is the translation and the vector part of the quaternion."""
    xi = 1e-3 * samples(1)[0]
    error = np.append(exp(xi)[:3, 3], quaternion_of(exp(xi)[:3, :3])[:3])
    twice = np.diag([1.0, 1, 1, 2, 2, 2])
    expected = xi @ g2o_information(MOTION) @ xi
    assert error @ (twice @ g2o_information(MOTION) @ twice) @ error == pytest.approx(
        expected, rel=1e-4
    )


def test_a_g2o_file_has_poses_and_the_upper_triangle_of_the_information(tmp_path: Path):
    path = tmp_path / "graph.g2o"
    write_g2o(path, {7: np.eye(4), 9: MATRIX}, [Edge(7, 9, MOTION)])
    first, second, edge = path.read_text().splitlines()
    assert first == "VERTEX_SE3:QUAT 7 0 0 0 0 0 0 1"
    pose = [*MATRIX[:3, 3], *quaternion_of(MATRIX[:3, :3])]
    assert second.split()[:2] == ["VERTEX_SE3:QUAT", "9"]
    np.testing.assert_allclose([float(word) for word in second.split()[2:]], pose, rtol=1e-8)
    assert edge.split()[:3] == ["EDGE_SE3:QUAT", "7", "9"]
    numbers = np.array([float(word) for word in edge.split()[3:]])
    np.testing.assert_allclose(numbers[:7], pose, rtol=1e-8)
    information = np.linalg.inv(MOTION.covariance)
    np.testing.assert_allclose(numbers[7:], information[np.triu_indices(6)], rtol=1e-6)
