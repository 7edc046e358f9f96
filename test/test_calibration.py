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
CALIBRATION = Calibration({"similarity": CURVE}, "two streets")


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


def test_a_fit_is_the_share_of_right_ones_where_it_rises():
    curve = fit_curve([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [False, True, False, False, True, True])
    assert curve.values == pytest.approx((0.1, 0.3, 0.55))
    assert curve.precisions == pytest.approx((0.0, 1 / 3, 1.0))


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


def test_a_fit_needs_matches():
    with pytest.raises(ModelError, match="got none"):
        fit_curve([], [])


def test_it_comes_back_from_a_file():
    assert calibration_from_json(json.loads(json.dumps(CALIBRATION.to_json()))) == CALIBRATION
    assert calibration_from_json(None) is None


@pytest.mark.parametrize(
    "values", [3, {}, {"curves": {}, "sauce": ""}, {"curves": {"similarity": {}}, "source": ""}]
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
            (Calibration({}, ""), "model m never reaches candidates.min_precision 0.99"),
            (CALIBRATION, "model m never reaches candidates.min_precision 0.99"),
        ],
    )
    def test_a_model_that_does_not_know_is_a_warning(self, calibration: Any, reason: str):
        config = CandidateConfig(min_precision=0.99)
        limit, warning = resolved_min_similarity(config, calibration, "m")
        assert limit == UNCALIBRATED_SIMILARITY
        assert warning.startswith(reason)
        assert "candidates.min_similarity" in warning

    @pytest.mark.parametrize("value", ["modell", "0.4x", 1.5, -2, True])
    def test_what_is_neither_is_refused(self, value: Any):
        with pytest.raises(ConfigError, match="min_similarity: expected"):
            CandidateConfig(min_similarity=value)

    @pytest.mark.parametrize("value", [0.4, 1, -1, "model"])
    def test_numbers_of_both_types_and_the_word_are_taken(self, value: Any):
        assert CandidateConfig(min_similarity=value).min_similarity == value
