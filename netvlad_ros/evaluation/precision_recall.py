# SPDX-License-Identifier: MIT
"""Precision and recall of loop closures against a ground truth.

Each keyframe is a query, and of its matches only the first counts: the most similar keyframe, or the
best candidate. It is *right* if the ground truth names it for this query. A query *closes a loop* if the
ground truth names at least one keyframe that it could have matched, so neither an image that was not
kept as a keyframe nor one that was too young then (database.exclude_recent_s) can be missed.

A query is *reported* if its first match reaches a score.

    precision = right reports / reports                        1 if nothing is reported
    recall    = right reports / queries that close a loop      1 if there is no loop to find
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

# Every first match reaches this score; what has none is at minus infinity.
LOWEST = float(np.finfo(np.float64).min)


@dataclass(frozen=True)
class FirstMatches:
    """The first match of every keyframe of a recording.

    images:       (N,) number of each keyframe's image, ascending.
    available:    (N,) how many of the first keyframes were there and old enough to be matched.
    matches:      (N,) which keyframe, 0 to N - 1, is the first match; -1 if there is none.
    similarities: (N,) its similarity; -inf if there is none.
    scores:       (N,) its score (Match.score), by which it is more or less sure; -inf if there is none.
    """

    images: np.ndarray
    available: np.ndarray
    matches: np.ndarray
    similarities: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class JudgedMatches:
    """What the ground truth says of first matches.

    scores:      (N,) the higher, the surer; -inf if there is none.
    right:       (N,) whether the first match shows the same place.
    closes_loop: (N,) whether there was something to find.
    """

    scores: np.ndarray
    right: np.ndarray
    closes_loop: np.ndarray


@dataclass(frozen=True)
class PrecisionRecall:
    """The counts at one threshold."""

    reported: int
    right: int
    loops: int

    @property
    def precision(self) -> float:
        return self.right / self.reported if self.reported else 1.0

    @property
    def recall(self) -> float:
        return self.right / self.loops if self.loops else 1.0


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """Precision and recall at every threshold that makes a difference, the highest first."""

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray

    @property
    def average_precision(self) -> float:
        """Area under the curve as a staircase: the mean of precision over recall, not interpolated."""
        return float(np.sum(np.diff(self.recall, prepend=0.0) * self.precision))

    @property
    def recall_at_full_precision(self) -> float:
        """The most loops, as a share, that can be found without a single false one."""
        return float(np.max(self.recall, initial=0.0, where=self.precision == 1.0))


def judge(first: FirstMatches, truth: Mapping[int, Iterable[int]]) -> JudgedMatches:
    """Compares first matches with a ground truth: query image -> images of the same place."""
    count = len(first.images)
    right, closes_loop = np.zeros(count, bool), np.zeros(count, bool)
    for i, image in enumerate(first.images):
        named = sorted(truth.get(int(image), ()))
        closes_loop[i] = np.isin(first.images[: first.available[i]], named).any()
        right[i] = first.matches[i] >= 0 and first.images[first.matches[i]] in named
    return JudgedMatches(first.scores, right, closes_loop)


def precision_recall(judged: JudgedMatches, min_score: float = LOWEST) -> PrecisionRecall:
    """The counts if first matches of at least this score are reported."""
    reported = judged.scores >= min_score
    return PrecisionRecall(
        reported=int(reported.sum()),
        right=int((reported & judged.right).sum()),
        loops=int(judged.closes_loop.sum()),
    )


def precision_recall_curve(judged: JudgedMatches) -> PrecisionRecallCurve:
    """Precision and recall at the score of every first match."""
    found = np.flatnonzero(np.isfinite(judged.scores))
    order = found[np.argsort(-judged.scores[found], kind="stable")]
    scores = judged.scores[order]
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # of all that are equal
    right, reported = np.cumsum(judged.right[order])[last], last + 1
    loops = int(judged.closes_loop.sum())
    return PrecisionRecallCurve(
        scores[last], right / reported, right / loops if loops else np.ones(len(last))
    )
