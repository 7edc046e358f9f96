# SPDX-License-Identifier: MIT
"""Which similarity, sequence score and margin reach a wanted precision, from matches that were judged.

Neighbouring queries are alike, so they say less than as many independent ones: a query counts as a share of
its stretch, and intervals are those of as many draws as there are stretches.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from netvlad_ros.calibration import INLIERS, MARGIN, SEQUENCE_SCORE, SIMILARITY, Calibration
from netvlad_ros.evaluation.detection_log import DetectionLog, LoggedKeyframe
from netvlad_ros.keyframe import Match

QUANTITIES = (SIMILARITY, SEQUENCE_SCORE, MARGIN, INLIERS)
# Queries of one stretch are of one place, and their errors are of one cause.
STRETCH_KEYFRAMES = 5
# Fewer stretches with a loop than these say nothing of a threshold.
MIN_STRETCHES = 8
# No limit is lower than where so many matches are right by the model's own calibration.
FLOOR_PRECISION = 0.5
# Of an interval that says enough.
WIDTH = 0.05
# Of a normal distribution, for 95 %.
Z = 1.96


@dataclass(frozen=True)
class JudgedQuery:
    """What was found for a keyframe, and what of it is right.

    best:        of each quantity the value of the match that it ranks first, and whether that is right.
    first:       similarity and sequence score of the first match, and whether it is right.
    closes_loop: whether there was a right match to find.
    stretch:     of the drive; the same for queries that depend on each other.
    """

    best: Mapping[str, tuple[float, bool]]
    first: tuple[float, float, bool]
    closes_loop: bool
    stretch: tuple[int, int]


@dataclass(frozen=True)
class Limit:
    """What is reported from a value on.

    value:     None if no value reaches the wanted precision.
    reported:  so many queries; right: of these.
    stretches: so many have a query that is reported.
    loops:     so many queries had a right match to find.
    """

    value: float | None
    reported: int
    right: int
    stretches: int
    loops: int

    @property
    def precision(self) -> float:
        return self.right / self.reported if self.reported else 1.0

    @property
    def recall(self) -> float:
        """Share of the loops that is found."""
        return self.right / self.loops if self.loops else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Between which precisions it is, with 95 %."""
        return wilson_interval(self.precision, self.stretches)

    @property
    def more_loops(self) -> int:
        """So many more queries have to be reported until the interval is narrow enough; 0 if it is."""
        needed = self.stretches
        while np.subtract(*wilson_interval(self.precision, needed)[::-1]) > WIDTH:
            needed += 1
        each = self.reported / self.stretches if self.stretches else 1.0
        return math.ceil((needed - self.stretches) * each)


def best_by_quantity(matches: Sequence[Match]) -> dict[str, tuple[Match, float]]:
    """Of each quantity that can be a limit, the match that it ranks first, and its value.

    The margin is that of the best sequence score. Quantities that were not computed are left out.
    """
    alike = max(matches, key=lambda match: match.similarity)
    found = {SIMILARITY: (alike, alike.similarity)}
    scored = [match for match in matches if not math.isnan(match.sequence_score)]
    if scored:
        fits = max(scored, key=lambda match: match.sequence_score)
        found[SEQUENCE_SCORE] = (fits, fits.sequence_score)
        found[MARGIN] = (fits, fits.margin)
    return found


def judged_queries(
    log: DetectionLog,
    is_right: Callable[[LoggedKeyframe, Match], bool],
    closes_loop: Callable[[LoggedKeyframe], bool] | None = None,
    inliers: Callable[[LoggedKeyframe, Match], int] | None = None,
    drive: int = 0,
) -> list[JudgedQuery]:
    """The queries of a drive that had something to match.

    closes_loop: whether there was a right match to find; left out, whether one of the matches is right.
    inliers:     how well a query and its first match agree by geometry; left out, nobody knows.
    drive:       its number among others.
    """
    judged = []
    for number, keyframe in enumerate(log.keyframes):
        matches = keyframe.query.matches
        if not matches:
            continue
        best = best_by_quantity(matches)
        asked = {
            match.keyframe: match for match in [matches[0], *(each for each, _ in best.values())]
        }
        right = {name: is_right(keyframe, match) for name, match in asked.items()}
        first = matches[0]
        ranked = {of: (value, right[match.keyframe]) for of, (match, value) in best.items()}
        if inliers is not None:
            ranked[INLIERS] = (float(inliers(keyframe, first)), right[first.keyframe])
        judged.append(
            JudgedQuery(
                ranked,
                (first.similarity, first.sequence_score, right[first.keyframe]),
                any(right.values()) if closes_loop is None else closes_loop(keyframe),
                (drive, number // STRETCH_KEYFRAMES),
            )
        )
    return judged


def loop_stretches(queries: Iterable[JudgedQuery]) -> int:
    """In how many stretches there was something to find."""
    return len({query.stretch for query in queries if query.closes_loop})


def limit_of(
    queries: Sequence[JudgedQuery], quantity: str, precision: float, least: float = -math.inf
) -> Limit:
    """The least value of a quantity from which on so large a share is right.

    least: not below this, as an easy drive, on which hardly anything is wrong, says little of others.
    """
    known = [(*query.best[quantity], query) for query in queries if quantity in query.best]
    known = sorted((each for each in known if each[0] >= least), key=lambda each: -each[0])
    values, right = (np.array([each[i] for each in known], float) for i in (0, 1))
    shares = np.cumsum(right) / np.arange(1, len(right) + 1)
    is_last = np.diff(values, append=-np.inf) < 0.0  # of all that are equal
    enough = np.flatnonzero(is_last & (shares >= precision))
    count = int(enough[-1]) + 1 if len(enough) else 0
    return _limit(
        queries,
        [(each[1], each[2]) for each in known[:count]],
        float(values[count - 1]) if count else None,
    )


def limits_of(
    queries: Sequence[JudgedQuery], precision: float, calibration: Calibration | None
) -> dict[str, Limit]:
    """The limit of each quantity, none below that where half is right by the model's own calibration."""
    found = {}
    for quantity in QUANTITIES:
        if any(quantity in query.best for query in queries):
            least = calibration.threshold(quantity, FLOOR_PRECISION) if calibration else None
            found[quantity] = limit_of(
                queries, quantity, precision, -math.inf if least is None else least
            )
    return found


def together(queries: Sequence[JudgedQuery], limits: Mapping[str, Limit]) -> Limit:
    """What is reported if the limit of similarity or of sequence score is reached, as ScoreStage does."""
    similarity, sequence_score = (
        limits[quantity].value if quantity in limits else None
        for quantity in (SIMILARITY, SEQUENCE_SCORE)
    )
    reported = [
        (is_right, query)
        for query in queries
        for alike, score, is_right in [query.first]
        if (similarity is not None and alike >= similarity)
        or (sequence_score is not None and score >= sequence_score)
    ]
    return _limit(queries, reported, None)


def _limit(
    queries: Sequence[JudgedQuery], reported: list[tuple[bool, JudgedQuery]], value: float | None
) -> Limit:
    return Limit(
        value,
        len(reported),
        sum(is_right for is_right, _ in reported),
        len({query.stretch for _, query in reported}),
        sum(query.closes_loop for query in queries),
    )


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Where a share is with 95 %, if it was seen among so many draws (Wilson 1927); 0 to 1 without any."""
    if not count:
        return 0.0, 1.0
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    reach = Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2)) / (1 + Z**2 / count)
    return max(0.0, middle - reach), min(1.0, middle + reach)
