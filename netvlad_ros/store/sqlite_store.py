# SPDX-License-Identifier: MIT
"""Keyframes in one SQLite file, written in transactions that survive being killed at any moment."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from netvlad_ros.errors import DatabaseError
from netvlad_ros.keyframe import Keyframe, Session, Stream
from netvlad_ros.store import migrations, schema
from netvlad_ros.store.keyframe_store import Changes, StoredKeyframes, StoreHeader
from netvlad_ros.store.schema import checksum

# How long to wait for another process that has the file open; a robot has no more time than that.
LOCK_TIMEOUT_S = 1.0
# Keyframes are read so many at a time.
BLOCK_ROWS = 4096


class SqliteStore:
    """A KeyframeStore in a file, of this version or an earlier one, which is then brought up to date.

    The file has no companions but while it is written (a rollback journal, not a write-ahead log), so that it
    can be copied, and opened where nothing can be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._known: tuple[str, int] | None = (
            None  # database_id and revision of what was loaded or saved
        )

    def check_place(self) -> None:
        """Raises DatabaseError if no file could be written here; makes none."""
        # os.path, because unlike Path's methods it never raises.
        if os.path.isdir(self.path):  # noqa: PTH112
            raise DatabaseError(f"{self.path}: it is a folder; choose the name of a file.")
        place = self.path if os.path.exists(self.path) else self.path.parent  # noqa: PTH110
        if not os.access(self.path.parent, os.W_OK | os.X_OK) or not os.access(place, os.W_OK):
            raise DatabaseError(
                f"{self.path}: the folder {self.path.parent} does not exist or may not be written; make it, "
                "change its permissions, or choose another place."
            )

    def load(self) -> tuple[StoreHeader, Iterator[StoredKeyframes]]:
        """See KeyframeStore."""
        if not os.path.isfile(self.path):  # noqa: PTH113 - never raises
            raise DatabaseError(f"{self.path}: there is no such database file; a save makes one.")
        with self._errors("read"):
            connection = self._open_up_to_date()
            try:
                header, revision, keyframes = self._header(connection)
            except BaseException:
                connection.close()
                raise
        self._known = header.database_id, revision
        return header, self._blocks(connection, header, keyframes)

    def save(self, header: StoreHeader, changes: Changes) -> None:
        """See KeyframeStore."""
        is_new = not os.path.exists(self.path)  # noqa: PTH110 - never raises
        try:
            with (
                self._errors("write"),
                contextlib.closing(self._connect()) as connection,
                connection,
            ):
                revision = self._write(connection, header, changes)
        except BaseException:
            if is_new:  # what is left of it would be in the way
                with contextlib.suppress(OSError):
                    self._remove_if_empty()
            raise
        self._known = header.database_id, revision

    # --- Writing --------------------------------------------------------------------------------------

    def _write(self, connection: sqlite3.Connection, header: StoreHeader, changes: Changes) -> int:
        """Returns the new revision."""
        if not self._version(connection):
            connection.execute(f"PRAGMA page_size = {schema.PAGE_BYTES}")
        connection.execute("BEGIN IMMEDIATE")
        version = self._version(connection)
        if not version:
            schema.create(connection)
            known, revision, count = header, 0, 0
        else:
            self._migrate(connection, version)
            known, revision, count = self._header(connection)
            self._refuse_loss(known, revision, count, header)
        if changes.cleared or known.database_id != header.database_id:
            self._clear(connection)
            count = 0
        count -= self._remove(connection, changes)
        count += self._add(connection, header, changes)
        schema.write_header(
            connection,
            header.database_id,
            header.fingerprint,
            header.dims,
            revision + 1,
            count,
        )
        return revision + 1

    def _refuse_loss(
        self, before: StoreHeader, revision: int, count: int, header: StoreHeader
    ) -> None:
        """Raises DatabaseError if there are keyframes that this database does not know of."""
        remedy = "which would be lost; load it first to add to it, or save to another file."
        if not count and before.database_id != header.database_id:
            return
        if before.database_id != header.database_id:
            raise DatabaseError(
                f"{self.path}: holds {count} keyframes of another database (model {before.fingerprint}), "
                f"{remedy}"
            )
        if self._known != (before.database_id, revision):
            raise DatabaseError(
                f"{self.path}: holds keyframes that were saved after this database was loaded, {remedy}"
            )

    def _clear(self, connection: sqlite3.Connection) -> None:
        for table in ("session", "keyframe", "descriptor", *schema.DATA_TABLES):
            connection.execute(f"DELETE FROM {table}")

    def _remove(self, connection: sqlite3.Connection, changes: Changes) -> int:
        """Returns how many keyframes are gone."""
        gone = 0
        for keyframe in changes.removed:
            row = connection.execute(
                "SELECT keyframe.id FROM keyframe JOIN session ON session.id = keyframe.session "
                "WHERE session.uuid = ? AND keyframe.number = ?",
                keyframe.name,
            ).fetchone()
            if row is None:  # was added and removed between two saves
                continue
            connection.execute("DELETE FROM keyframe WHERE id = ?", row)
            for table in ("descriptor", *schema.DATA_TABLES):
                connection.execute(f"DELETE FROM {table} WHERE keyframe = ?", row)
            gone += 1
        return gone

    def _add(self, connection: sqlite3.Connection, header: StoreHeader, changes: Changes) -> int:
        """Returns how many keyframes have come."""
        sessions: dict[str, int] = dict(connection.execute("SELECT uuid, id FROM session"))
        (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM keyframe").fetchone()
        first = last
        for block in changes.added:
            for keyframe in block.keyframes:
                session = keyframe.session
                if session.uuid not in sessions:
                    sessions[session.uuid] = schema.insert_session(
                        connection,
                        session.uuid,
                        session.stream.robot,
                        session.stream.camera,
                        session.map,
                    )
            vectors = np.ascontiguousarray(block.descriptors, "<f4").reshape(-1, header.dims)
            schema.insert_keyframes(
                connection,
                (
                    (row, sessions[each.session.uuid], each.number, each.stamp_ns, vector.tobytes())
                    for row, (each, vector) in enumerate(
                        zip(block.keyframes, vectors, strict=True), last + 1
                    )
                ),
            )
            last += len(block.keyframes)
        return int(last - first)

    def _remove_if_empty(self) -> None:
        if self.path.stat().st_size == 0:
            self.path.unlink()
            Path(f"{self.path}-journal").unlink(missing_ok=True)

    # --- Reading --------------------------------------------------------------------------------------

    def _open_up_to_date(self) -> sqlite3.Connection:
        """A connection in the middle of reading, to a file or a copy in memory that has today's tables."""
        connection = self._connect()
        try:
            connection.execute("BEGIN")
            version = self._version(connection)
            if not version:
                raise DatabaseError(
                    f"{self.path}: holds nothing yet; its first save was cut short."
                )
            if version == schema.VERSION:
                return connection
            connection.execute("ROLLBACK")
            return self._migrated(connection, version)
        except BaseException:
            connection.close()
            raise

    def _migrated(self, connection: sqlite3.Connection, version: int) -> sqlite3.Connection:
        """In the file, or in a copy in memory where the file can't be written."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._migrate(connection, version)
        except sqlite3.OperationalError as error:
            if "readonly" not in str(error):
                raise
            connection.execute("ROLLBACK")
            copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            with contextlib.closing(connection):
                connection.backup(copy)
            connection = copy
            connection.execute("BEGIN")
            self._migrate(connection, version)
        connection.execute("COMMIT")
        connection.execute("BEGIN")
        return connection

    def _migrate(self, connection: sqlite3.Connection, version: int) -> None:
        if version == schema.VERSION:
            return
        try:
            migrations.migrate(connection, version)
        except DatabaseError as error:
            raise DatabaseError(f"{self.path}: {error}") from None

    def _header(self, connection: sqlite3.Connection) -> tuple[StoreHeader, int, int]:
        """With the revision, and how many keyframes there are."""
        row = connection.execute(
            "SELECT database_id, fingerprint, dims, revision, keyframes, crc32 FROM header"
        ).fetchone()
        if row is None or row[5] != checksum(*row[:5]) or type(row[2]) is not int or row[2] < 1:
            raise DatabaseError(f"{self.path}: the header is damaged; restore a copy of the file.")
        return StoreHeader(*row[:3]), row[3], row[4]

    def _blocks(
        self, connection: sqlite3.Connection, header: StoreHeader, count: int
    ) -> Iterator[StoredKeyframes]:
        with self._errors("read"), contextlib.closing(connection):
            sessions = self._sessions(connection)
            rows = connection.execute(
                "SELECT keyframe.id, session, number, stamp_ns, keyframe.crc32, vector, descriptor.crc32 "
                "FROM keyframe LEFT JOIN descriptor ON descriptor.keyframe = keyframe.id "
                "ORDER BY keyframe.id"
            )
            found = 0
            while block := rows.fetchmany(BLOCK_ROWS):
                keyframes, vectors = [], np.empty((len(block), header.dims), np.float32)
                for row, (
                    keyframe,
                    session,
                    number,
                    stamp_ns,
                    crc,
                    vector,
                    vector_crc,
                ) in enumerate(block):
                    if (
                        crc != checksum(keyframe, session, number, stamp_ns)
                        or not isinstance(vector, bytes)
                        or len(vector) != 4 * header.dims
                        or vector_crc != checksum(keyframe, vector)
                        or session not in sessions
                    ):
                        raise DatabaseError(
                            f"{self.path}: keyframe {number} of session {session} is damaged; restore a "
                            "copy of the file."
                        )
                    keyframes.append(Keyframe(sessions[session], number, stamp_ns))
                    vectors[row] = np.frombuffer(vector, "<f4")
                found += len(block)
                yield StoredKeyframes(keyframes, vectors)
            if found != count:
                raise DatabaseError(
                    f"{self.path}: holds {found} of {count} keyframes, so it is damaged; restore a copy of "
                    "the file."
                )

    def _sessions(self, connection: sqlite3.Connection) -> dict[int, Session]:
        """By their ids in the file."""
        sessions = {}
        for number, uuid, robot, camera, map, crc in connection.execute(
            "SELECT id, uuid, robot, camera, map, crc32 FROM session"
        ):
            if crc != checksum(uuid, robot, camera, map):
                raise DatabaseError(
                    f"{self.path}: session {number} is damaged; restore a copy of the file."
                )
            sessions[number] = Session(uuid, Stream(robot, camera), map)
        return sessions

    # --- The file -------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        # Autocommit, because transactions are begun by hand: Python's implicit ones leave out the schema. The
        # blocks of a load may be read by another thread than the one that opened the file.
        connection = sqlite3.connect(
            self.path, isolation_level=None, timeout=LOCK_TIMEOUT_S, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _version(self, connection: sqlite3.Connection) -> int:
        """0 for a file that holds nothing yet. Raises DatabaseError for a file that is not ours."""
        (application,), (version,), (tables,) = (
            connection.execute(query).fetchone()
            for query in (
                "PRAGMA application_id",
                "PRAGMA user_version",
                "SELECT count(*) FROM sqlite_master",
            )
        )
        if tables == 0:
            return 0
        if application != schema.APPLICATION_ID:
            raise DatabaseError(
                f"{self.path}: is an SQLite file of another program; choose another name."
            )
        if not 1 <= version <= schema.VERSION:
            raise DatabaseError(
                f"{self.path}: has format {version}, this version reads 1 to {schema.VERSION}; update the "
                "package."
            )
        return int(version)

    @contextlib.contextmanager
    def _errors(self, purpose: str) -> Iterator[None]:
        """SQLite's errors become DatabaseErrors that say what to do."""
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError, MemoryError, OverflowError) as error:
            raise DatabaseError(
                f"{self.path}: can't {purpose} the database: {self._advice(error)}"
            ) from None

    def _advice(self, error: Exception) -> str:
        text = str(error)
        if os.path.isdir(self.path):  # noqa: PTH112 - never raises
            return "it is a folder; choose the name of a file."
        if "unable to open" in text:
            return f"the folder {self.path.parent} does not exist or may not be written."
        return next((advice for words, advice in _ADVICE.items() if words in text), f"{text}.")


# What is in SQLite's message, and what to tell the user then.
_ADVICE = {
    "full": "the disk is full; make room and save again, nothing that was saved before is lost.",
    "disk I/O": "the disk refused, for a quota or a fault; nothing that was saved before is lost.",
    "locked": "another process is writing it; give each database node a file of its own.",
    "readonly": "the file may not be written; change its permissions or choose another name.",
    "not a database": "the file is something else; choose another name.",
    "malformed": "the file is damaged; restore a copy of it.",
    "decode": "the file is damaged; restore a copy of it.",
    "no such": "the file is damaged; restore a copy of it.",
}
