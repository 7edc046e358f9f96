# SPDX-License-Identifier: MIT
"""The tables of a database file, and what makes a row of them; docs/file_format.md describes them."""

import sqlite3
import zlib
from collections.abc import Iterable

from netvlad_ros.keyframe import Keyframe, Session
from netvlad_ros.store.keyframe_store import StoreHeader

# "nvlk" marks our files.
APPLICATION_ID = 0x6E766C6B
# Three descriptors of the shipped model fit into a page; in SQLite's own 4096 bytes only one does.
PAGE_BYTES = 8192

_POSE = """frame_id TEXT NOT NULL, child_frame_id TEXT NOT NULL, position_m BLOB NOT NULL,
    orientation_xyzw BLOB NOT NULL, covariance BLOB"""
# Table -> its columns beside `keyframe` and `crc32`, which all of these have.
_DATA_TABLES = {
    "odometry": _POSE,
    "corrected_pose": f"{_POSE}, graph TEXT NOT NULL, solved_ns INTEGER NOT NULL",
    "camera_model": """width_px INTEGER NOT NULL, height_px INTEGER NOT NULL, distortion_model TEXT NOT NULL,
    k BLOB NOT NULL, d BLOB NOT NULL, baseline_m REAL, frame_id TEXT NOT NULL, base_from_camera BLOB""",
    "local_features": """method TEXT NOT NULL, keypoints_px BLOB NOT NULL, descriptor_type TEXT NOT NULL,
    descriptor_length INTEGER NOT NULL, descriptors BLOB NOT NULL, points_m BLOB,
    points_from TEXT NOT NULL""",
    "thumbnail": "jpeg BLOB NOT NULL",
}
_TABLES = {
    "header": """database_id TEXT NOT NULL, fingerprint TEXT NOT NULL, dims INTEGER NOT NULL,
    revision INTEGER NOT NULL, keyframes INTEGER NOT NULL, crc32 INTEGER NOT NULL""",
    "session": """id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, robot TEXT NOT NULL,
    camera TEXT NOT NULL, map TEXT NOT NULL, crc32 INTEGER NOT NULL""",
    "keyframe": """id INTEGER PRIMARY KEY, session INTEGER NOT NULL REFERENCES session (id),
    number INTEGER NOT NULL, stamp_ns INTEGER NOT NULL, external_id INTEGER NOT NULL, crc32 INTEGER NOT NULL,
    UNIQUE (session, number)""",
    "descriptor": "keyframe INTEGER PRIMARY KEY, vector BLOB NOT NULL, crc32 INTEGER NOT NULL",
} | {
    table: f"keyframe INTEGER PRIMARY KEY, {columns}, crc32 INTEGER NOT NULL"
    for table, columns in _DATA_TABLES.items()
}
# Tables with rows of single keyframes, by the keyframe's id in the file.
OF_KEYFRAMES = ("descriptor", *_DATA_TABLES)


def create(connection: sqlite3.Connection) -> None:
    """Makes the tables, in the transaction at hand."""
    for statement in _statements().values():
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def is_intact(connection: sqlite3.Connection) -> bool:
    """Whether the tables are those that `create` makes, and nothing in the file acts by itself."""
    found = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    (acting,) = connection.execute(
        "SELECT count(*) FROM sqlite_master WHERE type IN ('trigger', 'view')"
    ).fetchone()
    return not acting and _statements().items() <= found.items()


def _statements() -> dict[str, str]:
    return {table: f"CREATE TABLE {table} ({columns})" for table, columns in _TABLES.items()}


def checksum(*values: object) -> int:
    """CRC-32 of a row: of its numbers and texts as a list in ASCII, then of its bytes.

    SQLite finds out that a file is cut short, but not that bits of it have flipped.
    """
    plain = [len(each) if isinstance(each, bytes) else each for each in values]
    crc = zlib.crc32(ascii(plain).encode())
    for each in values:
        if isinstance(each, bytes):
            crc = zlib.crc32(each, crc)
    return crc


def write_header(
    connection: sqlite3.Connection, header: StoreHeader, revision: int, keyframes: int
) -> None:
    """Takes the place of the one that was there."""
    values = (header.database_id, header.fingerprint, header.dims, revision, keyframes)
    connection.execute("DELETE FROM header")
    connection.execute(
        "INSERT INTO header (database_id, fingerprint, dims, revision, keyframes, crc32) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (*values, checksum(*values)),
    )


def insert_keyframes(
    connection: sqlite3.Connection,
    sessions: dict[str, int],
    rows: Iterable[tuple[Keyframe, bytes]],
) -> dict[tuple[str, int], int]:
    """Adds keyframes, their sessions and their descriptors at the end; returns their ids by their names.

    sessions: ids of those that are there, by their UUIDs; new ones come in.
    Raises sqlite3.Error.
    """
    ids = {}
    for number, (keyframe, vector) in enumerate(rows, _last(connection, "keyframe") + 1):
        uuid = keyframe.session.uuid
        if uuid not in sessions:
            sessions[uuid] = _insert_session(connection, keyframe.session)
        # int, because SQLite takes no NumPy integers.
        numbers = keyframe.number, keyframe.stamp_ns, keyframe.external_id
        values = number, sessions[uuid], *map(int, numbers)
        try:
            connection.execute(
                "INSERT INTO keyframe (id, session, number, stamp_ns, external_id, crc32) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (*values, checksum(*values)),
            )
        except sqlite3.IntegrityError:
            raise sqlite3.IntegrityError(
                f"keyframe {keyframe} is stored already, and a name can be used only once"
            ) from None
        connection.execute(
            "INSERT INTO descriptor (keyframe, vector, crc32) VALUES (?, ?, ?)",
            (number, vector, checksum(number, vector)),
        )
        ids[keyframe.name] = number
    return ids


def _insert_session(connection: sqlite3.Connection, session: Session) -> int:
    """Returns its id in the file."""
    number, stream = _last(connection, "session") + 1, session.stream
    values = number, session.uuid, stream.robot, stream.camera, session.map
    connection.execute(
        "INSERT INTO session (id, uuid, robot, camera, map, crc32) VALUES (?, ?, ?, ?, ?, ?)",
        (*values, checksum(*values)),
    )
    return number


def _last(connection: sqlite3.Connection, table: str) -> int:
    (last,) = connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()
    return int(last)
