# SPDX-License-Identifier: MIT
"""Which matches are loop-closure candidates, and why the others are not."""

from collections.abc import Sequence
from dataclasses import dataclass

from netvlad_ros.config import CandidateConfig
from netvlad_ros.keyframe import Match
from netvlad_ros.retrieval.query import Query, Recent
from netvlad_ros.retrieval.stages import Context, Decision, Stage, Verdict, default_stages


@dataclass(frozen=True)
class Candidate:
    """A match that passed all stages.

    rank:     0 for the best of its query.
    verdicts: of the stages, in their order.
    """

    match: Match
    rank: int
    verdicts: Sequence[Verdict]

    @property
    def consistent_queries(self) -> int:
        """Consecutive queries, this one included, that found the place; counted up to what is asked for."""
        return next((int(v.value) for v in self.verdicts if v.stage == "consistency"), 1)


@dataclass(frozen=True)
class Rejection:
    """A match that is no candidate, and the verdict that decided it."""

    match: Match
    verdict: Verdict


@dataclass(frozen=True)
class Selection:
    """What became of the matches of one query; both best first.

    summary: why there is no candidate, as a sentence; empty if there is one.
    """

    candidates: list[Candidate]
    rejections: list[Rejection]
    summary: str = ""


class CandidateSelector:
    """Puts the matches of one query after the other through the stages."""

    def __init__(
        self, config: CandidateConfig | None = None, stages: Sequence[Stage] | None = None
    ) -> None:
        self.config = config or CandidateConfig()
        self.stages = default_stages() if stages is None else list(stages)

    def select(self, query: Query) -> Selection:
        """The candidates of the next query."""
        verdicts: list[list[Verdict]] = [[] for _ in query.matches]
        passed = list(range(len(query.matches)))
        for stage in self.stages:
            judged = stage.judge(query, Context(self.config, passed))
            for index in passed:
                verdicts[index].append(judged[index])
            passed = [index for index in passed if judged[index].decision == Decision.PASS]
        candidates = [
            Candidate(query.matches[index], rank, verdicts[index])
            for rank, index in enumerate(passed)
        ]
        rejections = [
            Rejection(match, said[-1])
            for match, said in zip(query.matches, verdicts, strict=True)
            if said and said[-1].decision != Decision.PASS
        ]
        summary = "" if candidates else _summary(query, rejections)
        rejections = sorted(
            [*rejections, *_left_out(query.recent)], key=lambda each: -each.match.similarity
        )
        return Selection(candidates, rejections, summary)


def _left_out(recent: Recent) -> list[Rejection]:
    """The best keyframe that the database did not search, as it is too recent."""
    if recent.best is None:
        return []
    reason = f"was seen {recent.best_age_s:.1f} s of drive ago, less than {recent.exclude_s:g} s"
    return [
        Rejection(
            recent.best,
            Verdict(Decision.REJECT, "exclude_recent", recent.best_age_s, recent.exclude_s, reason),
        )
    ]


def _summary(query: Query, rejections: Sequence[Rejection]) -> str:
    """Why no match is a candidate."""
    recent = query.recent
    if rejections:
        return f"the best match is no candidate: {rejections[0].verdict.reason}."
    if recent.count:
        return (
            f"all {recent.count} keyframes were seen within the last {recent.exclude_s:g} s of drive "
            "(database.exclude_recent_s)."
        )
    return "this is the first keyframe: there is nothing to compare it with yet."
