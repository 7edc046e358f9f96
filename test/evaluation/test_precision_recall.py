# SPDX-License-Identifier: MIT
"""Precision and recall count what their definitions say."""

import numpy as np
import pytest

from netvlad_ros.evaluation.precision_recall import (
    FirstMatches,
    JudgedMatches,
    judge,
    precision_recall,
    precision_recall_curve,
)

NONE = -np.inf
# Images 1 to 3 are a first lap, 7 to 9 a second one.
TRUTH = {7: [1], 8: [2], 9: [3]}


def first_matches(
    matches: list[int],
    similarities: list[float] | None = None,
    images: tuple[int, ...] = (1, 2, 3, 7, 8, 9),
    available: tuple[int, ...] = (0, 0, 0, 3, 3, 3),
) -> FirstMatches:
    """Six keyframes of two laps; a match of -1 is none."""
    known = similarities or [0.9 if match >= 0 else NONE for match in matches]
    return FirstMatches(
        np.array(images), np.array(available), np.array(matches), np.array(known), np.array(known)
    )


def judged(*rows: tuple[float, bool, bool]) -> JudgedMatches:
    """From similarity, right and closes_loop of each query."""
    similarities, right, closes_loop = (np.array(column) for column in zip(*rows, strict=True))
    return JudgedMatches(similarities, right, closes_loop)


def test_every_loop_found_and_nothing_else_is_perfect():
    counts = precision_recall(judge(first_matches([-1, -1, -1, 0, 1, 2]), TRUTH))
    assert (counts.reported, counts.right, counts.loops) == (3, 3, 3)
    assert (counts.precision, counts.recall) == (1.0, 1.0)


def test_a_wrong_match_lowers_both():
    counts = precision_recall(judge(first_matches([-1, -1, -1, 0, 1, 0]), TRUTH))
    assert (counts.precision, counts.recall) == (2 / 3, 2 / 3)


def test_a_missing_match_lowers_recall_only():
    counts = precision_recall(judge(first_matches([-1, -1, -1, 0, -1, 2]), TRUTH))
    assert (counts.precision, counts.recall) == (1.0, 2 / 3)


def test_a_match_where_there_is_no_loop_lowers_precision_only():
    counts = precision_recall(judge(first_matches([-1, -1, 0, 0, 1, 2]), TRUTH))
    assert (counts.precision, counts.recall) == (3 / 4, 1.0)


def test_what_was_not_kept_as_a_keyframe_can_not_be_missed():
    first = first_matches([-1, -1, -1, -1], images=(1, 2, 7, 9), available=(0, 0, 2, 2))
    assert judge(first, TRUTH).closes_loop.tolist() == [False, False, True, False]


def test_what_was_too_recent_can_not_be_missed():
    first = first_matches([-1] * 6, available=(0, 0, 0, 0, 1, 3))
    assert judge(first, TRUTH).closes_loop.tolist() == [False] * 5 + [True]


def test_only_matches_that_reach_the_similarity_are_reported():
    counts = precision_recall(judged((0.9, True, True), (0.7, False, True)), min_score=0.8)
    assert (counts.reported, counts.right, counts.loops) == (1, 1, 2)


def test_nothing_reported_is_nothing_wrong_and_no_loop_is_nothing_missed():
    counts = precision_recall(judged((NONE, False, False)))
    assert (counts.precision, counts.recall) == (1.0, 1.0)


def test_the_curve_has_a_point_for_each_similarity():
    curve = precision_recall_curve(
        judged((0.9, True, True), (0.8, False, True), (0.8, True, True), (NONE, False, True))
    )
    assert curve.thresholds.tolist() == [0.9, 0.8]
    assert curve.precision.tolist() == [1.0, 2 / 3]
    assert curve.recall.tolist() == [0.25, 0.5]


def test_average_precision_is_the_area_under_the_staircase():
    curve = precision_recall_curve(judged((0.9, True, True), (0.8, False, True), (0.7, True, True)))
    assert curve.average_precision == pytest.approx(1 / 3 * 1.0 + 1 / 3 * 2 / 3)


def test_recall_at_full_precision_ends_before_the_first_false_match():
    curve = precision_recall_curve(judged((0.9, True, True), (0.8, False, True), (0.7, True, True)))
    assert curve.recall_at_full_precision == pytest.approx(1 / 3)


def test_recall_never_falls_when_the_similarity_does():
    rng = np.random.default_rng(0)
    right = rng.random(50) < 0.5
    curve = precision_recall_curve(
        JudgedMatches(rng.random(50), right, right | (rng.random(50) < 0.5))
    )
    assert np.all(np.diff(curve.recall) >= 0.0)
    assert 0.0 < curve.average_precision <= curve.recall[-1] <= 1.0


def test_a_curve_of_nothing_is_empty():
    curve = precision_recall_curve(judged((NONE, False, True)))
    assert (len(curve.thresholds), curve.average_precision, curve.recall_at_full_precision) == (
        0,
        0,
        0,
    )
