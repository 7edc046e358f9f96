# SPDX-License-Identifier: MIT
"""Stored keyframes looked up and compared as if they came from cameras: the loop closures of maps."""

import functools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from netvlad_ros.config import Config
from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.image_data import ImageData
from netvlad_ros.keyframe import MAX_STREAMS, Keyframe, Match, Stream
from netvlad_ros.retrieval.closures import Closure, ClosureSelector
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.retrieval.keyframe_selector import Choice
from netvlad_ros.store.sqlite_store import SqliteStore

Name = tuple[str, int]
# Of so many keyframes what was read is remembered, as neighbours have the same matches.
REMEMBERED = 100


class Replay:
    """Takes keyframes in their order; each session is a camera of its own.

    database: where they are looked up, and added if its configuration says so; by other names.
    """

    def __init__(self, database: KeyframeDatabase, store: SqliteStore, config: Config) -> None:
        """store: has what is known of keyframes that are found."""
        self.database = database
        self._config = config
        self._selector = ClosureSelector(config)
        self._read = functools.lru_cache(REMEMBERED)(store.read_data)
        self._streams: dict[str, Stream] = {}
        self._stored: dict[Name, Keyframe] = {}  # by the names that they have in the database
        self._names: dict[Name, Name] = {}  # and back

    def closures(
        self, keyframe: Keyframe, descriptor: np.ndarray, data: ImageData, fingerprint: str
    ) -> list[Closure]:
        """Those of the next keyframe, all in stored names. Raises DatabaseError."""
        query = self.database.observe(
            descriptor,
            keyframe.stamp_ns,
            fingerprint,
            self._stream(keyframe),
            choice=Choice.KEYFRAME,
        )
        if query is None:  # its stamp is that of another one
            return []
        self._stored[query.keyframe.name] = keyframe
        self._names[keyframe.name] = query.keyframe.name
        matches = self._with_data(keyframe, query.matches)
        found = replace(query, keyframe=keyframe, matches=matches, data=data)
        return self._selector.select(found).closures

    def tell(self, closures: Sequence[Closure]) -> None:
        """The database learns what is one place."""
        for closure in closures:
            match = closure.match.keyframe.name
            self.database.closed(self._names[closure.query.name], self._names[match])

    def gone(self) -> set[Name]:
        """Names of the keyframes that the database did not keep."""
        there = {each.name for each in self.database.keyframes}
        return {stored.name for name, stored in self._stored.items() if name not in there}

    def _with_data(self, query: Keyframe, found: Sequence[Match]) -> list[Match]:
        """The best ones, without what another camera of this robot saw at the time."""
        matches = [
            replace(each, keyframe=self._stored.get(each.keyframe.name, each.keyframe))
            for each in found
        ]
        apart = [each for each in matches if not self._at_once(query, each.keyframe)]
        best = apart[: self._config.database.matches_with_data]
        return [replace(each, data=self._read(each.keyframe.name)) for each in best]

    def _at_once(self, one: Keyframe, other: Keyframe) -> bool:
        """Whether another camera of the same robot saw this a moment before or after."""
        streams = one.session.stream, other.session.stream
        apart_s = abs(one.stamp_ns - other.stamp_ns) / NANOSECONDS
        return (
            streams[0].robot == streams[1].robot
            and streams[0].camera != streams[1].camera
            and apart_s < self._config.database.exclude_recent_s
        )

    def _stream(self, keyframe: Keyframe) -> Stream:
        """After very many sessions that of one that was over long ago."""
        number = len(self._streams) % MAX_STREAMS
        return self._streams.setdefault(keyframe.session.uuid, Stream(f"session {number}"))
