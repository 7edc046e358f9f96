# SPDX-License-Identifier: MIT
"""What the similarities of one model mean: how often a match of some similarity is right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from netvlad_ros.config import CandidateConfig
from netvlad_ros.errors import ModelError

# What curves are of.
SIMILARITY, SEQUENCE_SCORE, MARGIN = "similarity", "sequence_score", "margin"
INLIERS = "inliers"
# With which matches of a model without a calibration are judged; suits descriptors with whitening.
UNCALIBRATED_SIMILARITY = 0.45
MAX_POINTS = 64


@dataclass(frozen=True)
class Curve:
    """At which value which share of matches is right.

    values:     ascending, in the unit of what was measured.
    precisions: 0 to 1, as many, never falling: of the matches with about this value so many are right.
    pairs:      how many matches were judged to know that; 0 if that is not known.
    """

    values: tuple[float, ...]
    precisions: tuple[float, ...]
    pairs: int = 0

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
        if self.pairs < 0:
            raise ModelError(
                f"a calibration curve: expected 0 or more matches behind it, got {self.pairs}; calibrate "
                "again."
            )

    def threshold(self, precision: float) -> float | None:
        """The least value at which so large a share is right, between points; None if there is none."""
        if not self.precisions[-1] >= precision:
            return None
        above = next(i for i, each in enumerate(self.precisions) if each >= precision)
        if above == 0:
            return self.values[0]
        low, high = self.precisions[above - 1 : above + 1]
        share = (precision - low) / (high - low)
        return self.values[above - 1] + share * (self.values[above] - self.values[above - 1])

    @property
    def best(self) -> float:
        """The least value at which the largest share is right that there is."""
        return self.values[self.precisions.index(self.precisions[-1])]

    def precision(self, value: float) -> float:
        """The share that is right at a value; beyond the ends that of the nearest point."""
        return float(np.interp(value, self.values, self.precisions))


@dataclass(frozen=True)
class Calibration:
    """The curves of one model by what is measured, such as similarity, and what they were measured on.

    source:      a sentence.
    fingerprint: of the descriptors that were measured, with their input size; it is true of no others.
    """

    curves: Mapping[str, Curve]
    source: str
    fingerprint: str

    def threshold(self, quantity: str, precision: float) -> float | None:
        """The least value at which so large a share of matches is right; None where that is not known."""
        curve = self.curves.get(quantity)
        return curve.threshold(precision) if curve else None

    def precision(self, quantity: str, value: float) -> float | None:
        """The share of matches with about this value that is right; None where that is not known."""
        curve = self.curves.get(quantity)
        return curve.precision(value) if curve else None

    def of_same_descriptors(self, old: str, new: str) -> "Calibration":
        """The same for a model of another fingerprint that makes the same descriptors."""
        return replace(self, fingerprint=self.fingerprint.replace(old, new, 1))

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        curves = {
            quantity: {
                "values": list(curve.values),
                "precisions": list(curve.precisions),
                "pairs": curve.pairs,
            }
            for quantity, curve in self.curves.items()
        }
        return {"source": self.source, "fingerprint": self.fingerprint, "curves": curves}


def calibration_from_json(values: Any) -> Calibration | None:
    """What to_json() wrote; None of None. Raises ModelError for anything else."""
    if values is None:
        return None
    try:
        curves = {
            str(quantity): Curve(
                tuple(map(float, curve["values"])),
                tuple(map(float, curve["precisions"])),
                int(curve["pairs"]),
            )
            for quantity, curve in values["curves"].items()
        }
        return Calibration(curves, str(values["source"]), str(values["fingerprint"]))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise ModelError(
            "the calibration of the model is damaged; copy the model again, or calibrate it."
        ) from None


def fit_curve(values: Sequence[float] | np.ndarray, right: Sequence[bool] | np.ndarray) -> Curve:
    """The curve that fits matches of these values, of which these are right, best without ever falling.

    Isotonic regression: adjacent violators are pooled (Barlow et al. 1972), each pool stands at the mean of
    its values (Oron and Flournoy 2017), and there are at most MAX_POINTS of them. Of a pool of n matches, r
    of them right, the share is taken for (r + 1) / (n + 2), so that a handful is no proof of 99 %.
    Raises ModelError if there are no matches, or values that are not finite.
    """
    values, right = np.asarray(values, np.float64), np.asarray(right, np.float64)
    if not len(values) or len(values) != len(right) or not np.isfinite(values).all():
        raise ModelError(
            f"a calibration curve: expected matches to fit it to, each with a finite value and whether it is "
            f"right, got {len(values)} and {len(right)}."
        )
    distinct, where = np.unique(values, return_inverse=True)
    counts, rights = np.bincount(where), np.bincount(where, right)
    pools = _pooled(np.stack([counts, rights, counts * distinct], axis=1))
    counts, rights, totals = np.stack(pools, axis=1)
    pools = _pooled(np.stack([counts, counts * (rights + 1) / (counts + 2), totals], axis=1))
    while len(pools) > MAX_POINTS:
        nearest = int(np.argmin(np.diff([_share(pool) for pool in pools])))
        pools[nearest : nearest + 2] = [pools[nearest] + pools[nearest + 1]]
    at = tuple(float(total / count) for count, _, total in pools)
    return Curve(at, tuple(map(_share, pools)), len(values))


def _pooled(pools: np.ndarray) -> list[np.ndarray]:
    """Neighbours joined until the share of right ones rises from each to the next.

    pools: (n, 3) how many matches, how many of them are right, and the sum of their values; values ascend.
    """
    found: list[np.ndarray] = []
    for pool in pools:
        found.append(pool)
        while len(found) > 1 and _share(found[-2]) >= _share(found[-1]):
            last = found.pop()
            found[-1] = found[-1] + last
    return found


def _share(pool: np.ndarray) -> float:
    return float(pool[1] / pool[0])


def resolved_min_similarity(
    config: CandidateConfig, calibration: Calibration | None, fingerprint: str
) -> tuple[float, str]:
    """The similarity that a candidate must reach, and a warning where nobody has chosen it; or ''.

    A number in the configuration counts. Else the model's calibration tells where min_precision is reached;
    where it never is, its best similarity counts, so that asking for more never lets more through.
    """
    if not isinstance(config.min_similarity, str):
        return config.min_similarity, ""
    curve = calibration.curves.get(SIMILARITY) if calibration else None
    model = f"model {fingerprint}" if fingerprint else "the model of these descriptors"
    if curve is None:
        return UNCALIBRATED_SIMILARITY, (
            f"{model} has no calibration: similarity {UNCALIBRATED_SIMILARITY:g} is asked for, which may be "
            "far from right; set candidates.min_similarity to a number (the similarity matrix of `netvlad "
            "replay` shows which)."
        )
    threshold = curve.threshold(config.min_precision)
    if threshold is not None:
        return threshold, ""
    limit, best = curve.best, curve.precisions[-1]
    return limit, (
        f"{model} is right with {best:.1%} of its most similar matches, and candidates.min_precision asks "
        f"for {config.min_precision:.1%}: similarity {limit:.3f}, its best, is asked for; lower "
        "min_precision, or set candidates.min_similarity to a number."
    )


def resolved_min_sequence_score(
    config: CandidateConfig, calibration: Calibration | None
) -> float | None:
    """The sequence score with which a match is a candidate; None where nobody knows one.

    It is found as that of resolved_min_similarity().
    """
    if not isinstance(config.min_sequence_score, str):
        return config.min_sequence_score
    curve = calibration.curves.get(SEQUENCE_SCORE) if calibration else None
    if curve is None:
        return None
    threshold = curve.threshold(config.min_precision)
    return curve.best if threshold is None else threshold
