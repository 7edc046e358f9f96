# SPDX-License-Identifier: MIT
"""A keyframe database as one SQLite file, written in transactions that survive being killed at any moment."""

import contextlib
import dataclasses
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netvlad_ros.errors import DatabaseError
from netvlad_ros.retrieval.keyframes import Keyframe

# "nvlk" marks our files; the version changes when older code could misread a file.
APPLICATION_ID = 0x6E766C6B
FORMAT_VERSION = 1
# How long to wait for another process that has the file open; a robot has no more time than that.
LOCK_TIMEOUT_S = 1.0

_SCHEMA = (
    """CREATE TABLE header (
        database_id TEXT NOT NULL, fingerprint TEXT NOT NULL, dims INTEGER NOT NULL,
        next_id INTEGER NOT NULL, next_session INTEGER NOT NULL
    )""",
    """CREATE TABLE keyframe (
        id INTEGER PRIMARY KEY, session INTEGER NOT NULL, stamp_ns INTEGER NOT NULL,
        descriptor BLOB NOT NULL, crc32 INTEGER NOT NULL
    )""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT_VERSION}",
)


@dataclass(frozen=True)
class Header:
    """What all keyframes of a file share.

    database_id:  random, to know a file that this database was saved to before from any other.
    next_id:      the first id that was never given.
    next_session: the first session that was never begun.
    """

    database_id: str
    fingerprint: str
    dims: int
    next_id: int
    next_session: int


def save(
    path: str | Path, header: Header, keyframes: list[Keyframe], descriptors: Iterable[np.ndarray]
) -> None:
    """Makes the file hold exactly these keyframes, in one transaction; rows it already has are not written.

    Raises DatabaseError if the file is something else or can't be written; it is then as it was.
    """
    path = Path(path)
    with _connection(path, "write") as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
        if not _is_ours(path, connection):
            for statement in _SCHEMA:
                connection.execute(statement)
        stored = _stored(path, connection)
        _refuse_loss(path, connection, stored, header, keyframes)
        gone = stored.keys() - {keyframe.keyframe_id for keyframe in keyframes}
        connection.executemany("DELETE FROM keyframe WHERE id = ?", ((each,) for each in gone))
        connection.executemany(
            "INSERT INTO keyframe VALUES (?, ?, ?, ?, ?)",
            (
                _row(keyframe, descriptor)
                for keyframe, descriptor in zip(keyframes, descriptors, strict=True)
                if keyframe.keyframe_id not in stored
            ),
        )
        connection.execute("DELETE FROM header")
        connection.execute("INSERT INTO header VALUES (?, ?, ?, ?, ?)", dataclasses.astuple(header))


@contextlib.contextmanager
def reading(path: str | Path) -> Iterator[tuple[Header, Iterator[tuple[Keyframe, np.ndarray]]]]:
    """The header and, one by one in the order of ids, the keyframes, all of one save.

    Raises DatabaseError, also while the keyframes are read.
    """
    path = Path(path)
    if not os.path.isfile(path):  # noqa: PTH113 - unlike Path.is_file, it never raises
        raise DatabaseError(f"{path}: there is no such database file; a save makes one.")
    with _connection(path, "read") as connection:
        connection.execute("BEGIN")
        if not _is_ours(path, connection):
            raise DatabaseError(f"{path}: holds nothing yet; its first save was cut short.")
        header = _header(path, connection)
        yield header, _rows(path, connection, header)


def _row(keyframe: Keyframe, descriptor: np.ndarray) -> tuple[int, int, int, bytes, int]:
    content = descriptor.astype("<f4").tobytes()
    return (*dataclasses.astuple(keyframe), content, _checksum(keyframe, content))


def _checksum(keyframe: Keyframe, content: bytes) -> int:
    """SQLite finds out that a file is cut short, but not that bits of it have flipped."""
    return zlib.crc32(content, zlib.crc32(repr(dataclasses.astuple(keyframe)).encode()))


def _header(path: Path, connection: sqlite3.Connection) -> Header:
    row = connection.execute("SELECT * FROM header").fetchone()
    if row is None or [type(value) for value in row] != [str, str, int, int, int] or row[2] < 1:
        raise DatabaseError(f"{path}: the header is damaged; restore a copy of the file.")
    return Header(*row)


def _rows(
    path: Path, connection: sqlite3.Connection, header: Header
) -> Iterator[tuple[Keyframe, np.ndarray]]:
    for *columns, content, checksum in connection.execute("SELECT * FROM keyframe ORDER BY id"):
        keyframe = Keyframe(*columns)
        if (
            not isinstance(content, bytes)
            or checksum != _checksum(keyframe, content)
            or len(content) != 4 * header.dims
            or keyframe.keyframe_id >= header.next_id
        ):
            raise DatabaseError(
                f"{path}: keyframe {keyframe.keyframe_id} is damaged; restore a copy of the file."
            )
        yield keyframe, np.frombuffer(content, "<f4").astype(np.float32, copy=False)


def _stored(path: Path, connection: sqlite3.Connection) -> dict[int, Keyframe]:
    """The keyframes that the file has already."""
    rows = connection.execute("SELECT id, session, stamp_ns FROM keyframe")
    return {row[0]: Keyframe(*row) for row in rows}


def _refuse_loss(
    path: Path,
    connection: sqlite3.Connection,
    stored: dict[int, Keyframe],
    header: Header,
    keyframes: list[Keyframe],
) -> None:
    """Raises DatabaseError if keyframes in the file are not an earlier state of these."""
    if not stored:
        return
    before = _header(path, connection)
    remedy = "which would be lost; load it first to add to it, or save to another file."
    if before.database_id != header.database_id:
        raise DatabaseError(
            f"{path}: holds {len(stored)} keyframes of another database (model {before.fingerprint}), "
            f"{remedy}"
        )
    diverged = any(stored.get(each.keyframe_id, each) != each for each in keyframes)
    if diverged or before.next_id > header.next_id:
        raise DatabaseError(
            f"{path}: holds keyframes that were saved after this database was loaded, {remedy}"
        )


def _is_ours(path: Path, connection: sqlite3.Connection) -> bool:
    """False for a file that holds nothing yet. Raises DatabaseError for a file of somebody else's."""
    (application,), (version,) = (
        connection.execute(f"PRAGMA {name}").fetchone()
        for name in ("application_id", "user_version")
    )
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables == 0:
        return False
    if application != APPLICATION_ID:
        raise DatabaseError(f"{path}: is an SQLite file of another program; choose another name.")
    if version != FORMAT_VERSION:
        raise DatabaseError(
            f"{path}: has format {version}, this version reads {FORMAT_VERSION}; update the package."
        )
    return True


@contextlib.contextmanager
def _connection(path: Path, purpose: str) -> Iterator[sqlite3.Connection]:
    """An open file that is closed afterwards; SQLite's errors become DatabaseErrors that say what to do."""
    try:
        # Autocommit, because transactions are begun by hand: Python's implicit ones leave out the schema.
        connection = sqlite3.connect(path, isolation_level=None, timeout=LOCK_TIMEOUT_S)
        with contextlib.closing(connection):
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise DatabaseError(
            f"{path}: can't {purpose} the database: {_advice(path, error)}"
        ) from None


# What is in SQLite's message, and what to tell the user then.
_ADVICE = {
    "full": "the disk is full; make room and save again, nothing that was saved before is lost.",
    "disk I/O": "the disk refused, for a quota or a fault; nothing that was saved before is lost.",
    "locked": "another process is writing it; give each database node a file of its own.",
    "readonly": "the file may not be written; change its permissions or choose another name.",
    "not a database": "the file is something else; choose another name.",
    "malformed": "the file is damaged; restore a copy of it.",
    "decode": "the file is damaged; restore a copy of it.",
}


def _advice(path: Path, error: Exception) -> str:
    text = str(error)
    if os.path.isdir(path):  # noqa: PTH112 - never raises
        return "it is a folder; choose the name of a file."
    if "unable to open" in text:
        return f"the folder {path.parent} does not exist or may not be written."
    return next((advice for words, advice in _ADVICE.items() if words in text), f"{text}.")
