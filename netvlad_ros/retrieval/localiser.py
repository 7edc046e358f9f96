# SPDX-License-Identifier: MIT
"""Where in a map a robot is: what the matches of its last keyframes say, as far as they agree."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from netvlad_ros.config import Config
from netvlad_ros.keyframe import MAX_STREAMS, Keyframe, Match
from netvlad_ros.retrieval.closure_gates import gates
from netvlad_ros.retrieval.closures import ONE_PLACE_DEG, ONE_PLACE_M, ClosureSelection
from netvlad_ros.retrieval.map_poses import base_of, in_map, is_base
from netvlad_ros.retrieval.query import Query
from netvlad_ros.retrieval.stages import Decision
from netvlad_ros.verification.covariance import mean
from netvlad_ros.verification.geometry import BASE, CAMERA_OPTICAL, Geometry
from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.odometry import is_of_camera

# Poses agree within so many standard deviations of both, but not if they are further apart than this.
AGREEING_DEVIATIONS, AGREEING_M = 3.0, 2.0
# A match with fewer inliers, or that knows the position less well than this, says nothing.
HINT_INLIERS, HINT_UNCERTAINTY_M = 8, 1.0
# Gates that a match fails only because another one stands for its place, or those after it are waited for.
_STOOD_FOR = ("best_of_place", "every_keyframes", "consistency")

# From a keyframe and a later one to the way between them by odometry; None if it does not connect them.
Odometry = Callable[[Keyframe, Keyframe], Motion | None]


@dataclass(frozen=True, eq=False)
class Localisation:
    """Where a keyframe was taken, or why that is not known.

    pose:      in the frame; None if it is not known.
    frame_id:  of the map's corrected poses. A map that has odometry only is in the frame of that, named
               with the session, such as odom_1f3a9c2e, as each session has another.
    of:        what the pose is of: the robot's base, or the camera's optical frame where its mount is not
               known.
    agreeing:  how many of the last keyframes say so.
    kidnapped: whether they agree on another place than odometry leads to; said once.
    summary:   why there is no pose, as a sentence; empty if there is one.
    """

    query: Keyframe
    pose: Motion | None = None
    frame_id: str = ""
    of: str = BASE
    agreeing: int = 0
    kidnapped: bool = False
    summary: str = ""


@dataclass(frozen=True, eq=False)
class _Hint:
    """Where a keyframe was, as a match says; is_closure: whether that is sure by itself."""

    keyframe: Keyframe
    frame_id: str
    pose: Motion
    inliers: int
    is_closure: bool


@dataclass(frozen=True, eq=False)
class _Place:
    """Hints that agree, one of each keyframe, and how many inliers the strongest other place has."""

    hints: Sequence[_Hint]
    rival_inliers: int

    @property
    def inliers(self) -> int:
        return sum(hint.inliers for hint in self.hints)


@dataclass(eq=False)
class _Drive:
    """Of one session: the hints of its last keyframes, and where it was localised last."""

    hints: deque[list[_Hint]] = field(default_factory=deque)
    last: _Hint | None = None

    def forget_all_but(self, count: int) -> None:
        """So many of the last keyframes stay."""
        while len(self.hints) > count:
            self.hints.popleft()


class Localiser:
    """Weighs what the matches of the last keyframes of each drive say.

    A match is a hint if it passes the gates of loop closures with fewer points. Hints of earlier keyframes
    are carried to the present by odometry. The place on which hints with most inliers agree is taken if these
    are enough, no other place has nearly as many, and one of them is a loop closure by itself.
    """

    def __init__(self, config: Config, odometry: Odometry) -> None:
        self.config = config
        self._odometry = odometry
        self._drives: dict[str, _Drive] = {}

    def localise(self, query: Query, selection: ClosureSelection) -> Localisation:
        """The queries of each session come in their order; selection: what became of the matches."""
        drive = self._drive(query.keyframe)
        hints, problem = self._hints(query, selection)
        drive.hints.append(hints)
        drive.forget_all_but(self.config.localisation.max_keyframes)
        if not hints:
            return Localisation(query.keyframe, summary=problem)
        place, refusal, is_elsewhere = self._decided(drive, query)
        refusal = refusal or self._too_few(place, query)
        if refusal:
            return Localisation(query.keyframe, summary=f"{refusal}.")
        if is_elsewhere:
            drive.forget_all_but(self.config.localisation.kidnapped_keyframes)
        return self._localised(query, drive, place, is_elsewhere)

    def _decided(self, drive: _Drive, query: Query) -> tuple[_Place, str, bool]:
        """The place, why it is none, and whether it is elsewhere than odometry leads to."""
        carried = [self._carried(each, query) for each in drive.hints]
        frame_id = "" if drive.last is None else drive.last.frame_id
        place, refusal = self._place(carried, frame_id)
        expected = self._expected(drive, query)
        if expected is None or not (refusal or self._contradict(place, expected)):
            return place, refusal, False
        # What the last few say counts alone, and each of them has to say it if it is elsewhere.
        wanted = self.config.localisation.kidnapped_keyframes
        place, refusal = self._place(carried[-wanted:], frame_id)
        is_elsewhere = not refusal and self._contradict(place, expected)
        if is_elsewhere and len(place.hints) < wanted:
            refusal = (
                f"{len(place.hints)} of {wanted} keyframes in a row agree on another place than odometry "
                "leads to"
            )
        return place, refusal, is_elsewhere

    # --- What matches say -----------------------------------------------------------------------------

    def _hints(self, query: Query, selection: ClosureSelection) -> tuple[list[_Hint], str]:
        """Of one query, and why there are none."""
        hints, problem = [], selection.summary
        for match in query.matches:
            geometry = selection.geometries.get(match.keyframe.name)
            if geometry is None:
                continue
            is_closure = _is_closure(match, selection)
            if not (is_closure or self._says_a_little(match, geometry, query)):
                continue
            found = in_map(match, geometry, query.keyframe.session.uuid, query.data)
            if isinstance(found, str):
                problem = f"{found}."
            else:
                hints.append(_Hint(query.keyframe, *found, geometry.inliers, is_closure))
        return hints, problem

    def _says_a_little(self, match: Match, geometry: Geometry, query: Query) -> bool:
        closures = replace(
            self.config.closures,
            min_inliers=HINT_INLIERS,
            min_inlier_share=0.0,
            min_share_back=0.0,
            max_uncertainty_m=HINT_UNCERTAINTY_M,
        )
        verdicts = gates(
            geometry, match.data, query.data, None, replace(self.config, closures=closures)
        )
        return all(verdict.decision == Decision.PASS for verdict in verdicts)

    # --- Odometry -------------------------------------------------------------------------------------

    def _carried(self, hints: Sequence[_Hint], query: Query) -> list[_Hint]:
        """Where the query is by the hints of an earlier keyframe; none if odometry does not connect them."""
        if not hints or hints[0].keyframe == query.keyframe:
            return list(hints)
        moved = self._moved(hints[0].keyframe, query)
        if moved is None:
            return []
        return [replace(hint, pose=hint.pose.then(moved)) for hint in hints]

    def _moved(self, keyframe: Keyframe, query: Query) -> Motion | None:
        """Of what poses of the query are of."""
        return self._odometry(keyframe, query.keyframe) if _has_odometry(query) else None

    def _expected(self, drive: _Drive, query: Query) -> _Hint | None:
        """Where odometry leads to from where it was localised last."""
        carried = self._carried([drive.last], query) if drive.last is not None else []
        return next(iter(carried), None)

    # --- Which place ----------------------------------------------------------------------------------

    def _place(self, carried: Sequence[Sequence[_Hint]], last_frame_id: str) -> tuple[_Place, str]:
        """The best place, and why it is none; of one frame, the last one if there is a place in it."""
        hints = [hint for each in carried for hint in each]
        frames = sorted({hint.frame_id for hint in carried[-1]})
        places = [_best_place([h for h in hints if h.frame_id == frame]) for frame in frames]
        judged = [(place, self._refusal(place, carried[-1][0].keyframe)) for place in places]

        def order(item: tuple[_Place, str]) -> tuple[bool, bool, int]:
            place, refusal = item
            return not refusal, place.hints[0].frame_id == last_frame_id, place.inliers

        return max(judged, key=order)

    def _refusal(self, place: _Place, query: Keyframe) -> str:
        limits, agreeing = self.config.localisation, len(place.hints)
        if place.rival_inliers >= self.config.closures.ambiguous_share * place.inliers:
            return (
                f"two places fit: one with {place.inliers} inliers of {agreeing} keyframes, another with "
                f"{place.rival_inliers}"
            )
        if place.inliers < limits.min_inliers:
            return (
                f"{place.inliers} of {limits.min_inliers} point matches agree, of {agreeing} keyframes "
                "together (localisation.min_inliers)"
            )
        if not any(hint.is_closure for hint in place.hints):
            return f"{agreeing} keyframes agree, but no match of theirs is a loop closure by itself"
        if all(hint.keyframe != query for hint in place.hints):
            return (
                f"the last keyframe says nothing of the place on which {agreeing} before it agree"
            )
        return ""

    def _too_few(self, place: _Place, query: Query) -> str:
        """Of one image a wrong place is believed now and then: a floor's pattern repeats itself exactly."""
        agreeing, wanted = len(place.hints), self.config.localisation.min_agreeing
        if agreeing >= wanted or not _has_odometry(query):
            return ""
        return f"{agreeing} of {wanted} keyframes agree on this place (localisation.min_agreeing)"

    def _contradict(self, place: _Place, expected: _Hint) -> bool:
        """Whether it is not where odometry leads to."""
        if place.hints[0].frame_id != expected.frame_id:
            return False
        said = mean([hint.pose for hint in place.hints])
        apart_m, turned_deg = expected.pose.difference(said)
        if apart_m < ONE_PLACE_M and turned_deg < ONE_PLACE_DEG:
            return False
        return expected.pose.deviation(said) > self.config.closures.max_odometry_deviation

    def _localised(
        self, query: Query, drive: _Drive, place: _Place, is_kidnapped: bool
    ) -> Localisation:
        pose, frame_id = mean([hint.pose for hint in place.hints]), place.hints[0].frame_id
        drive.last = _Hint(query.keyframe, frame_id, pose, place.inliers, True)
        base = pose if is_base(query.data) else base_of(pose, query.data)
        return Localisation(
            query.keyframe,
            pose if base is None else base,
            frame_id,
            CAMERA_OPTICAL if base is None else BASE,
            len(place.hints),
            is_kidnapped,
        )

    def _drive(self, keyframe: Keyframe) -> _Drive:
        session = keyframe.session.uuid
        drive = self._drives.pop(session) if session in self._drives else _Drive()
        self._drives[session] = drive
        if len(self._drives) > MAX_STREAMS:  # the one that was silent longest
            del self._drives[next(iter(self._drives))]
        return drive


def _is_closure(match: Match, selection: ClosureSelection) -> bool:
    """By itself, or but for another match of its place."""
    verdict = selection.rejections.get(match.keyframe.name)
    return verdict is None or verdict.stage in _STOOD_FOR


def _has_odometry(query: Query) -> bool:
    """Of what its poses are of."""
    data = query.data
    is_known = is_base(data) or is_of_camera(data.odometry, data.camera)
    return data.odometry is not None and is_known


def _best_place(hints: Sequence[_Hint]) -> _Place:
    """hints: of one frame, all carried to one moment."""
    agree = _agreeing([hint.pose for hint in hints])
    strengths = [_inliers(_one_of_each(hints, row)) for row in agree]
    best = int(np.argmax(strengths))
    others = np.flatnonzero(~agree[best])
    rivals = [_inliers(_one_of_each(hints, agree[each] & ~agree[best])) for each in others]
    return _Place(_one_of_each(hints, agree[best]), max(rivals, default=0))


def _one_of_each(hints: Sequence[_Hint], chosen: np.ndarray) -> list[_Hint]:
    """Of those chosen (n,) the one with most inliers of each keyframe."""
    best: dict[Keyframe, _Hint] = {}
    for each in np.flatnonzero(chosen).tolist():
        hint = hints[each]
        before = best.get(hint.keyframe)
        if before is None or hint.inliers > before.inliers:
            best[hint.keyframe] = hint
    return list(best.values())


def _inliers(hints: Iterable[_Hint]) -> int:
    return sum(hint.inliers for hint in hints)


def _agreeing(poses: Sequence[Motion]) -> np.ndarray:
    """(n, n) which of n poses may be one."""
    matrices = np.array([pose.matrix for pose in poses])
    spread_m = np.array([pose.uncertainty_m for pose in poses])
    positions_m, turns = matrices[:, :3, 3], matrices[:, :3, :3].reshape(-1, 9)
    apart_m = np.linalg.norm(positions_m[:, None] - positions_m, axis=2)
    allowed_m = AGREEING_DEVIATIONS * np.hypot(spread_m[:, None], spread_m)
    cosines = (turns @ turns.T - 1) / 2
    is_near = apart_m <= np.clip(allowed_m, ONE_PLACE_M, AGREEING_M)
    return np.asarray(is_near & (cosines >= np.cos(np.radians(ONE_PLACE_DEG))))
