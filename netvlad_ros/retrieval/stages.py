# SPDX-License-Identifier: MIT
"""The stages that a match has to pass to become a loop-closure candidate."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from math import isnan
from typing import Protocol

from netvlad_ros.calibration import resolved_min_sequence_score, resolved_min_similarity
from netvlad_ros.config import CandidateConfig
from netvlad_ros.keyframe import MAX_STREAMS, Keyframe, Match, Stream
from netvlad_ros.retrieval.query import Query


class Decision(Enum):
    """What a stage does with a match. What is held back may be decided by what comes later."""

    PASS = 0
    HOLD = 1
    REJECT = 2


@dataclass(frozen=True)
class Verdict:
    """What a stage says of a match: what it has, what is asked for, and the same as a sentence."""

    decision: Decision
    stage: str
    value: float
    limit: float
    reason: str


@dataclass(frozen=True)
class Context:
    """What a stage knows beside the query.

    passed: indices of the matches that passed all stages before, best first.
    """

    config: CandidateConfig
    passed: Sequence[int]


class Stage(Protocol):
    """One rule of selection. It sees each query of a drive once, in their order, and may remember them."""

    def judge(self, query: Query, context: Context) -> list[Verdict]:
        """A verdict for each match of the query, in their order; only those in context.passed matter."""


class ScoreStage:
    """A match has to be similar enough, or its sequence has to fit well enough.

    How much is enough is a number, or what the model's calibration says.
    """

    def judge(self, query: Query, context: Context) -> list[Verdict]:
        """See Stage."""
        config = context.config
        least, _ = resolved_min_similarity(config, query.calibration, query.fingerprint)
        least_score = resolved_min_sequence_score(config, query.calibration)
        verdicts = []
        for match in query.matches:
            alike = _reaches("min_similarity", "similarity", match.similarity, least)
            if (
                alike.decision == Decision.PASS
                or least_score is None
                or isnan(match.sequence_score)
            ):
                verdicts.append(alike)
            else:
                verdicts.append(self._of_sequence(match, least_score, config.min_margin, alike))
        return verdicts

    def _of_sequence(
        self, match: Match, least_score: float, least_margin: float | str, alike: Verdict
    ) -> Verdict:
        fits = _reaches("min_sequence_score", "sequence score", match.sequence_score, least_score)
        if fits.decision == Decision.REJECT:
            return replace(fits, reason=f"{alike.reason}, and its {fits.reason}")
        if isinstance(least_margin, str):
            return fits
        stands_out = _reaches("min_margin", "margin", match.margin, least_margin)
        return stands_out if stands_out.decision == Decision.REJECT else fits


def _reaches(stage: str, name: str, value: float, limit: float) -> Verdict:
    if value < limit:
        return Verdict(
            Decision.REJECT, stage, value, limit, f"{name} {value:.3f} is below {limit:.3g}"
        )
    return Verdict(Decision.PASS, stage, value, limit, f"{name} {value:.3f} reaches {limit:.3g}")


class ConsistencyStage:
    """The queries just before have to have found the place too, or one of its neighbours.

    Per stream it remembers, for each place that the last query found, how many queries in a row did.
    """

    def __init__(self) -> None:
        self._streams: dict[Stream, tuple[int, Mapping[Keyframe, int]]] = {}

    def judge(self, query: Query, context: Context) -> list[Verdict]:
        """See Stage."""
        wanted = context.config.min_consistent_queries
        stream = query.keyframe.session.stream
        last_number, earlier = self._streams.pop(stream, (-1, {}))
        if query.number <= last_number:  # the database began anew
            earlier = {}
        places = [query.matches[index].keyframe for index in context.passed]
        before = _most_near(places, earlier, context.config.max_keyframe_gap)
        found = {place: min(1 + before[place], wanted) for place in places}
        self._streams[stream] = query.number, found
        if len(self._streams) > MAX_STREAMS:  # the one that was silent longest
            del self._streams[next(iter(self._streams))]
        return [self._verdict(match, found, wanted) for match in query.matches]

    def _verdict(self, match: Match, found: Mapping[Keyframe, int], wanted: int) -> Verdict:
        count = found.get(match.keyframe, 0)
        reason = f"{count} of {wanted} consecutive queries found this place"
        decision = Decision.PASS if count >= wanted else Decision.HOLD
        return Verdict(decision, "consistency", count, wanted, reason)


class MaxCandidatesStage:
    """Only the best ones of a query are reported."""

    def judge(self, query: Query, context: Context) -> list[Verdict]:
        """See Stage."""
        limit = context.config.max_candidates
        ranks = {index: rank for rank, index in enumerate(context.passed, 1)}
        return [self._verdict(ranks.get(i, 0), limit) for i in range(len(query.matches))]

    def _verdict(self, rank: int, limit: int) -> Verdict:
        if rank > limit:
            reason = f"the query has {limit} better candidates already"
            return Verdict(Decision.REJECT, "max_candidates", rank, limit, reason)
        return Verdict(Decision.PASS, "max_candidates", rank, limit, f"is number {rank} of {limit}")


def default_stages() -> list[Stage]:
    """The stages in their order; a new one is a new entry."""
    return [ScoreStage(), ConsistencyStage(), MaxCandidatesStage()]


def _most_near(
    places: Iterable[Keyframe], earlier: Mapping[Keyframe, int], gap: int
) -> dict[Keyframe, int]:
    """For each place the largest value among earlier ones of its session at most so many numbers apart; or 0.

    Both are gone through once in the order of their names, whatever the gap.
    """
    most: dict[Keyframe, int] = {}
    waiting = deque(sorted(earlier.items(), key=lambda item: item[0].name))
    window: deque[tuple[Keyframe, int]] = (
        deque()
    )  # values descend: a smaller one before a larger is no use
    for place in sorted(places, key=lambda place: place.name):
        uuid, number = place.name
        while waiting and waiting[0][0].name <= (uuid, number + gap):
            keyframe, value = waiting.popleft()
            while window and window[-1][1] <= value:
                window.pop()
            window.append((keyframe, value))
        while window and window[0][0].name < (uuid, number - gap):
            window.popleft()
        is_near = window and window[0][0].session.uuid == uuid
        most[place] = window[0][1] if is_near else 0
    return most
