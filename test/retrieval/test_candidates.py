# SPDX-License-Identifier: MIT
"""Which matches become candidates, and at which stage and by how much the others fail."""

from typing import Any

import pytest

from netvlad_ros.config import CandidateConfig
from netvlad_ros.retrieval.candidates import CandidateSelector, Selection, select_candidates
from netvlad_ros.retrieval.database import Query
from netvlad_ros.retrieval.keyframes import Keyframe, Match

SECOND = 1_000_000_000
MAP, NOW = 0, 1  # sessions


def query(number: int, *matches: tuple[int, float], session: int = NOW) -> Query:
    """The query of keyframe 1000 + number, which matches keyframes (id, similarity) of the map."""
    keyframe = Keyframe(1000 + number, session, number * SECOND)
    return Query(
        keyframe, [Match(Keyframe(each, MAP, 0), similarity) for each, similarity in matches]
    )


def aged(*ages_s: float) -> Query:
    """A query whose matches were seen so many seconds ago in the same session, all alike."""
    now = Keyframe(100, NOW, 1000 * SECOND)
    matches = [
        Match(Keyframe(number, NOW, int((1000 - age_s) * SECOND)), 0.9)
        for number, age_s in enumerate(ages_s)
    ]
    return Query(now, matches)


def candidate_ids(selection: Selection) -> list[int]:
    return [each.match.keyframe.keyframe_id for each in selection.candidates]


def rejected(selection: Selection) -> list[tuple[Any, ...]]:
    return [
        (each.match.keyframe.keyframe_id, each.stage, each.value, each.limit)
        for each in selection.rejections
    ]


def test_no_matches_are_no_candidates():
    assert select_candidates(query(0), [], CandidateConfig()) == Selection([], [])


def test_matches_that_pass_are_candidates_with_their_rank():
    selection = select_candidates(
        query(0, (7, 0.95), (3, 0.9), (5, 0.85)), [], CandidateConfig(min_similarity=0.8)
    )
    assert candidate_ids(selection) == [7, 3, 5]
    assert [each.rank for each in selection.candidates] == [0, 1, 2]
    assert [each.match.similarity for each in selection.candidates] == [0.95, 0.9, 0.85]
    assert selection.rejections == []


def test_a_match_that_is_too_recent_is_rejected_with_its_age():
    selection = select_candidates(
        aged(29.9, 30.0, 31.0), [], CandidateConfig(exclude_recent_s=30.0)
    )
    assert candidate_ids(selection) == [1, 2]
    assert rejected(selection) == [(0, "exclude_recent", 29.9, 30.0)]
    assert selection.rejections[0].reason == "is 29.9 s old, younger than 30 s"


def test_a_match_of_an_earlier_session_is_never_too_recent():
    selection = select_candidates(query(0, (7, 0.9)), [], CandidateConfig(exclude_recent_s=86400.0))
    assert candidate_ids(selection) == [7]


def test_a_match_that_is_not_similar_enough_is_rejected_with_its_similarity():
    selection = select_candidates(
        query(0, (7, 0.8), (3, 0.799)), [], CandidateConfig(min_similarity=0.8)
    )
    assert candidate_ids(selection) == [7]
    assert rejected(selection) == [(3, "min_similarity", 0.799, 0.8)]
    assert selection.rejections[0].reason == "similarity 0.799 is below 0.8"


def test_matches_beyond_the_number_of_candidates_are_rejected_with_their_place():
    selection = select_candidates(
        query(0, (1, 0.9), (2, 0.9), (3, 0.9), (4, 0.9)), [], CandidateConfig(max_candidates=2)
    )
    assert candidate_ids(selection) == [1, 2]
    assert rejected(selection) == [(3, "max_candidates", 3, 2), (4, "max_candidates", 3, 2)]
    assert selection.rejections[0].reason == "the query has 2 better candidates already"


def test_a_rejected_match_takes_no_place_of_a_candidate():
    selection = select_candidates(aged(1.0, 40.0, 50.0), [], CandidateConfig(max_candidates=2))
    assert candidate_ids(selection) == [1, 2]
    assert [each.rank for each in selection.candidates] == [0, 1]


def test_a_match_fails_at_the_first_stage_in_order():
    config = CandidateConfig(
        exclude_recent_s=30.0, min_similarity=0.8, min_consistent_queries=2, max_candidates=1
    )
    now, old = 100 * SECOND, 0
    keyframes = [
        (Keyframe(1, NOW, now - 1), 0.1),  # fails everything
        (Keyframe(2, NOW, old), 0.1),  # fails all but the first
        (Keyframe(3, NOW, old), 0.9),  # fails consistency
        (Keyframe(4, MAP, old), 0.9),  # passes
        (Keyframe(5, MAP, old), 0.9),  # comes too late
    ]
    matches = [Match(keyframe, similarity) for keyframe, similarity in keyframes]
    selection = select_candidates(
        Query(Keyframe(99, NOW, now), matches), [query(0, (4, 0.9), (5, 0.9))], config
    )
    assert candidate_ids(selection) == [4]
    assert [each.stage for each in selection.rejections] == [
        "exclude_recent",
        "min_similarity",
        "consistency",
        "max_candidates",
    ]


class TestConsistency:
    """A place counts once so many consecutive queries found it."""

    def test_one_query_is_enough_by_default(self):
        selection = CandidateSelector().select(query(0, (7, 0.9)))
        assert [each.consistent_queries for each in selection.candidates] == [1]

    @pytest.mark.parametrize("wanted", [2, 3])
    def test_a_place_is_reported_by_the_last_of_the_queries_it_takes(self, wanted: int):
        selector = CandidateSelector(CandidateConfig(min_consistent_queries=wanted))
        for number in range(5):
            selection = selector.select(query(number, (10 + number, 0.9)))
            if number < wanted - 1:
                assert rejected(selection) == [(10 + number, "consistency", number + 1, wanted)]
                reason = f"{number + 1} of {wanted} consecutive queries found this place"
                assert selection.rejections[0].reason == reason
            else:
                (candidate,) = selection.candidates
                assert candidate.consistent_queries == wanted

    @pytest.mark.parametrize("direction", [1, -1])
    def test_a_place_may_be_passed_in_either_direction(self, direction: int):
        selector = CandidateSelector(CandidateConfig(min_consistent_queries=3))
        for number in range(3):
            selection = selector.select(query(number, (50 + 3 * direction * number, 0.9)))
        assert candidate_ids(selection) == [50 + 6 * direction]

    @pytest.mark.parametrize(("gap", "consistent"), [(0, True), (5, True), (6, False)])
    def test_matches_may_lie_as_far_apart_as_configured(self, gap: int, consistent: bool):
        config = CandidateConfig(min_consistent_queries=2, max_keyframe_gap=5)
        selection = select_candidates(query(1, (20 + gap, 0.9)), [query(0, (20, 0.9))], config)
        assert bool(selection.candidates) == consistent

    def test_the_gap_counts_from_query_to_query(self):
        config = CandidateConfig(min_consistent_queries=3, max_keyframe_gap=5)
        earlier = [query(0, (20, 0.9)), query(1, (25, 0.9))]
        assert candidate_ids(select_candidates(query(2, (30, 0.9)), earlier, config)) == [30]
        assert rejected(select_candidates(query(2, (20, 0.9), (31, 0.9)), earlier, config)) == [
            (31, "consistency", 1, 3)
        ]

    def test_a_query_that_found_something_else_breaks_the_chain(self):
        selector = CandidateSelector(CandidateConfig(min_consistent_queries=3))
        found = [(20, 0.9), (21, 0.9), (500, 0.9), (23, 0.9), (24, 0.9), (25, 0.9)]
        selections = [selector.select(query(number, each)) for number, each in enumerate(found)]
        assert [candidate_ids(each) for each in selections] == [[], [], [], [], [], [25]]
        counts = [each.rejections[0].value for each in selections[:5]]
        assert counts == [1, 2, 1, 1, 2]

    def test_a_query_that_found_nothing_breaks_the_chain(self):
        selector = CandidateSelector(CandidateConfig(min_consistent_queries=2))
        selector.select(query(0, (20, 0.9)))
        selector.select(query(1))
        assert candidate_ids(selector.select(query(2, (20, 0.9)))) == []

    @pytest.mark.parametrize("weak", [(20, 0.5), (20, -1.0)])
    def test_what_was_not_similar_enough_before_does_not_count(self, weak: tuple[int, float]):
        config = CandidateConfig(min_similarity=0.8, min_consistent_queries=2)
        selection = select_candidates(query(1, (20, 0.9)), [query(0, weak)], config)
        assert rejected(selection) == [(20, "consistency", 1, 2)]

    def test_what_was_too_recent_before_does_not_count(self):
        config = CandidateConfig(min_consistent_queries=2, exclude_recent_s=30.0)
        place = Match(Keyframe(20, NOW, 0), 0.9)
        before = Query(Keyframe(50, NOW, 29 * SECOND), [place])
        now = Query(Keyframe(51, NOW, 30 * SECOND), [place])
        assert rejected(select_candidates(now, [before], config)) == [(20, "consistency", 1, 2)]

    def test_neighbouring_ids_of_different_sessions_are_different_places(self):
        config = CandidateConfig(min_consistent_queries=2)
        other = Query(Keyframe(1000, NOW, 0), [Match(Keyframe(20, MAP + 5, 0), 0.9)])
        selection = select_candidates(query(1, (20, 0.9)), [other], config)
        assert rejected(selection) == [(20, "consistency", 1, 2)]

    def test_queries_of_another_session_are_not_consecutive(self):
        selector = CandidateSelector(CandidateConfig(min_consistent_queries=2))
        selector.select(query(0, (20, 0.9), session=1))
        assert candidate_ids(selector.select(query(1, (20, 0.9), session=2))) == []
        assert candidate_ids(selector.select(query(2, (20, 0.9), session=2))) == [20]

    def test_several_places_are_followed_at_once(self):
        selector = CandidateSelector(CandidateConfig(min_consistent_queries=2))
        selector.select(query(0, (20, 0.95), (300, 0.9)))
        selection = selector.select(query(1, (301, 0.95), (700, 0.9), (21, 0.85)))
        assert candidate_ids(selection) == [301, 21]
        assert [each.rank for each in selection.candidates] == [0, 1]

    def test_values_can_change_while_it_runs(self):
        selector = CandidateSelector(CandidateConfig(min_consistent_queries=3))
        for number in range(4):
            selector.select(query(number, (20, 0.9)))
        selector.config = CandidateConfig(min_consistent_queries=1, min_similarity=0.95)
        assert rejected(selector.select(query(4, (20, 0.9)))) == [(20, "min_similarity", 0.9, 0.95)]
        selector.config = CandidateConfig(min_consistent_queries=2)
        assert candidate_ids(selector.select(query(5, (20, 0.9)))) == []
        assert candidate_ids(selector.select(query(6, (20, 0.9)))) == [20]


@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_every_match_is_either_a_candidate_or_rejected_once_in_its_order(wanted: int):
    config = CandidateConfig(min_consistent_queries=wanted, max_candidates=2)
    selector = CandidateSelector(config)
    for number in range(6):
        each = query(number, (10 + number, 0.97), (90, 0.9), (500 * number, 0.85), (30, 0.2))
        selection = selector.select(each)
        accepted = [candidate.match for candidate in selection.candidates]
        turned_down = [rejection.match for rejection in selection.rejections]
        assert [match for match in each.matches if match in accepted] == accepted
        assert [match for match in each.matches if match not in accepted] == turned_down
