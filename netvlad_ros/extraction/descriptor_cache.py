# SPDX-License-Identifier: MIT
"""Descriptors of image files that were computed before, in an SQLite file that may be deleted at any time."""

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

# Part of the file's name: changes when older files could be misread, or images become other pixels.
FORMAT_VERSION = 2
# What is lost when the process is killed.
WRITE_EVERY_S = 2.0
# For another search in the same gallery.
LOCK_TIMEOUT_S = 5.0
# How far from length one a descriptor may be before its bytes must be damaged.
LENGTH_TOLERANCE = 1e-3

_SCHEMA = """CREATE TABLE IF NOT EXISTS descriptor (
    name TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, content BLOB NOT NULL
)"""


class DescriptorCache:
    """Descriptors of one fingerprint by image file; a file that changed since counts as another one.

    A cache that can't be read or written is no error: it finds nothing, keeps nothing and says why.

    problem: why nothing is kept any more, else empty.
    """

    def __init__(self, folder: Path | None, gallery: Path, fingerprint: str, dims: int) -> None:
        """The cache of a gallery, a folder of images, among the caches in a folder; None keeps nothing."""
        self.problem = ""
        self._dims = dims
        self._pending: list[tuple[str, int, int, bytes]] = []
        self._written_s = time.monotonic()
        self._connection: sqlite3.Connection | None = None
        if folder is None:
            return
        gallery = gallery.resolve()
        key = f"{FORMAT_VERSION} {fingerprint} {gallery}"
        digest = hashlib.sha256(os.fsencode(key)).hexdigest()[:16]
        self.path = folder / f"gallery-{gallery.name or 'root'}-{digest}.sqlite"
        with self._noting():
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = _opened(self.path)

    def find(self, name: str, file: Path) -> np.ndarray | None:
        """The descriptor of an image file, float32 (dims,), if it is there and the file is as it was."""
        row = None
        with self._noting(), contextlib.suppress(FileNotFoundError):
            if self._connection is not None:
                row = self._connection.execute(
                    "SELECT content FROM descriptor WHERE name = ? AND size = ? AND mtime_ns = ?",
                    (name, *_state(file)),
                ).fetchone()
        return None if row is None else self._descriptor(row[0])

    def keep(self, name: str, file: Path, descriptor: np.ndarray) -> None:
        """Adds a descriptor; it is written together with others, a few seconds later at most."""
        if self._connection is None:
            return
        with self._noting(), contextlib.suppress(FileNotFoundError):
            content = descriptor.astype("<f4").tobytes()
            self._pending.append((name, *_state(file), content))
        if time.monotonic() - self._written_s > WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        """Writes what was added."""
        self._written_s = time.monotonic()
        with self._noting():
            if self._connection is not None and self._pending:
                with self._connection:
                    self._connection.executemany(
                        "INSERT OR REPLACE INTO descriptor VALUES (?, ?, ?, ?)", self._pending
                    )
        self._pending.clear()

    def forget_all_but(self, names: Iterable[str]) -> None:
        """Removes the descriptors of images that are gone."""
        with self._noting():
            if self._connection is not None:
                stored = {row[0] for row in self._connection.execute("SELECT name FROM descriptor")}
                gone = stored - set(names)
                with self._connection:
                    self._connection.executemany(
                        "DELETE FROM descriptor WHERE name = ?", ((name,) for name in gone)
                    )

    def close(self) -> None:
        """Writes what was added and lets go of the file."""
        self.write()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> "DescriptorCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """Turns what goes wrong with the file into our problem, after which it is not used any more."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            self.problem = f"{self.path}: descriptors are not kept for the next time ({reason})."
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _descriptor(self, content: bytes) -> np.ndarray | None:
        if not isinstance(content, bytes) or len(content) != 4 * self._dims:
            return None
        descriptor = np.frombuffer(content, "<f4").astype(np.float32)
        length = float(np.linalg.norm(descriptor))
        return descriptor if abs(length - 1.0) < LENGTH_TOLERANCE else None


def _opened(path: Path) -> sqlite3.Connection:
    """The file at this path; one that is damaged is started anew, as everything in it can be."""
    try:
        return _connected(path)
    except sqlite3.OperationalError:  # locked, read-only, full: the file may be fine
        raise
    except sqlite3.DatabaseError:
        path.unlink()
        return _connected(path)


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=LOCK_TIMEOUT_S)
    try:
        with connection:
            connection.execute(_SCHEMA)
        if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("damaged")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _state(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns
