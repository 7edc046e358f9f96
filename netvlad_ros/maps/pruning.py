# SPDX-License-Identifier: MIT
"""Which keyframes of a map go: of a session, of before a time, too many of a place, or too many at all."""

import heapq
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from netvlad_ros.config import Config
from netvlad_ros.errors import DatabaseError
from netvlad_ros.keyframe import Keyframe
from netvlad_ros.maps.files import (
    Progress,
    kept,
    known_of,
    no_progress,
    open_map,
    refuse_existing,
    told,
    write_map,
)
from netvlad_ros.maps.replaying import Replay
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.store.keyframe_store import StoreHeader
from netvlad_ros.store.sqlite_store import SqliteStore

Name = tuple[str, int]


@dataclass(frozen=True)
class Surplus:
    """What is to go; nothing of it by default.

    sessions:      UUIDs of sessions, or how they begin.
    before_ns:     keyframes with earlier stamps.
    alike:         how many keyframes of one place that look alike stay, one a lap; 0: all.
    max_keyframes: how many stay in all; 0: all. Of each drive those go that look most like a neighbour.
    """

    sessions: Sequence[str] = ()
    before_ns: int | None = None
    alike: int = 0
    max_keyframes: int = 0

    def names(self, keyframe: Keyframe) -> bool:
        """Whether this one goes, whatever the others are."""
        is_early = self.before_ns is not None and keyframe.stamp_ns < self.before_ns
        return is_early or keyframe.session.uuid.startswith(tuple(self.sessions))


@dataclass(frozen=True)
class Pruned:
    """What goes.

    keyframes:       how many there were.
    gone:            names of those that go.
    by_session:      by UUID, how many keyframes there were.
    """

    keyframes: int
    gone: set[Name]
    by_session: Counter[str]

    @property
    def left(self) -> int:
        """How many keyframes stay."""
        return self.keyframes - len(self.gone)

    @property
    def gone_by_session(self) -> Counter[str]:
        """By UUID, how many go; only where any do."""
        return Counter(uuid for uuid, _ in self.gone)


def prune(
    path: Path, out: Path | None, surplus: Surplus, config: Config, progress: Progress = no_progress
) -> Pruned:
    """Writes a map without what is too much; without a name only says what that would be.

    Raises DatabaseError, and writes nothing, if something is wrong.
    """
    if out is not None:
        refuse_existing(out)
    keyframes, descriptors = _all(path)
    gone = {each.name for each in keyframes if surplus.names(each)}
    sessions = {each.session.uuid for each in keyframes}
    for named in surplus.sessions:
        if not named or not any(each.startswith(named) for each in sessions):
            raise DatabaseError(
                f"{path}: has no session {named or '(no name)'}; `netvlad map info` lists them."
            )
    if surplus.alike:
        gone |= _of_places(path, gone, surplus.alike, config, progress)
    if surplus.max_keyframes:
        rows = [row for row, each in enumerate(keyframes) if each.name not in gone]
        left = [keyframes[row] for row in rows]
        gone |= _thinned(left, descriptors[rows], surplus.max_keyframes)
    if out is not None:
        header, blocks = open_map(path)
        new = StoreHeader(uuid.uuid4().hex, header.fingerprint, header.dims)
        stay = (kept(block, lambda each: each.name not in gone) for block in blocks)
        write_map(out, new, told(stay, progress))
    return Pruned(len(keyframes), gone, Counter(each.session.uuid for each in keyframes))


def _all(path: Path) -> tuple[list[Keyframe], np.ndarray]:
    """With their descriptors (n, D)."""
    header, blocks = SqliteStore(path, read_only=True).load()
    keyframes: list[Keyframe] = []
    descriptors = [np.empty((0, header.dims), np.float32)]
    for block in blocks:
        keyframes += block.keyframes
        descriptors.append(block.descriptors)
    return keyframes, np.concatenate(descriptors)


def _of_places(
    path: Path, going: set[Name], alike: int, config: Config, progress: Progress
) -> set[Name]:
    """As a database node with that parameter would have left them away. Raises DatabaseError."""
    limited = replace(config, database=replace(config.database, max_alike=alike))
    replay = Replay(KeyframeDatabase(limited), SqliteStore(path, read_only=True), limited)
    header, blocks = open_map(path)
    has_features = False
    for block in told(blocks, progress):
        known = known_of(block)
        for keyframe, descriptor in zip(block.keyframes, block.descriptors, strict=True):
            if keyframe.name in going:
                continue
            data = known[keyframe.name]
            has_features |= data.features is not None
            replay.tell(replay.closures(keyframe, descriptor, data, header.fingerprint))
    if not has_features:
        raise DatabaseError(
            f"{path}: has no local features, so nobody can tell what is one place; `netvlad map re-extract` "
            "makes them, or --max thins out the drives."
        )
    replay.database.settle()
    return replay.gone()


def _thinned(keyframes: Sequence[Keyframe], descriptors: np.ndarray, most: int) -> set[Name]:
    """Names of those that go for so many to stay; first and last ones of sessions go last.

    What goes looks most like its neighbour in driving order that stays; descriptors: (n, D).
    """
    before, after = _neighbours(keyframes)

    def likeness(row: int) -> float:
        """To the more alike neighbour; less at the ends of a session, which is last to be gone."""
        alike = [
            float(descriptors[row] @ descriptors[n]) for n in (before[row], after[row]) if n >= 0
        ]
        return max(alike, default=-2.0) - 4.0 * (len(alike) < 2)

    heap = [(-likeness(row), row) for row in range(len(keyframes))]
    heapq.heapify(heap)
    gone: set[int] = set()
    while len(keyframes) - len(gone) > most:
        cost, row = heapq.heappop(heap)
        if row in gone or cost != -likeness(row):  # it has another neighbour now
            continue
        gone.add(row)
        previous, following = before[row], after[row]
        if previous >= 0:
            after[previous] = following
        if following >= 0:
            before[following] = previous
        for each in (previous, following):
            if each >= 0:
                heapq.heappush(heap, (-likeness(each), each))
    return {keyframes[row].name for row in gone}


def _neighbours(keyframes: Sequence[Keyframe]) -> tuple[list[int], list[int]]:
    """Of each row those of the keyframes before and after it in its session; -1 where there is none."""
    before, after = [-1] * len(keyframes), [-1] * len(keyframes)
    last: dict[str, int] = {}
    for row in sorted(range(len(keyframes)), key=lambda row: keyframes[row].number):
        uuid = keyframes[row].session.uuid
        if uuid in last:
            before[row], after[last[uuid]] = last[uuid], row
        last[uuid] = row
    return before, after
