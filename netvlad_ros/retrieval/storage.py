# SPDX-License-Identifier: MIT
"""A keyframe database as one SQLite file, written in transactions that survive being killed at any moment."""

import contextlib
import dataclasses
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netvlad_ros.errors import DatabaseError
from netvlad_ros.retrieval.keyframes import Keyframe

# "nvlk" marks our files; the version changes when older code could misread a file.
APPLICATION_ID = 0x6E766C6B
FORMAT_VERSION = 1

_SCHEMA = (
    "CREATE TABLE header (database_id TEXT NOT NULL, fingerprint TEXT NOT NULL, dims INTEGER NOT NULL, "
    "next_id INTEGER NOT NULL)",
    "CREATE TABLE keyframe (id INTEGER PRIMARY KEY, session INTEGER NOT NULL, stamp_ns INTEGER NOT NULL, "
    "descriptor BLOB NOT NULL)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT_VERSION}",
)


@dataclass(frozen=True)
class Header:
    """What all keyframes of a file share.

    database_id: random, to know a file that this database was saved to before from any other.
    next_id:     the first id that was never given.
    """

    database_id: str
    fingerprint: str
    dims: int
    next_id: int


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
        stored = _stored(path, connection, header)
        wanted = {keyframe.keyframe_id: keyframe for keyframe in keyframes}
        gone = [
            (keyframe_id,) for keyframe_id, row in stored.items() if wanted.get(keyframe_id) != row
        ]
        connection.executemany("DELETE FROM keyframe WHERE id = ?", gone)
        connection.executemany(
            "INSERT INTO keyframe VALUES (?, ?, ?, ?)",
            (
                (
                    keyframe.keyframe_id,
                    keyframe.session,
                    keyframe.stamp_ns,
                    descriptor.astype("<f4").tobytes(),
                )
                for keyframe, descriptor in zip(keyframes, descriptors, strict=True)
                if stored.get(keyframe.keyframe_id) != keyframe
            ),
        )
        connection.execute("DELETE FROM header")
        connection.execute("INSERT INTO header VALUES (?, ?, ?, ?)", dataclasses.astuple(header))


def load(path: str | Path) -> tuple[Header, Iterator[tuple[Keyframe, np.ndarray]]]:
    """The header and, one by one in the order of ids, the keyframes. Raises DatabaseError."""
    path = Path(path)
    if not path.is_file():
        raise DatabaseError(f"{path}: there is no such database file; a save makes one.")
    with _connection(path, "read") as connection:
        if not _is_ours(path, connection):
            raise DatabaseError(
                f"{path}: this database is empty: its first save was cut short; delete the file."
            )
        header = Header(*connection.execute("SELECT * FROM header").fetchone())
    return header, _rows(path, header)


def _rows(path: Path, header: Header) -> Iterator[tuple[Keyframe, np.ndarray]]:
    with _connection(path, "read") as connection:
        for keyframe_id, session, stamp_ns, blob in connection.execute(
            "SELECT * FROM keyframe ORDER BY id"
        ):
            descriptor = np.frombuffer(blob, "<f4").astype(np.float32, copy=False)
            if (
                descriptor.shape != (header.dims,)
                or not abs(float(descriptor @ descriptor) - 1.0) < 1e-2
            ):
                raise DatabaseError(
                    f"{path}: the descriptor of keyframe {keyframe_id} is damaged; restore a copy."
                )
            yield Keyframe(keyframe_id, session, stamp_ns), descriptor


def _stored(path: Path, connection: sqlite3.Connection, header: Header) -> dict[int, Keyframe]:
    """The keyframes that the file has already. Raises DatabaseError if they are of another database."""
    rows = connection.execute("SELECT id, session, stamp_ns FROM keyframe")
    stored = {row[0]: Keyframe(*row) for row in rows}
    row = connection.execute("SELECT database_id, fingerprint FROM header").fetchone()
    if stored and row[0] != header.database_id:
        raise DatabaseError(
            f"{path}: holds {len(stored)} keyframes of another database (model {row[1]}), which would be lost; load "
            "it first to add to it, or save to another file."
        )
    if (
        row is not None and row[1] != header.fingerprint
    ):  # emptied and filled again with another model
        connection.execute("DELETE FROM keyframe")
        return {}
    return stored


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
        connection = sqlite3.connect(path, isolation_level=None, timeout=10.0)
        with contextlib.closing(connection):
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
    except sqlite3.Error as error:
        raise DatabaseError(
            f"{path}: can't {purpose} the database: {_advice(path, error)}"
        ) from None


def _advice(path: Path, error: sqlite3.Error) -> str:
    text = str(error)
    if "full" in text:
        return "the disk is full; make room and save again, nothing that was saved before is lost."
    if "not a database" in text:
        return "the file is something else; choose another name."
    if "malformed" in text:
        return "the file is damaged; restore a copy of it."
    if "unable to open" in text:
        return f"the folder {path.parent} does not exist or may not be written."
    return f"{text}."
