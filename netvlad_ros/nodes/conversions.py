# SPDX-License-Identifier: MIT
"""Our values as messages and back: the only file that knows message fields."""

from array import array

import numpy as np
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.msg import (
    GlobalDescriptor,
    KeyframeMatch,
    KeyframeMatches,
    LoopClosureCandidate,
    LoopClosureCandidates,
    RejectedMatch,
    RejectedMatches,
)
from netvlad_ros.msg import Keyframe as KeyframeMessage
from netvlad_ros.retrieval.candidates import Candidate, Rejection, Selection
from netvlad_ros.retrieval.database import Query
from netvlad_ros.retrieval.keyframes import Keyframe, Match


def to_ns(time: Time) -> int:
    """Nanoseconds since the clock's zero."""
    return time.sec * NANOSECONDS + time.nanosec


def to_time(stamp_ns: int) -> Time:
    """The stamp as a message."""
    seconds, nanoseconds = divmod(stamp_ns, NANOSECONDS)
    return Time(sec=seconds, nanosec=nanoseconds)


def descriptor_message(
    header: Header, robot: str, fingerprint: str, descriptor: np.ndarray
) -> GlobalDescriptor:
    """An array.array is copied at once; rclpy would check a NumPy array element by element."""
    values = array("f", descriptor.astype(np.float32, copy=False).tobytes())
    return GlobalDescriptor(header=header, robot=robot, fingerprint=fingerprint, descriptor=values)


def descriptor_array(message: GlobalDescriptor) -> np.ndarray:
    """(D,) float32."""
    return np.frombuffer(message.descriptor, np.float32)


def matches_message(
    query: Query, header: Header, robot: str, fingerprint: str, exclude_recent_s: float
) -> KeyframeMatches:
    """What the database found for a query."""
    return KeyframeMatches(
        header=header,
        query=_keyframe_message(query.keyframe, robot),
        fingerprint=fingerprint,
        exclude_recent_s=exclude_recent_s,
        matches=[_match_message(match, robot) for match in query.matches],
    )


def query_from(message: KeyframeMatches) -> Query:
    """The query and its matches, best first."""
    matches = [Match(_keyframe(each.keyframe), float(each.similarity)) for each in message.matches]
    return Query(_keyframe(message.query), matches)


def candidates_message(selection: Selection, source: KeyframeMatches) -> LoopClosureCandidates:
    """The candidates among the matches of a message."""
    robot = source.query.robot
    return LoopClosureCandidates(
        header=source.header,
        query=source.query,
        fingerprint=source.fingerprint,
        candidates=[_candidate_message(each, source.query, robot) for each in selection.candidates],
    )


def rejected_message(selection: Selection, source: KeyframeMatches) -> RejectedMatches:
    """The matches of a message that were turned down."""
    rejected = [_rejected_message(each, source.query.robot) for each in selection.rejections]
    return RejectedMatches(header=source.header, query=source.query, rejected=rejected)


def _keyframe_message(keyframe: Keyframe, robot: str) -> KeyframeMessage:
    stamp = to_time(keyframe.stamp_ns)
    return KeyframeMessage(
        robot=robot, id=keyframe.keyframe_id, session=keyframe.session, stamp=stamp
    )


def _keyframe(message: KeyframeMessage) -> Keyframe:
    return Keyframe(message.id, message.session, to_ns(message.stamp))


def _match_message(match: Match, robot: str) -> KeyframeMatch:
    return KeyframeMatch(
        keyframe=_keyframe_message(match.keyframe, robot), similarity=match.similarity
    )


def _candidate_message(
    candidate: Candidate, query: KeyframeMessage, robot: str
) -> LoopClosureCandidate:
    return LoopClosureCandidate(
        query=query,
        match=_keyframe_message(candidate.match.keyframe, robot),
        similarity=candidate.match.similarity,
        rank=candidate.rank,
        consistent_queries=candidate.consistent_queries,
    )


def _rejected_message(rejection: Rejection, robot: str) -> RejectedMatch:
    return RejectedMatch(
        match=_match_message(rejection.match, robot),
        stage=rejection.stage,
        value=float(rejection.value),
        limit=float(rejection.limit),
        reason=rejection.reason,
    )
