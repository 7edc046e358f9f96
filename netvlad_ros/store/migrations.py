# SPDX-License-Identifier: MIT
"""How database files of earlier versions become ones of today."""

import sqlite3
import zlib
from collections.abc import Callable, Iterator

from netvlad_ros.errors import DatabaseError
from netvlad_ros.keyframe import Keyframe, Session, numbered_session
from netvlad_ros.store import schema
from netvlad_ros.store.keyframe_store import StoreHeader


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Brings a file of an earlier version up to date, in the transaction at hand.

    Raises DatabaseError, without the name of the file, if what is there is damaged.
    """
    for step in _STEPS[version - 1 :]:
        step(connection)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _from_version_1(connection: sqlite3.Connection) -> None:
    """Keyframes were numbered through all sessions, sessions counted, and everything lay in one table.

    Numbers stay as they were, in logs and bags too; a session gets the same UUID in every copy of the file.
    """
    if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        # It did not count its keyframes: of a damaged tree, some might be missing, and then for good.
        raise DatabaseError("the file is damaged; restore a copy of it.")
    columns = "database_id, fingerprint, dims, next_id, next_session"
    row = connection.execute(f"SELECT {columns} FROM header").fetchone()
    if row is None or [type(each) for each in row] != [str, str, int, int, int] or row[2] < 1:
        raise DatabaseError("the header is damaged; restore a copy of the file.")
    header, next_id = StoreHeader(*row[:3]), row[3]
    for table in ("header", "keyframe"):
        connection.execute(f"ALTER TABLE {table} RENAME TO {table}_1")
    schema.create(connection)
    schema.insert_keyframes(connection, {}, _keyframes_of_version_1(connection, header, next_id))
    (keyframes,) = connection.execute("SELECT count(*) FROM keyframe").fetchone()
    schema.write_header(connection, header, 0, keyframes)
    for table in ("header_1", "keyframe_1"):
        connection.execute(f"DROP TABLE {table}")


def _keyframes_of_version_1(
    connection: sqlite3.Connection, header: StoreHeader, next_id: int
) -> Iterator[tuple[Keyframe, bytes]]:
    for *columns, vector, crc in connection.execute(
        "SELECT id, session, stamp_ns, descriptor, crc32 FROM keyframe_1 ORDER BY id"
    ):
        number, session, stamp_ns = columns
        if (
            [type(each) for each in columns] != [int, int, int]
            or not isinstance(vector, bytes)
            or len(vector) != 4 * header.dims
            or crc != zlib.crc32(vector, zlib.crc32(repr((number, session, stamp_ns)).encode()))
            or number >= next_id
        ):
            raise DatabaseError(f"keyframe {number} is damaged; restore a copy of the file.")
        name = numbered_session(header.database_id, session)
        yield Keyframe(Session(name), number, stamp_ns), vector


# From each version to the next.
_STEPS: list[Callable[[sqlite3.Connection], None]] = [_from_version_1]
VERSION = 1 + len(_STEPS)
# A new file is made as `schema.create` does, of this version, and then brought up to date.
CREATED_VERSION = 2
