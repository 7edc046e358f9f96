# SPDX-License-Identifier: MIT
"""A database file holds what was saved, whatever happens to the process, the disk or the file."""

import contextlib
import json
import os
import random
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netvlad_ros.errors import DatabaseError
from netvlad_ros.keyframe import Keyframe, Session, Stream
from netvlad_ros.store import migrations, schema, sqlite_store
from netvlad_ros.store.keyframe_store import Changes, StoredKeyframes, StoreHeader
from netvlad_ros.store.sqlite_store import SqliteStore

ROOT = Path(__file__).resolve().parents[2]
VERSION_1 = Path(__file__).parent / "data" / "version1.db"
DIMS = 64
HEADER = StoreHeader("d" * 32, "model@64x48", DIMS)
SESSIONS = [
    Session(f"{number:032x}", Stream("spot", f"camera {number % 2}"), "cellar")
    for number in range(500)
]


def descriptor(number: int, dims: int = DIMS) -> np.ndarray:
    """The same vector for the same number."""
    row = np.random.default_rng(number).standard_normal(dims).astype(np.float32)
    return row / np.linalg.norm(row)


def keyframes(numbers: Sequence[int]) -> list[Keyframe]:
    """Five a session."""
    return [Keyframe(SESSIONS[each // 5], each % 5, each * 10**9) for each in numbers]


def added(*numbers: int, cleared: bool = False, removed: Sequence[int] = ()) -> Changes:
    vectors = np.array([descriptor(each) for each in numbers], np.float32).reshape(-1, DIMS)
    block = StoredKeyframes(keyframes(numbers), vectors)
    return Changes(cleared, keyframes(removed), [block])


def saved(path: Path, count: int) -> SqliteStore:
    store = SqliteStore(path)
    store.save(HEADER, added(*range(count)))
    return store


def content(path: Path) -> tuple[StoreHeader, list[Keyframe], bytes]:
    """Everything that comes back."""
    header, blocks = SqliteStore(path).load()
    found = list(blocks)
    rows = b"".join(block.descriptors.tobytes() for block in found)
    return header, [each for block in found for each in block.keyframes], rows


def wanted(*numbers: int) -> tuple[StoreHeader, list[Keyframe], bytes]:
    return HEADER, keyframes(numbers), b"".join(descriptor(each).tobytes() for each in numbers)


def load(path: Path) -> Any:
    return content(path)


def save(path: Path) -> None:
    SqliteStore(path).save(HEADER, added(0))


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


@pytest.mark.parametrize("count", [0, 1, 30])
def test_what_was_saved_comes_back(count: int, path: Path):
    saved(path, count)
    assert content(path) == wanted(*range(count))


def test_several_blocks_come_back_in_order(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sqlite_store, "BLOCK_ROWS", 7)
    store = saved(path, 30)
    store.save(HEADER, added(removed=[0, 6, 7, 8, 29]))
    _, blocks = SqliteStore(path).load()
    assert [len(block.keyframes) for block in blocks] == [7, 7, 7, 4]
    assert content(path) == wanted(*(set(range(30)) - {0, 6, 7, 8, 29}))


def test_changes_add_up(path: Path):
    store = saved(path, 10)
    store.save(HEADER, added())
    store.save(HEADER, added(10, 11, removed=[3, 4]))
    again = SqliteStore(path)
    list(again.load()[1])
    again.save(HEADER, added(12))
    assert content(path) == wanted(0, 1, 2, *range(5, 13))


def test_a_save_writes_only_what_changed(path: Path):
    """Ten new keyframes cost the same whether there are ten or ten thousand."""
    pages = []
    for count in (10, 2000):
        store = saved(path, count)
        before = path.read_bytes()
        store.save(HEADER, added(*range(count, count + 10)))
        after = path.read_bytes()
        size = schema.PAGE_BYTES
        pages.append(
            sum(
                before[start : start + size] != after[start : start + size]
                for start in range(0, len(after), size)
            )
        )
        path.unlink()
    assert pages[1] <= pages[0] + 3  # a deeper tree


def test_what_was_cleared_goes_with_the_next_save_only(path: Path):
    store = saved(path, 5)
    assert len(content(path)[1]) == 5
    other = StoreHeader(HEADER.database_id, "other model", 3)
    row = np.array([[1, 0, 0]], np.float32)
    store.save(other, Changes(True, [], [StoredKeyframes(keyframes([9]), row)]))
    assert content(path) == (other, keyframes([9]), row.tobytes())


def test_rows_of_two_files_fit_into_one_without_new_names(tmp_path: Path):
    """Robots name their keyframes by themselves; nothing has to be numbered anew."""
    paths = [tmp_path / "one.db", tmp_path / "other.db"]
    for path, numbers in zip(paths, ([0, 1, 5], [10, 11, 15]), strict=True):
        SqliteStore(path).save(HEADER, added(*numbers))
    both = SqliteStore(tmp_path / "both.db")
    for path in paths:
        _, blocks = SqliteStore(path).load()
        both.save(HEADER, Changes(False, [], blocks))
    assert content(both.path) == wanted(0, 1, 5, 10, 11, 15)


def test_a_name_can_not_be_stored_twice(path: Path):
    store = saved(path, 3)
    sentence = refusal(lambda: store.save(HEADER, added(3, 1)), path)
    assert "keyframe 00000000/1 is stored already" in sentence
    store.save(HEADER, added(3))
    assert content(path) == wanted(0, 1, 2, 3)


class TestVersion1:
    """Files of the version before are brought up to date, in place."""

    def numbers(self) -> list[int]:
        return [each for each in range(24) if each not in (3, 9, 23)]

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return Path(shutil.copy(VERSION_1, tmp_path / "map.db"))

    def test_everything_is_there_under_names_that_every_copy_gets(self, path: Path, tmp_path: Path):
        shutil.copy(path, tmp_path / "copy.db")
        header, found, rows = content(path)
        assert (header.fingerprint, header.dims) == ("model@64x48", 16)
        assert [each.number for each in found] == self.numbers()
        assert [each.stamp_ns for each in found] == [
            1_700_000_000_000_000_000 + each * 10**9 for each in self.numbers()
        ]
        assert rows == b"".join(descriptor(each, 16).tobytes() for each in self.numbers())
        sessions = [each.session for each in found]
        assert [sessions.index(each) for each in sessions] == [0] * 7 + [7] * 7 + [14] * 7
        assert content(tmp_path / "copy.db") == (header, found, rows)

    def test_it_is_a_file_of_this_version_afterwards_and_goes_on(
        self, path: Path, caplog: pytest.LogCaptureFixture
    ):
        store = SqliteStore(path)
        with caplog.at_level("INFO"):
            header, blocks = store.load()
        assert f"{path}: has format 1 and is brought up to date" in caplog.messages
        before = [each for block in blocks for each in block.keyframes]
        assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (
            migrations.VERSION,
        )
        block = StoredKeyframes(keyframes([0]), descriptor(0, 16)[None])
        store.save(header, Changes(False, before[:1], [block]))
        assert content(path)[1] == [*before[1:], *keyframes([0])]

    def test_a_file_that_may_not_be_written_is_read_all_the_same(self, path: Path):
        wanted = content(Path(shutil.copy(path, f"{path}.copy")))
        before = path.read_bytes()
        command = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_sqlite_store import content
print(len(content(Path({str(path)!r}))[1]))
"""
        with read_only(path.parent):
            done = subprocess.run(
                [sys.executable, "-c", command],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
        assert int(done.stdout) == len(wanted[1])
        assert path.read_bytes() == before

    @pytest.mark.parametrize("seed", range(3))
    def test_flipped_bits_are_refused_and_the_file_is_left_alone(self, seed: int, path: Path):
        whole, right = path.read_bytes(), content(Path(shutil.copy(path, f"{path}.copy")))
        rng = random.Random(seed)
        for _ in range(40):
            flipped = bytearray(whole)
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
            path.write_bytes(flipped)
            with contextlib.suppress(DatabaseError):
                header, found, rows = content(path)
                if header == right[0]:  # which had no checksum
                    assert (header, found, rows) == right

    @pytest.mark.slow
    def test_a_process_that_is_killed_in_the_middle_of_it_loses_nothing(self, path: Path):
        """Also when part of it has reached the file already, as SQLite's memory is too small for all."""
        grow_version_1(path, 1500)
        original = path.read_bytes()
        right = content(Path(shutil.copy(path, f"{path}.copy")))
        journals = finished = 0
        for kill_at in [*range(30), *range(30, 3_100, 100), 10**6]:
            path.write_bytes(original)
            child = os.fork()
            if child == 0:
                _die_at(kill_at)
                content(path)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            finished += not os.WIFSIGNALED(status)
            journals += Path(f"{path}-journal").exists()
            assert content(path) == right
        assert journals > 20
        assert finished == 1

    def test_a_disk_that_is_too_full_for_it_does_not_keep_the_map_from_being_read(
        self, small_disk: Path
    ):
        path = Path(shutil.copy(VERSION_1, small_disk / "map.db"))
        right = content(Path(shutil.copy(path, f"{small_disk}.copy")))
        (small_disk / "other").write_bytes(bytes(380 << 10))
        before = path.read_bytes()
        store = SqliteStore(path)
        header, blocks = store.load()
        assert [each for block in blocks for each in block.keyframes] == right[1]
        assert path.read_bytes() == before
        change = Changes(False, [], [StoredKeyframes(keyframes([0]), descriptor(0, 16)[None])])
        assert "the disk is full" in refusal(lambda: store.save(header, change), path)
        (small_disk / "other").unlink()
        store.save(header, change)
        assert content(path)[1] == [*right[1], *keyframes([0])]

    def test_afterwards_it_takes_no_more_room_than_a_new_one(self, path: Path, tmp_path: Path):
        grow_version_1(path, 4000)
        header, blocks = SqliteStore(path).load()
        new = SqliteStore(tmp_path / "new.db")
        new.save(header, Changes(False, [], blocks))
        assert path.stat().st_size <= new.path.stat().st_size

    @pytest.mark.parametrize(
        "damage",
        [
            "DELETE FROM header",
            "UPDATE header SET dims = 0",
            "UPDATE header SET dims = 1000000000",
            "UPDATE header SET next_id = 3",
            "UPDATE header SET next_id = 'many'",
            "UPDATE keyframe SET descriptor = 'text' WHERE id = 2",
            "UPDATE keyframe SET session = 'one' WHERE id = 2",
            "ALTER TABLE keyframe RENAME COLUMN stamp_ns TO stamp",
            "DROP TABLE keyframe",
            "DROP TABLE header",
            "DROP TABLE keyframe; CREATE VIEW keyframe AS SELECT * FROM header",
        ],
    )
    def test_content_that_cannot_be_is_refused(self, damage: str, path: Path):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.executescript(damage)
        refusal(lambda: load(path), path)

    def test_damage_is_named(self, path: Path):
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE keyframe SET stamp_ns = 5 WHERE id = 2")
        connection.close()
        assert refusal(lambda: load(path), path).startswith("keyframe 2 is damaged")


def grow_version_1(path: Path, count: int) -> None:
    """Adds keyframes as version 1 did."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for number in range(24, 24 + count):
            vector = descriptor(number, 16).tobytes()
            crc = zlib.crc32(vector, zlib.crc32(repr((number, 7, number)).encode()))
            row = number, 7, number, vector, crc
            connection.execute("INSERT INTO keyframe VALUES (?, ?, ?, ?, ?)", row)
        connection.execute("UPDATE header SET next_id = ?", (24 + count,))


def _die_at(number: int) -> None:
    """Makes SQLite's so-manieth statement of this process its last act."""
    connect, left = sqlite3.connect, [number]

    def count(_: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), 9)

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.execute("PRAGMA cache_size = 10")
        connection.set_trace_callback(count)
        return connection

    sqlite3.connect = traced  # type: ignore[assignment]


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The folder as it is seen on media that can't be written."""
    mount = ["mount", "--bind", "-o", "ro", str(folder), str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class TestPlaces:
    """Whether there is a store, or could be one, is known before there is anything to write."""

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            (".", "it is a folder; choose the name of a file."),
            ("", "it is a folder; choose the name of a file."),
            ("/", "it is a folder; choose the name of a file."),
            ("/dev/null", "it is something else than a file; choose another name."),
            ("map\0.db", "it is something else than a file; choose another name."),
            ("absent/map.db", "does not exist or may not be written"),
            ("empty.db/below", "does not exist or may not be written"),
            ("text.db", "the file is something else; choose another name."),
            ("foreign.db", "is an SQLite file of another program; choose another name."),
            ("newer.db", "has format 3, this version reads 1 to 2; update the package."),
        ],
    )
    def test_nothing_can_be_loaded_or_saved_here(
        self, name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        (tmp_path / "empty.db").touch()
        (tmp_path / "text.db").write_text("frame_id: map\n")
        saved(tmp_path / "newer.db", 1)
        for other in ("foreign.db", "newer.db"):
            with contextlib.closing(sqlite3.connect(tmp_path / other)) as connection:
                connection.execute("CREATE TABLE other (id INTEGER)")
                connection.execute("PRAGMA user_version = 3")
        monkeypatch.chdir(tmp_path)
        before = {each: each.read_bytes() for each in tmp_path.iterdir()}
        with pytest.raises(DatabaseError, match=re.escape(reason)):
            SqliteStore(name).check()
        assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before

    @pytest.mark.parametrize("name", [".", "/", "/dev/null", "absent/map.db"])
    def test_a_save_is_refused_there_too(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(DatabaseError, match=r"choose|does not exist"):
            SqliteStore(name).save(HEADER, added(1))

    def test_media_that_can_not_be_written(self, tmp_path: Path):
        saved(tmp_path / "full.db", 3)
        with read_only(tmp_path):
            with pytest.raises(DatabaseError, match="may not be written"):
                SqliteStore(tmp_path / "map.db").check()
            store = SqliteStore(tmp_path / "full.db")
            store.check()
            list(store.load()[1])
            sentence = refusal(lambda: store.save(HEADER, added(3)), store.path)
            assert "the file may not be written" in sentence
        assert content(store.path) == wanted(0, 1, 2)

    def test_a_place_where_a_file_can_be_written_stays_empty(self, path: Path):
        SqliteStore(path).check()
        assert not path.exists()
        path.touch()
        SqliteStore(path).check()
        saved(path, 1)
        SqliteStore(path).check()

    def test_a_name_that_means_something_to_sqlite_is_a_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.chdir(tmp_path)
        for name in (":memory:", "file:map.db?mode=memory"):
            saved(Path(name), 2)
            assert content(tmp_path / name) == wanted(0, 1)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where anybody may look."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def as_nobody(use: Callable[[], Any]) -> str:
    """What a user without rights gets: what is returned, or the sentence."""
    if os.geteuid() != 0:
        pytest.skip("needs the right to be somebody else")
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            os.setuid(65534)
            os.write(writing, str(use()).encode())
        except DatabaseError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.wait()
    with os.fdopen(reading) as pipe:
        return pipe.read()


class TestPermissions:
    """What may not be written can be read, and each sentence says what is not allowed."""

    @pytest.mark.parametrize("version", [1, 2])
    @pytest.mark.parametrize("mode", [0o444, 0o666])
    def test_a_file_in_a_folder_that_may_not_be_written(
        self, version: int, mode: int, folder: Path
    ):
        path = Path(shutil.copy(VERSION_1, folder / "map.db"))
        right = content(Path(shutil.copy(VERSION_1, folder / "copy.db")))
        if version == 2:
            content(path)
        path.chmod(mode)
        before = path.read_bytes()
        assert as_nobody(lambda: len(content(path)[1])) == str(len(right[1]))
        assert as_nobody(SqliteStore(path).check) == "None"

        def save_again() -> None:
            store = SqliteStore(path)
            header, blocks = store.load()
            list(blocks)
            store.save(header, Changes(False, [], []))

        assert "the file may not be written; change its permissions" in as_nobody(save_again)
        assert path.read_bytes() == before

    @pytest.mark.parametrize("use", [load, save, lambda path: SqliteStore(path).check()])
    def test_a_file_that_may_not_be_read(self, use: Callable[[Path], Any], folder: Path):
        path = folder / "map.db"
        saved(path, 1)
        path.chmod(0)
        assert "the file may not be read; change its permissions" in as_nobody(lambda: use(path))

    def test_a_folder_that_may_not_be_written(self, folder: Path):
        path = folder / "map.db"
        reason = f"the folder {folder} does not exist or may not be written"
        assert reason in as_nobody(SqliteStore(path).check)
        assert reason in as_nobody(lambda: save(path))


def test_a_file_that_somebody_removed_is_not_written_in_part(path: Path):
    """The keyframes that were in it would be missing for good, and nobody would know."""
    for remove in (path.unlink, lambda: path.write_bytes(b"")):
        store = saved(path, 5)
        assert store.holds_last_save()
        remove()
        assert not store.holds_last_save()
        with pytest.raises(DatabaseError, match="removed or emptied by somebody else"):
            store.save(HEADER, added(5))
        assert not path.exists() or path.read_bytes() == b""
        store.save(HEADER, added(*range(6), cleared=True))
        assert content(path) == wanted(*range(6))
        path.unlink()


class TestRefusals:
    """What is not an earlier state of this database is left alone."""

    def test_another_databases_file(self, path: Path):
        saved(path, 3)
        other = StoreHeader("e" * 32, "model b", DIMS)
        sentence = refusal(lambda: SqliteStore(path).save(other, added(7)), path)
        assert sentence.startswith("holds 3 keyframes of another database (model model@64x48)")

    def test_another_databases_file_without_keyframes_loses_nothing(self, path: Path):
        saved(path, 0)
        other = StoreHeader("e" * 32, "model b", DIMS)
        SqliteStore(path).save(other, added(7))
        assert content(path)[:2] == (other, keyframes([7]))

    def test_what_another_process_saved_meanwhile(self, path: Path):
        saved(path, 3)
        one, other = SqliteStore(path), SqliteStore(path)
        for store in (one, other):
            list(store.load()[1])
        one.save(HEADER, added(3))
        sentence = refusal(lambda: other.save(HEADER, added(4)), path)
        assert sentence.startswith("holds keyframes that were saved after this database was loaded")

    @pytest.mark.parametrize("use", [load, save])
    @pytest.mark.parametrize(
        ("file", "reason"),
        [
            (b"frame_id: map\n", "the file is something else; choose another name."),
            (bytes(range(256)) * 40, "the file is something else; choose another name."),
            ("foreign", "is an SQLite file of another program; choose another name."),
            ("newer", "has format 3, this version reads 1 to 2; update the package."),
        ],
    )
    def test_files_of_others(
        self, use: Callable[[Path], Any], file: bytes | str, reason: str, path: Path
    ):
        if isinstance(file, bytes):
            path.write_bytes(file)
        else:
            if file == "newer":
                saved(path, 2)
            with sqlite3.connect(path) as connection:
                connection.execute("CREATE TABLE other (id INTEGER)")
                if file == "newer":
                    connection.execute("PRAGMA user_version = 3")
            connection.close()
        assert refusal(lambda: use(path), path).endswith(reason)

    def test_a_file_that_is_not_there(self, path: Path):
        assert refusal(lambda: load(path), path).startswith("there is no such")
        assert not path.exists()

    def test_a_folder(self, tmp_path: Path):
        assert refusal(lambda: load(tmp_path), tmp_path).startswith("there is no such")
        assert "it is a folder" in refusal(lambda: save(tmp_path), tmp_path)

    def test_a_file_in_a_folder_that_is_not_there(self, tmp_path: Path):
        path = tmp_path / "absent" / "map.db"
        sentence = refusal(lambda: save(path), path)
        assert f"the folder {path.parent} does not exist or may not be written" in sentence

    def test_a_file_that_another_process_writes_to(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        saved(path, 1)
        connect = sqlite3.connect
        monkeypatch.setattr(
            sqlite3, "connect", lambda path, **options: connect(path, **options | {"timeout": 0.0})
        )
        other = connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        assert "another process is writing it" in refusal(lambda: save(path), path)
        other.close()


def test_an_empty_file_is_a_first_save_that_was_cut_short(path: Path):
    path.touch()
    assert "its first save was cut short" in refusal(lambda: load(path), path)
    saved(path, 2)
    assert content(path) == wanted(0, 1)


def test_what_is_read_is_of_one_save_even_if_another_process_saves_meanwhile(path: Path):
    saved(path, 20)
    blocks = SqliteStore(path).load()[1]
    other = sqlite3.connect(path, timeout=0.0)
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        other.executescript("UPDATE header SET keyframes = 0; DELETE FROM keyframe")
    other.close()
    assert [each for block in blocks for each in block.keyframes] == keyframes(range(20))


def saved_bytes(path: Path) -> bytes:
    saved(path, 60).save(HEADER, added(removed=range(10, 20)))
    return path.read_bytes()


@pytest.mark.parametrize("seed", range(4))
def test_a_cut_short_file_is_refused(seed: int, path: Path):
    whole = saved_bytes(path)
    rng = random.Random(seed)
    lengths = [rng.randrange(len(whole)) for _ in range(20)]
    for length in [*lengths, *(length // 1024 * 1024 for length in lengths)]:
        path.write_bytes(whole[:length])
        with pytest.raises(DatabaseError):
            load(path)


@pytest.mark.parametrize("seed", range(4))
def test_a_file_with_flipped_bits_is_refused_or_holds_what_was_saved(seed: int, path: Path):
    whole = saved_bytes(path)
    right = content(path)
    rng = random.Random(seed)
    for _ in range(60):
        flipped = bytearray(whole)
        for _ in range(rng.choice([1, 1, 30])):
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            assert content(path) == right
        except DatabaseError:
            refusal(lambda: load(path), path)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM header",
        "UPDATE header SET dims = 'many'",
        "UPDATE header SET dims = 0",
        "UPDATE header SET dims = 1000000000000",
        "UPDATE header SET keyframes = 4",
        "UPDATE header SET fingerprint = 'model b'",
        "UPDATE descriptor SET vector = zeroblob(256) WHERE keyframe = 2",
        "UPDATE descriptor SET vector = 'text' WHERE keyframe = 2",
        "DELETE FROM descriptor WHERE keyframe = 2",
        "DELETE FROM keyframe WHERE id = 2",
        "UPDATE keyframe SET stamp_ns = 5 WHERE id = 2",
        "UPDATE keyframe SET session = 'one' WHERE id = 2",
        "UPDATE session SET robot = 'other'",
        "UPDATE session SET id = 3 WHERE id = 1",
        "UPDATE session SET id = -id; UPDATE session SET id = 3 + id",
        "UPDATE keyframe SET id = -id; UPDATE keyframe SET id = 9 + id",
        "UPDATE descriptor SET keyframe = -keyframe; UPDATE descriptor SET keyframe = 9 + keyframe",
        "DELETE FROM session",
        "DROP TABLE header",
        "DROP TABLE keyframe",
        "ALTER TABLE keyframe RENAME COLUMN number TO nummer",
    ],
)
def test_content_that_cannot_be_is_refused(damage: str, path: Path):
    saved(path, 8)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(damage)
    refusal(lambda: load(path), path)


def forged(path: Path, damage: str, row: str) -> None:
    """Changed by somebody who sets the checksum of a row right: of table, columns and key."""
    table, columns, key = row.split(": ")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(damage)
        values = connection.execute(f"SELECT {columns} FROM {table} WHERE {key}").fetchone()
        connection.execute(f"UPDATE {table} SET crc32 = ? WHERE {key}", (schema.checksum(*values),))


@pytest.mark.parametrize(
    ("damage", "row"),
    [
        (f"UPDATE {row.split(':')[0]} SET {change}", row)
        for row, changes in {
            "header: database_id, fingerprint, dims, revision, keyframes: 1": (
                "dims = 1000000000",
                "dims = 9223372036854775807",
                "dims = -64",
                "dims = 64.5",
                "fingerprint = x'00ff'",
                "database_id = x'07'",
                "revision = 'last'",
                "keyframes = -1",
            ),
            "session: id, uuid, robot, camera, map: id = 1": (
                "uuid = x'05' WHERE id = 1",
                "robot = x'ff' WHERE id = 1",
            ),
            "keyframe: id, session, number, stamp_ns: id = 2": (
                "number = 'two' WHERE id = 2",
                "stamp_ns = 1.5 WHERE id = 2",
                "session = 99 WHERE id = 2",
                "session = 'one' WHERE id = 2",
            ),
            "descriptor: keyframe, vector: keyframe = 2": (
                "vector = zeroblob(257) WHERE keyframe = 2",
                "vector = zeroblob(0) WHERE keyframe = 2",
                "vector = 3 WHERE keyframe = 2",
            ),
        }.items()
        for change in changes
    ],
)
def test_content_that_cannot_be_is_refused_even_with_a_right_checksum(
    damage: str, row: str, path: Path
):
    saved(path, 5)
    forged(path, damage, row)
    assert refusal(lambda: load(path), path).endswith("restore a copy of the file.")


@pytest.mark.parametrize(
    "statements",
    [
        "CREATE TRIGGER t AFTER INSERT ON keyframe BEGIN DELETE FROM descriptor; END",
        "CREATE VIEW v AS SELECT * FROM keyframe",
        """ALTER TABLE descriptor RENAME TO d;
        CREATE VIEW descriptor AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
        SELECT i AS keyframe, 'a' AS vector, 0 AS crc32 FROM n""",
        "ALTER TABLE keyframe ADD COLUMN more TEXT",
        "DROP TABLE thumbnail",
        "DROP TABLE session; CREATE TABLE session (id, uuid, robot, camera, map, crc32)",
    ],
)
@pytest.mark.parametrize("use", [load, lambda path: SqliteStore(path).check()])
def test_other_tables_than_ours_are_refused(
    statements: str, use: Callable[[Path], Any], path: Path
):
    saved(path, 5)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(statements)
    sentence = refusal(lambda: use(path), path)
    assert sentence == "its tables are not those of format 2; restore a copy of the file."


def test_names_of_any_script_come_back(path: Path):
    session = Session("c" * 32, Stream("Röver \U0001fae8", "カメラ\n1"), "'; DROP TABLE keyframe")
    block = StoredKeyframes([Keyframe(session, 0, -1)], descriptor(0)[None])
    SqliteStore(path).save(HEADER, Changes(False, [], [block]))
    assert content(path)[1] == block.keyframes


def test_a_name_that_is_no_text_is_refused(path: Path):
    store = saved(path, 1)
    block = StoredKeyframes(
        [Keyframe(Session("c" * 32, Stream("\udcff")), 0, 1)], descriptor(0)[None]
    )
    assert "surrogates" in refusal(lambda: store.save(HEADER, Changes(False, [], [block])), path)
    assert content(path) == wanted(0)


def test_descriptors_of_many_dimensions_come_in_small_blocks(path: Path):
    dims = 1 << 20
    header = StoreHeader("d" * 32, "model", dims)
    rows = np.arange(9 * dims, dtype=np.float32).reshape(9, dims)
    block = StoredKeyframes(keyframes(range(9)), rows)
    SqliteStore(path).save(header, Changes(False, [], [block]))
    found = list(SqliteStore(path).load()[1])
    assert [len(each.keyframes) for each in found] == [4, 4, 1]
    assert np.array_equal(np.concatenate([each.descriptors for each in found]), rows)


def test_numbers_may_be_of_numpy(path: Path):
    keyframe = Keyframe(SESSIONS[0], np.int32(3), np.int64(1_700_000_000_123_456_789))  # type: ignore[arg-type]
    block = StoredKeyframes([keyframe], descriptor(0)[None])
    SqliteStore(path).save(HEADER, Changes(False, [], [block]))
    (found,) = content(path)[1]
    assert (type(found.number), type(found.stamp_ns)) == (int, int)
    assert found == keyframe


def cut_short(store: SqliteStore) -> None:
    """Dies while it saves so much that part of it has reached the file."""
    session = Session("e" * 32)
    many = [Keyframe(session, number, number) for number in range(2_000)]
    block = StoredKeyframes(many, np.zeros((len(many), DIMS), np.float32))
    size = store.path.stat().st_size if store.path.exists() else 0
    child = os.fork()
    if child == 0:
        _die_at(3_000)
        store.save(HEADER, Changes(False, [], [block]))
    os.waitpid(child, 0)
    assert store.path.stat().st_size > size
    assert Path(f"{store.path}-journal").exists()


def test_an_interrupted_save_on_media_that_can_not_be_written_is_told_from_a_damaged_file(
    path: Path,
):
    """The journal that lies beside it can't be played back there."""
    cut_short(saved(path, 20))
    with read_only(path.parent):
        sentence = refusal(lambda: load(path), path)
    assert "its last save was cut short" in sentence
    assert "copy it and the journal" in sentence
    assert content(path) == wanted(*range(20))


def test_after_a_first_save_that_was_cut_short_there_is_nothing(path: Path):
    store = SqliteStore(path)
    cut_short(store)
    assert store.holds_anything()
    with pytest.raises(DatabaseError, match="holds nothing yet; its first save was cut short"):
        store.load()
    assert not store.holds_anything()
    store.save(HEADER, added(0, 1))
    assert content(path) == wanted(0, 1)


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
    store = saved(path, 20)
    with no_file_larger_than(path.stat().st_size + room_bytes):
        for _ in range(2):
            sentence = refusal(lambda: store.save(HEADER, added(*range(20, 1020))), path)
            assert "the disk refused, for a quota" in sentence
    assert content(path) == wanted(*range(20))
    store.save(HEADER, added(*range(20, 1020)))
    assert content(path) == wanted(*range(1020))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_what_was_saved(small_disk: Path):
    path = small_disk / "map.db"
    store = saved(path, 20)
    for _ in range(2):
        sentence = refusal(lambda: store.save(HEADER, added(*range(20, 1020))), path)
        assert "the disk is full; make room" in sentence
    assert content(path) == wanted(*range(20))
    subprocess.run(["mount", "-o", "remount,size=9M", str(small_disk)], check=True)
    store.save(HEADER, added(*range(20, 1020)))
    assert content(path) == wanted(*range(1020))


def test_a_first_save_on_a_full_disk_leaves_nothing_behind(small_disk: Path):
    (small_disk / "other").write_bytes(bytes(395 << 10))
    path = small_disk / "map.db"
    for _ in range(2):
        with pytest.raises(DatabaseError, match="the disk is full"):
            saved(path, 1000)
    assert [each.name for each in small_disk.iterdir()] == ["other"]


def test_a_first_save_that_finds_no_room_can_be_tried_again(path: Path):
    with no_file_larger_than(20_000):
        with pytest.raises(DatabaseError):
            saved(path, 1000)
        with pytest.raises(DatabaseError):
            load(path)
    saved(path, 1000)
    assert content(path) == wanted(*range(1000))


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


# --- Reading only --------------------------------------------------------------------------------------


def bytes_and_time(path: Path) -> tuple[bytes, int]:
    return path.read_bytes(), path.stat().st_mtime_ns


def test_reading_only_leaves_a_file_of_an_older_format_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "map?of #1.db"  # a name that an URI would have to quote
    shutil.copy(VERSION_1, path)
    before = bytes_and_time(path)
    _, blocks = SqliteStore(path, read_only=True).load()
    assert sum(len(block.keyframes) for block in blocks) > 0
    assert bytes_and_time(path) == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_reading_only_works_while_another_process_is_about_to_write(tmp_path: Path) -> None:
    path = tmp_path / "map.db"
    saved(path, 3)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM keyframe")
        _, blocks = SqliteStore(path, read_only=True).load()
        assert sum(len(block.keyframes) for block in blocks) == 3
        other.execute("ROLLBACK")


def test_reading_only_refuses_a_file_that_is_not_there(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "map.db", read_only=True)
    for action in (store.check, store.load):
        with pytest.raises(DatabaseError, match="no such database file; choose the file of a map"):
            action()
    assert not [*tmp_path.iterdir()]
