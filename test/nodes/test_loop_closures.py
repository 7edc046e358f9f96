# SPDX-License-Identifier: MIT
"""A match that geometry confirms becomes an edge on a topic; each other that was compared has a reason."""

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_nodes import NodeProcess, Start, stamp, stamp_ns
from rclpy.serialization import serialize_message

from netvlad_ros.image_data import CameraModel, ImageData, LocalFeatures, Pose
from netvlad_ros.msg import (
    Keyframe,
    KeyframeMatch,
    KeyframeMatches,
    LoopClosure,
    LoopClosureCandidates,
    RejectedMatches,
    Verdict,
)
from netvlad_ros.nodes.image_data_messages import image_data_messages
from netvlad_ros.verification.rigid import exp, inverse, rigid, rotation_of

pytestmark = pytest.mark.needs("rclpy")

SECOND = 1_000_000_000
SESSION = "5e" * 16
POINTS = 150
FOCAL_PX = 300.0
K = np.array([[FOCAL_PX, 0, 320], [0, FOCAL_PX, 240], [0, 0, 1]])
# The camera looks ahead and sits above the base: optical x is right, y down, z ahead.
BASE_FROM_CAMERA = rigid(np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]]), np.array([0.2, 0, 0.5]))
MATCH_FROM_QUERY = exp(np.array([0.4, 0.1, 0.6, 0.02, 0.2, -0.03]))
PARAMETERS = {"candidates.min_similarity": 0.8, "candidates.max_candidates": 2}


def image_data(
    camera_from_match: np.ndarray, mount: np.ndarray | None = None, known: int = POINTS
) -> ImageData:
    """What a camera at this pose sees of one scene; of only so many points it has the descriptors."""
    rng = np.random.default_rng(0)
    points_m = rng.uniform([-3, -2, 4], [3, 2, 9], (POINTS, 3))
    descriptors = rng.integers(0, 256, (POINTS, 32), np.uint8)
    descriptors[known:] = np.random.default_rng(1).integers(0, 256, (POINTS - known, 32), np.uint8)
    seen = points_m @ camera_from_match[:3, :3].T + camera_from_match[:3, 3]
    pixels = seen[:, :2] / seen[:, 2:] * FOCAL_PX + K[:2, 2]
    camera = CameraModel(640, 480, "plumb_bob", K, np.zeros(5), None, "front_optical", mount)
    features = LocalFeatures(
        "orb", pixels.astype(np.float32), descriptors, seen.astype(np.float32), "depth"
    )
    return ImageData(features, camera)


def keyframe(number: int) -> Keyframe:
    named = {"session": SESSION, "robot": "spot", "external_id": 10 * number}
    return Keyframe(number=number, stamp=stamp(number * SECOND), **named)


def answer_of_the_database(
    number: int, query: ImageData, matches: dict[int, ImageData]
) -> KeyframeMatches:
    message = KeyframeMatches(query=keyframe(number), query_number=number, fingerprint="model_a")
    message.header.stamp, message.header.frame_id = stamp(number * SECOND), "front_camera"
    message.data = image_data_messages(query, message.header.stamp)
    for number, data in matches.items():
        found = KeyframeMatch(keyframe=keyframe(number), similarity=0.9)
        found.sequence_score = found.margin = math.nan
        found.data = image_data_messages(data, found.keyframe.stamp)
        message.matches.append(found)
    return message


QUERY = image_data(inverse(MATCH_FROM_QUERY))
SAME_PLACE = image_data(np.eye(4))
ALIKE = image_data(np.eye(4), known=12)


class Asking:
    """Plays the database for one node."""

    def __init__(self, node: NodeProcess) -> None:
        self.node = node
        self.number = 100  # of the last query
        node.until_ready()
        self._publisher = node.ros.publisher(KeyframeMatches, node.topic("keyframe_matches"))
        topics = {
            "loop_closures": LoopClosure,
            "loop_closure_candidates": LoopClosureCandidates,
            "loop_closure_node/rejected": RejectedMatches,
        }
        self._heard: list[list[Any]] = [
            node.ros.listen(kind, node.topic(name)) for name, kind in topics.items()
        ]
        node.until(lambda: self._publisher.get_subscription_count() and self._is_heard())

    def _is_heard(self) -> bool:
        listeners = ("subscribers", "subscribers to closures", "subscribers to rejected")
        return all(self.node.count(name) for name in listeners)

    def ask(self, query: ImageData, matches: dict[int, ImageData]) -> tuple[Any, Any, Any]:
        """All closures, the candidates and the rejected matches of a new query."""
        self.number += 1
        for messages in self._heard:
            messages.clear()
        self._publisher.publish(answer_of_the_database(self.number, query, matches))
        closures, candidates, rejected = self._heard
        # Closures are published before what is rejected, and each topic keeps its order only.
        self.node.until(lambda: candidates and rejected)
        self.node.until(lambda: closures or rejected[0].closure_summary)
        return closures, candidates[0], rejected[0]


@pytest.fixture(scope="module")
def database(start_shared: Start) -> Asking:
    return Asking(start_shared("loop_closure_node", PARAMETERS))


@pytest.fixture
def strict(database: Asking) -> Iterator[None]:
    """For one test only."""
    assert database.node.set("closures.min_inliers", POINTS + 1).successful
    yield
    assert database.node.set("closures.min_inliers", 20).successful


def matrix(message: Any) -> np.ndarray:
    at, turned = message.pose.position, message.pose.orientation
    rotation = rotation_of(np.array([turned.x, turned.y, turned.z, turned.w]))
    return rigid(rotation, np.array([at.x, at.y, at.z]))


def test_an_edge_is_complete_in_itself(database: Asking) -> None:
    (closure,), _, rejected = database.ask(QUERY, {3: SAME_PLACE})
    assert (closure.match, closure.query) == (keyframe(3), keyframe(database.number))
    assert closure.header.frame_id == "front_camera"
    assert stamp_ns(closure.header) == database.number * SECOND
    assert closure.match_frame_id == "front_optical"
    geometry = closure.geometry
    assert (geometry.method, geometry.frame) == ("pnp_depth", "camera_optical")
    assert (geometry.has_pose, geometry.scale_unknown) == (True, False)
    assert geometry.inliers == geometry.inliers_back == geometry.correspondences == POINTS
    pose = geometry.match_from_query
    np.testing.assert_allclose(matrix(pose), MATCH_FROM_QUERY, atol=1e-3)
    covariance = np.array(pose.covariance).reshape(6, 6)
    np.testing.assert_allclose(covariance, covariance.T, rtol=1e-9)
    assert (np.linalg.eigvalsh(covariance) > 0).all()
    assert closure.similarity == pytest.approx(0.9)
    assert math.isnan(closure.sequence_score)
    assert math.isnan(closure.odometry_deviation)
    assert {each.decision for each in closure.verdicts} == {Verdict.PASS}
    assert closure.verdicts[0].stage == "min_inliers"
    assert rejected.closure_summary == ""


def test_with_known_mounts_an_edge_is_of_the_base(database: Asking) -> None:
    query = image_data(inverse(MATCH_FROM_QUERY), BASE_FROM_CAMERA)
    (closure,), _, _ = database.ask(query, {4: image_data(np.eye(4), BASE_FROM_CAMERA)})
    assert closure.geometry.frame == "base"
    expected = BASE_FROM_CAMERA @ MATCH_FROM_QUERY @ inverse(BASE_FROM_CAMERA)
    np.testing.assert_allclose(matrix(closure.geometry.match_from_query), expected, atol=1e-3)


def test_the_same_question_gets_the_same_bytes(database: Asking) -> None:
    answers = [database.ask(QUERY, {5: SAME_PLACE})[0][0] for _ in range(2)]
    geometries = [serialize_message(each.geometry) for each in answers]
    assert geometries[0] == geometries[1]


def test_a_candidate_that_geometry_does_not_confirm_stays_one_and_the_gate_is_named(
    database: Asking,
) -> None:
    closures, candidates, rejected = database.ask(QUERY, {6: ALIKE})
    assert closures == []
    (candidate,) = candidates.candidates
    assert candidate.geometry[0].inliers < 20
    (refused,) = rejected.rejected
    assert refused.match.keyframe == keyframe(6)
    verdict = refused.verdict
    assert (verdict.decision, verdict.stage, verdict.limit) == (Verdict.REJECT, "min_inliers", 20)
    assert verdict.value == candidate.geometry[0].inliers
    assert verdict.reason.endswith("20 or more are asked for")
    assert rejected.summary == ""
    assert "none of 1 matches that were compared is a loop closure" in rejected.closure_summary
    assert verdict.reason in rejected.closure_summary
    database.node.until(lambda: database.node.count("rejected by min_inliers"))


def test_two_places_that_both_fit_are_held_until_more_is_known(database: Asking) -> None:
    closures, _, rejected = database.ask(QUERY, {10: SAME_PLACE, 50: SAME_PLACE})
    assert closures == []
    held = [each.verdict for each in rejected.rejected if each.verdict.stage == "ambiguous"]
    assert [each.decision for each in held] == [Verdict.HOLD] * 2
    database.node.until(lambda: database.node.count("held by ambiguous") >= 2)
    assert database.node.count("held") >= 2


def test_without_a_camera_there_is_no_edge_but_a_candidate_that_was_compared(
    database: Asking,
) -> None:
    bare = []
    for each in (QUERY, SAME_PLACE):
        assert each.features is not None
        bare.append(
            ImageData(LocalFeatures("orb", each.features.keypoints_px, each.features.descriptors))
        )
    closures, candidates, rejected = database.ask(bare[0], {7: bare[1]})
    assert closures == []
    (geometry,) = candidates.candidates[0].geometry
    assert (geometry.method, geometry.has_pose, geometry.inliers) == ("fundamental", False, POINTS)
    assert geometry.inliers_back == -1
    assert math.isnan(geometry.match_from_query.pose.position.x)
    assert [each.verdict.stage for each in rejected.rejected] == ["no_pose"]


def test_without_local_features_nothing_is_compared_and_the_summary_says_why(
    database: Asking,
) -> None:
    closures, candidates, rejected = database.ask(ImageData(), {8: ImageData()})
    assert closures == []
    assert [list(each.geometry) for each in candidates.candidates] == [[]]
    assert rejected.closure_summary.startswith("none of 1 matches has local features")
    assert rejected.rejected == []


def test_odometry_that_jumps_is_named_and_the_edge_goes_without(database: Asking) -> None:
    for at_m in (0.0, 1000.0):
        pose = Pose("odom", "base", np.array([at_m, 0, 0]), np.array([0, 0, 0, 1.0]))
        query = ImageData(QUERY.features, QUERY.camera, pose)
        (closure,), _, _ = database.ask(query, {9: SAME_PLACE})
        assert math.isnan(closure.odometry_deviation)
    database.node.until(lambda: database.node.says("odometry jumped by 1000.0 m within 1.0 s"))


@pytest.mark.usefixtures("strict")
def test_a_limit_changed_while_running_counts_for_the_next_query(database: Asking) -> None:
    closures, _, rejected = database.ask(QUERY, {20: SAME_PLACE})
    assert closures == []
    assert rejected.rejected[0].verdict.limit == POINTS + 1


def test_features_that_can_not_be_are_told_and_their_keyframe_stays_a_candidate(
    database: Asking,
) -> None:
    assert SAME_PLACE.features is not None
    of_nothing = replace(SAME_PLACE.features, points_from="radar")
    matches = {30: replace(SAME_PLACE, features=of_nothing), 40: SAME_PLACE}
    closures, candidates, _ = database.ask(QUERY, matches)
    assert [each.match.number for each in closures] == [40]
    assert {each.match.number for each in candidates.candidates} == {30, 40}
    database.node.until(lambda: database.node.says("5e5e5e5e/30 is refused", "got 'radar'"))


def test_numbers_that_nobody_expects_leave_the_candidates(database: Asking) -> None:
    """A mount further away than numbers reach."""
    mount = rigid(np.eye(3), np.array([1e300, 0.0, 0.0]))
    data = image_data(np.eye(4), mount)
    closures, candidates, rejected = database.ask(data, {9: data})
    assert closures == []
    assert len(candidates.candidates) == 1
    assert rejected.closure_summary
    database.node.until(lambda: database.node.says("candidates go on unverified"))


def test_without_poselib_candidates_go_on(start: Start, tmp_path: Path) -> None:
    (tmp_path / "poselib.py").write_text("raise ImportError('it is not installed')\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    database = Asking(start("loop_closure_node", PARAMETERS, environment={"PYTHONPATH": path}))
    closures, candidates, rejected = database.ask(QUERY, {3: SAME_PLACE})
    assert closures == []
    assert len(candidates.candidates) == 1
    assert "pip install poselib" in rejected.closure_summary
    database.node.until(lambda: database.node.says("candidates go on unverified", "PoseLib"))
