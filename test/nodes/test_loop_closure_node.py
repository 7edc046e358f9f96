# SPDX-License-Identifier: MIT
"""Every query keyframe is answered: with its candidates, and with a reason for each other match."""

from collections.abc import Iterator
from typing import Any

import pytest
from live_nodes import NodeProcess, Ros, Start, stamp

from netvlad_ros.msg import (
    Keyframe,
    KeyframeMatch,
    KeyframeMatches,
    LoopClosureCandidates,
    RejectedMatches,
)

SECOND = 1_000_000_000
PARAMETERS = {
    "candidates.min_similarity": 0.8,
    "candidates.exclude_recent_s": 10.0,
    "candidates.max_candidates": 2,
}


def keyframe(number: int, stamp_s: int) -> Keyframe:
    return Keyframe(robot="spot", id=number, session=1, stamp=stamp(stamp_s * SECOND))


def answer_of_the_database(similarities: dict[int, float], query: int) -> KeyframeMatches:
    """Keyframes were seen at as many seconds as their id says."""
    message = KeyframeMatches(query=keyframe(query, query), fingerprint="model_a")
    message.exclude_recent_s = PARAMETERS["candidates.exclude_recent_s"]
    message.header.stamp = stamp(query * SECOND)
    message.header.frame_id = "front_camera"
    message.matches = [
        KeyframeMatch(keyframe=keyframe(number, number), similarity=similarity)
        for number, similarity in similarities.items()
    ]
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

    def ask(self, similarities: dict[int, float], query: int = 100) -> tuple[Any, Any]:
        """The candidates and the rejected matches."""
        self.candidates.clear()
        self._rejected.clear()
        self._publisher.publish(answer_of_the_database(similarities, query))
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


def test_a_query_without_candidates_is_answered_too(database: Asking) -> None:
    answer, rejected = database.ask({})
    assert answer.query == keyframe(100, 100)
    assert answer.candidates == []
    assert rejected.rejected == []


def test_every_other_match_is_rejected_with_stage_value_limit_and_reason(database: Asking) -> None:
    answer, rejected = database.ask({95: 0.99, 3: 0.95, 2: 0.9, 1: 0.85, 0: 0.5})
    assert [each.match.id for each in answer.candidates] == [3, 2]
    assert rejected.header == answer.header
    assert rejected.query == answer.query
    recent, surplus, unlike = rejected.rejected
    assert (recent.stage, recent.value, recent.limit) == ("exclude_recent", 5.0, 10.0)
    assert recent.reason == "is 5.0 s old, younger than 10 s"
    assert recent.match.keyframe == keyframe(95, 95)
    assert (surplus.stage, surplus.value, surplus.limit) == ("max_candidates", 3.0, 2.0)
    assert (unlike.stage, unlike.limit) == ("min_similarity", 0.8)
    assert unlike.value == pytest.approx(0.5)
    assert unlike.reason == "similarity 0.500 is below 0.8"


@pytest.mark.usefixtures("low_threshold")
def test_a_threshold_changed_while_running_counts_for_the_next_query(database: Asking) -> None:
    answer, _ = database.ask({1: 0.6})
    assert [each.match.id for each in answer.candidates] == [1]


def test_consistency_is_asked_of_consecutive_queries(start: Start) -> None:
    database = Asking(
        start("loop_closure_node", PARAMETERS | {"candidates.min_consistent_queries": 2})
    )
    answer, rejected = database.ask({3: 0.95})
    assert answer.candidates == []
    assert (rejected.rejected[0].stage, rejected.rejected[0].value) == ("consistency", 1.0)
    answer, _ = database.ask({4: 0.95}, query=101)
    assert [each.consistent_queries for each in answer.candidates] == [2]


def test_a_database_with_another_limit_is_reported(start: Start) -> None:
    database = Asking(start("loop_closure_node", PARAMETERS | {"candidates.exclude_recent_s": 7.0}))
    database.ask({3: 0.95})
    node = database.node
    node.until(lambda: node.says("exclude_recent_s is 7 here and 10 in the database node"))


def test_the_diagnostics_count_candidates_and_rejections_by_stage(start: Start, ros: Ros) -> None:
    database = Asking(start("loop_closure_node", PARAMETERS))
    database.ask({3: 0.95, 0: 0.5})
    node = database.node
    node.until(lambda: node.count("candidates") == 1)
    assert node.count("received") == 1
    assert node.count("rejected by min_similarity") == 1
    assert float(node.status().values["select (median ms)"]) > 0
    assert node.lines("INFO")[-1].endswith("keyframe 100 looks like keyframe 3 (similarity 0.950)")
