# SPDX-License-Identifier: MIT
"""What the similarities of one model mean: how often a match of some similarity is right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netvlad_ros.config import CandidateConfig
from netvlad_ros.errors import ModelError

SIMILARITY = "similarity"
# With which matches of a model without a calibration are judged; suits descriptors with whitening.
UNCALIBRATED_SIMILARITY = 0.45
MAX_POINTS = 64


@dataclass(frozen=True)
class Curve:
    """At which value which share of matches is right.

    values:     ascending, in the unit of what was measured.
    precisions: 0 to 1, as many, never falling: of the matches with about this value so many are right.
    """

    values: tuple[float, ...]
    precisions: tuple[float, ...]

    def __post_init__(self) -> None:
        values, precisions = (np.array(each, float) for each in (self.values, self.precisions))
        if not 1 <= len(values) == len(precisions) <= MAX_POINTS:
            raise ModelError(
                f"a calibration curve: expected 1 to {MAX_POINTS} values and as many precisions, got "
                f"{len(values)} and {len(precisions)}; calibrate again."
            )
        is_ascending = np.all(np.diff(values) > 0.0) and np.all(np.diff(precisions) >= 0.0)
        is_finite = np.isfinite(values).all() and np.isfinite(precisions).all()
        if not (is_ascending and is_finite and precisions[0] >= 0.0 and precisions[-1] <= 1.0):
            raise ModelError(
                "a calibration curve: expected ascending values and precisions from 0 to 1 that never "
                "fall; calibrate again."
            )

    def threshold(self, precision: float) -> float | None:
        """The least value at which so large a share is right, between points; None if there is none."""
        if self.precisions[-1] < precision:
            return None
        above = next(i for i, each in enumerate(self.precisions) if each >= precision)
        if above == 0:
            return self.values[0]
        low, high = self.precisions[above - 1 : above + 1]
        share = (precision - low) / (high - low)
        return self.values[above - 1] + share * (self.values[above] - self.values[above - 1])

    def precision(self, value: float) -> float:
        """The share that is right at a value; beyond the ends that of the nearest point."""
        return float(np.interp(value, self.values, self.precisions))


@dataclass(frozen=True)
class Calibration:
    """The curves of one model by what is measured, such as similarity, and what they were measured on."""

    curves: Mapping[str, Curve]
    source: str

    def threshold(self, quantity: str, precision: float) -> float | None:
        """The least value at which so large a share of matches is right; None where that is not known."""
        curve = self.curves.get(quantity)
        return curve.threshold(precision) if curve else None

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        curves = {
            quantity: {"values": list(curve.values), "precisions": list(curve.precisions)}
            for quantity, curve in self.curves.items()
        }
        return {"source": self.source, "curves": curves}


def calibration_from_json(values: Any) -> Calibration | None:
    """What to_json() wrote; None of None. Raises ModelError for anything else."""
    if values is None:
        return None
    try:
        curves = {
            str(quantity): Curve(
                tuple(map(float, curve["values"])), tuple(map(float, curve["precisions"]))
            )
            for quantity, curve in values["curves"].items()
        }
        return Calibration(curves, str(values["source"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ModelError(
            "the calibration of the model is damaged; copy the model again, or calibrate it."
        ) from None


def fit_curve(values: Sequence[float] | np.ndarray, right: Sequence[bool] | np.ndarray) -> Curve:
    """The curve that fits matches of these values, of which these are right, best without ever falling.

    Isotonic regression by pooling adjacent violators (Barlow et al. 1972), thinned to MAX_POINTS.
    Raises ModelError if there are no matches.
    """
    values, right = np.asarray(values, float), np.asarray(right, float)
    if not len(values):
        raise ModelError("a calibration curve: expected matches to fit it to, got none.")
    levels: list[tuple[float, float, float]] = []  # sum of right ones, count, sum of values
    for value, is_right in sorted(zip(values.tolist(), right.tolist(), strict=True)):
        levels.append((is_right, 1.0, value))
        while len(levels) > 1 and levels[-2][0] / levels[-2][1] >= levels[-1][0] / levels[-1][1]:
            last = levels.pop()
            levels[-1] = tuple(a + b for a, b in zip(levels[-1], last, strict=True))  # type: ignore[assignment]
    means = np.array([(total / count, shares / count) for shares, count, total in levels])
    chosen = np.unique(
        np.linspace(0, len(means) - 1, min(len(means), MAX_POINTS)).round().astype(int)
    )
    points = means[chosen]
    return Curve(tuple(points[:, 0].tolist()), tuple(points[:, 1].tolist()))


def resolved_min_similarity(
    config: CandidateConfig, calibration: Calibration | None, fingerprint: str
) -> tuple[float, str]:
    """The similarity that a candidate must reach, and a warning where nobody has chosen it; or ''.

    A number in the configuration counts. Else the model's calibration tells where min_precision is reached.
    """
    if not isinstance(config.min_similarity, str):
        return config.min_similarity, ""
    threshold = calibration.threshold(SIMILARITY, config.min_precision) if calibration else None
    if threshold is not None:
        return threshold, ""
    known = "has no calibration"
    if calibration is not None:
        known = (
            f"never reaches candidates.min_precision {config.min_precision:g} in its calibration"
        )
    return UNCALIBRATED_SIMILARITY, (
        f"model {fingerprint or 'of these descriptors'} {known}: similarity {UNCALIBRATED_SIMILARITY:g} is "
        "asked for, which may be far from right; set candidates.min_similarity to a number (the similarity "
        "matrix of `netvlad replay` shows which)."
    )
