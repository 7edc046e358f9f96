# SPDX-License-Identifier: MIT
"""Saving to and loading from a database file at growing sizes, with and without waiting for the disk."""

import argparse
import itertools
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmark.tables import console, interleaved_medians_ms, print_table
from netvlad_ros.keyframe import Keyframe, Session
from netvlad_ros.store import sqlite_file
from netvlad_ros.store.keyframe_store import Changes, StoredKeyframes, StoreHeader
from netvlad_ros.store.sqlite_store import SqliteStore

SIZES = (1_000, 10_000, 100_000)
DIMENSIONS = 640
NEW = 10
BLOCK_ROWS = 4096


def measure(arguments: argparse.Namespace) -> None:
    """In the folder of --scratch: how long a save waits depends on the disk."""
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        rows = [_row(Path(folder) / f"{size}.db", size) for size in SIZES]
    header = [
        "keyframes",
        "MB",
        "first save s",
        f"save of {NEW} ms",
        "without the disk ms",
        "load s",
    ]
    print_table(f"A database file, {DIMENSIONS} dimensions", header, rows)


def _row(path: Path, size: int) -> list[Any]:
    header, session = StoreHeader("b" * 32, "benchmark", DIMENSIONS), Session.new()
    rng, numbers = np.random.default_rng(0), itertools.count()

    def blocks(count: int) -> Iterator[StoredKeyframes]:
        for start in range(0, count, BLOCK_ROWS):
            rows = min(BLOCK_ROWS, count - start)
            keyframes = [Keyframe(session, next(numbers), 0) for _ in range(rows)]
            yield StoredKeyframes(keyframes, rng.random((rows, DIMENSIONS), np.float32))

    store = SqliteStore(path)
    start = time.perf_counter()
    store.save(header, Changes(False, [], blocks(size)))
    first_s = time.perf_counter() - start
    megabytes = path.stat().st_size / 1e6

    def save() -> None:
        store.save(header, Changes(False, [], blocks(NEW)))

    def save_without_disk() -> None:
        with mock.patch.object(sqlite_file, "connect", _connect_without_disk):
            save()

    def load() -> None:
        for _ in SqliteStore(path).load()[1]:
            pass

    saves = interleaved_medians_ms({"disk": save, "none": save_without_disk}, repeats=20)
    load_ms = interleaved_medians_ms({"load": load}, repeats=3)["load"]
    console.print(f"[dim]  {size} keyframes: done[/dim]")
    return [size, megabytes, first_s, saves["disk"], saves["none"], load_ms / 1e3]


def _connect_without_disk(path: Path, connect: Any = sqlite_file.connect) -> sqlite3.Connection:
    """What remains is the work: nothing is lost unless the power is cut."""
    connection: sqlite3.Connection = connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    return connection
