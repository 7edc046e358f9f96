# SPDX-License-Identifier: MIT
"""Saving to and loading from a database file at growing sizes, with and without waiting for the disk."""

import argparse
import collections
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
from netvlad_ros.image_data import NOTHING_KNOWN, CameraModel, ImageData, LocalFeatures, Pose
from netvlad_ros.keyframe import Keyframe, Session
from netvlad_ros.store import sqlite_file
from netvlad_ros.store.keyframe_store import Changes, StoredKeyframes, StoreHeader
from netvlad_ros.store.sqlite_store import SqliteStore

# Keyframes, and local features of each.
SIZES = ((1_000, 0), (10_000, 0), (100_000, 0), (1_000, 1000), (10_000, 1000))
DIMENSIONS = 640
NEW = 10
BLOCK_ROWS = 4096


def measure(arguments: argparse.Namespace) -> None:
    """In the folder of --scratch: how long a save waits depends on the disk."""
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        rows = [_row(Path(folder) / "map.db", *size) for size in SIZES]
    header = [
        "keyframes",
        "features of each",
        "MB",
        "first save s",
        f"save of {NEW} ms",
        "without the disk ms",
        "load s",
        "features of 5 ms",
    ]
    print_table(f"A database file, {DIMENSIONS} dimensions", header, rows)


def _row(path: Path, size: int, features: int) -> list[Any]:
    path.unlink(missing_ok=True)
    header, session = StoreHeader("b" * 32, "benchmark", DIMENSIONS), Session.new()
    rng, numbers = np.random.default_rng(0), itertools.count()
    known = _known(rng, features)

    def blocks(count: int) -> Iterator[StoredKeyframes]:
        for start in range(0, count, BLOCK_ROWS):
            rows = min(BLOCK_ROWS, count - start)
            keyframes = [Keyframe(session, next(numbers), 0) for _ in range(rows)]
            yield StoredKeyframes(
                keyframes,
                rng.random((rows, DIMENSIONS), np.float32),
                ((each.name, known) for each in keyframes),
            )

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
        collections.deque(SqliteStore(path).load()[1], maxlen=0)

    def read() -> None:
        for number in rng.integers(size, size=5).tolist():
            store.read_data((session.uuid, number))

    saves = interleaved_medians_ms({"disk": save, "none": save_without_disk}, repeats=20)
    load_ms = interleaved_medians_ms({"load": load}, repeats=3)["load"]
    read_ms = interleaved_medians_ms({"read": read}, repeats=20)["read"]
    console.print(f"[dim]  {size} keyframes with {features} features: done[/dim]")
    return [
        size,
        features,
        megabytes,
        first_s,
        saves["disk"],
        saves["none"],
        load_ms / 1e3,
        read_ms,
    ]


def _known(rng: np.random.Generator, features: int) -> ImageData:
    """As ORB gives it, with a camera and odometry; nothing if there are no features."""
    if not features:
        return NOTHING_KNOWN
    points = LocalFeatures(
        "orb",
        rng.random((features, 2), np.float32),
        rng.integers(256, size=(features, 32), dtype=np.uint8),
        rng.random((features, 3), np.float32),
        "depth",
    )
    camera = CameraModel(640, 480, "plumb_bob", np.eye(3), np.zeros(5))
    odometry = Pose("odom", "base_link", np.zeros(3), np.array([0.0, 0, 0, 1]), np.eye(6))
    return ImageData(points, camera, odometry)


def _connect_without_disk(path: Path, connect: Any = sqlite_file.connect) -> sqlite3.Connection:
    """What remains is the work: nothing is lost unless the power is cut."""
    connection: sqlite3.Connection = connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    return connection
