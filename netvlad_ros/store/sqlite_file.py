# SPDX-License-Identifier: MIT
"""An SQLite file of ours: opened, told from those of others, its errors as sentences that say what to do."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from netvlad_ros.errors import DatabaseError
from netvlad_ros.store import schema
from netvlad_ros.store.migrations import VERSION

# How long to wait for another process that has the file open; a robot has no more time than that.
LOCK_TIMEOUT_S = 1.0
# For a file that is only read here, while another process maps: it writes for longer at times.
READ_LOCK_TIMEOUT_S = 5.0


def refuse_place(path: Path) -> None:
    """Raises DatabaseError if no new file could be written here; makes none."""
    refuse_other_than_file(path)
    folder = path.parent
    # os.path, because unlike Path's methods it never raises.
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):  # noqa: PTH112
        raise DatabaseError(
            f"{path}: the folder {folder} does not exist or may not be written; make it, change its "
            "permissions, or choose another place."
        )


def refuse_other_than_file(path: Path) -> None:
    """Raises DatabaseError for a folder or a device, and for a name that no file can have."""
    if os.path.isdir(path):  # noqa: PTH112
        raise DatabaseError(f"{path}: it is a folder; choose the name of a file.")
    is_other = os.path.exists(path) and not os.path.isfile(path)  # noqa: PTH110, PTH113
    if is_other or "\0" in str(path):
        raise DatabaseError(f"{path}: it is something else than a file; choose another name.")


def connect(path: Path, read_only: bool = False) -> sqlite3.Connection:
    """read_only: nothing is written whatever is asked for. Raises sqlite3.Error."""
    # Absolute, as ":memory:" would be no file. Autocommit, because transactions are begun by hand: Python's
    # implicit ones leave out the schema. Blocks may be read by another thread than the one that opened it.
    file = os.path.abspath(path)  # noqa: PTH100 - as the others
    connection = sqlite3.connect(
        f"file:{quote(file)}?mode=ro" if read_only else file,
        uri=read_only,
        isolation_level=None,
        timeout=READ_LOCK_TIMEOUT_S if read_only else LOCK_TIMEOUT_S,
        check_same_thread=False,
    )
    try:
        # EXTRA: what was said to be saved is there after a power cut too, which with FULL may undo it.
        connection.execute("PRAGMA synchronous = EXTRA")
        # A file of somebody else must not make SQLite call functions, and damage is looked for in each page.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def version(path: Path, connection: sqlite3.Connection) -> int:
    """0 for a file that holds nothing yet. Raises DatabaseError for a file that is not ours."""
    application, found, tables = (
        connection.execute(query).fetchone()[0]
        for query in (
            "PRAGMA application_id",
            "PRAGMA user_version",
            "SELECT count(*) FROM sqlite_master",
        )
    )
    if tables == 0:
        return 0
    if application != schema.APPLICATION_ID:
        raise DatabaseError(f"{path}: is an SQLite file of another program; choose another name.")
    if not 1 <= found <= VERSION:
        raise DatabaseError(
            f"{path}: has format {found}, this version reads 1 to {VERSION}; update the package."
        )
    if found == VERSION and not schema.is_intact(connection):
        raise DatabaseError(
            f"{path}: its tables are not those of format {found}; restore a copy of the file."
        )
    return int(found)


@contextlib.contextmanager
def errors(path: Path, purpose: str) -> Iterator[None]:
    """SQLite's errors become DatabaseErrors that say what to do."""
    try:
        yield
    except (sqlite3.Error, UnicodeError, MemoryError, OverflowError) as error:
        advice = next((each for words, each in _ADVICE.items() if words in str(error)), f"{error}.")
        if "unable to open" in str(error):
            advice = f"the folder {path.parent} does not exist or may not be written."
            if os.path.exists(path):  # noqa: PTH110 - never raises
                advice = "the file may not be read; change its permissions or choose another name."
        if "readonly" in str(error) and purpose == "read":
            advice = (
                "its last save was cut short, which has to be undone first; copy it and the journal beside "
                "it to where they may be written."
            )
        raise DatabaseError(f"{path}: can't {purpose} the database: {advice}") from None


_DAMAGED = "the file is damaged; restore a copy of it."
# What is in SQLite's message, and what to tell the user then.
_ADVICE = {
    "full": "the disk is full; make room and save again, nothing that was saved before is lost.",
    "disk I/O": "the disk refused, for a quota or a fault; nothing that was saved before is lost.",
    "locked": "another process is writing it; give each database node a file of its own.",
    "readonly": "the file may not be written; change its permissions or choose another name.",
    "not a database": "the file is something else; choose another name.",
    "malformed": _DAMAGED,
    "decode": _DAMAGED,
    "no such": _DAMAGED,
}
