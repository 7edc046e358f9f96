# SPDX-License-Identifier: MIT
"""Two maps become one: nothing is numbered anew, and closures bring corrected poses into one frame."""

import itertools
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from netvlad_ros.config import LOCALISATION, Config
from netvlad_ros.errors import DatabaseError
from netvlad_ros.image_data import ImageData
from netvlad_ros.maps.alignment import Alignment, Edge, align, edge_of, edge_of_same, is_pose, moved
from netvlad_ros.maps.files import (
    Progress,
    kept,
    known_of,
    no_progress,
    open_map,
    told,
    write_map,
)
from netvlad_ros.maps.replaying import Replay
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.store.keyframe_data import PARTS
from netvlad_ros.store.keyframe_store import StoredKeyframes, StoreHeader
from netvlad_ros.store.sqlite_store import SqliteStore

Name = tuple[str, int]
# So many keyframes of the second map are looked up in the first one, spread evenly.
MAX_LOOKED_UP = 500


@dataclass(frozen=True)
class Merged:
    """What became of two maps.

    keyframes:  in the merged map.
    in_both:    how many of them both had.
    alignments: of each frame of corrected poses of the second map.
    own_frames: frame of the second map -> what it is called now, where it had to be told from another one.
    """

    keyframes: int
    in_both: int
    alignments: Sequence[Alignment]
    own_frames: dict[str, str]


def merge(
    first: Path, second: Path, out: Path, config: Config, progress: Progress = no_progress
) -> Merged:
    """Writes a map with the keyframes of two, those that both have once; both stay as they are.

    Raises DatabaseError, and writes nothing, if they are of two models, or damaged, or there is no room.
    """
    header, other = (SqliteStore(each, read_only=True).header() for each in (first, second))
    if (other.fingerprint, other.dims) != (header.fingerprint, header.dims):
        raise DatabaseError(
            f"{second}: is of model {other.fingerprint} with {other.dims} dimensions, {first} of "
            f"{header.fingerprint} with {header.dims}, which can't be compared; `netvlad map re-extract` "
            "brings one to the model of the other."
        )
    here, there = _survey(first), _survey(second)
    in_both = here.names & there.names
    edges = list(_edges(first, second, in_both, config, progress)) if here.frames else []
    alignments = [align(frame, edges) for frame in sorted(there.frames)]
    moves = _Moves(alignments, here.frames, other.database_id)
    blocks = itertools.chain(
        _filled(first, SqliteStore(second, read_only=True), in_both, moves),
        _without(second, in_both, moves),
    )
    new = StoreHeader(uuid.uuid4().hex, header.fingerprint, header.dims)
    write_map(out, new, told(blocks, progress))
    keyframes = len(here.names | there.names)
    return Merged(keyframes, len(in_both), alignments, moves.own_frames)


@dataclass(frozen=True)
class _Survey:
    """names: of all keyframes; frames: of their corrected poses."""

    names: set[Name]
    frames: set[str]


def _survey(path: Path) -> _Survey:
    _, blocks = open_map(path)
    names, frames = set(), set()
    for block in blocks:
        names |= {each.name for each in block.keyframes}
        frames |= {data.map_pose.pose.frame_id for _, data in block.data if data.map_pose}
    return _Survey(names, frames)


class _Moves:
    """What becomes of the corrected poses of the second map.

    own_frames: those that are not aligned and would be taken for a frame of the first map are called so.
    """

    def __init__(self, alignments: Sequence[Alignment], taken: set[str], database_id: str) -> None:
        self._alignments = {each.frame: each for each in alignments}
        self.own_frames = {
            each.frame: f"{each.frame}_{database_id[:8]}"
            for each in alignments
            if each.first_from_second is None and each.frame in taken
        }

    def __call__(self, data: ImageData) -> ImageData:
        if data.map_pose is None:
            return data
        frame = data.map_pose.pose.frame_id
        found = self._alignments[frame]
        if found.first_from_second is not None and is_pose(data.map_pose.pose):
            pose = moved(data.map_pose, found.into, found.first_from_second)
            return replace(data, map_pose=pose)
        own = replace(data.map_pose.pose, frame_id=self.own_frames.get(frame, frame))
        return replace(data, map_pose=replace(data.map_pose, pose=own))


def _edges(
    first: Path, second: Path, in_both: set[Name], config: Config, progress: Progress
) -> Iterator[Edge]:
    """Between the corrected poses of two maps, by keyframes that both have and by loop closures."""
    # Whether closures agree is asked of all of them together.
    looking = replace(
        config,
        database=replace(config.database, mode=LOCALISATION),
        closures=replace(config.closures, min_agreeing=0),
    )
    store = SqliteStore(first, read_only=True)
    replay = Replay(KeyframeDatabase.load(store, looking), store, looking)
    header, blocks = open_map(second)
    numbers = itertools.count()
    looked_up: dict[Name, ImageData] = {}  # as some closures are reported late
    every = max(1, -(-SqliteStore(second, read_only=True).count() // MAX_LOOKED_UP))
    for block in told(blocks, progress):
        known = known_of(block)
        for keyframe, descriptor in zip(block.keyframes, block.descriptors, strict=True):
            data = known[keyframe.name]
            if data.map_pose is None:
                continue
            if keyframe.name in in_both:
                yield from _known(edge_of_same(store.read_data(keyframe.name), data))
            elif next(numbers) % every == 0:
                looked_up[keyframe.name] = replace(data, features=None, thumbnail=None)
                found = replay.closures(keyframe, descriptor, data, header.fingerprint)
                yield from itertools.chain(
                    *(_known(edge_of(each, looked_up[each.query.name])) for each in found)
                )


def _known(edge: Edge | None) -> list[Edge]:
    return [] if edge is None else [edge]


def _filled(
    path: Path, other: SqliteStore, in_both: set[Name], moves: _Moves
) -> Iterator[StoredKeyframes]:
    """The first map; what it does not know of keyframes that both have is taken from the second."""
    for block in open_map(path)[1]:
        known = known_of(block)
        for name in in_both & known.keys():
            known[name] = _together(known[name], moves(other.read_data(name)))
        yield replace(block, data=list(known.items()))


def _together(first: ImageData, second: ImageData) -> ImageData:
    missing = {part: getattr(second, part) for part in PARTS if getattr(first, part) is None}
    return replace(first, **missing)


def _without(path: Path, names: set[Name], moves: _Moves) -> Iterator[StoredKeyframes]:
    for block in open_map(path)[1]:
        new = kept(block, lambda each: each.name not in names)
        yield replace(new, data=[(name, moves(data)) for name, data in new.data])
