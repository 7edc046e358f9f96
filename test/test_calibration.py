# SPDX-License-Identifier: MIT
"""A model says what its similarities mean, and the threshold follows from it."""

import json
from typing import Any

import numpy as np
import pytest

from netvlad_ros.calibration import (
    MAX_POINTS,
    UNCALIBRATED_SIMILARITY,
    Calibration,
    Curve,
    calibration_from_json,
    fit_curve,
    resolved_min_similarity,
)
from netvlad_ros.config import CandidateConfig
from netvlad_ros.errors import ConfigError, ModelError

CURVE = Curve((0.2, 0.4, 0.6), (0.1, 0.5, 0.95))
CALIBRATION = Calibration({"similarity": CURVE}, "two streets", "abc@320x240")


def test_between_points_the_curve_is_straight():
    assert CURVE.threshold(0.5) == pytest.approx(0.4)
    assert CURVE.threshold(0.725) == pytest.approx(0.5)
    assert CURVE.precision(0.5) == pytest.approx(0.725)


def test_beyond_its_ends_a_curve_knows_nothing_better():
    assert CURVE.threshold(0.05) == 0.2
    assert CURVE.threshold(0.96) is None
    assert (CURVE.precision(-1.0), CURVE.precision(1.0)) == (0.1, 0.95)


@pytest.mark.parametrize(
    ("values", "precisions"),
    [
        ((), ()),
        ((0.1,), (0.1, 0.2)),
        ((0.1, 0.1), (0.1, 0.2)),
        ((0.1, 0.2), (0.2, 0.1)),
        ((0.1, np.nan), (0.1, 0.2)),
        ((0.1, 0.2), (0.1, 1.2)),
        ((0.1, 0.2), (-0.1, 0.2)),
        (tuple(range(65)), tuple(each / 65 for each in range(65))),
    ],
)
def test_what_is_no_curve_is_refused(values: Any, precisions: Any):
    with pytest.raises(ModelError, match=r"^a calibration curve: expected"):
        Curve(values, precisions)


def test_a_curve_has_no_less_than_nothing_behind_it():
    with pytest.raises(ModelError, match=r"expected 0 or more matches behind it, got -1"):
        Curve((0.1,), (0.2,), -1)


@pytest.mark.parametrize("precision", np.linspace(0.1, 0.95, 9))
def test_a_threshold_is_where_its_precision_is_reached(precision: float):
    threshold = CURVE.threshold(precision)
    assert threshold is not None
    assert CURVE.precision(threshold) == pytest.approx(precision)
    assert CURVE.precision(threshold - 0.01) < precision or threshold == CURVE.values[0]


def test_a_level_stretch_begins_at_its_first_value():
    level = Curve((0.1, 0.2, 0.3, 0.4), (0.0, 0.5, 0.5, 1.0))
    assert level.threshold(0.5) == pytest.approx(0.2)


def test_each_quantity_has_a_curve_of_its_own():
    both = Calibration({"similarity": CURVE, "inliers": Curve((10, 50), (0.2, 1.0))}, "", "")
    assert both.threshold("similarity", 0.5) == pytest.approx(0.4)
    assert both.threshold("inliers", 0.6) == pytest.approx(30)
    assert both.precision("inliers", 20) == pytest.approx(0.4)
    assert both.threshold("margin", 0.5) is None
    assert both.precision("margin", 0.5) is None


def test_a_fit_is_the_share_of_right_ones_where_it_rises():
    curve = fit_curve([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [False, True, False, False, True, True])
    assert curve.values == pytest.approx((0.1, 0.3, 0.55))
    # None of 1, 1 of 3, 2 of 2, each with one right and one wrong match more.
    assert curve.precisions == pytest.approx((1 / 3, 2 / 5, 3 / 4))
    assert curve.pairs == 6


@pytest.mark.parametrize("right", [[False, True], [True, False]])
def test_matches_of_one_value_are_one_point(right: list[bool]):
    curve = fit_curve([0.5, 0.5], right)
    assert (curve.values, curve.precisions, curve.pairs) == ((0.5,), (0.5,), 2)


@pytest.mark.parametrize(("count", "known"), [(8, 0.9), (98, 0.99), (998, 0.999)])
def test_so_many_right_matches_and_no_fewer_prove_a_precision(count: int, known: float):
    assert fit_curve(np.linspace(0, 1, count), np.ones(count)).threshold(known) is not None
    assert fit_curve(np.linspace(0, 1, count - 1), np.ones(count - 1)).threshold(known) is None


def test_a_few_matches_at_the_top_do_not_lower_the_curve():
    """(r + 1) / (n + 2) of the last two is less than of the hundred before, yet a curve never falls."""
    values = [*np.linspace(0.4, 0.6, 100), 0.8, 0.9]
    right = [*[True] * 99, False, True, True]
    curve = fit_curve(values, right)
    assert curve.precision(0.9) >= curve.precision(0.5) > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_a_fit_depends_on_no_order(seed: int):
    rng = np.random.default_rng(seed)
    values = rng.uniform(-1.0, 1.0, 300).round(2)
    right = rng.random(300) < values
    order = rng.permutation(300)
    assert fit_curve(values[order], right[order]) == fit_curve(values, right)


def test_a_fit_has_no_more_points_than_may_be_stored():
    """Each value is seen five times, and of each more are right than of the one before."""
    values = np.repeat(np.arange(200), 400)
    right = np.concatenate([np.arange(400) < 2 * step for step in range(200)])
    curve = fit_curve(values, right)
    assert len(curve.values) == MAX_POINTS
    assert curve.precision(100) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_a_fit_finds_the_curve_that_matches_were_drawn_from(seed: int):
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.0, 1.0, 20_000)
    right = rng.random(20_000) < values**2
    curve = fit_curve(values, right)
    assert len(curve.values) <= MAX_POINTS
    for value in (0.2, 0.5, 0.8, 0.95):
        assert curve.precision(value) == pytest.approx(value**2, abs=0.06)
    assert curve.threshold(0.5) == pytest.approx(np.sqrt(0.5), abs=0.06)


@pytest.mark.parametrize(
    ("values", "right"), [([], []), ([0.1, 0.2], [True]), ([np.nan], [True]), ([np.inf], [False])]
)
def test_a_fit_needs_finite_values_and_whether_they_are_right(values: Any, right: Any):
    with pytest.raises(ModelError, match="expected matches to fit it to"):
        fit_curve(values, right)


def test_it_comes_back_from_a_file():
    assert calibration_from_json(json.loads(json.dumps(CALIBRATION.to_json()))) == CALIBRATION
    assert calibration_from_json(None) is None


@pytest.mark.parametrize(
    "values",
    [
        3,
        {},
        {"curves": {}, "sauce": ""},
        {"curves": {"similarity": {}}, "source": "", "fingerprint": ""},
        CALIBRATION.to_json() | {"curves": {"similarity": {"values": ["a"], "precisions": [0]}}},
        CALIBRATION.to_json() | {"curves": [1]},
    ],
)
def test_what_is_no_calibration_is_refused(values: Any):
    with pytest.raises(ModelError, match="calibration of the model is damaged"):
        calibration_from_json(values)


class TestTheThreshold:
    """One rule: a number counts, else the model's own, else a documented constant with a warning."""

    def test_a_number_counts(self):
        config = CandidateConfig(min_similarity=0.3)
        assert resolved_min_similarity(config, CALIBRATION, "m") == (0.3, "")
        assert resolved_min_similarity(config, None, "m") == (0.3, "")

    def test_left_to_the_model_its_calibration_counts(self):
        limit, warning = resolved_min_similarity(
            CandidateConfig(min_precision=0.725), CALIBRATION, "m"
        )
        assert limit == pytest.approx(0.5)
        assert warning == ""

    @pytest.mark.parametrize(
        ("calibration", "reason"),
        [
            (None, "model m has no calibration"),
            (Calibration({}, "", ""), "model m has no calibration"),
            (Calibration({"margin": CURVE}, "", ""), "model m has no calibration"),
        ],
    )
    def test_a_model_that_does_not_know_is_a_warning(self, calibration: Any, reason: str):
        limit, warning = resolved_min_similarity(CandidateConfig(), calibration, "m")
        assert limit == UNCALIBRATED_SIMILARITY
        assert warning.startswith(reason)
        assert "candidates.min_similarity" in warning

    def test_asking_for_more_than_a_model_can_tell_takes_its_best_and_warns(self):
        level = Curve((0.2, 0.4, 0.6, 0.7), (0.1, 0.5, 0.95, 0.95))
        limit, warning = resolved_min_similarity(
            CandidateConfig(min_precision=1.0), Calibration({"similarity": level}, "", ""), "m"
        )
        assert limit == 0.6
        assert warning.startswith("model m is right with 95.0% of its most similar matches")
        assert "lower min_precision" in warning

    @pytest.mark.parametrize("fingerprint", ["", "m"])
    def test_a_warning_is_a_sentence_of_its_own(self, fingerprint: str):
        for calibration in (None, CALIBRATION):
            config = CandidateConfig(min_precision=1.0)
            _, warning = resolved_min_similarity(config, calibration, fingerprint)
            assert warning.endswith(".")
            assert "  " not in warning
            assert "\n" not in warning

    def test_more_precision_never_asks_for_less_similarity(self):
        limits = [
            resolved_min_similarity(CandidateConfig(min_precision=wanted), CALIBRATION, "m")[0]
            for wanted in np.linspace(0.5, 1.0, 51).tolist()
        ]
        assert limits == sorted(limits)

    @pytest.mark.parametrize("value", ["modell", "0.4x", 1.5, -2, True])
    def test_what_is_neither_is_refused(self, value: Any):
        with pytest.raises(ConfigError, match="min_similarity: expected"):
            CandidateConfig(min_similarity=value)

    @pytest.mark.parametrize("value", [0.4, 1, -1, "model"])
    def test_numbers_of_both_types_and_the_word_are_taken(self, value: Any):
        assert CandidateConfig(min_similarity=value).min_similarity == value
