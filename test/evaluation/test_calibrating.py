# SPDX-License-Identifier: MIT
"""From judged matches to the limits that reach a wanted precision, and how sure that is."""

import math

import pytest

from netvlad_ros.calibration import Calibration, Curve
from netvlad_ros.evaluation.calibrating import (
    WIDTH,
    JudgedQuery,
    best_by_quantity,
    limit_of,
    limits_of,
    loop_stretches,
    together,
    wilson_interval,
)
from netvlad_ros.keyframe import Keyframe, Match, Session

SESSION = Session("a" * 32)


def query(
    similarity: float, right: bool, score: float = 0.0, stretch: int = 0, loop: bool = True
) -> JudgedQuery:
    best = {"similarity": (similarity, right), "sequence_score": (score, right)}
    return JudgedQuery(best, (similarity, score, right), loop, (0, stretch))


def test_the_limit_is_the_least_value_from_which_on_enough_is_right():
    queries = [query(0.9, True), query(0.8, True), query(0.7, False), query(0.6, True)]
    limit = limit_of(queries, "similarity", 1.0)
    assert (limit.value, limit.right, limit.reported, limit.loops) == (0.8, 2, 2, 4)
    assert limit_of(queries, "similarity", 0.75).value == 0.6
    assert (limit.precision, limit.recall) == (1.0, 0.5)


def test_equal_values_are_reported_together_or_not_at_all():
    queries = [query(0.9, True), query(0.9, False)]
    assert limit_of(queries, "similarity", 1.0).value is None


def test_a_limit_is_not_below_the_least_that_is_given():
    queries = [query(0.9, True), query(0.2, True)]
    assert limit_of(queries, "similarity", 1.0, least=0.5).value == 0.9


def test_where_no_value_reaches_the_precision_nothing_is_reported():
    limit = limit_of([query(0.9, False)], "similarity", 0.5)
    assert (limit.value, limit.reported, limit.interval) == (None, 0, (0.0, 1.0))


def test_either_quantity_reports_a_query():
    queries = [query(0.9, True), query(0.1, True, score=2.0), query(0.1, False, score=1.0)]
    limits = limits_of(queries, 1.0, None)
    assert (limits["similarity"].value, limits["sequence_score"].value) == (0.9, 2.0)
    both = together(queries, limits)
    assert (both.reported, both.right) == (2, 2)
    assert together(queries, {"sequence_score": limits["sequence_score"]}).reported == 1


def test_an_easy_drive_does_not_lower_limits_below_where_half_is_right_elsewhere():
    queries = [query(0.9, True), query(0.2, True)]
    curve = Curve((0.2, 0.6), (0.0, 1.0))
    calibration = Calibration({"similarity": curve}, "made up", "model")
    assert limits_of(queries, 1.0, calibration)["similarity"].value == 0.9


def test_neighbours_count_as_one_draw():
    many = [query(0.9, True, stretch=number) for number in range(20)]
    alike = [query(0.9, True, stretch=number // 5) for number in range(20)]
    apart, near = (limit_of(each, "similarity", 1.0) for each in (many, alike))
    assert apart.interval[0] > near.interval[0]
    assert loop_stretches(alike) == 4


def test_so_many_more_loops_make_the_interval_narrow_enough():
    limit = limit_of([query(0.9, True, stretch=n // 2) for n in range(20)], "similarity", 1.0)
    low, high = wilson_interval(1.0, 10 + limit.more_loops // 2)
    assert high - low <= WIDTH
    low, high = wilson_interval(1.0, 10 + limit.more_loops // 2 - 1)
    assert high - low > WIDTH


@pytest.mark.parametrize(
    ("share", "count", "interval"), [(1.0, 10, (0.722, 1.0)), (0.5, 100, (0.404, 0.596))]
)
def test_an_interval_is_that_of_wilson(
    share: float, count: int, interval: tuple[float, float]
) -> None:
    assert wilson_interval(share, count) == pytest.approx(interval, abs=1e-3)


def test_each_quantity_ranks_matches_by_itself():
    alike = Match(Keyframe(SESSION, 0, 0), 0.9, 0.5, -0.5)
    fits = Match(Keyframe(SESSION, 9, 0), 0.2, 1.0, 0.5)
    found = best_by_quantity([alike, fits])
    assert found == {
        "similarity": (alike, 0.9),
        "sequence_score": (fits, 1.0),
        "margin": (fits, 0.5),
    }
    single = Match(Keyframe(SESSION, 0, 0), 0.9, math.nan, math.nan)
    assert list(best_by_quantity([single])) == ["similarity"]
