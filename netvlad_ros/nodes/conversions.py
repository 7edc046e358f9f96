# SPDX-License-Identifier: MIT
"""Our values as messages and back; only this file and the two it calls know message fields."""

import math
from array import array
from collections.abc import Callable, Sequence

import numpy as np
from std_msgs.msg import Header

from netvlad_ros.calibration import Calibration, Curve
from netvlad_ros.errors import MessageError, NetVLADError
from netvlad_ros.image_data import NOTHING_KNOWN, CorrectedPose, ImageData, Pose
from netvlad_ros.keyframe import NO_EXTERNAL_ID, Keyframe, Match, Session, Stream
from netvlad_ros.msg import Calibration as CalibrationMessage
from netvlad_ros.msg import (
    CalibrationCurve,
    GlobalDescriptor,
    KeyframeMatch,
    KeyframeMatches,
    KeyframePoses,
    LoopClosure,
    LoopClosureCandidate,
    LoopClosureCandidates,
    RejectedMatch,
    RejectedMatches,
)
from netvlad_ros.msg import ImageData as ImageDataMessage
from netvlad_ros.msg import Keyframe as KeyframeMessage
from netvlad_ros.msg import Verdict as VerdictMessage
from netvlad_ros.nodes.geometry_messages import geometry_from, geometry_message
from netvlad_ros.nodes.image_data_messages import (
    corrected_from,
    image_data_from,
    image_data_messages,
    pose_message,
)
from netvlad_ros.nodes.stamps import to_ns, to_time
from netvlad_ros.retrieval.closures import Closure, ClosureSelection
from netvlad_ros.retrieval.keyframe_selector import Choice
from netvlad_ros.retrieval.query import Query, Recent, best_first
from netvlad_ros.retrieval.selection import Candidate, Rejection, Selection
from netvlad_ros.retrieval.stages import Verdict
from netvlad_ros.verification.geometry import Geometry

# Rounding may make a similarity a little larger than 1.
SIMILARITY_TOLERANCE = 1e-3


def descriptor_message(
    header: Header,
    stream: Stream,
    fingerprint: str,
    descriptor: np.ndarray,
    calibration: Sequence[CalibrationMessage] = (),
    choice: Choice = Choice.UNDECIDED,
    data: ImageData = NOTHING_KNOWN,
    external_id: int = NO_EXTERNAL_ID,
) -> GlobalDescriptor:
    """An array.array is copied at once; rclpy would check a NumPy array element by element.

    calibration: as calibration_messages() makes it, once for all messages of a model.
    """
    return GlobalDescriptor(
        header=header,
        robot=stream.robot,
        camera=stream.camera,
        fingerprint=fingerprint,
        descriptor=array("f", descriptor.astype(np.float32, copy=False).tobytes()),
        calibration=list(calibration),
        choice=choice.value,
        data=image_data_messages(data, header.stamp),
        external_id=external_id,
    )


def descriptor_array(message: GlobalDescriptor) -> np.ndarray:
    """(D,) float32."""
    return np.frombuffer(message.descriptor, np.float32)


def stream_of(message: GlobalDescriptor) -> Stream:
    """Whose image it is."""
    return Stream(message.robot, message.camera)


def choice_of(message: GlobalDescriptor) -> Choice:
    """Raises MessageError for a value that means nothing."""
    try:
        return Choice(message.choice)
    except ValueError:
        raise MessageError(
            f"expected a choice of 0 (undecided), 1 (keyframe) or 2 (passed), got {message.choice}."
        ) from None


def calibration_from(message: GlobalDescriptor | KeyframeMatches) -> Calibration | None:
    """The calibration that travels with a message, if there is one. Raises MessageError."""
    if not message.calibration:
        return None
    (given,) = message.calibration
    try:
        curves = {
            each.quantity: Curve(tuple(each.values), tuple(each.precisions), each.pairs)
            for each in given.curves
        }
        return Calibration(curves, given.source, given.fingerprint)
    except NetVLADError as error:
        raise MessageError(f"field calibration: {error}") from None


def matches_message(query: Query, source: GlobalDescriptor) -> KeyframeMatches:
    """What the database found for the image of a message."""
    recent = query.recent
    return KeyframeMatches(
        header=source.header,
        query=_keyframe_message(query.keyframe),
        query_number=query.number,
        fingerprint=query.fingerprint,
        calibration=source.calibration,
        matches=[match_message(match, match.data) for match in query.matches],
        searched=query.searched,
        recent=recent.count,
        exclude_recent_s=recent.exclude_s,
        best_recent=[match_message(recent.best)] if recent.best else [],
        best_recent_age_s=recent.best_age_s if recent.best else math.nan,
        data=[] if query.data is NOTHING_KNOWN else source.data,
    )


def query_from(
    message: KeyframeMatches, told: Callable[[str], None] = lambda problem: None
) -> Query:
    """The query and its matches, best first. Raises MessageError for what no database says.

    told: gets a sentence where what is known beside descriptors can't be; the keyframe then goes without, as
          it is found by its descriptor all the same.
    """
    keyframe = keyframe_from(message.query)
    matches = [_match(each, told) for each in message.matches]
    best_recent = [_match(each, told) for each in message.best_recent]
    _refuse_absurd(keyframe, [*matches, *best_recent])
    return Query(
        keyframe,
        best_first(matches),
        Recent(
            message.recent,
            message.exclude_recent_s,
            next(iter(best_recent), None),
            message.best_recent_age_s if best_recent else 0.0,
        ),
        message.searched,
        message.query_number,
        message.fingerprint,
        calibration_from(message),
        _data(keyframe, message.data, told),
    )


def candidates_message(
    selection: Selection, closures: ClosureSelection, source: KeyframeMatches
) -> LoopClosureCandidates:
    """The candidates among the matches of a message, with their geometry where they were compared."""
    return LoopClosureCandidates(
        header=source.header,
        query=source.query,
        fingerprint=source.fingerprint,
        candidates=[
            _candidate_message(each, closures, source.query) for each in selection.candidates
        ],
    )


def closure_message(closure: Closure, frame_id: str) -> LoopClosure:
    """frame_id: of the query's image."""
    match, camera = closure.match, closure.match.data.camera
    return LoopClosure(
        header=Header(stamp=to_time(closure.query.stamp_ns), frame_id=frame_id),
        match=_keyframe_message(match.keyframe),
        query=_keyframe_message(closure.query),
        match_frame_id="" if camera is None else camera.frame_id,
        geometry=geometry_message(closure.geometry),
        similarity=match.similarity,
        sequence_score=match.sequence_score,
        margin=match.margin,
        agrees_with=closure.agrees_with,
        odometry_deviation=closure.odometry_deviation,
        verdicts=[verdict_message(each) for each in closure.verdicts],
    )


def closure_from(message: LoopClosure) -> tuple[Keyframe, Keyframe, Geometry]:
    """Match, query, and how they were compared. Raises MessageError."""
    match, query = keyframe_from(message.match), keyframe_from(message.query)
    return match, query, geometry_from(message.geometry)


def poses_message(
    keyframes: Sequence[Keyframe], poses: Sequence[Pose], graph: str, solved_ns: int
) -> KeyframePoses:
    """Corrected poses of keyframes, at least one, all of the same frames."""
    message = KeyframePoses(
        child_frame_id=poses[0].child_frame_id,
        graph=graph,
        keyframes=[_keyframe_message(each) for each in keyframes],
        poses=[pose_message(each) for each in poses],
    )
    message.header.frame_id, message.header.stamp = poses[0].frame_id, to_time(solved_ns)
    return message


def poses_from(message: KeyframePoses) -> dict[tuple[str, int], CorrectedPose]:
    """By the names of keyframes. Raises MessageError for a pose that can't be, or one too many."""
    if len(message.keyframes) != len(message.poses):
        raise MessageError(
            f"expected as many poses as keyframes, got {len(message.poses)} and {len(message.keyframes)}."
        )
    graph = message.child_frame_id, message.graph
    return {
        keyframe_from(keyframe).name: corrected_from(message.header, pose, *graph)
        for keyframe, pose in zip(message.keyframes, message.poses, strict=True)
    }


def rejected_message(
    selection: Selection, closures: ClosureSelection, query: Query, header: Header
) -> RejectedMatches:
    """The matches of a query that are no candidates, and those that were compared and are no closures."""
    not_closed = [
        Rejection(match, closures.rejections[match.keyframe.name])
        for match in query.matches
        if match.keyframe.name in closures.rejections
    ]
    return RejectedMatches(
        header=header,
        query=_keyframe_message(query.keyframe),
        rejected=[_rejected_message(each) for each in (*selection.rejections, *not_closed)],
        summary=selection.summary,
        closure_summary=closures.summary,
    )


def _refuse_absurd(keyframe: Keyframe, matches: Sequence[Match]) -> None:
    """Such messages would become loops of a keyframe with itself, or with the same one three times."""
    names = {match.keyframe.name for match in matches}
    if len(names) < len(matches):
        raise MessageError(f"the matches of keyframe {keyframe} name a keyframe twice.")
    for match in matches:
        if not abs(match.similarity) <= 1.0 + SIMILARITY_TOLERANCE:  # true for NaN too
            raise MessageError(
                f"keyframe {match.keyframe}: expected a similarity from -1 to 1, got {match.similarity}."
            )
        uuid, number = match.keyframe.name
        if uuid == keyframe.session.uuid and number >= keyframe.number:
            raise MessageError(
                f"keyframe {keyframe} can't match {match.keyframe}, which is itself or comes later."
            )


def _keyframe_message(keyframe: Keyframe) -> KeyframeMessage:
    session = keyframe.session
    return KeyframeMessage(
        session=session.uuid,
        number=keyframe.number,
        map=session.map,
        robot=session.stream.robot,
        camera=session.stream.camera,
        stamp=to_time(keyframe.stamp_ns),
        external_id=keyframe.external_id,
    )


def keyframe_from(message: KeyframeMessage) -> Keyframe:
    """The keyframe that a message names. Raises MessageError if it names none."""
    if not message.session or message.number < 0:
        raise MessageError(
            "expected a keyframe with the UUID of its session and a number from 0, got "
            f"session {message.session[:40]!r} and number {message.number}."
        )
    session = Session(message.session, Stream(message.robot, message.camera), message.map)
    return Keyframe(session, message.number, to_ns(message.stamp), message.external_id)


def match_message(match: Match, data: ImageData = NOTHING_KNOWN) -> KeyframeMatch:
    """data: what is known of it and goes along."""
    keyframe = _keyframe_message(match.keyframe)
    return KeyframeMatch(
        keyframe=keyframe,
        similarity=match.similarity,
        sequence_score=match.sequence_score,
        margin=match.margin,
        data=image_data_messages(data, keyframe.stamp),
    )


def _match(message: KeyframeMatch, told: Callable[[str], None]) -> Match:
    keyframe = keyframe_from(message.keyframe)
    data = _data(keyframe, message.data, told)
    scores = (message.similarity, message.sequence_score, message.margin)
    return Match(keyframe, *map(float, scores), data=data)


def _data(
    keyframe: Keyframe, messages: Sequence[ImageDataMessage], told: Callable[[str], None]
) -> ImageData:
    try:
        return image_data_from(messages)
    except MessageError as error:
        told(f"what is known of keyframe {keyframe} is refused: {error}")
        return NOTHING_KNOWN


def calibration_messages(calibration: Calibration | None) -> list[CalibrationMessage]:
    """The calibration of a model for the messages with its descriptors; empty if it has none."""
    if calibration is None:
        return []
    curves = [
        CalibrationCurve(
            quantity=quantity,
            values=list(curve.values),
            precisions=list(curve.precisions),
            pairs=curve.pairs,
        )
        for quantity, curve in calibration.curves.items()
    ]
    return [
        CalibrationMessage(
            source=calibration.source, fingerprint=calibration.fingerprint, curves=curves
        )
    ]


def verdict_message(verdict: Verdict) -> VerdictMessage:
    """What a stage or a gate says."""
    return VerdictMessage(
        decision=verdict.decision.value,
        stage=verdict.stage,
        value=float(verdict.value),
        limit=float(verdict.limit),
        reason=verdict.reason,
    )


def _candidate_message(
    candidate: Candidate, closures: ClosureSelection, query: KeyframeMessage
) -> LoopClosureCandidate:
    geometry = closures.geometries.get(candidate.match.keyframe.name)
    return LoopClosureCandidate(
        query=query,
        match=_keyframe_message(candidate.match.keyframe),
        similarity=candidate.match.similarity,
        sequence_score=candidate.match.sequence_score,
        margin=candidate.match.margin,
        rank=candidate.rank,
        consistent_queries=candidate.consistent_queries,
        verdicts=[verdict_message(each) for each in candidate.verdicts],
        geometry=[] if geometry is None else [geometry_message(geometry)],
    )


def _rejected_message(rejection: Rejection) -> RejectedMatch:
    return RejectedMatch(
        match=match_message(rejection.match), verdict=verdict_message(rejection.verdict)
    )
