# SPDX-License-Identifier: MIT
"""Keyframes come to where closures and odometry put them, whatever wrong closures say."""

from itertools import pairwise

import numpy as np
import pytest
from made_up_drives import LAP, ODOMETRY, TRUTH, pose_of

from netvlad_ros.graph.pose_graph import PoseGraph, Solution
from netvlad_ros.graph.solver_process import SolverProcess
from netvlad_ros.graph.stretches import spread
from netvlad_ros.image_data import CorrectedPose, ImageData, Pose
from netvlad_ros.keyframe import Keyframe, Session
from netvlad_ros.verification.geometry import BASE, CAMERA_OPTICAL, Geometry
from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.rigid import exp, inverse

pytestmark = pytest.mark.needs("gtsam")

CLOSURE_SD = np.repeat([0.02, 0.003], 3)
SESSION = Session("5e" * 16)


def keyframe(number: int, session: Session = SESSION) -> Keyframe:
    return Keyframe(session, number, number * 10**9)


def driven(graph: PoseGraph, odometry: list[np.ndarray], session: Session = SESSION) -> None:
    for number, matrix in enumerate(odometry):
        problem = graph.add_keyframe(keyframe(number, session), ImageData(odometry=pose_of(matrix)))
        assert problem == ""


def geometry(moved: np.ndarray, frame: str = BASE) -> Geometry:
    return Geometry(match_from_query=Motion(moved, np.diag(CLOSURE_SD**2)), frame=frame)


def close(graph: PoseGraph, match: int, query: int, off: np.ndarray | None = None) -> None:
    moved = inverse(TRUTH[match]) @ TRUTH[query]
    if off is not None:
        moved = moved @ exp(off)
    assert graph.add_closure(keyframe(match), keyframe(query), geometry(moved)) == ""


def errors_m(solution: Solution, session: Session = SESSION) -> np.ndarray:
    return np.array(
        [
            np.linalg.norm(pose[:3, 3] - TRUTH[number][:3, 3])
            for (uuid, number), pose in solution.poses.items()
            if uuid == session.uuid
        ]
    )


def test_without_closures_keyframes_are_where_odometry_says():
    graph = PoseGraph()
    driven(graph, ODOMETRY)
    solution = graph.solve()
    for number, matrix in enumerate(ODOMETRY):
        np.testing.assert_allclose(solution.poses[SESSION.uuid, number], matrix, atol=1e-9)


def test_closures_correct_all_keyframes_also_those_between_them():
    graph = PoseGraph()
    driven(graph, ODOMETRY)
    before_m = errors_m(graph.solve())
    for number in range(0, LAP, 5):
        close(graph, number, LAP + number)
    after_m = errors_m(graph.solve())
    assert len(after_m) == 2 * LAP
    assert np.sqrt((after_m**2).mean()) < np.sqrt((before_m**2).mean()) / 3


def test_one_wrong_closure_in_five_bends_nothing():
    straight, graph = PoseGraph(), PoseGraph()
    rng = np.random.default_rng(3)
    for each in (straight, graph):
        driven(each, ODOMETRY)
        for number in range(0, LAP, 2):
            close(each, number, LAP + number)
    wrong = [(int(rng.integers(LAP)), LAP + int(rng.integers(LAP))) for _ in range(5)]
    for match, query in wrong:
        close(graph, match, query, np.append(rng.normal(0, 8, 2), [0, 0, 0, 1.0]))
    solution = graph.solve()
    assert {tuple(n for _, n in c.names) for c in solution.rejected} == set(wrong)
    assert "contradict" in next(iter(solution.rejected.values()))
    for name, pose in straight.solve().poses.items():
        np.testing.assert_allclose(solution.poses[name], pose, atol=0.05)


@pytest.mark.parametrize("off_m", [100.0, 1e5])
def test_one_closure_that_is_far_off_takes_no_other_out(off_m: float):
    graph = PoseGraph()
    driven(graph, ODOMETRY)
    for number in range(0, LAP, 2):
        close(graph, number, LAP + number)
    close(graph, 7, LAP + 9, np.array([off_m, 0, 0, 0, 0, 0]))
    solution = graph.solve()
    assert [c.match.number for c in solution.rejected] == [7]
    assert len(solution.used) == LAP // 2


def test_a_closure_before_its_keyframes_waits_for_them():
    graph = PoseGraph()
    close(graph, 0, LAP)
    assert len(graph.solve().waiting) == 1
    driven(graph, ODOMETRY)
    solution = graph.solve()
    assert solution.waiting == []
    assert len(solution.used) == 1


def test_what_odometry_does_not_connect_has_no_pose_until_a_closure_connects_it():
    graph = PoseGraph()
    driven(graph, ODOMETRY[:LAP])
    other = Session("0b" * 16)
    for number in range(LAP):
        data = ImageData(odometry=pose_of(ODOMETRY[LAP + number], "odom+1"))
        graph.add_keyframe(keyframe(number, other), data)
    solution = graph.solve()
    assert {each.session for each in solution.unconnected} == {other}
    assert "40 keyframes are not connected" in solution.in_words
    for number in (0, 20):
        graph.add_closure(keyframe(number), keyframe(number, other), geometry(np.eye(4)))
    solution = graph.solve()
    assert solution.unconnected == []
    assert errors_m(solution, other).max() < 2.5


def test_keyframes_without_odometry_have_the_poses_that_closures_give_them():
    graph = PoseGraph()
    driven(graph, TRUTH[:LAP])
    other = Session("0b" * 16)
    for number in range(3):
        graph.add_keyframe(keyframe(number, other), ImageData())
    graph.add_closure(keyframe(7), keyframe(1, other), geometry(np.eye(4)))
    solution = graph.solve()
    np.testing.assert_allclose(solution.poses[other.uuid, 1], TRUTH[7], atol=1e-6)
    assert [each.name for each in solution.unconnected] == [(other.uuid, 0), (other.uuid, 2)]


def test_a_drive_lands_in_the_map_that_closures_connect_it_with():
    graph, earlier = PoseGraph(), Session("ea" * 16)
    moved = exp(np.array([100.0, 50, 0, 0, 0, 1.0]))
    driven(graph, TRUTH[:LAP])
    for number in (3, 20):
        corrected = CorrectedPose(pose_of(moved @ TRUTH[number], "map"), "", 0)
        graph.add_known(keyframe(number, earlier), ImageData(map_pose=corrected))
    assert graph.solve().poses == {}
    for number in (3, 20):
        graph.add_closure(keyframe(number, earlier), keyframe(number), geometry(np.eye(4)))
    solution = graph.solve()
    assert {name[0] for name in solution.poses} == {SESSION.uuid}
    for (_, number), pose in solution.poses.items():
        np.testing.assert_allclose(pose, moved @ TRUTH[number], atol=1e-3)


def test_a_pose_of_this_drive_that_comes_back_with_a_match_holds_nothing():
    graph = PoseGraph()
    driven(graph, ODOMETRY)
    corrected = CorrectedPose(pose_of(exp(np.full(6, 1.0)), "map"), "", 0)
    graph.add_known(keyframe(3), ImageData(odometry=pose_of(ODOMETRY[3]), map_pose=corrected))
    np.testing.assert_allclose(graph.solve().poses[SESSION.uuid, 3], ODOMETRY[3], atol=1e-9)


def test_closures_of_the_camera_say_nothing_of_a_base_whose_mount_is_unknown():
    graph = PoseGraph()
    driven(graph, ODOMETRY)
    graph.add_closure(keyframe(0), keyframe(LAP), geometry(np.eye(4), CAMERA_OPTICAL))
    (reason,) = graph.solve().rejected.values()
    assert "sensors.base_from_camera" in reason


def test_what_is_not_a_number_is_refused_with_a_sentence():
    graph = PoseGraph()
    nan = np.full((4, 4), np.nan)
    assert "not a number" in graph.add_closure(keyframe(0), keyframe(1), geometry(nan))
    unknown = Geometry(match_from_query=Motion(np.eye(4), np.eye(6)), scale_unknown=True)
    assert "metres" in graph.add_closure(keyframe(0), keyframe(1), unknown)
    odometry = Pose("odom", "base", np.full(3, np.nan), np.array([0, 0, 0, 1.0]))
    assert "not a number" in graph.add_keyframe(keyframe(0), ImageData(odometry=odometry))
    assert [each.number for each in graph.solve().unconnected] == [0]


def test_what_is_no_closure_is_refused_with_a_sentence():
    graph, moved = PoseGraph(), np.eye(4)
    assert "with itself" in graph.add_closure(keyframe(1), keyframe(1), geometry(moved))
    for covariance in (np.zeros((6, 6)), np.diag([1.0, 1, 1, 1, 1, -1])):
        wrong = Geometry(match_from_query=Motion(moved, covariance), frame=BASE)
        assert "variance" in graph.add_closure(keyframe(0), keyframe(1), wrong)
    driven(graph, TRUTH[:3])
    assert len(graph.solve().poses) == 3


def test_a_thousand_drives_in_a_row_are_placed_one_by_the_other():
    graph, sessions = PoseGraph(), [Session(f"{number:032x}") for number in range(1000)]
    for session in sessions:
        driven(graph, TRUTH[:1], session)
    for before, session in pairwise(sessions):
        graph.add_closure(keyframe(0, before), keyframe(0, session), geometry(TRUTH[1]))
    solution = graph.solve()
    assert len(solution.used) == 999
    np.testing.assert_allclose(
        solution.poses[sessions[-1].uuid, 0], np.linalg.matrix_power(TRUTH[1], 999), atol=1e-3
    )


def test_level_odometry_keeps_its_roll_and_pitch():
    graph = PoseGraph()
    driven(graph, ODOMETRY)
    tilted = np.array([0, 0, 0, 0.05, 0, 0])
    for number in range(0, LAP, 5):
        close(graph, number, LAP + number, tilted)
    poses = graph.solve().poses.values()
    tilts = [np.degrees(np.arccos(np.clip(pose[2, 2], -1, 1))) for pose in poses]
    assert max(tilts) < 2.0  # the closures say 2.9 more with each lap


def test_another_process_solves_the_same():
    solver = SolverProcess()
    graphs = [PoseGraph(), PoseGraph(solver=solver.solve)]
    for graph in graphs:
        driven(graph, ODOMETRY)
        close(graph, 0, LAP)
    here, there = (graph.solve() for graph in graphs)
    for name, pose in here.poses.items():
        np.testing.assert_array_equal(there.poses[name], pose)
    solver.close()


def test_a_stretch_ends_where_it_has_to_and_bends_evenly():
    odometry = np.array(ODOMETRY[:LAP])
    ends = np.array([0, LAP - 1])
    bent = spread(odometry, ends, np.array(TRUTH)[ends], is_level=True)
    np.testing.assert_allclose(bent[-1], TRUTH[LAP - 1])
    off_m = np.linalg.norm(bent[:, :3, 3] - np.array(TRUTH[:LAP])[:, :3, 3], axis=1)
    drift_m = np.linalg.norm(odometry[:, :3, 3] - np.array(TRUTH[:LAP])[:, :3, 3], axis=1)
    assert off_m.max() < 0.3 * drift_m.max()


def test_stretches_of_all_lengths_bend_as_if_each_were_alone():
    odometry, truth = np.array(ODOMETRY), np.array(TRUTH)
    rows = np.array([0, 1, 3, 16, 17, 50, 2 * LAP - 1])
    bent = spread(odometry, rows, truth[rows], is_level=True)
    for first, last in pairwise(rows):
        stretch, ends = slice(first, last + 1), [first, last]
        alone = spread(odometry[stretch], np.array([0, last - first]), truth[ends], is_level=True)
        np.testing.assert_allclose(bent[stretch], alone, atol=1e-9)
