# SPDX-License-Identifier: MIT
"""How database files of earlier versions become one of today, in the transaction at hand."""

import sqlite3
import uuid
import zlib
from collections.abc import Iterator

from netvlad_ros.errors import DatabaseError
from netvlad_ros.store.schema import create, insert_keyframes, insert_session, write_header

# Of sessions that were only numbered, in version 1.
NUMBERED_SESSIONS = uuid.UUID("6e766c6b-0001-4000-8000-000000000000")


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Raises DatabaseError, without the name of the file, if what is there is damaged."""
    if version == 1:
        _from_version_1(connection)


def _from_version_1(connection: sqlite3.Connection) -> None:
    """Keyframes were numbered through all sessions, sessions counted, and everything lay in one table.

    Numbers stay as they were, in logs and bags too; a session gets the same UUID in every copy of the file.
    """
    row = connection.execute("SELECT database_id, fingerprint, dims FROM header").fetchone()
    if row is None or [type(value) for value in row] != [str, str, int] or row[2] < 1:
        raise DatabaseError("the header is damaged; restore a copy of the file.")
    database_id, fingerprint, dims = row
    for table in ("header", "keyframe"):
        connection.execute(f"ALTER TABLE {table} RENAME TO {table}_1")
    create(connection)
    sessions: dict[int, int] = {}

    def rows() -> Iterator[tuple[int, int, int, int, bytes]]:
        stored = connection.execute(
            "SELECT id, session, stamp_ns, descriptor, crc32 FROM keyframe_1 ORDER BY id"
        )
        for keyframe, (number, session, stamp_ns, vector, crc) in enumerate(stored, 1):
            if not _is_whole(number, session, stamp_ns, vector, crc, dims):
                raise DatabaseError(f"keyframe {number} is damaged; restore a copy of the file.")
            if session not in sessions:
                name = uuid.uuid5(NUMBERED_SESSIONS, f"{database_id}/{session}").hex
                sessions[session] = insert_session(connection, name, "", "", "")
            yield keyframe, sessions[session], number, stamp_ns, vector

    insert_keyframes(connection, rows())
    (keyframes,) = connection.execute("SELECT count(*) FROM keyframe").fetchone()
    write_header(connection, database_id, fingerprint, dims, 0, keyframes)
    for table in ("header_1", "keyframe_1"):
        connection.execute(f"DROP TABLE {table}")


def _is_whole(
    number: object, session: object, stamp_ns: object, vector: object, crc: object, dims: int
) -> bool:
    if not isinstance(vector, bytes) or len(vector) != 4 * dims:
        return False
    return crc == zlib.crc32(vector, zlib.crc32(repr((number, session, stamp_ns)).encode()))
