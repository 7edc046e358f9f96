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

from netvlad_ros.errors import DatabaseError
from netvlad_ros.retrieval.index import KeyframeIndex

DIMS = 512
ROUNDS_PER_FILE = 10


def descriptor(number: int) -> np.ndarray:
    """The same vector for the same number."""
    row = np.random.default_rng(number).standard_normal(DIMS).astype(np.float32)
    return row / np.linalg.norm(row)


def load(path: Path) -> KeyframeIndex:
    """What was saved; empty if nothing was."""
    try:
        return KeyframeIndex.load(path)
    except DatabaseError as error:
        if path.exists() and "holds nothing yet" not in str(error):
            raise
        return KeyframeIndex("model", DIMS)


def add_and_save_for_ever(path: Path, acknowledge: int) -> None:
    """Writes the number of keyframes to a pipe after each save."""
    index = load(path)
    while True:
        for number in range(len(index), len(index) + 1 + len(index) % 4):
            index.add(descriptor(number), number * 10**9)
        index.save(path)
        os.write(acknowledge, f"{len(index)}\n".encode())


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
        index = load(path)
        assert len(index) >= saved, f"{saved} keyframes were saved, {len(index)} are left"
        rows = [row for block in index._blocks for row in block.descriptors]
        for keyframe, row in zip(index.keyframes, rows, strict=True):
            assert keyframe.stamp_ns == keyframe.keyframe_id * 10**9
            assert np.array_equal(row, descriptor(keyframe.keyframe_id))
        saved = len(index)
        line = json.dumps({"keyframes": saved, "in the middle of a save": interrupted})
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
