# SPDX-License-Identifier: MIT
"""Which matches become candidates, and at which stage and by how much the others fail."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from netvlad_ros.calibration import Calibration, Curve
from netvlad_ros.config import CandidateConfig
from netvlad_ros.keyframe import MAX_STREAMS, Keyframe, Match, Session, Stream
from netvlad_ros.retrieval.query import Query, Recent
from netvlad_ros.retrieval.selection import CandidateSelector, Selection
from netvlad_ros.retrieval.stages import ConsistencyStage, Context, Decision, Verdict

SECOND = 1_000_000_000
MAP, NOW, OTHER = Session("a" * 32), Session("b" * 32), Session("c" * 32)


def query(number: int, *matches: tuple[int, float], session: Session = NOW) -> Query:
    """The query of a keyframe of this number, which matches keyframes (number, similarity) of the map."""
    found = [Match(Keyframe(MAP, each, 0), similarity) for each, similarity in matches]
    return Query(Keyframe(session, number, number * SECOND), found, searched=9, number=number)


def select(config: CandidateConfig, *queries: Query) -> Selection:
    """The selection of the last of these queries."""
    selector = CandidateSelector(config)
    return [selector.select(each) for each in queries][-1]


def candidates(selection: Selection) -> list[int]:
    return [each.match.keyframe.number for each in selection.candidates]


def rejected(selection: Selection) -> list[tuple[Any, ...]]:
    return [
        (each.match.keyframe.number, each.verdict.stage, each.verdict.value, each.verdict.limit)
        for each in selection.rejections
    ]


def test_no_matches_are_no_candidates():
    selection = select(CandidateConfig(), query(0))
    assert (selection.candidates, selection.rejections) == ([], [])


def with_sequences(*matches: tuple[int, float, float, float]) -> Query:
    """Of matches (number, similarity, sequence score, margin)."""
    found = [
        Match(Keyframe(MAP, each, 0), similarity, score, margin)
        for each, similarity, score, margin in matches
    ]
    return Query(Keyframe(NOW, 0, 0), found, searched=9)


def test_a_match_is_similar_enough_or_its_sequence_fits_well_enough():
    config = CandidateConfig(min_similarity=0.5, min_sequence_score=1.8)
    now = with_sequences((1, 0.6, 0.3, -1.0), (2, 0.1, 2.0, 0.2), (3, 0.4, 1.7, 0.3))
    selection = select(config, now)
    assert candidates(selection) == [1, 2]
    assert rejected(selection) == [(3, "min_sequence_score", 1.7, 1.8)]
    (rejection,) = selection.rejections
    assert rejection.verdict.reason == (
        "similarity 0.400 is below 0.5, and its sequence score 1.700 is below 1.8"
    )
    assert [each.verdicts[0].stage for each in selection.candidates] == [
        "min_similarity",
        "min_sequence_score",
    ]


def test_a_sequence_may_have_to_stand_out_from_the_best_other_place():
    config = CandidateConfig(min_similarity=0.5, min_sequence_score=1.8, min_margin=0.3)
    now = with_sequences((1, 0.6, 2.0, 0.1), (2, 0.1, 2.0, 0.1), (3, 0.1, 2.0, 0.4))
    selection = select(config, now)
    assert candidates(selection) == [1, 3]
    assert rejected(selection) == [(2, "min_margin", 0.1, 0.3)]


def test_where_nobody_knows_what_a_sequence_score_means_similarity_alone_decides():
    selection = select(CandidateConfig(min_similarity=0.5), with_sequences((1, 0.4, 9.0, 9.0)))
    assert rejected(selection) == [(1, "min_similarity", 0.4, 0.5)]


def test_the_calibration_of_a_model_says_which_sequence_score_is_enough():
    curves = {
        "similarity": Curve((0.2, 0.6), (0.0, 1.0)),
        "sequence_score": Curve((1.0, 2.0), (0.0, 1.0)),
    }
    now = replace(
        with_sequences((1, 0.1, 1.9, 0.0), (2, 0.1, 1.7, 0.0)),
        calibration=Calibration(curves, "made up", "model"),
    )
    selection = select(CandidateConfig(min_precision=0.8), now)
    assert candidates(selection) == [1]
    assert rejected(selection) == [(2, "min_sequence_score", 1.7, pytest.approx(1.8))]


def test_matches_that_pass_are_candidates_with_their_rank():
    selection = select(
        CandidateConfig(min_similarity=0.8), query(0, (7, 0.95), (3, 0.9), (5, 0.85))
    )
    assert candidates(selection) == [7, 3, 5]
    assert [each.rank for each in selection.candidates] == [0, 1, 2]
    assert [each.match.similarity for each in selection.candidates] == [0.95, 0.9, 0.85]
    assert selection.rejections == []


def test_the_best_keyframe_that_was_left_out_is_named_with_its_age():
    recent = Recent(12, 30.0, Match(Keyframe(NOW, 3, 0), 0.95), 4.2)
    now = Query(Keyframe(NOW, 9, 0), [Match(Keyframe(MAP, 1, 0), 0.9)], recent, searched=50)
    selection = select(CandidateConfig(min_similarity=0.8), now)
    assert candidates(selection) == [1]
    assert rejected(selection) == [(3, "exclude_recent", 4.2, 30.0)]
    assert selection.rejections[0].verdict.reason == "was seen 4.2 s of drive ago, less than 30 s"


class TestWhyThereIsNoCandidate:
    """Each cause has a sentence of its own."""

    def summary(self, now: Query, **values: Any) -> str:
        return select(CandidateConfig(**values), now).summary

    def test_the_first_keyframe(self):
        assert self.summary(query(0)).startswith("this is the first keyframe")

    def test_all_too_recent(self):
        recent = Recent(12, 30.0, Match(Keyframe(NOW, 3, 0), 0.95), 4.2)
        summary = self.summary(Query(Keyframe(NOW, 12, 0), [], recent))
        assert summary == (
            "all 12 keyframes were seen within the last 30 s of drive (database.exclude_recent_s)."
        )

    def test_none_similar_enough(self):
        summary = self.summary(query(0, (7, 0.3), (8, 0.2)), min_similarity=0.5)
        assert summary == "the best match is no candidate: similarity 0.300 is below 0.5."

    def test_held_back(self):
        summary = self.summary(query(0, (7, 0.9)), min_consistent_queries=2)
        assert "1 of 2 consecutive queries found this place" in summary

    def test_there_is_one(self):
        assert self.summary(query(0, (7, 0.9))) == ""


def test_a_match_that_is_not_similar_enough_is_rejected_with_its_similarity():
    selection = select(CandidateConfig(min_similarity=0.8), query(0, (7, 0.8), (3, 0.799)))
    assert candidates(selection) == [7]
    assert rejected(selection) == [(3, "min_similarity", 0.799, 0.8)]
    assert selection.rejections[0].verdict.reason == "similarity 0.799 is below 0.8"


def test_matches_beyond_the_number_of_candidates_are_rejected_with_their_place():
    selection = select(
        CandidateConfig(max_candidates=2), query(0, (1, 0.9), (2, 0.9), (3, 0.9), (4, 0.9))
    )
    assert candidates(selection) == [1, 2]
    assert rejected(selection) == [(3, "max_candidates", 3, 2), (4, "max_candidates", 4, 2)]
    assert selection.rejections[0].verdict.reason == "the query has 2 better candidates already"


def test_a_rejected_match_takes_no_place_of_a_candidate():
    config = CandidateConfig(max_candidates=2, min_similarity=0.5, min_consistent_queries=2)
    selection = select(
        config, query(0, (1, 0.9), (2, 0.9)), query(1, (50, 0.9), (1, 0.8), (2, 0.7), (3, 0.1))
    )
    assert candidates(selection) == [1, 2]
    assert [each.rank for each in selection.candidates] == [0, 1]


def test_a_match_fails_at_the_first_stage_in_order():
    config = CandidateConfig(min_similarity=0.8, min_consistent_queries=2, max_candidates=1)
    selection = select(
        config,
        query(0, (4, 0.9), (5, 0.9)),
        query(1, (4, 0.95), (5, 0.9), (99, 0.85), (2, 0.1)),
    )
    assert candidates(selection) == [4]
    assert [each.verdict.stage for each in selection.rejections] == [
        "max_candidates",
        "consistency",
        "min_similarity",
    ]


def test_what_is_held_back_is_told_from_what_is_rejected():
    config = CandidateConfig(min_similarity=0.8, min_consistent_queries=2)
    selection = select(config, query(0, (7, 0.9), (3, 0.1)))
    assert [each.verdict.decision for each in selection.rejections] == [
        Decision.HOLD,
        Decision.REJECT,
    ]


def test_a_candidate_has_the_verdict_of_each_stage():
    (candidate,) = select(CandidateConfig(min_similarity=0.8), query(0, (7, 0.9))).candidates
    assert [(each.stage, each.value) for each in candidate.verdicts] == [
        ("min_similarity", 0.9),
        ("consistency", 1),
        ("max_candidates", 1),
    ]
    assert all(each.decision == Decision.PASS for each in candidate.verdicts)


def test_a_new_stage_is_a_new_entry():
    class EvenNumbers:
        """Sees all matches of a query, and which of them passed before."""

        def judge(self, query: Query, context: Context) -> list[Verdict]:
            passed.append(list(context.passed))
            return [
                Verdict(
                    Decision.REJECT if match.keyframe.number % 2 else Decision.PASS,
                    "even",
                    0,
                    0,
                    "",
                )
                for match in query.matches
            ]

    passed: list[list[int]] = []
    selector = CandidateSelector(CandidateConfig(), [EvenNumbers(), EvenNumbers()])
    selection = selector.select(query(0, (1, 0.9), (2, 0.8), (4, 0.7)))
    assert candidates(selection) == [2, 4]
    assert passed == [[0, 1, 2], [1, 2]]


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
                assert selection.rejections[0].verdict.reason == reason
            else:
                (candidate,) = selection.candidates
                assert candidate.consistent_queries == wanted

    @pytest.mark.parametrize("direction", [1, -1])
    def test_a_place_may_be_passed_in_either_direction(self, direction: int):
        selector = CandidateSelector(CandidateConfig(min_consistent_queries=3))
        for number in range(3):
            selection = selector.select(query(number, (50 + 3 * direction * number, 0.9)))
        assert candidates(selection) == [50 + 6 * direction]

    @pytest.mark.parametrize(("gap", "consistent"), [(0, True), (5, True), (6, False)])
    def test_matches_may_lie_as_far_apart_as_configured(self, gap: int, consistent: bool):
        config = CandidateConfig(min_consistent_queries=2, max_keyframe_gap=5)
        selection = select(config, query(0, (20, 0.9)), query(1, (20 + gap, 0.9)))
        assert bool(selection.candidates) == consistent

    def test_the_gap_counts_from_query_to_query(self):
        config = CandidateConfig(min_consistent_queries=3, max_keyframe_gap=5)
        earlier = [query(0, (20, 0.9)), query(1, (25, 0.9))]
        assert candidates(select(config, *earlier, query(2, (30, 0.9)))) == [30]
        assert rejected(select(config, *earlier, query(2, (20, 0.9), (31, 0.9)))) == [
            (31, "consistency", 1, 3)
        ]

    def test_a_query_that_found_something_else_breaks_the_chain(self):
        selector = CandidateSelector(CandidateConfig(min_consistent_queries=3))
        found = [(20, 0.9), (21, 0.9), (500, 0.9), (23, 0.9), (24, 0.9), (25, 0.9)]
        selections = [selector.select(query(number, each)) for number, each in enumerate(found)]
        assert [candidates(each) for each in selections] == [[], [], [], [], [], [25]]
        counts = [each.rejections[0].verdict.value for each in selections[:5]]
        assert counts == [1, 2, 1, 1, 2]

    def test_a_query_that_found_nothing_breaks_the_chain(self):
        selector = CandidateSelector(CandidateConfig(min_consistent_queries=2))
        selector.select(query(0, (20, 0.9)))
        selector.select(query(1))
        assert candidates(selector.select(query(2, (20, 0.9)))) == []

    @pytest.mark.parametrize("weak", [(20, 0.5), (20, -1.0)])
    def test_what_was_not_similar_enough_before_does_not_count(self, weak: tuple[int, float]):
        config = CandidateConfig(min_similarity=0.8, min_consistent_queries=2)
        selection = select(config, query(0, weak), query(1, (20, 0.9)))
        assert rejected(selection) == [(20, "consistency", 1, 2)]

    def test_neighbouring_numbers_of_different_sessions_are_different_places(self):
        config = CandidateConfig(min_consistent_queries=2)
        other = Query(Keyframe(NOW, 0, 0), [Match(Keyframe(OTHER, 20, 0), 0.9)], number=0)
        assert rejected(select(config, other, query(1, (20, 0.9)))) == [(20, "consistency", 1, 2)]

    def test_after_the_database_began_anew_queries_are_not_consecutive(self):
        selector = CandidateSelector(CandidateConfig(min_consistent_queries=2))
        selector.select(query(7, (20, 0.9)))
        assert candidates(selector.select(query(0, (20, 0.9)))) == []
        assert candidates(selector.select(query(1, (20, 0.9)))) == [20]

    def test_a_clock_that_was_set_does_not_break_the_chain(self):
        selector = CandidateSelector(CandidateConfig(min_consistent_queries=2))
        selector.select(query(0, (20, 0.9), session=NOW))
        assert candidates(selector.select(query(1, (20, 0.9), session=OTHER))) == [20]

    def test_each_camera_has_its_own_chain(self):
        selector = CandidateSelector(CandidateConfig(min_consistent_queries=2))
        left, right = (Session(uuid * 32, Stream("", uuid)) for uuid in "de")
        for number, (session, wanted) in enumerate([(left, []), (right, []), (left, [20])]):
            selection = selector.select(query(number // 2, (20, 0.9), session=session))
            assert candidates(selection) == wanted

    def test_cameras_whose_names_change_with_every_image_do_not_fill_the_memory(self):
        selector = CandidateSelector()
        for number in range(MAX_STREAMS + 10):
            session = Session(f"{number:032x}", Stream("", f"frame {number}"))
            selector.select(query(0, (20, 0.9), session=session))
        assert len(_remembered(selector)) == MAX_STREAMS

    @pytest.mark.parametrize("seed", range(5))
    def test_counts_are_those_of_comparing_every_match_with_every_earlier_one(self, seed: int):
        rng = np.random.default_rng(seed)
        gap = int(rng.integers(0, 6))
        config = CandidateConfig(min_consistent_queries=100, max_keyframe_gap=gap)
        selector = CandidateSelector(config)
        earlier: dict[Keyframe, int] = {}
        for number in range(12):
            places = {
                Keyframe(session, int(each), 0)
                for session in (MAP, OTHER)
                for each in rng.integers(0, 60, 12)
            }
            now = Query(Keyframe(NOW, number, 0), [Match(p, 0.9) for p in places], number=number)
            found = {
                place: 1
                + max(
                    (
                        count
                        for other, count in earlier.items()
                        if other.session == place.session
                        and abs(other.number - place.number) <= gap
                    ),
                    default=0,
                )
                for place in places
            }
            counted = {
                each.match.keyframe: each.verdict.value for each in selector.select(now).rejections
            }
            assert counted == found
            earlier = found

    def test_the_work_grows_with_the_number_of_matches_not_with_its_square(self):
        """All legal; the former way took ten seconds for each query."""
        config = CandidateConfig(min_consistent_queries=5, max_keyframe_gap=10000)
        selector = CandidateSelector(config)
        for number in range(10):
            selector.select(query(number, *[(each, 0.9) for each in range(1000)]))
        assert sum(len(found) for _, found in _remembered(selector)) == 1000

    def test_several_places_are_followed_at_once(self):
        selector = CandidateSelector(CandidateConfig(min_consistent_queries=2))
        selector.select(query(0, (20, 0.95), (300, 0.9)))
        selection = selector.select(query(1, (301, 0.95), (700, 0.9), (21, 0.85)))
        assert candidates(selection) == [301, 21]
        assert [each.rank for each in selection.candidates] == [0, 1]

    def test_values_can_change_while_it_runs(self):
        selector = CandidateSelector(CandidateConfig(min_consistent_queries=3))
        for number in range(4):
            selector.select(query(number, (20, 0.9)))
        selector.config = CandidateConfig(min_consistent_queries=1, min_similarity=0.95)
        assert rejected(selector.select(query(4, (20, 0.9)))) == [(20, "min_similarity", 0.9, 0.95)]
        selector.config = CandidateConfig(min_consistent_queries=2)
        assert candidates(selector.select(query(5, (20, 0.9)))) == []
        assert candidates(selector.select(query(6, (20, 0.9)))) == [20]


def _remembered(selector: CandidateSelector) -> Any:
    (stage,) = (each for each in selector.stages if isinstance(each, ConsistencyStage))
    return stage._streams.values()


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
