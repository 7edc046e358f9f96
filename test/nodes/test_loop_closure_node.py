# SPDX-License-Identifier: MIT
"""Every query keyframe is answered: with its candidates, and with a reason for each other match."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from live_nodes import NodeProcess, Ros, Start, stamp

from netvlad_ros.msg import (
    Calibration,
    CalibrationCurve,
    Keyframe,
    KeyframeMatch,
    KeyframeMatches,
    LoopClosureCandidates,
    RejectedMatches,
    Verdict,
)

pytestmark = pytest.mark.needs("rclpy")

SECOND = 1_000_000_000
PARAMETERS = {
    "candidates.min_similarity": 0.8,
    "candidates.max_candidates": 2,
}


SESSION = "5e" * 16


def keyframe(number: int, stamp_s: int) -> Keyframe:
    return Keyframe(robot="spot", number=number, session=SESSION, stamp=stamp(stamp_s * SECOND))


def found(number: int, similarity: float) -> KeyframeMatch:
    return KeyframeMatch(
        keyframe=keyframe(number, number),
        similarity=similarity,
        sequence_score=math.nan,
        margin=math.nan,
    )


def answer_of_the_database(similarities: dict[int, float], query: int) -> KeyframeMatches:
    """Keyframes were seen at as many seconds as their number says; the one at 95 s is too recent."""
    message = KeyframeMatches(query=keyframe(query, query), fingerprint="model_a")
    message.query_number = query
    message.exclude_recent_s, message.recent, message.searched = 10.0, 4, 90
    message.best_recent, message.best_recent_age_s = [found(95, 0.99)], 5.0
    message.header.stamp = stamp(query * SECOND)
    message.header.frame_id = "front_camera"
    message.matches = [found(*each) for each in similarities.items()]
    return message


class Asking:
    """Plays the database for one node."""

    def __init__(self, node: NodeProcess) -> None:
        self.node = node
        node.until_ready()
        self._publisher = node.ros.publisher(KeyframeMatches, node.topic("keyframe_matches"))
        rejected = node.topic("loop_closure_node/rejected")
        self._rejected: list[Any] = node.ros.listen(RejectedMatches, rejected)
        topic = node.topic("loop_closure_candidates")
        self.candidates: list[Any] = node.ros.listen(LoopClosureCandidates, topic)
        node.until(lambda: self._publisher.get_subscription_count() and self._is_heard())

    def _is_heard(self) -> bool:
        return self.node.count("subscribers") > 0 and self.node.count("subscribers to rejected") > 0

    def send(self, message: KeyframeMatches) -> None:
        self._publisher.publish(message)

    def ask(self, similarities: dict[int, float], query: int = 100) -> tuple[Any, Any]:
        """The candidates and the rejected matches."""
        self.candidates.clear()
        self._rejected.clear()
        self.send(answer_of_the_database(similarities, query))
        self.node.until(lambda: self.candidates and self._rejected)
        return self.candidates[0], self._rejected[0]


@pytest.fixture(scope="module")
def database(start_shared: Start) -> Asking:
    return Asking(start_shared("loop_closure_node", PARAMETERS))


@pytest.fixture
def low_threshold(database: Asking) -> Iterator[None]:
    """Changed for one test only."""
    assert database.node.set("candidates.min_similarity", 0.5).successful
    yield
    assert database.node.set("candidates.min_similarity", 0.8).successful


def test_a_candidate_names_both_keyframes_and_how_sure_it_is(database: Asking) -> None:
    answer, _ = database.ask({3: 0.95, 2: 0.9})
    assert answer.header.stamp == stamp(100 * SECOND)
    assert answer.header.frame_id == "front_camera"
    assert answer.query == keyframe(100, 100)
    assert answer.fingerprint == "model_a"
    first, second = answer.candidates
    assert (first.query, first.match) == (keyframe(100, 100), keyframe(3, 3))
    assert first.similarity == pytest.approx(0.95)
    assert (first.rank, second.rank) == (0, 1)
    assert first.consistent_queries == 1
    assert list(first.geometry) == []


def test_a_query_without_candidates_is_answered_too_and_says_why(database: Asking) -> None:
    answer, rejected = database.ask({})
    assert answer.query == keyframe(100, 100)
    assert answer.candidates == []
    assert [each.match.keyframe.number for each in rejected.rejected] == [95]
    assert rejected.summary.startswith("all 4 keyframes were seen within the last 10 s of drive")
    database.node.until(lambda: database.node.status().values["last query"] == rejected.summary)
    _, rejected = database.ask({3: 0.5})
    assert rejected.summary == "the best match is no candidate: similarity 0.500 is below 0.8."


def test_every_other_match_is_rejected_with_stage_value_limit_and_reason(database: Asking) -> None:
    answer, rejected = database.ask({3: 0.95, 2: 0.9, 1: 0.85, 0: 0.5})
    assert [each.match.number for each in answer.candidates] == [3, 2]
    assert rejected.header == answer.header
    assert rejected.query == answer.query
    assert rejected.summary == ""
    assert [each.verdict.decision for each in rejected.rejected] == [Verdict.REJECT] * 3
    recent, surplus, unlike = [each.verdict for each in rejected.rejected]
    assert (recent.stage, recent.value, recent.limit) == ("exclude_recent", 5.0, 10.0)
    assert recent.reason == "was seen 5.0 s of drive ago, less than 10 s"
    assert rejected.rejected[0].match.keyframe == keyframe(95, 95)
    assert (surplus.stage, surplus.value, surplus.limit) == ("max_candidates", 3.0, 2.0)
    assert (unlike.stage, unlike.limit) == ("min_similarity", 0.8)
    assert unlike.value == pytest.approx(0.5)
    assert unlike.reason == "similarity 0.500 is below 0.8"
    assert [each.stage for each in answer.candidates[0].verdicts] == [
        "min_similarity",
        "consistency",
        "max_candidates",
    ]


def test_what_no_database_says_is_refused_and_the_next_answer_taken(database: Asking) -> None:
    refused = {
        "expected a similarity from -1 to 1, got nan": {3: float("nan")},
        "expected a similarity from -1 to 1, got inf": {3: float("inf")},
        "expected a similarity from -1 to 1, got 5.0": {3: 5.0},
        "which is itself or comes later": {100: 0.9},
        "number -1": {-1: 0.9},
    }
    for words, similarities in refused.items():
        database.send(answer_of_the_database(similarities, 100))
        database.node.until(partial(database.node.says, "matches refused", words))
    twice = answer_of_the_database({}, 100)
    twice.matches = [found(3, 0.9)] * 3
    database.send(twice)
    database.node.until(lambda: database.node.says("name a keyframe twice"))
    absurd = answer_of_the_database({3: 0.9}, 100)
    absurd.query.stamp.nanosec = 2**32 - 1
    database.send(absurd)
    database.node.until(lambda: database.node.says("999999999 nanoseconds"))
    assert database.node.count("refused") == len(refused) + 2
    answer, _ = database.ask({3: 0.9})
    assert [each.match.number for each in answer.candidates] == [3]


def test_matches_in_any_order_are_candidates_in_theirs(database: Asking) -> None:
    answer, _ = database.ask({1: 0.85, 3: 0.95, 2: 0.9})
    assert [each.match.number for each in answer.candidates] == [3, 2]


@pytest.mark.usefixtures("low_threshold")
def test_a_threshold_changed_while_running_counts_for_the_next_query(database: Asking) -> None:
    answer, _ = database.ask({1: 0.6})
    assert [each.match.number for each in answer.candidates] == [1]


def test_consistency_is_asked_of_consecutive_queries(start: Start) -> None:
    database = Asking(
        start("loop_closure_node", PARAMETERS | {"candidates.min_consistent_queries": 2})
    )
    answer, rejected = database.ask({3: 0.95})
    assert answer.candidates == []
    verdict = rejected.rejected[1].verdict
    assert (verdict.stage, verdict.value, verdict.decision) == ("consistency", 1.0, Verdict.HOLD)
    answer, _ = database.ask({4: 0.95}, query=101)
    assert [each.consistent_queries for each in answer.candidates] == [2]


def test_left_to_the_model_its_calibration_is_the_threshold(start: Start) -> None:
    database = Asking(start("loop_closure_node", {"candidates.min_similarity": "model"}))
    message = answer_of_the_database({3: 0.9, 2: 0.7}, 100)
    curve = CalibrationCurve(quantity="similarity", values=[0.6, 1.0], precisions=[0.5, 1.0])
    message.calibration = [Calibration(source="a street", curves=[curve])]
    assert database.node.set("candidates.min_precision", 0.75).successful
    database.send(message)
    (answer,) = database.node.until(lambda: database.candidates)
    assert [each.match.number for each in answer.candidates] == [3]
    assert answer.candidates[0].verdicts[0].limit == pytest.approx(0.8)
    database.ask({3: 0.9})
    database.node.until(lambda: database.node.says("model model_a has no calibration"))
    for value, is_possible in (
        (0.5, True),
        (1, True),
        ("model", True),
        ("none", False),
        (2.0, False),
    ):
        assert database.node.set("candidates.min_similarity", value).successful == is_possible


def test_the_diagnostics_count_candidates_and_rejections_by_stage(start: Start, ros: Ros) -> None:
    database = Asking(start("loop_closure_node", PARAMETERS))
    database.ask({3: 0.95, 0: 0.5})
    node = database.node
    node.until(lambda: node.count("candidates") == 1)
    assert node.count("received") == 1
    assert node.count("rejected by min_similarity") == 1
    assert float(node.status().values["select (median ms)"]) > 0
    line = "keyframe 5e5e5e5e/100 looks like keyframe 5e5e5e5e/3 (similarity 0.950)"
    assert node.lines("INFO")[-1].endswith(line)
