# SPDX-License-Identifier: MIT
"""Kills a process while it saves keyframes, again and again, and looks at what its file holds then.

    kill_while_saving.py FILE ROUNDS

A program of its own because it forks: loading the libraries anew for each round would take minutes.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np

from netvlad_ros.errors import DatabaseError
from netvlad_ros.image_data import ImageData, LocalFeatures
from netvlad_ros.keyframe import Keyframe, Session
from netvlad_ros.store.keyframe_store import Changes, StoredKeyframes, StoreHeader
from netvlad_ros.store.sqlite_store import SqliteStore

HEADER = StoreHeader("d" * 32, "model", 512)
SESSION = Session("5" * 32)
ROUNDS_PER_FILE = 10


def keyframe(number: int) -> Keyframe:
    return Keyframe(SESSION, number, number * 10**9)


def descriptor(number: int) -> np.ndarray:
    """The same vector for the same number."""
    return np.random.default_rng(number).standard_normal(HEADER.dims).astype(np.float32)


def known(number: int) -> ImageData:
    """Features that take more than a page."""
    points = np.full((300, 2), number, np.float32)
    return ImageData(LocalFeatures("orb", points, np.full((300, 32), number % 256, np.uint8)))


def load(store: SqliteStore) -> int:
    """How many keyframes there are, if they are the first ones that were saved."""
    try:
        _, blocks = store.load()
    except DatabaseError as error:
        if store.path.exists() and "holds nothing yet" not in str(error):
            raise
        return 0
    count = 0
    for block in blocks:
        for each, row in zip(block.keyframes, block.descriptors, strict=True):
            assert each == keyframe(count)
            assert np.array_equal(row, descriptor(count))
            count += 1
    for number in range(count):
        features = store.read_data(keyframe(number).name).features
        assert features is not None
        assert np.array_equal(features.keypoints_px, known(number).features.keypoints_px)  # type: ignore[union-attr]
    return count


def add_and_save_for_ever(path: Path, acknowledge: int) -> None:
    """Writes the number of keyframes to a pipe after each save."""
    store = SqliteStore(path)
    count = load(store)
    while True:
        numbers = range(count, count + 1 + count % 4)
        rows = np.array([descriptor(number) for number in numbers])
        data = [(keyframe(number).name, known(number)) for number in numbers]
        block = StoredKeyframes([keyframe(number) for number in numbers], rows, data)
        store.save(HEADER, Changes(False, [], [block]))
        count += len(numbers)
        os.write(acknowledge, f"{count}\n".encode())


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


def copied_without_journal(path: Path) -> int | None:
    """How many keyframes a copy of the file alone has, in the middle of a save; None if it is refused."""
    copy = SqliteStore(shutil.copy(path, path.with_name("copy.db")))
    try:
        return load(copy)
    except DatabaseError:
        return None


def main(path: Path, rounds: int) -> None:
    rng = random.Random(1)
    saved = 0
    for number in range(rounds):
        if number % ROUNDS_PER_FILE == 0:
            for each in path.parent.glob(f"{path.name}*"):
                each.unlink()
            saved = 0
        saved = max(saved, killed(path, after_s=rng.uniform(0.0, 0.1)))
        interrupted = Path(f"{path}-journal").exists()
        copied = copied_without_journal(path) if interrupted else None
        count = load(SqliteStore(path))
        assert count >= saved, f"{saved} keyframes were saved, {count} are left"
        assert copied is None or copied >= saved, f"a copy has {copied} of {saved} keyframes"
        saved = count
        line = json.dumps({"keyframes": saved, "in the middle of a save": interrupted})
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
