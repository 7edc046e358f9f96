# SPDX-License-Identifier: MIT
"""What a map holds, of whom and from when, what that takes, and whether all of it can be read."""

from dataclasses import dataclass, field
from pathlib import Path

from netvlad_ros.errors import DatabaseError
from netvlad_ros.image_data import ImageData
from netvlad_ros.keyframe import Keyframe
from netvlad_ros.maps.alignment import is_pose
from netvlad_ros.maps.files import Progress, known_of, no_progress, open_map
from netvlad_ros.store.keyframe_data import parts_of
from netvlad_ros.store.sqlite_store import SqliteStore


@dataclass
class SessionInfo:
    """One run of one camera; stamps by its clock."""

    uuid: str
    robot: str
    camera: str
    map: str
    keyframes: int
    first_ns: int
    last_ns: int


@dataclass
class MapInfo:
    """What a map holds.

    kinds:     of how many keyframes there is what, by the names of tables.
    kind_bytes: what that takes, without names and what SQLite needs.
    features:  of how many keyframes local features are of which method.
    not_numbers: poses with NaN or infinity, by the names of tables.
    frames:    in which frame how many corrected poses are.
    problem:   the first thing that can't be read, as a sentence; empty if all can.
    """

    path: str
    format_version: int
    database_id: str
    fingerprint: str
    dims: int
    file_bytes: int
    keyframes: int = 0
    sessions: list[SessionInfo] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    kind_bytes: dict[str, int] = field(default_factory=dict)
    features: dict[str, int] = field(default_factory=dict)
    not_numbers: dict[str, int] = field(default_factory=dict)
    frames: dict[str, int] = field(default_factory=dict)
    problem: str = ""


def map_info(path: Path, progress: Progress = no_progress) -> MapInfo:
    """Reads all of a map. Raises DatabaseError for a file that is none, or of another version."""
    version = SqliteStore(path, read_only=True).format_version()
    header, blocks = open_map(path)
    info = MapInfo(
        str(path),
        version,
        header.database_id,
        header.fingerprint,
        header.dims,
        path.stat().st_size,
    )
    sessions: dict[str, SessionInfo] = {}
    try:
        for block in blocks:
            known = known_of(block)
            for keyframe in block.keyframes:
                _count_keyframe(sessions, keyframe)
                _count_data(info, known[keyframe.name])
            info.keyframes += len(block.keyframes)
            _add(info.kind_bytes, "descriptor", block.descriptors.nbytes)
            progress(len(block.keyframes))
    except DatabaseError as error:
        info.problem = str(error)
    info.sessions = list(sessions.values())
    return info


def _count_keyframe(sessions: dict[str, SessionInfo], keyframe: Keyframe) -> None:
    session, stamp_ns = keyframe.session, keyframe.stamp_ns
    stream = session.stream
    new = SessionInfo(session.uuid, stream.robot, stream.camera, session.map, 0, stamp_ns, stamp_ns)
    found = sessions.setdefault(session.uuid, new)
    found.keyframes += 1
    found.first_ns, found.last_ns = min(found.first_ns, stamp_ns), max(found.last_ns, stamp_ns)


def _count_data(info: MapInfo, data: ImageData) -> None:
    for table, value in parts_of(data):
        row = table.to_row(value)
        _add(info.kinds, table.name)
        _add(info.kind_bytes, table.name, sum(len(each) for each in row if isinstance(each, bytes)))
    if data.features is not None:
        _add(info.features, data.features.method)
    if data.odometry is not None and not is_pose(data.odometry):
        _add(info.not_numbers, "odometry")
    if data.map_pose is not None:
        _add(info.frames, data.map_pose.pose.frame_id)
        if not is_pose(data.map_pose.pose):
            _add(info.not_numbers, "corrected_pose")


def _add(counts: dict[str, int], name: str, more: int = 1) -> None:
    counts[name] = counts.get(name, 0) + more
