# SPDX-License-Identifier: MIT
"""Keyframes in one SQLite file, written in transactions that survive being killed at any moment."""

import contextlib
import logging
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from netvlad_ros.errors import DatabaseError
from netvlad_ros.image_data import NOTHING_KNOWN, CorrectedPose, ImageData
from netvlad_ros.keyframe import Keyframe, Session, Stream, shown_name
from netvlad_ros.store import migrations, schema, sqlite_file
from netvlad_ros.store.keyframe_data import CORRECTED_POSE, ODOMETRY, PARTS, Table, parts_of
from netvlad_ros.store.keyframe_store import Changes, StoredKeyframes, StoreHeader
from netvlad_ros.store.schema import checksum

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Keyframes are read so many at a time, or fewer if their descriptors take more than this.
BLOCK_ROWS = 4096
BLOCK_BYTES = 16 << 20
# With local features, of which SIFT's take half a megabyte a keyframe.
BLOCK_ROWS_WITH_FEATURES = 64


class SqliteStore:
    """A KeyframeStore in a file, of this version or an earlier one, which is then brought up to date.

    The file has no companions but while it is written (a rollback journal, not a write-ahead log), so that it
    can be copied, and opened where nothing can be written.
    """

    def __init__(self, path: str | Path, read_only: bool = False) -> None:
        """read_only: reading leaves the file as it is, which an older format otherwise does not."""
        self.path = Path(path)
        self.read_only = read_only
        # database_id and revision of what was loaded or saved last.
        self._known: tuple[str, int] | None = None

    def check(self) -> None:
        """See KeyframeStore."""
        if not self.holds_anything():
            if self.read_only:
                self._refuse_absence()
            sqlite_file.refuse_place(self.path)
            return
        with self._connection("read") as connection:
            sqlite_file.version(self.path, connection)

    def holds_anything(self) -> bool:
        """Whether there is a file with something in it, whatever that is."""
        try:
            found = self.path.stat()
        except (OSError, ValueError):
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size > 0

    def format_version(self) -> int:
        """Of the file as it is. Raises DatabaseError for one that is not ours, or of a later version."""
        self._refuse_absence()
        with self._connection("read") as connection:
            return self._version(connection)

    def header(self) -> StoreHeader:
        """What all keyframes share. Raises DatabaseError."""
        with self._reading() as connection:
            return self._header(connection)[0]

    def count(self) -> int:
        """How many keyframes there are. Raises DatabaseError."""
        with self._reading() as connection:
            return self._header(connection)[2]

    def holds_last_save(self) -> bool:
        """See KeyframeStore."""
        return self._known is not None and self.holds_anything()

    def load(self, everything: bool = False) -> tuple[StoreHeader, Iterator[StoredKeyframes]]:
        """See KeyframeStore. Until the last block was read, nobody can write to the file.

        everything: all that is known comes along, not only odometry.
        """
        with sqlite_file.errors(self.path, "read"):
            connection = self._open_up_to_date()
            try:
                header, revision, keyframes = self._header(connection)
            except BaseException:
                connection.close()
                raise
        self._known = header.database_id, revision
        return header, self._blocks(connection, header, keyframes, everything)

    def save(self, header: StoreHeader, changes: Changes) -> None:
        """See KeyframeStore."""
        sqlite_file.refuse_other_than_file(self.path)
        with (
            self._nothing_left_behind(),
            self._connection("write") as connection,
            connection,
        ):
            revision = self._write(connection, header, changes)
        self._known = header.database_id, revision

    def read(self, table: Table[T], names: Iterable[tuple[str, int]]) -> dict[tuple[str, int], T]:
        """What is stored of these keyframes, by their names; those of which nothing is are left out.

        Reads neither descriptors nor other tables. Raises DatabaseError.
        """
        found = {}
        with self._reading() as connection:
            sessions = self._session_ids(connection)
            for name in names:
                keyframe = self._find(connection, sessions, name)
                value = self._read(connection, table, name, keyframe)
                if value is not None:
                    found[name] = value
        return found

    def read_data(self, name: tuple[str, int]) -> ImageData:
        """See KeyframeStore."""
        with self._reading() as connection:
            keyframe = self._find(connection, self._session_ids(connection), name)
            found = {
                part: self._read(connection, table, name, keyframe) for part, table in PARTS.items()
            }
        is_known = any(each is not None for each in found.values())
        return ImageData(**found) if is_known else NOTHING_KNOWN

    def write(self, table: Table[T], values: Mapping[tuple[str, int], T]) -> None:
        """Keeps this of keyframes that are stored already, in place of what was known before; all or nothing.

        Raises DatabaseError; ValueError if an array has the wrong shape.
        """
        self._refuse_absence()
        with self._connection("write") as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            self._bring_up_to_date(connection, self._version(connection))
            sessions = self._session_ids(connection)
            for name, value in values.items():
                keyframe = self._find(connection, sessions, name)
                if keyframe is None:
                    raise DatabaseError(
                        f"{self.path}: holds no keyframe {shown_name(name)}; save the keyframe first."
                    )
                _keep(connection, table, keyframe, value)

    # --- Writing --------------------------------------------------------------------------------------

    def _write(self, connection: sqlite3.Connection, header: StoreHeader, changes: Changes) -> int:
        """Returns the new revision."""
        if not sqlite_file.version(self.path, connection):
            connection.execute(f"PRAGMA page_size = {schema.PAGE_BYTES}")
        connection.execute("BEGIN IMMEDIATE")
        version = sqlite_file.version(self.path, connection)
        if version:
            self._bring_up_to_date(connection, version)
            known, revision, count = self._header(connection)
            self._refuse_loss(known, revision, count, header)
        elif self._known is not None and not changes.cleared:
            raise DatabaseError(
                f"{self.path}: the file was removed or emptied by somebody else; save all keyframes, or "
                "to another file."
            )
        else:
            schema.create(connection)
            migrations.migrate(connection, migrations.CREATED_VERSION)
            known, revision, count = header, 0, 0
        if changes.cleared or known.database_id != header.database_id:
            for each in ("session", "keyframe", *schema.OF_KEYFRAMES):
                connection.execute(f"DELETE FROM {each}")
            count = 0
        sessions = self._session_ids(connection)
        for keyframe in changes.removed:
            count -= self._remove(connection, sessions, keyframe.name)
        for block in changes.added:
            self._insert(connection, sessions, header.dims, block)
            count += len(block.keyframes)
        self._correct(connection, changes.corrected)
        schema.write_header(connection, header, revision + 1, count)
        return revision + 1

    def _correct(
        self, connection: sqlite3.Connection, corrected: Mapping[tuple[str, int], CorrectedPose]
    ) -> None:
        sessions = self._session_ids(connection)
        for name, pose in corrected.items():
            keyframe = self._find(connection, sessions, name)
            if keyframe is not None:
                _keep(connection, CORRECTED_POSE, keyframe, pose)

    def _insert(
        self,
        connection: sqlite3.Connection,
        sessions: dict[str, int],
        dims: int,
        block: StoredKeyframes,
    ) -> None:
        vectors = np.ascontiguousarray(block.descriptors, "<f4").reshape(-1, dims)
        contents = (vector.tobytes() for vector in vectors)
        rows = zip(block.keyframes, contents, strict=True)
        ids = schema.insert_keyframes(connection, sessions, rows)
        for name, data in block.data:
            for table, value in parts_of(data):
                _keep(connection, table, ids[name], value)

    def _refuse_loss(
        self, before: StoreHeader, revision: int, count: int, header: StoreHeader
    ) -> None:
        """Raises DatabaseError if there are keyframes that this database does not know of."""
        remedy = "which would be lost; load it first to add to it, or save to another file."
        if before.database_id != header.database_id:
            if count:
                raise DatabaseError(
                    f"{self.path}: holds {count} keyframes of another database (model "
                    f"{before.fingerprint}), {remedy}"
                )
        elif self._known != (before.database_id, revision):
            raise DatabaseError(
                f"{self.path}: holds keyframes that were saved after this database was loaded, {remedy}"
            )

    def _remove(
        self, connection: sqlite3.Connection, sessions: dict[str, int], name: tuple[str, int]
    ) -> bool:
        """Whether it was there."""
        keyframe = self._find(connection, sessions, name)
        if keyframe is None:
            return False
        connection.execute("DELETE FROM keyframe WHERE id = ?", (keyframe,))
        for table in schema.OF_KEYFRAMES:
            connection.execute(f"DELETE FROM {table} WHERE keyframe = ?", (keyframe,))
        return True

    @contextlib.contextmanager
    def _nothing_left_behind(self) -> Iterator[None]:
        """Removes the empty file that a failed first save leaves, which would look like a damaged one."""
        is_new = not os.path.exists(self.path)  # noqa: PTH110 - never raises
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                # With a journal, another process is in the middle of its first save.
                in_use = Path(f"{self.path}-journal").exists()
                if is_new and not in_use and self.path.stat().st_size == 0:
                    self.path.unlink()
            raise

    # --- Reading --------------------------------------------------------------------------------------

    def _open_up_to_date(self) -> sqlite3.Connection:
        """A connection in the middle of reading, to a file or a copy in memory that has today's tables."""
        self._refuse_absence()
        connection = sqlite_file.connect(self.path, self.read_only)
        try:
            connection.execute("BEGIN")
            version = self._version(connection)
            if version < migrations.VERSION:
                connection.execute("ROLLBACK")
                logger.info("%s: has format %d and is brought up to date", self.path, version)
                connection = self._migrated(connection)
                connection.execute("BEGIN")
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrated(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        """In the file, or in a copy in memory where the file can't be written."""
        try:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                self._bring_up_to_date(connection, self._version(connection))
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise
            copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            with contextlib.closing(connection):
                connection.backup(copy)
            copy.execute("BEGIN")
            self._bring_up_to_date(copy, self._version(copy))
            copy.execute("COMMIT")
            return copy
        # Without the pages of the old tables, and with those of today's size; it does without, too.
        with contextlib.suppress(sqlite3.Error):
            connection.execute(f"PRAGMA page_size = {schema.PAGE_BYTES}")
            connection.execute("VACUUM")
        return connection

    def _bring_up_to_date(self, connection: sqlite3.Connection, version: int) -> None:
        if version == migrations.VERSION:
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
        if (
            row is None
            or [type(each) for each in row] != [str, str, int, int, int, int]
            or row[5] != checksum(*row[:5])
            or row[2] < 1
        ):
            raise DatabaseError(f"{self.path}: the header is damaged; restore a copy of the file.")
        return StoreHeader(*row[:3]), row[3], row[4]

    def _blocks(
        self, connection: sqlite3.Connection, header: StoreHeader, count: int, everything: bool
    ) -> Iterator[StoredKeyframes]:
        with sqlite_file.errors(self.path, "read"), contextlib.closing(connection):
            sessions = self._sessions(connection)
            rows = connection.execute(
                "SELECT keyframe.id, session, number, stamp_ns, external_id, keyframe.crc32, vector, "
                "descriptor.crc32 "
                "FROM keyframe LEFT JOIN descriptor ON descriptor.keyframe = keyframe.id "
                "ORDER BY keyframe.id"
            )
            found = 0
            parts = PARTS if everything else {"odometry": ODOMETRY}
            rows_at_once = BLOCK_ROWS_WITH_FEATURES if everything else BLOCK_ROWS
            at_once = max(1, min(rows_at_once, BLOCK_BYTES // (4 * header.dims)))
            while block := rows.fetchmany(at_once):
                keyframes = [self._keyframe(row, sessions, header.dims) for row in block]
                ids = {row[0]: each for row, each in zip(block, keyframes, strict=True)}
                vectors = np.frombuffer(b"".join(row[6] for row in block), "<f4")
                found += len(block)
                yield StoredKeyframes(
                    keyframes,
                    vectors.astype(np.float32, copy=False).reshape(-1, header.dims),
                    list(self._data(connection, ids, parts)),
                )
            if found != count:
                raise DatabaseError(
                    f"{self.path}: holds {found} of {count} keyframes, so it is damaged; restore a copy of "
                    "the file."
                )

    def _keyframe(self, row: tuple[Any, ...], sessions: dict[int, Session], dims: int) -> Keyframe:
        """Raises DatabaseError if anything in the row, or its vector, is not what was saved."""
        keyframe, session, number, stamp_ns, external_id, crc, vector, vector_crc = row
        if (
            crc == checksum(keyframe, session, number, stamp_ns, external_id)
            and isinstance(vector, bytes)
            and len(vector) == 4 * dims
            and vector_crc == checksum(keyframe, vector)
            and session in sessions
            and type(number) is int
            and type(stamp_ns) is int
            and type(external_id) is int
        ):
            return Keyframe(sessions[session], number, stamp_ns, external_id)
        uuid = sessions[session].uuid if session in sessions else str(session)
        raise DatabaseError(
            f"{self.path}: keyframe {shown_name((uuid, number))} is damaged; restore a copy of the file."
        )

    def _data(
        self,
        connection: sqlite3.Connection,
        keyframes: Mapping[int, Keyframe],
        parts: Mapping[str, Table[Any]],
    ) -> Iterator[tuple[tuple[str, int], ImageData]]:
        """keyframes: a run of them, by their ids in the file."""
        found: dict[int, dict[str, Any]] = {}
        for part, table in parts.items():
            query = (
                f"SELECT {_selected(table, 'keyframe')} FROM {table.name} "
                "WHERE keyframe BETWEEN ? AND ?"
            )
            for keyframe, *row in connection.execute(query, (min(keyframes), max(keyframes))):
                if keyframe in keyframes:
                    value = self._value(table, keyframes[keyframe].name, (keyframe, *row))
                    found.setdefault(keyframe, {})[part] = value
        for keyframe, known in found.items():
            yield keyframes[keyframe].name, ImageData(**known)

    def _read(
        self,
        connection: sqlite3.Connection,
        table: Table[T],
        name: tuple[str, int],
        keyframe: int | None,
    ) -> T | None:
        query = f"SELECT {_selected(table)} FROM {table.name} WHERE keyframe = ?"
        row = connection.execute(query, (keyframe,)).fetchone()
        return None if row is None else self._value(table, name, (keyframe, *row))

    def _sessions(self, connection: sqlite3.Connection) -> dict[int, Session]:
        """By their ids in the file."""
        sessions: dict[int, Session] = {}
        for *row, crc in connection.execute(
            "SELECT id, uuid, robot, camera, map, crc32 FROM session"
        ):
            if [type(each) for each in row] != [int, str, str, str, str] or crc != checksum(*row):
                raise DatabaseError(
                    f"{self.path}: session {row[0]} is damaged; restore a copy of the file."
                )
            number, uuid, robot, camera, map = row
            sessions[number] = Session(uuid, Stream(robot, camera), map)
        return sessions

    def _session_ids(self, connection: sqlite3.Connection) -> dict[str, int]:
        """By UUID."""
        return {session.uuid: number for number, session in self._sessions(connection).items()}

    def _find(
        self, connection: sqlite3.Connection, sessions: dict[str, int], name: tuple[str, int]
    ) -> int | None:
        """The id of a keyframe; None if it is not there. What leads to it may be damaged itself."""
        session, number = sessions.get(name[0]), name[1]
        row = connection.execute(
            "SELECT id, stamp_ns, external_id, crc32 FROM keyframe WHERE session = ? AND number = ?",
            (session, number),
        ).fetchone()
        if row is None:
            return None
        keyframe, stamp_ns, external_id, crc = row
        if crc != checksum(keyframe, session, number, stamp_ns, external_id):
            raise DatabaseError(
                f"{self.path}: keyframe {shown_name(name)} is damaged; restore a copy of the file."
            )
        return int(keyframe)

    def _value(self, table: Table[T], name: tuple[str, int], row: tuple[object, ...]) -> T:
        *content, crc = row
        is_whole = crc == checksum(*content) and all(
            isinstance(each, types)
            for each, types in zip(content[1:], table.columns.values(), strict=True)
        )
        with contextlib.suppress(ValueError):
            if is_whole:
                return table.from_row(content[1:])
        raise DatabaseError(
            f"{self.path}: {table.name} of keyframe {shown_name(name)} is damaged; restore a copy of the "
            "file."
        )

    # --- The file -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with (
            sqlite_file.errors(self.path, "read"),
            contextlib.closing(self._open_up_to_date()) as connection,
        ):
            yield connection

    def _refuse_absence(self) -> None:
        if not os.path.isfile(self.path):  # noqa: PTH113 - never raises
            advice = "choose the file of a map" if self.read_only else "a save makes one"
            raise DatabaseError(f"{self.path}: there is no such database file; {advice}.")

    def _version(self, connection: sqlite3.Connection) -> int:
        version = sqlite_file.version(self.path, connection)
        if not version:
            raise DatabaseError(f"{self.path}: holds nothing yet; its first save was cut short.")
        return version

    @contextlib.contextmanager
    def _connection(self, purpose: str) -> Iterator[sqlite3.Connection]:
        read_only = self.read_only and purpose == "read"
        with (
            sqlite_file.errors(self.path, purpose),
            contextlib.closing(sqlite_file.connect(self.path, read_only)) as connection,
        ):
            yield connection


def _selected(table: Table[Any], *more: str) -> str:
    return ", ".join((*more, *table.columns, "crc32"))


def _keep(connection: sqlite3.Connection, table: Table[T], keyframe: int, value: T) -> None:
    """In place of what was known before. Raises ValueError if an array has the wrong shape."""
    row = (keyframe, *table.to_row(value))
    columns = f"keyframe, {_selected(table)}"
    connection.execute(
        f"INSERT OR REPLACE INTO {table.name} ({columns}) VALUES ({', '.join('?' * (len(row) + 1))})",
        (*row, checksum(*row)),
    )
