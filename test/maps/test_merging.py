# SPDX-License-Identifier: MIT
"""Two maps become one: each keyframe once, poses in one frame where closures agree, and nothing is lost."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_maps import content, drive, position, save, view
from made_up_views import standing

from netvlad_ros import cli
from netvlad_ros.config import Config
from netvlad_ros.errors import DatabaseError
from netvlad_ros.image_data import Pose
from netvlad_ros.keyframe import Session
from netvlad_ros.maps.files import write_map
from netvlad_ros.maps.merging import Merged, merge
from netvlad_ros.store.keyframe_store import StoredKeyframes, StoreHeader
from netvlad_ros.store.sqlite_store import SqliteStore

# Where the places are in the second map.
FRAME = standing(40.0, -7.0, 130.0)


def merged(first: Path, second: Path) -> tuple[Merged, Path]:
    """Both stay as they are."""
    before = first.read_bytes(), second.read_bytes()
    out = first.with_name("merged.db")
    found = merge(first, second, out, Config())
    assert (first.read_bytes(), second.read_bytes()) == before
    assert sorted(each.name for each in first.parent.iterdir()) == sorted(
        {first.name, second.name, out.name}
    )
    return found, out


def with_poses(block: StoredKeyframes, pose: Pose) -> StoredKeyframes:
    """All corrected poses are this one."""
    data = []
    for name, known in block.data:
        assert known.map_pose is not None
        data.append((name, replace(known, map_pose=replace(known.map_pose, pose=pose))))
    return replace(block, data=data)


def test_poses_of_the_second_map_get_into_the_frame_of_the_first(tmp_path: Path) -> None:
    first = save(tmp_path / "a.db", drive(range(10), np.eye(4)))
    second = save(tmp_path / "b.db", drive(range(2, 12), FRAME, visit=1))
    found, out = merged(first, second)
    (alignment,) = found.alignments
    assert (alignment.into, alignment.edges, alignment.agreeing) == ("map", 8, 8)
    assert (found.keyframes, found.in_both, found.own_frames) == (20, 0, {})
    known = content(out)
    assert list(known) == [*content(first), *content(second)]
    places = [position(known[name])[0] / 10 for name in content(second)]
    assert places == pytest.approx([*range(2, 12)], abs=0.02)
    assert [position(known[name])[1] for name in content(second)] == pytest.approx(
        [0.2] * 10, abs=0.1
    )
    assert {each.map_pose.pose.frame_id for each in known.values() if each.map_pose} == {"map"}


def test_a_covariance_turns_with_its_frame(tmp_path: Path) -> None:
    block = drive(range(8), standing(0, 0, 90), visit=1)
    spread = np.diag([9.0, 1, 1, 4, 1, 1])
    data = []
    for name, known in block.data:
        assert known.map_pose is not None
        pose = replace(known.map_pose.pose, covariance=spread)
        data.append((name, replace(known, map_pose=replace(known.map_pose, pose=pose))))
    first = save(tmp_path / "a.db", drive(range(8), np.eye(4)))
    second = save(tmp_path / "b.db", replace(block, data=data))
    _, out = merged(first, second)
    turned = content(out)[block.keyframes[0].name].map_pose
    assert turned is not None
    assert turned.pose.covariance is not None
    assert np.diag(turned.pose.covariance) == pytest.approx([1, 9, 1, 1, 4, 1], abs=0.1)


def test_without_enough_closures_poses_stay_in_a_frame_of_their_own(tmp_path: Path) -> None:
    first = save(tmp_path / "a.db", drive(range(10), np.eye(4)))
    second = save(tmp_path / "b.db", drive(range(7, 17), FRAME, visit=1))
    found, out = merged(first, second)
    (alignment,) = found.alignments
    assert (alignment.edges, alignment.agreeing, alignment.into) == (3, 3, "")
    (name,) = found.own_frames.values()
    assert name.startswith("map_")
    frames = [each.map_pose.pose.frame_id for each in content(out).values() if each.map_pose]
    assert frames == ["map"] * 10 + [name] * 10
    assert content(out).keys() == content(first).keys() | content(second).keys()


def test_closures_that_contradict_each_other_align_nothing(tmp_path: Path) -> None:
    """Half of the places are somewhere else in the second map."""
    here, there = drive(range(6), FRAME, 1), drive(range(6, 12), standing(500, 30, 20), 1)
    first = save(tmp_path / "a.db", drive(range(12), np.eye(4)))
    second = save(tmp_path / "b.db", here, there)
    found, _ = merged(first, second)
    assert (found.alignments[0].edges, found.alignments[0].agreeing) == (12, 6)
    assert found.own_frames.keys() == {"map"}


def test_keyframes_of_both_come_once_and_know_what_either_knew(tmp_path: Path) -> None:
    session = Session.new()
    whole = drive(range(8), FRAME, session=session)
    bare = replace(
        whole,
        keyframes=whole.keyframes[:6],
        descriptors=whole.descriptors[:6],
        data=[(name, replace(known, map_pose=None)) for name, known in list(whole.data)[:6]],
    )
    first = save(tmp_path / "a.db", bare, drive([20], np.eye(4)))
    second = save(tmp_path / "b.db", whole)
    found, out = merged(first, second)
    assert (found.keyframes, found.in_both) == (9, 6)
    known = content(out)
    assert len(known) == 9
    assert all(each.map_pose is not None for each in known.values())


def test_a_map_and_its_later_copy_share_poses_and_so_a_frame(tmp_path: Path) -> None:
    session = Session.new()
    first = save(tmp_path / "a.db", drive(range(8), np.eye(4), session=session))
    second = save(tmp_path / "b.db", drive(range(12), FRAME, session=session))
    found, out = merged(first, second)
    assert (found.keyframes, found.in_both) == (12, 8)
    assert found.alignments[0].agreeing >= 8
    assert [position(each)[0] for each in content(out).values()] == pytest.approx(
        [10.0 * place for place in range(12)], abs=0.01
    )


def test_a_map_with_itself_is_itself(tmp_path: Path) -> None:
    first = save(tmp_path / "a.db", drive(range(6), FRAME))
    merge(first, first, tmp_path / "c.db", Config())
    assert content(tmp_path / "c.db").keys() == content(first).keys()


@pytest.mark.parametrize("poses", [(False, False), (True, False), (False, True)])
def test_maps_without_poses_are_merged_all_the_same(
    poses: tuple[bool, bool], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [np.eye(4) if each else None for each in poses]
    first = save(tmp_path / "a.db", drive(range(6), frames[0]))
    second = save(tmp_path / "b.db", drive(range(6), frames[1], visit=1))
    out = tmp_path / "c.db"
    assert cli.main(["map", "merge", str(first), "-o", str(out), str(second)]) == 0
    assert len(content(out)) == 12
    said = "stays a frame of its own" if poses[1] else "no corrected poses: there is nothing"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_poses_that_are_no_numbers_align_nothing_and_stay_as_they_are(
    number: float, tmp_path: Path
) -> None:
    wrong = Pose("map", "base_link", np.full(3, number), np.array([0.0, 0, 0, 1]))
    first = save(tmp_path / "a.db", drive(range(8), np.eye(4)))
    second = save(tmp_path / "b.db", with_poses(drive(range(8), FRAME, 1), wrong))
    found, out = merged(first, second)
    assert found.alignments[0].edges == 0
    known = list(content(out).values())[-1]
    assert not np.isfinite(position(known)).any()


def refusal(first: Path, second: Path) -> str:
    """The sentence; both maps stay as they are, and nothing is written."""
    before = {each: each.read_bytes() for each in first.parent.iterdir()}
    with pytest.raises(DatabaseError) as error:
        merge(first, second, first.with_name("out.db"), Config())
    assert {each: each.read_bytes() for each in first.parent.iterdir()} == before
    sentence = str(error.value)
    assert sentence[-1] in ".?"
    assert "\n" not in sentence
    assert "partial" not in sentence
    return sentence


class TestWhatCanNotBeMerged:
    """Each with a sentence."""

    @pytest.fixture
    def first(self, tmp_path: Path) -> Path:
        return save(tmp_path / "a.db", drive(range(8), np.eye(4)))

    @pytest.fixture
    def second(self, tmp_path: Path) -> Path:
        return save(tmp_path / "b.db", drive(range(8), FRAME, visit=1))

    def test_of_another_model(self, first: Path, tmp_path: Path) -> None:
        second = save(tmp_path / "b.db", drive(range(8)), fingerprint="other")
        assert "of model other with 64 dimensions" in refusal(first, second)
        assert "re-extract" in refusal(first, second)

    def test_of_a_later_format(self, first: Path, second: Path) -> None:
        connection = SqliteStore(second)._connection("write")
        with connection as opened:
            opened.execute("PRAGMA user_version = 99")
        assert "has format 99" in refusal(first, second)

    @pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
    def test_cut_off(self, share: float, first: Path, second: Path) -> None:
        whole = second.read_bytes()
        second.write_bytes(whole[: int(share * len(whole)) // 512 * 512])
        assert "damaged" in refusal(first, second)

    def test_of_other_byte_order(self, first: Path, tmp_path: Path) -> None:
        block = drive(range(8))
        second = save(tmp_path / "b.db", replace(block, descriptors=block.descriptors.byteswap()))
        assert "they are big-endian" in refusal(first, second)

    def test_something_else(self, first: Path, tmp_path: Path) -> None:
        other = tmp_path / "b.db"
        other.write_text("a letter, not a map" * 100)
        assert "the file is something else" in refusal(first, other)
        assert "there is no such database" in refusal(first, tmp_path / "absent.db")

    def test_while_somebody_writes_it(self, first: Path, second: Path) -> None:
        with SqliteStore(second)._connection("write") as writer:
            writer.execute("BEGIN EXCLUSIVE")
            assert "another process is writing it" in refusal(first, second)

    def test_over_something_that_is_there(self, first: Path, second: Path) -> None:
        out = first.with_name("out.db")
        out.write_text("precious")
        assert "is there already" in refusal(first, second)
        assert out.read_text() == "precious"


def test_of_two_that_write_one_map_the_second_is_refused(tmp_path: Path) -> None:
    out, block = tmp_path / "out.db", drive(range(3))

    def slowly() -> Iterator[StoredKeyframes]:
        save(out, drive(range(5)))  # somebody else, meanwhile
        yield block

    with pytest.raises(DatabaseError, match="is there already"):
        write_map(out, StoreHeader("d" * 32, "model", len(view(0))), slowly())
    assert len(content(out)) == 5
    assert [each.name for each in tmp_path.iterdir()] == ["out.db"]


def test_a_disk_that_gets_full_leaves_everything_as_it_was(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        first = save(disk / "a.db", drive(range(25), np.eye(4)))
        second = save(disk / "b.db", drive(range(25), FRAME, visit=1))
        assert "the disk is full" in refusal(first, second)
        subprocess.run(["mount", "-o", "remount,size=9M", str(disk)], check=True)
        found, out = merged(first, second)
        assert len(content(out)) == found.keyframes == 50
    finally:
        subprocess.run(["umount", str(disk)], check=True)
