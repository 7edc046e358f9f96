# SPDX-License-Identifier: MIT
"""Kills a process while it saves keyframes, again and again, and looks at what its file holds then.

    kill_while_saving.py FILE ROUNDS

A program of its own because it forks: loading the libraries anew for each round would take minutes.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from netvlad_ros.config import Config, DatabaseConfig, KeyframeConfig
from netvlad_ros.errors import DatabaseError
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.store.sqlite_store import SqliteStore

DIMS = 512
ROUNDS_PER_FILE = 10
EVERY_IMAGE = Config(
    keyframes=KeyframeConfig(min_interval_s=0.0, min_descriptor_change=0.0),
    database=DatabaseConfig(exclude_recent_s=0.0),
)


def descriptor(number: int) -> np.ndarray:
    """The same vector for the same number."""
    row = np.random.default_rng(number).standard_normal(DIMS).astype(np.float32)
    return row / np.linalg.norm(row)


def load(store: SqliteStore) -> KeyframeDatabase:
    """What was saved; empty if nothing was."""
    try:
        return KeyframeDatabase.load(store, EVERY_IMAGE)
    except DatabaseError as error:
        if store.path.exists() and "holds nothing yet" not in str(error):
            raise
        return KeyframeDatabase(EVERY_IMAGE)


def add_and_save_for_ever(path: Path, acknowledge: int) -> None:
    """Writes the number of keyframes to a pipe after each save."""
    store = SqliteStore(path)
    database = load(store)
    while True:
        for number in range(len(database), len(database) + 1 + len(database) % 4):
            database.observe(descriptor(number), (1 + number) * 10**9, "model")
        database.save(store)
        os.write(acknowledge, f"{len(database)}\n".encode())


def killed(path: Path, after_s: float) -> int:
    """How many keyframes a process was told are saved until it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            add_and_save_for_ever(path, writing)
        finally:
            os._exit(1)
    os.close(writing)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "ended by itself"
    with os.fdopen(reading) as pipe:
        acknowledged = [line for line in pipe if line.endswith("\n")]
    return int(acknowledged[-1]) if acknowledged else 0


def main(path: Path, rounds: int) -> None:
    rng = random.Random(1)
    saved = 0
    for number in range(rounds):
        if number % ROUNDS_PER_FILE == 0:
            path.unlink(missing_ok=True)
            saved = 0
        saved = max(saved, killed(path, after_s=rng.uniform(0.0, 0.1)))
        interrupted = Path(f"{path}-journal").exists()
        database = load(SqliteStore(path))
        assert len(database) >= saved, f"{saved} keyframes were saved, {len(database)} are left"
        index = database._index
        assert index is not None or not len(database)
        for position, keyframe in enumerate(database.keyframes):
            assert keyframe.stamp_ns == (1 + position) * 10**9
            assert index is not None
            assert np.array_equal(index.vectors(np.array([position]))[0], descriptor(position))
        saved = len(database)
        line = json.dumps({"keyframes": saved, "in the middle of a save": interrupted})
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
