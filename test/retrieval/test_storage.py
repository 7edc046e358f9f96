# SPDX-License-Identifier: MIT
"""A database file holds what was saved, whatever happens to the process, the disk or the file."""

import contextlib
import json
import os
import random
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netvlad_ros.errors import DatabaseError
from netvlad_ros.retrieval import index as index_module
from netvlad_ros.retrieval import storage
from netvlad_ros.retrieval.index import KeyframeIndex

ROOT = Path(__file__).resolve().parents[2]
DIMS = 64


def descriptor(number: int, dims: int = DIMS) -> np.ndarray:
    """The same vector for the same number."""
    row = np.random.default_rng(number).standard_normal(dims).astype(np.float32)
    return row / np.linalg.norm(row)


def filled(count: int, first: int = 0) -> KeyframeIndex:
    index = KeyframeIndex("model@64x48", DIMS)
    for number in range(first, first + count):
        index.add(descriptor(number), number * 10**9, session=number // 5)
    return index


def content(index: KeyframeIndex) -> tuple[Any, ...]:
    """Everything that should come back."""
    rows = [block.descriptors.tobytes() for block in index._blocks]
    header = (index.database_id, index.fingerprint, index.dims, index._next_id)
    return (*header, index.keyframes, b"".join(rows))


def refusal(use: Callable[[], Any], path: Path) -> str:
    """The sentence with which a file is refused; it is left as it was."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(DatabaseError) as error:
        use()
    assert (path.read_bytes() if path.is_file() else None) == before
    sentence = str(error.value)
    assert sentence.startswith(f"{path}: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence.removeprefix(f"{path}: ")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "map.db"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that change keyframes, as SQLite runs them."""
    statements: list[str] = []
    connect = sqlite3.connect

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(
            lambda each: statements.append(each) if " keyframe " in each else None
        )
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    return statements


def changes(statements: list[str]) -> dict[str, int]:
    counted = {
        word: sum(each.startswith(word) for each in statements) for word in ("INSERT", "DELETE")
    }
    statements.clear()
    return counted


@pytest.mark.parametrize("count", [0, 1, 30])
def test_what_was_saved_comes_back(count: int, path: Path):
    index = filled(count)
    index.save(path)
    assert content(KeyframeIndex.load(path)) == content(index)


def test_several_blocks_come_back_in_order(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index_module, "BLOCK_BYTES", 4 * DIMS * 7)
    index = filled(30)
    index.remove([0, 6, 7, 8, 29])
    index.save(path)
    assert content(KeyframeIndex.load(path)) == content(index)


def test_stamps_may_be_numpy_integers(path: Path):
    index = filled(0)
    index.add(descriptor(0), np.int64(1_700_000_000_123_456_789))  # type: ignore[arg-type]
    index.save(path)
    assert KeyframeIndex.load(path).keyframes[0].stamp_ns == 1_700_000_000_123_456_789


def test_a_save_writes_only_what_changed(path: Path, written: list[str]):
    index = filled(10)
    index.save(path)
    assert changes(written) == {"INSERT": 10, "DELETE": 0}
    index.save(path)
    assert changes(written) == {"INSERT": 0, "DELETE": 0}
    index.add(descriptor(10), 1)
    index.remove([3, 4])
    index.save(path)
    assert changes(written) == {"INSERT": 1, "DELETE": 2}
    index = KeyframeIndex.load(path)
    index.add(descriptor(11), 2)
    changes(written)
    index.save(path)
    assert changes(written) == {"INSERT": 1, "DELETE": 0}
    assert content(KeyframeIndex.load(path)) == content(index)


def test_a_reset_empties_the_file_with_the_next_save_only(path: Path):
    index = filled(5)
    index.save(path)
    index.reset()
    assert len(KeyframeIndex.load(path)) == 5
    index.save(path)
    loaded = KeyframeIndex.load(path)
    assert len(loaded) == 0
    assert loaded.add(descriptor(0), 0).keyframe_id == 5


def test_keyframes_of_another_model_take_the_place_of_those_that_were_reset(path: Path):
    index = filled(5)
    index.save(path)
    index.reset()
    index = index.emptied("other model", 3)
    index.add(descriptor(9, dims=3), 7)
    index.save(path)
    assert content(KeyframeIndex.load(path)) == content(index)


def test_the_same_index_may_be_saved_to_several_files(tmp_path: Path):
    index = filled(5)
    for name in ("a.db", "b.db"):
        index.save(tmp_path / name)
        assert content(KeyframeIndex.load(tmp_path / name)) == content(index)
        index.add(descriptor(5), 99)
    index.save(tmp_path / "a.db")  # an earlier state of it
    assert content(KeyframeIndex.load(tmp_path / "a.db")) == content(index)


class TestRefusals:
    """What is not an earlier state of this index is left alone."""

    def test_another_databases_file(self, path: Path):
        filled(3).save(path)
        sentence = refusal(lambda: filled(5).save(path), path)
        assert sentence.startswith("holds 3 keyframes of another database (model model@64x48)")

    def test_another_databases_file_without_keyframes_loses_nothing(self, path: Path):
        filled(0).save(path)
        index = filled(5)
        index.save(path)
        assert content(KeyframeIndex.load(path)) == content(index)

    def test_a_later_state_of_the_same_database(self, path: Path):
        filled(3).save(path)
        earlier, later = KeyframeIndex.load(path), KeyframeIndex.load(path)
        later.add(descriptor(3), 3)
        later.save(path)
        sentence = refusal(lambda: earlier.save(path), path)
        assert sentence.startswith("holds keyframes that were saved after this database was loaded")

    def test_a_state_that_another_process_has_led_elsewhere(self, path: Path):
        filled(3).save(path)
        one, other = KeyframeIndex.load(path), KeyframeIndex.load(path)
        one.add(descriptor(3), 1)
        other.add(descriptor(4), 2)
        one.save(path)
        assert "after this database was loaded" in refusal(lambda: other.save(path), path)

    @pytest.mark.parametrize("use", [KeyframeIndex.load, filled(1).save])
    @pytest.mark.parametrize(
        ("file", "reason"),
        [
            (b"frame_id: map\n", "the file is something else; choose another name."),
            (bytes(range(256)) * 40, "the file is something else; choose another name."),
            ("foreign", "is an SQLite file of another program; choose another name."),
            ("newer", "has format 2, this version reads 1; update the package."),
        ],
    )
    def test_files_of_others(
        self, use: Callable[[Path], Any], file: bytes | str, reason: str, path: Path
    ):
        if isinstance(file, bytes):
            path.write_bytes(file)
        else:
            if file == "newer":
                filled(2).save(path)
            with sqlite3.connect(path) as connection:
                connection.execute("CREATE TABLE other (id INTEGER)")
                if file == "newer":
                    connection.execute("PRAGMA user_version = 2")
            connection.close()
        assert refusal(lambda: use(path), path).endswith(reason)

    def test_a_file_that_is_not_there(self, path: Path):
        assert refusal(lambda: KeyframeIndex.load(path), path).startswith("there is no such")
        assert not path.exists()

    def test_a_folder(self, tmp_path: Path):
        assert refusal(lambda: KeyframeIndex.load(tmp_path), tmp_path).startswith(
            "there is no such"
        )
        assert "it is a folder" in refusal(lambda: filled(1).save(tmp_path), tmp_path)

    def test_a_file_in_a_folder_that_is_not_there(self, tmp_path: Path):
        path = tmp_path / "absent" / "map.db"
        sentence = refusal(lambda: filled(1).save(path), path)
        assert f"the folder {path.parent} does not exist or may not be written" in sentence

    def test_a_file_that_another_process_writes_to(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        filled(1).save(path)
        connect = sqlite3.connect
        monkeypatch.setattr(
            sqlite3, "connect", lambda path, **options: connect(path, **options | {"timeout": 0.0})
        )
        other = connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        index = filled(1)
        assert "another process is writing it" in refusal(lambda: index.save(path), path)
        other.close()


def test_an_empty_file_is_a_first_save_that_was_cut_short(path: Path):
    path.touch()
    assert "its first save was cut short" in refusal(lambda: KeyframeIndex.load(path), path)
    index = filled(2)
    index.save(path)
    assert content(KeyframeIndex.load(path)) == content(index)


def test_what_is_read_is_of_one_save_even_if_another_process_saves_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    filled(20).save(path)
    index, rows = KeyframeIndex.load(path), storage._rows

    def save_between_header_and_rows(*arguments: Any) -> Any:
        other = sqlite3.connect(path, timeout=0.0)
        with pytest.raises(sqlite3.OperationalError, match="database is locked"):
            other.executescript("UPDATE header SET next_id = 0; DELETE FROM keyframe")
        other.close()
        return rows(*arguments)

    monkeypatch.setattr(storage, "_rows", save_between_header_and_rows)
    assert content(KeyframeIndex.load(path)) == content(index)


def saved_bytes(path: Path) -> tuple[bytes, tuple[Any, ...]]:
    index = filled(60)
    index.save(path)
    index.remove(range(10, 20))
    index.save(path)
    return path.read_bytes(), content(index)


@pytest.mark.parametrize("seed", range(4))
def test_a_cut_short_file_is_refused(seed: int, path: Path):
    whole, _ = saved_bytes(path)
    rng = random.Random(seed)
    lengths = [rng.randrange(len(whole)) for _ in range(20)]
    for length in [*lengths, *(length // 1024 * 1024 for length in lengths)]:
        path.write_bytes(whole[:length])
        with pytest.raises(DatabaseError):
            KeyframeIndex.load(path)


@pytest.mark.parametrize("seed", range(4))
def test_a_file_with_flipped_bits_is_refused_or_holds_what_was_saved(seed: int, path: Path):
    whole, wanted = saved_bytes(path)
    rng = random.Random(seed)
    for _ in range(60):
        flipped = bytearray(whole)
        for _ in range(rng.choice([1, 1, 30])):
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            assert content(KeyframeIndex.load(path)) == wanted
        except DatabaseError:
            refusal(lambda: KeyframeIndex.load(path), path)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM header",
        "UPDATE header SET dims = 'many'",
        "UPDATE header SET dims = 0",
        "UPDATE header SET dims = 63",
        "UPDATE header SET next_id = 3",
        "UPDATE keyframe SET descriptor = zeroblob(256) WHERE id = 2",
        "UPDATE keyframe SET descriptor = 'text' WHERE id = 2",
        "UPDATE keyframe SET stamp_ns = 5 WHERE id = 2",
        "UPDATE keyframe SET session = 'one' WHERE id = 2",
        "DROP TABLE header",
        "DROP TABLE keyframe",
    ],
)
def test_content_that_cannot_be_is_refused(damage: str, path: Path):
    filled(5).save(path)
    with sqlite3.connect(path) as connection:
        connection.execute(damage)
    connection.close()
    refusal(lambda: KeyframeIndex.load(path), path)


@contextlib.contextmanager
def no_file_larger_than(size_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room_bytes", [0, 5_000, 40_000, 100_000])
def test_a_save_that_finds_no_room_leaves_what_was_saved(room_bytes: int, path: Path):
    index = filled(20)
    index.save(path)
    before = content(KeyframeIndex.load(path))
    for number in range(1000):
        index.add(descriptor(number), number)
    with no_file_larger_than(path.stat().st_size + room_bytes):
        for _ in range(2):
            assert "the disk refused, for a quota" in refusal(lambda: index.save(path), path)
    assert index.has_unsaved_changes
    assert content(KeyframeIndex.load(path)) == before
    index.save(path)
    assert content(KeyframeIndex.load(path)) == content(index)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_what_was_saved(small_disk: Path):
    path, index = small_disk / "map.db", filled(20)
    index.save(path)
    before = content(KeyframeIndex.load(path))
    for number in range(1000):
        index.add(descriptor(number), number)
    for _ in range(2):
        assert "the disk is full; make room" in refusal(lambda: index.save(path), path)
    assert content(KeyframeIndex.load(path)) == before
    subprocess.run(["mount", "-o", "remount,size=9M", str(small_disk)], check=True)
    index.save(path)
    assert content(KeyframeIndex.load(path)) == content(index)


def test_a_first_save_that_finds_no_room_can_be_tried_again(path: Path):
    index = filled(1000)
    with no_file_larger_than(20_000):
        with pytest.raises(DatabaseError):
            index.save(path)
        with pytest.raises(DatabaseError):
            KeyframeIndex.load(path)
    index.save(path)
    assert content(KeyframeIndex.load(path)) == content(index)


def test_a_process_that_is_killed_while_it_saves_loses_nothing_it_was_told_is_saved(path: Path):
    kills = 100
    result = subprocess.run(
        [sys.executable, Path(__file__).with_name("kill_while_saving.py"), path, str(kills)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    rounds = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rounds) == kills
    assert sum(each["in the middle of a save"] for each in rounds) > 10
    assert max(each["keyframes"] for each in rounds) > 10
