# SPDX-License-Identifier: MIT
"""Which matches are loop-closure candidates, and why the others are not."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from netvlad_ros.config import CandidateConfig
from netvlad_ros.retrieval.database import Query
from netvlad_ros.retrieval.keyframes import Keyframe, Match


@dataclass(frozen=True)
class Candidate:
    """A match that passed selection.

    rank:               0 for the best of its query.
    consistent_queries: consecutive queries, this one included, that found the same place; counted up to
                        what the configuration asks for.
    """

    match: Match
    rank: int
    consistent_queries: int


@dataclass(frozen=True)
class Rejection:
    """A match that was turned down, at which stage, what it had and what was asked for."""

    match: Match
    stage: str
    value: float
    limit: float
    reason: str


@dataclass(frozen=True)
class Selection:
    """What became of the matches of one query; both best first."""

    candidates: list[Candidate]
    rejections: list[Rejection]


def select_candidates(query: Query, earlier: Sequence[Query], config: CandidateConfig) -> Selection:
    """Sorts the matches of a query into candidates and rejections; each match meets the stages in order.

    earlier: the queries before this one, oldest first; only temporal consistency looks at them.
    """
    candidates: list[Candidate] = []
    rejections: list[Rejection] = []
    plausible_earlier = [_plausible(each, config) for each in earlier]
    for match in query.matches:
        found = _consistent_queries(match.keyframe, plausible_earlier, config)
        rejection = _rejection(query, match, found, len(candidates), config)
        if rejection is None:
            candidates.append(Candidate(match, len(candidates), found))
        else:
            rejections.append(rejection)
    return Selection(candidates, rejections)


class CandidateSelector:
    """Selects candidates query by query, remembering as many earlier queries as consistency needs."""

    def __init__(self, config: CandidateConfig | None = None) -> None:
        self.config = config or CandidateConfig()
        self._earlier: deque[Query] = deque()

    def select(self, query: Query) -> Selection:
        """The candidates of the next query."""
        if self._earlier and not _continues(self._earlier[-1].keyframe, query.keyframe):
            self._earlier.clear()
        selection = select_candidates(query, self._earlier, self.config)
        self._earlier.append(query)
        while len(self._earlier) >= self.config.min_consistent_queries:
            self._earlier.popleft()
        return selection


def _continues(last: Keyframe, now: Keyframe) -> bool:
    """False after a change of session, or after the database began anew."""
    return last.session == now.session and last.keyframe_id < now.keyframe_id


def _rejection(
    query: Query, match: Match, consistent: int, accepted: int, config: CandidateConfig
) -> Rejection | None:
    """The first stage that the match fails, if any."""
    if match.keyframe.is_recent(query.keyframe, config.exclude_recent_s):
        age_s = match.keyframe.age_s(query.keyframe)
        reason = f"is {age_s:.1f} s old, younger than {config.exclude_recent_s:g} s"
        return Rejection(match, "exclude_recent", age_s, config.exclude_recent_s, reason)
    if match.similarity < config.min_similarity:
        reason = f"similarity {match.similarity:.3f} is below {config.min_similarity:g}"
        return Rejection(match, "min_similarity", match.similarity, config.min_similarity, reason)
    if consistent < config.min_consistent_queries:
        reason = (
            f"{consistent} of {config.min_consistent_queries} consecutive queries found this place"
        )
        return Rejection(match, "consistency", consistent, config.min_consistent_queries, reason)
    if accepted >= config.max_candidates:
        reason = f"the query has {config.max_candidates} better candidates already"
        return Rejection(match, "max_candidates", accepted + 1, config.max_candidates, reason)
    return None


def _plausible(query: Query, config: CandidateConfig) -> list[Keyframe]:
    """The matches of an earlier query that were similar and old enough."""
    return [
        match.keyframe
        for match in query.matches
        if match.similarity >= config.min_similarity
        and not match.keyframe.is_recent(query.keyframe, config.exclude_recent_s)
    ]


def _consistent_queries(
    place: Keyframe, earlier: Sequence[Sequence[Keyframe]], config: CandidateConfig
) -> int:
    """How many consecutive queries, counted backwards from this one, found keyframes next to each other."""
    count, front = 1, [place]
    for matched in reversed(earlier):
        front = [
            keyframe
            for keyframe in matched
            if any(_same_place(keyframe, other, config) for other in front)
        ]
        if not front:
            break
        count += 1
    return count


def _same_place(a: Keyframe, b: Keyframe, config: CandidateConfig) -> bool:
    return a.session == b.session and abs(a.keyframe_id - b.keyframe_id) <= config.max_keyframe_gap
