# SPDX-License-Identifier: MIT
"""The tables of a database file.

    header          one row: database_id, fingerprint, dims, revision (counts saves), keyframes (how many)
    session         id, uuid, robot, camera, map
    keyframe        id (ascends as they are added), session, number, stamp_ns; (session, number) is unique
    descriptor      keyframe, vector (float32, little-endian)
    odometry        keyframe, pose in the odometry's frame, as it was at the stamp
    corrected_pose  keyframe, pose in a map's frame, as a pose graph found it
    camera_model    keyframe, size, distortion model, k and d, as in sensor_msgs/CameraInfo
    local_features  keyframe, method, keypoints_px, descriptors, points_m
    thumbnail       keyframe, jpeg

Ids are of the file only: they make rows small. A keyframe's name is the UUID of its session and its number.
Each row has a checksum over all its values, as SQLite finds out that a file is cut short, but not that bits
of it have flipped.
"""

import sqlite3
import zlib
from collections.abc import Iterable

# "nvlk" marks our files.
APPLICATION_ID = 0x6E766C6B
# Three descriptors of the shipped model fit into a page; in SQLite's own 4096 bytes only one does.
PAGE_BYTES = 8192
# Changes when older code could misread a file; migrations.py has the way from each earlier one.
VERSION = 2

_POSE = """frame_id TEXT NOT NULL, child_frame_id TEXT NOT NULL, position_m BLOB NOT NULL,
    orientation_xyzw BLOB NOT NULL, covariance BLOB"""
# Table -> its columns beside `keyframe` and `crc32`, which all of these have.
DATA_TABLES = {
    "odometry": _POSE,
    "corrected_pose": _POSE,
    "camera_model": """width_px INTEGER NOT NULL, height_px INTEGER NOT NULL, distortion_model TEXT NOT NULL,
    k BLOB NOT NULL, d BLOB NOT NULL, baseline_m REAL""",
    "local_features": """method TEXT NOT NULL, keypoints_px BLOB NOT NULL, is_binary INTEGER NOT NULL,
    descriptors BLOB NOT NULL, points_m BLOB""",
    "thumbnail": "jpeg BLOB NOT NULL",
}
_TABLES = {
    "header": """database_id TEXT NOT NULL, fingerprint TEXT NOT NULL, dims INTEGER NOT NULL,
    revision INTEGER NOT NULL, keyframes INTEGER NOT NULL, crc32 INTEGER NOT NULL""",
    "session": """id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, robot TEXT NOT NULL,
    camera TEXT NOT NULL, map TEXT NOT NULL, crc32 INTEGER NOT NULL""",
    "keyframe": """id INTEGER PRIMARY KEY, session INTEGER NOT NULL REFERENCES session (id),
    number INTEGER NOT NULL, stamp_ns INTEGER NOT NULL, crc32 INTEGER NOT NULL, UNIQUE (session, number)""",
    "descriptor": """keyframe INTEGER PRIMARY KEY, vector BLOB NOT NULL, crc32 INTEGER NOT NULL""",
} | {
    table: f"keyframe INTEGER PRIMARY KEY, {columns}, crc32 INTEGER NOT NULL"
    for table, columns in DATA_TABLES.items()
}


def checksum(*values: object) -> int:
    """Of the values of a row: numbers, texts, bytes or None."""
    crc = 0
    for value in values:
        content = value if isinstance(value, bytes) else repr(value).encode()
        crc = zlib.crc32(content, zlib.crc32(b"%d " % len(content), crc))
    return crc


def create(connection: sqlite3.Connection) -> None:
    """Makes the tables of an empty file, in the transaction at hand."""
    for table, columns in _TABLES.items():
        connection.execute(f"CREATE TABLE {table} ({columns})")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def insert_session(
    connection: sqlite3.Connection, uuid: str, robot: str, camera: str, map: str
) -> int:
    """Returns its id in the file."""
    cursor = connection.execute(
        "INSERT INTO session (uuid, robot, camera, map, crc32) VALUES (?, ?, ?, ?, ?)",
        (uuid, robot, camera, map, checksum(uuid, robot, camera, map)),
    )
    return int(cursor.lastrowid or 0)


def insert_keyframes(
    connection: sqlite3.Connection, rows: Iterable[tuple[int, int, int, int, bytes]]
) -> None:
    """rows: id, id of the session, number, stamp_ns and descriptor."""
    for keyframe, session, number, stamp_ns, vector in rows:
        connection.execute(
            "INSERT INTO keyframe (id, session, number, stamp_ns, crc32) VALUES (?, ?, ?, ?, ?)",
            (keyframe, session, number, stamp_ns, checksum(keyframe, session, number, stamp_ns)),
        )
        connection.execute(
            "INSERT INTO descriptor (keyframe, vector, crc32) VALUES (?, ?, ?)",
            (keyframe, vector, checksum(keyframe, vector)),
        )


def write_header(
    connection: sqlite3.Connection,
    database_id: str,
    fingerprint: str,
    dims: int,
    revision: int,
    keyframes: int,
) -> None:
    """Takes the place of the one that was there."""
    values = (database_id, fingerprint, dims, revision, keyframes)
    connection.execute("DELETE FROM header")
    connection.execute(
        "INSERT INTO header (database_id, fingerprint, dims, revision, keyframes, crc32) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (*values, checksum(*values)),
    )
