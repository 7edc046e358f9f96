# SPDX-License-Identifier: MIT
"""Which matches are loop closures: verified by geometry, in line with odometry, and of one place only."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, groupby
from math import inf

import numpy as np

from netvlad_ros.config import Config
from netvlad_ros.image_data import ImageData
from netvlad_ros.keyframe import MAX_STREAMS, Keyframe, Match
from netvlad_ros.retrieval.closure_gates import (
    gates,
    held,
    is_of_base,
    passed,
    rejected,
    up_to_failed,
)
from netvlad_ros.retrieval.consistency import Consistency, Edge
from netvlad_ros.retrieval.places import Places, are_near
from netvlad_ros.retrieval.query import Query
from netvlad_ros.retrieval.stages import Decision, Verdict
from netvlad_ros.verification.geometry import Geometry, in_base
from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.odometry import OdometryTrack, has_covariance, is_level, is_of_camera
from netvlad_ros.verification.verifier import verify

# Two poses that differ by less are of one place, however certain each of them claims to be.
ONE_PLACE_M, ONE_PLACE_DEG = 0.5, 10.0
# Of edges that exclude each other one is taken if few agree with another only, as a share of those that agree
# with this one only; where a place is ambiguous there must be so many of these.
AGAINST_SHARE, AGREEING_OF_AMBIGUOUS = 0.5, 3
# Agreement counts where odometry between two edges is known this well; otherwise wrong ones agree too.
MAX_TELLING_M = 0.3
NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Closure:
    """A match that is a loop closure.

    odometry_deviation: how far it is from odometry, in standard deviations; NaN if that is not known.
    agrees_with:        how many of the last queries have an edge that it agrees with, given odometry.
    verdicts:           of each gate that it passed, in their order.
    """

    query: Keyframe
    match: Match
    geometry: Geometry
    odometry_deviation: float
    agrees_with: int
    verdicts: Sequence[Verdict]


@dataclass(frozen=True, eq=False)
class ClosureSelection:
    """What became of the matches of one query.

    closures:   best first; after those of this query those of earlier ones that had to wait.
    rejections: by the names of keyframes, the verdict that decided.
    geometries: by the names of keyframes, of all that were compared.
    summary:    why this query has no closure, as a sentence; empty if it has one.
    problem:    what is wrong with the query's odometry; empty if nothing is.
    """

    closures: list[Closure] = field(default_factory=list)
    rejections: dict[tuple[str, int], Verdict] = field(default_factory=dict)
    geometries: dict[tuple[str, int], Geometry] = field(default_factory=dict)
    summary: str = ""
    problem: str = ""


@dataclass(eq=False)
class _Compared:
    """A match on its way through the gates.

    motion:   of the base from the match to the query by odometry, if it connects them.
    rivals:   keyframes of other places that fit as well.
    agreeing: the queries with an edge that agrees.
    """

    query: Keyframe
    match: Match
    geometry: Geometry
    motion: Motion | None
    verdicts: list[Verdict] = field(default_factory=list)
    rivals: set[tuple[str, int]] = field(default_factory=set)
    agreeing: Collection[int] = ()

    @property
    def decision(self) -> Decision:
        return self.verdicts[-1].decision if self.verdicts else Decision.PASS

    @property
    def has_passed(self) -> bool:
        return self.decision == Decision.PASS

    @property
    def base_from_base(self) -> Motion | None:
        """The pose, if it is in metres and of what odometry is of."""
        return self.geometry.metric if is_of_base(self.geometry, self.match.data) else None

    @property
    def deviation(self) -> float:
        return next((v.value for v in self.verdicts if v.stage == "odometry"), NAN)

    def without_features(self) -> "_Compared":
        """What is kept of it while it waits."""
        data = replace(self.match.data, features=None, thumbnail=None)
        return replace(self, match=replace(self.match, data=data))


class ClosureSelector:
    """Compares each query with its matches, and remembers odometry and the closures of each session."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self._tracks: dict[str, OdometryTrack] = {}
        self._places = Places()
        self._edges: dict[str, Consistency[_Compared]] = {}  # by the session of their queries
        # Of the session of queries and the name of a match, the number of the query that closed it last.
        self._closed_by: dict[tuple[str, tuple[str, int]], int] = {}

    def select(self, query: Query) -> ClosureSelection:
        """The closures of the next query."""
        problem = self._take_in(query)
        compared = [self._compared(query, match) for match in query.matches if _is_known(match)]
        for each in compared:
            judged = gates(each.geometry, each.match.data, query.data, each.motion, self.config)
            each.verdicts.extend(up_to_failed(judged))
        self._hold_ambiguous([each for each in compared if each.has_passed])
        late = self._judge_consistency(query.keyframe, compared)
        closures = self._closed(compared)
        is_closed = bool(closures)
        for of_query in late:
            closures += self._closed(of_query)
        return ClosureSelection(
            closures,
            {
                each.match.keyframe.name: each.verdicts[-1]
                for each in compared
                if not each.has_passed
            },
            {each.match.keyframe.name: each.geometry for each in compared},
            "" if is_closed else _summary(query, compared),
            problem,
        )

    # --- What is known ----------------------------------------------------------------------------------

    def _take_in(self, query: Query) -> str:
        """Takes in odometry; returns what is wrong with that of the query.

        Matches bring along theirs, which counts where this robot was before it was started, and in maps.
        """
        for match in query.matches:
            self._add(match.keyframe, match.data)
        data = query.data
        if (problem := self._add(query.keyframe, data)) or data.odometry is None:
            return problem
        if self.config.odometry.drift == "message" and not has_covariance(data.odometry):
            return (
                "odometry: its covariance is zero, NaN or missing; the parameters say how it drifts"
            )
        return ""

    def _add(self, keyframe: Keyframe, data: ImageData) -> str:
        if data.odometry is None:
            return ""
        session = keyframe.session.uuid
        track = self._tracks.pop(session, None) or OdometryTrack()
        self._tracks[session] = track
        if len(self._tracks) > MAX_STREAMS:  # the one that was silent longest
            del self._tracks[next(iter(self._tracks))]
        if data.features is not None:  # of matches further down odometry is all that came
            track.is_level = is_level(self.config.odometry, data)
        return track.add(keyframe.number, keyframe.stamp_ns, data.odometry)

    def motion(self, parent: Keyframe, child: Keyframe) -> Motion | None:
        """By odometry, if both are of one session."""
        track = self._tracks.get(parent.session.uuid)
        if track is None or parent.session.uuid != child.session.uuid:
            return None
        if parent.number <= child.number:
            return track.between(parent.number, child.number, self.config.odometry)
        back = track.between(child.number, parent.number, self.config.odometry)
        return None if back is None else back.inverse()

    def _compared(self, query: Query, match: Match) -> _Compared:
        geometry, known = verify(query.data, match.data, self.config.verification), query.data
        if not is_of_camera(known.odometry, known.camera):  # edges are of what odometry is of
            geometry = in_base(geometry, _mount(match.data), _mount(known))
        motion = self.motion(match.keyframe, query.keyframe)
        return _Compared(query.keyframe, match, geometry, motion)

    # --- Several matches --------------------------------------------------------------------------------

    def _hold_ambiguous(self, verified: Sequence[_Compared]) -> None:
        """Of places that contradict each other one may be right at most: all of them wait."""
        share = self.config.closures.ambiguous_share
        # In an order that is the same in each run: names are not.
        for a, b in combinations(sorted(verified, key=lambda e: e.match.keyframe.stamp_ns), 2):
            if self._contradict(a, b):
                a.rivals.add(b.match.keyframe.name)
                b.rivals.add(a.match.keyframe.name)
        for each in verified:
            rivals = [o for o in verified if o.match.keyframe.name in each.rivals]
            strongest = max(rivals, key=lambda o: o.geometry.inliers, default=None)
            rival_share = strongest.geometry.inliers / each.geometry.inliers if strongest else 0.0
            if strongest is None or rival_share < share:
                sentence = "no other place fits as well"
                each.verdicts.append(passed("ambiguous", rival_share, share, sentence))
                continue
            sentence = (
                f"keyframe {strongest.match.keyframe}, another place, fits too: "
                f"{strongest.geometry.inliers} inliers beside {each.geometry.inliers}"
            )
            each.verdicts.append(held("ambiguous", rival_share, share, sentence))

    def _contradict(self, a: _Compared, b: _Compared) -> bool:
        """Whether the query can't be at both.

        Odometry between them decides. Without it, two keyframes of one session are two places unless closures
        connect them; of two sessions, unless they verify each other.
        """
        limits = self.config.closures
        motion = self.motion(a.match.keyframe, b.match.keyframe)
        there, back = a.base_from_base, b.base_from_base
        if motion is not None and there is not None and back is not None:
            implied = there.then(back.inverse())
            return not self._are_same(motion, implied)
        if self._places.are_one(a.match.keyframe, b.match.keyframe, self._gap):
            return False
        if motion is not None:
            return motion.least_length_m(limits.max_odometry_deviation) > limits.max_distance_m
        if a.match.keyframe.session.uuid == b.match.keyframe.session.uuid:
            return True
        direct = verify(b.match.data, a.match.data, self.config.verification)
        return direct.inliers < limits.min_inliers

    def _keep_best_of_each_place(self, verified: Sequence[_Compared]) -> None:
        """Neighbours in a session show one place; the one that is known best is its closure."""
        best: list[_Compared] = []
        for each in sorted(verified, key=_known_best_first):
            keyframe = each.match.keyframe
            other = next((o for o in best if are_near(o.match.keyframe, keyframe, self._gap)), None)
            if other is None:
                best.append(each)
                each.verdicts.append(passed("best_of_place", 0, 0, "it is the best of its place"))
                continue
            reason = f"keyframe {other.match.keyframe} shows the same place and is known better: "
            best_one, this = other.geometry, each.geometry
            if best_one.metric is None or this.metric is None:
                value, limit = float(this.inliers), float(best_one.inliers)
                reason += f"{best_one.inliers} inliers beside {this.inliers}"
            else:
                value, limit = this.metric.uncertainty_m, best_one.metric.uncertainty_m
                reason += f"to {limit:.3f} m, this one to {value:.3f} m"
            each.verdicts.append(rejected("best_of_place", value, limit, reason))

    def _skip_repeated(self, verified: Sequence[_Compared]) -> None:
        """One closure of a place for so many keyframes."""
        wanted = self.config.closures.every_keyframes
        for each in verified:
            since = self._keyframes_since_closure(each.query, each.match.keyframe)
            if since >= wanted:
                continue
            reason = f"{since} keyframes ago there was a closure with this place"
            each.verdicts.append(rejected("every_keyframes", since, wanted, reason))

    def _keyframes_since_closure(self, query: Keyframe, match: Keyframe) -> float:
        """Or to it, where the query had to wait."""
        uuid, number = match.name
        last = max(
            self._closed_by.get((query.session.uuid, (uuid, each)), -inf)
            for each in range(number - self._gap, number + self._gap + 1)
        )
        return abs(query.number - last)

    # --- Edges of several queries -----------------------------------------------------------------------

    def _judge_consistency(
        self, query: Keyframe, compared: Sequence[_Compared]
    ) -> list[list[_Compared]]:
        """Of edges that exclude each other those go on with which most others agree.

        Returns those of earlier queries that need not wait any more, by their queries.
        """
        edges = self._edges_of(query)
        for each in compared:
            if each.decision == Decision.REJECT:
                continue
            if self._can_agree(each):
                edge = edges.add(each.without_features(), query.number)
                each.agreeing = edge.item.agreeing = edge.agreeing
            elif each.has_passed:
                reason = "without odometry and a pose in metres no other can agree with it"
                each.verdicts.append(passed("consistency", 0, 0, reason))
        for edge in (waiting := edges.waiting):
            self._judge_edge(edge)
        late = [e.item for e in waiting if not e.is_open and e.query != query.number]
        return [list(of_query) for _, of_query in groupby(late, lambda each: each.query)]

    def _judge_edge(self, edge: Edge[_Compared]) -> None:
        """It goes on when enough agree with it, and few with what it excludes."""
        each, count, against = edge.item, len(edge.agreeing), 0
        said = f"{count} other queries agree with it"
        if (other := edge.strongest_excluded) is not None:
            count, against = edge.beside(other)
            said = (
                f"{count} other queries agree with it but not with keyframe {other.item.match.keyframe}, "
                f"which it excludes, and {against} the other way round"
            )
        verdicts = [verdict for verdict in each.verdicts if verdict.stage != "consistency"]
        is_ambiguous = verdicts[-1].decision == Decision.HOLD
        wanted = max(self.config.closures.min_agreeing, AGREEING_OF_AMBIGUOUS * is_ambiguous)
        if count >= wanted and against <= AGAINST_SHARE * count:
            edge.is_open = False
            verdicts = [verdict for verdict in verdicts if verdict.decision == Decision.PASS]
            verdicts.append(passed("consistency", count, wanted, said))
        elif not is_ambiguous:
            verdicts.append(held("consistency", count, wanted, f"{said}; it waits for more"))
        each.verdicts[:] = verdicts

    def _can_agree(self, each: _Compared) -> bool:
        sessions = {each.match.keyframe.session.uuid, each.query.session.uuid}
        return each.base_from_base is not None and sessions <= self._tracks.keys()

    def _edges_of(self, query: Keyframe) -> Consistency[_Compared]:
        session = query.session.uuid
        edges = self._edges.pop(session, None) or Consistency(self._agree)
        self._edges[session] = edges
        if len(self._edges) > MAX_STREAMS:  # the one that was silent longest
            del self._edges[next(iter(self._edges))]
        return edges

    def _agree(self, new: _Compared, before: _Compared) -> bool | None:
        """Whether both can be right: from one match to its query, on to the other query, and back."""
        if new.query == before.query:
            return False if before.match.keyframe.name in new.rivals else None
        there = self.motion(new.match.keyframe, before.match.keyframe)
        back = self.motion(before.query, new.query)
        if there is None or back is None:
            return None
        assert new.geometry.metric is not None
        assert before.geometry.metric is not None
        implied = there.then(before.geometry.metric).then(back)
        if not self._are_same(new.geometry.metric, implied):
            return False
        return True if implied.uncertainty_m < MAX_TELLING_M else None

    def _are_same(self, motion: Motion, other: Motion) -> bool:
        apart_m, turned_deg = motion.difference(other)
        if apart_m < ONE_PLACE_M and turned_deg < ONE_PLACE_DEG:
            return True
        return motion.deviation(other) <= self.config.closures.max_odometry_deviation

    def _closed(self, compared: Sequence[_Compared]) -> list[Closure]:
        """Of the matches of one query, best first."""
        self._keep_best_of_each_place([each for each in compared if each.has_passed])
        self._skip_repeated([each for each in compared if each.has_passed])
        closures = [
            Closure(
                each.query,
                each.match,
                each.geometry,
                each.deviation,
                len(each.agreeing),
                each.verdicts,
            )
            for each in compared
            if each.has_passed
        ]
        closures.sort(key=_known_best_first)
        for closure in closures:
            match, query = closure.match.keyframe, closure.query
            self._closed_by[query.session.uuid, match.name] = query.number
            self._places.unite(query, match)
        return closures

    @property
    def _gap(self) -> int:
        return self.config.candidates.max_keyframe_gap


def _known_best_first(each: "_Compared | Closure") -> tuple[float, int]:
    """By how well the position is known; those without one last, by their inliers."""
    metric = each.geometry.metric
    return (float("inf") if metric is None else metric.uncertainty_m), -each.geometry.inliers


def _summary(query: Query, compared: Sequence[_Compared]) -> str:
    """Why no match is a closure."""
    if not query.matches:
        return "there is no match to compare yet."
    if not compared:
        return (
            f"none of {len(query.matches)} matches has local features, so they can't be compared "
            "(verification.features of the camera's node, database.matches_with_data)."
        )
    best = max(compared, key=lambda each: each.geometry.inliers)
    return (
        f"none of {len(compared)} matches that were compared is a loop closure; of the best, keyframe "
        f"{best.match.keyframe}: {best.verdicts[-1].reason}."
    )


def _is_known(match: Match) -> bool:
    """Whether it came with anything to compare."""
    return match.data.features is not None


def _mount(data: ImageData) -> np.ndarray | None:
    return None if data.camera is None else data.camera.base_from_camera


def verdict_of(match: Match, closures: ClosureSelection) -> Verdict:
    """What decided whether a match is a loop closure."""
    name = match.keyframe.name
    if name in closures.rejections:
        return closures.rejections[name]
    # Others may be of an earlier query with the same match; those of this query come first.
    for closure in closures.closures if name in closures.geometries else ():
        if closure.match.keyframe.name == name:
            return closure.verdicts[-1]
    reason = "it was not compared, as it came without local features (database.matches_with_data)"
    return Verdict(Decision.HOLD, "geometry", NAN, NAN, reason)
