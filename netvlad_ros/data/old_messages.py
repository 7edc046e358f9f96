# SPDX-License-Identifier: MIT
"""Our messages of the first format, in which keyframes were numbered, as those of today."""

import contextlib
import math
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.errors import BagError
from netvlad_ros.keyframe import numbered_session

PACKAGE = "netvlad_ros/msg/"
# As they stood in msg/ then.
FIRST_FORMAT = {
    "GlobalDescriptor": """std_msgs/Header header
        string robot
        string fingerprint
        float32[] descriptor""",
    "Keyframe": """string robot
        int64 id
        uint32 session
        builtin_interfaces/Time stamp""",
    "KeyframeMatch": """Keyframe keyframe
        float32 similarity""",
    "KeyframeMatches": """std_msgs/Header header
        Keyframe query
        string fingerprint
        float64 exclude_recent_s
        KeyframeMatch[] matches""",
    "LoopClosureGeometry": """string method
        geometry_msgs/PoseWithCovariance match_from_query
        uint32 correspondences
        uint32 inliers""",
    "LoopClosureCandidate": """Keyframe query
        Keyframe match
        float32 similarity
        uint32 rank
        uint32 consistent_queries
        LoopClosureGeometry[<=1] geometry""",
    "LoopClosureCandidates": """std_msgs/Header header
        Keyframe query
        string fingerprint
        LoopClosureCandidate[] candidates""",
    "RejectedMatch": """KeyframeMatch match
        string stage
        float64 value
        float64 limit
        string reason""",
    "RejectedMatches": """std_msgs/Header header
        Keyframe query
        RejectedMatch[] rejected""",
}
HOLD, REJECT = 1, 2


class OldMessages:
    """Converts serialised messages one by one, in the order in which they were recorded.

    database_id: of the file that was written in the same runs; its sessions then have the same names. Any
                 other word gives sessions names of their own, the same each time.
    """

    def __init__(self, database_id: str) -> None:
        """Raises BagError where the definitions of today are not to be had."""
        self._database_id = database_id
        self._queries: Counter[str] = Counter()
        self._old = _store(FIRST_FORMAT)
        self.store = _store({each.stem: each.read_text() for each in _definitions()})

    def is_old(self, kind: str, digest: str) -> bool:
        """Whether messages of this type and hash are of the first format."""
        name = kind.removeprefix(PACKAGE)
        return name in FIRST_FORMAT and digest != self.store.hash_rihs01(kind)

    def convert(self, kind: str, topic: str, data: bytes) -> bytes:
        """The same message in today's format. Raises BagError if it is damaged, or of neither."""
        convert: dict[str, Callable[[Any, str], Any]] = {
            "GlobalDescriptor": self._descriptor,
            "KeyframeMatches": self._matches,
            "LoopClosureCandidates": self._candidates,
            "RejectedMatches": self._rejected,
        }
        name = kind.removeprefix(PACKAGE)
        if name not in convert:
            raise BagError(
                f"{topic}: messages of {kind} are parts of others and can't be converted alone."
            )
        try:
            message = self._old.deserialize_cdr(data, kind)
        except Exception as error:  # rosbags raises a dozen kinds for bytes that do not fit
            with contextlib.suppress(
                Exception
            ):  # of today, in a bag that knows no hashes, as of Humble
                self.store.deserialize_cdr(data, kind)
                return data
            raise BagError(
                f"{topic}: a message of {kind} is damaged, or of no format that is known here ({error})."
            ) from None
        return bytes(self.store.serialize_cdr(convert[name](message, topic), kind))

    def _make(self, name: str, *values: Any) -> Any:
        return self.store.types[PACKAGE + name](*values)

    def _keyframe(self, old: Any, camera: str) -> Any:
        name = numbered_session(self._database_id, old.session)
        return self._make("Keyframe", name, old.id, "", old.robot, camera, old.stamp, -1)

    def _match(self, old: Any, camera: str) -> Any:
        keyframe = self._keyframe(old.keyframe, camera)
        return self._make("KeyframeMatch", keyframe, old.similarity, math.nan, math.nan, [])

    def _descriptor(self, old: Any, topic: str) -> Any:
        camera = old.header.frame_id
        return self._make(
            "GlobalDescriptor",
            old.header,
            old.robot,
            camera,
            old.fingerprint,
            old.descriptor,
            [],
            -1,
            0,  # UNDECIDED
            [],
        )

    def _matches(self, old: Any, topic: str) -> Any:
        """What was too recent stood among the matches."""
        camera, limit_s = old.header.frame_id, old.exclude_recent_s
        ages_s = [_age_s(each.keyframe, old.query) for each in old.matches]
        recent = [i for i, age_s in enumerate(ages_s) if age_s < limit_s]
        number = self._queries[topic]
        self._queries[topic] += 1
        return self._make(
            "KeyframeMatches",
            old.header,
            self._keyframe(old.query, camera),
            number,
            old.fingerprint,
            [],
            [self._match(each, camera) for i, each in enumerate(old.matches) if i not in recent],
            len(old.matches) - len(recent),
            len(recent),
            limit_s,
            [self._match(old.matches[i], camera) for i in recent[:1]],
            ages_s[recent[0]] if recent else math.nan,
            [],
        )

    def _candidates(self, old: Any, topic: str) -> Any:
        camera = old.header.frame_id
        candidates = [
            self._make(
                "LoopClosureCandidate",
                self._keyframe(each.query, camera),
                self._keyframe(each.match, camera),
                each.similarity,
                math.nan,
                math.nan,
                each.rank,
                each.consistent_queries,
                [],
                [],  # nothing ever filled in geometry
            )
            for each in old.candidates
        ]
        query = self._keyframe(old.query, camera)
        return self._make("LoopClosureCandidates", old.header, query, old.fingerprint, candidates)

    def _rejected(self, old: Any, topic: str) -> Any:
        camera = old.header.frame_id
        rejected = []
        for each in old.rejected:
            decision = HOLD if each.stage == "consistency" else REJECT
            verdict = self._make(
                "Verdict", decision, each.stage, each.value, each.limit, each.reason
            )
            rejected.append(self._make("RejectedMatch", self._match(each.match, camera), verdict))
        query = self._keyframe(old.query, camera)
        return self._make("RejectedMatches", old.header, query, rejected, "", "")


def _age_s(keyframe: Any, query: Any) -> float:
    """Infinite for one of another session."""
    if keyframe.session != query.session:
        return math.inf
    step_ns = (query.stamp.sec - keyframe.stamp.sec) * NANOSECONDS
    return (step_ns + query.stamp.nanosec - keyframe.stamp.nanosec) / NANOSECONDS


def _store(definitions: dict[str, str]) -> Typestore:
    store = get_typestore(Stores.LATEST)
    types: dict[str, Any] = {}
    for name, text in definitions.items():
        types |= get_types_from_msg(text, PACKAGE + name)
    store.register(types)
    return store


def _definitions() -> list[Path]:
    """The .msg files of today: of a source tree, or where ROS has installed them."""
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    places = [
        Path(__file__).resolve().parents[2] / "msg",
        *(Path(prefix) / "share" / "netvlad_ros" / "msg" for prefix in prefixes if prefix),
    ]
    for place in places:
        if found := sorted(place.glob("*.msg")):
            return found
    raise BagError(
        "the message definitions of netvlad_ros are not here; convert where the ROS package is installed, or "
        "from a checkout."
    )
