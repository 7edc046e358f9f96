# SPDX-License-Identifier: MIT
"""What a map holds is told, also of an old or a damaged one, and the file stays as it is."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_maps import drive, save
from made_up_views import standing

from netvlad_ros import cli
from netvlad_ros.errors import DatabaseError
from netvlad_ros.keyframe import Session, Stream
from netvlad_ros.maps.info import map_info
from netvlad_ros.store.sqlite_store import SqliteStore

VERSION_1 = Path(__file__).parents[1] / "store" / "data" / "version1.db"


def test_everything_is_counted(tmp_path: Path) -> None:
    session = Session.new(Stream("spot", "front"), "cellar")
    path = save(
        tmp_path / "a.db",
        drive(range(5), standing(1.0), session=session),
        drive(range(3), start_s=90),
    )
    info = map_info(path)
    assert (info.keyframes, info.fingerprint, info.dims) == (8, "model", 64)
    assert (info.format_version, info.problem) == (2, "")
    assert info.kinds["local_features"] == info.kinds["thumbnail"] == info.kinds["odometry"] == 8
    assert info.kinds["corrected_pose"] == info.frames["map"] == 5
    assert info.features == {"orb": 8}
    assert info.kind_bytes["descriptor"] == 8 * 64 * 4
    assert sum(info.kind_bytes.values()) < info.file_bytes == path.stat().st_size
    first, second = info.sessions
    assert (first.robot, first.camera, first.map) == ("spot", "front", "cellar")
    assert (first.keyframes, first.first_ns, first.last_ns) == (5, 0, 8 * 10**9)
    assert (second.keyframes, second.first_ns) == (3, 90 * 10**9)


def test_poses_that_are_no_numbers_are_counted(tmp_path: Path) -> None:
    block = drive(range(3), standing())
    data = []
    for name, known in block.data:
        assert known.odometry is not None
        assert known.map_pose is not None
        wrong = replace(known.map_pose.pose, orientation_xyzw=np.zeros(4))
        odometry = replace(known.odometry, position_m=np.full(3, np.nan))
        map_pose = replace(known.map_pose, pose=wrong)
        data.append((name, replace(known, odometry=odometry, map_pose=map_pose)))
    info = map_info(save(tmp_path / "a.db", replace(block, data=data)))
    assert info.not_numbers == {"odometry": 3, "corrected_pose": 3}


def test_a_map_of_an_earlier_format_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    path = Path(shutil.copy(VERSION_1, tmp_path / "old.db"))
    info = map_info(path)
    assert (info.format_version, info.problem) == (1, "")
    assert info.keyframes > 0
    assert path.read_bytes() == VERSION_1.read_bytes()


def test_of_a_damaged_map_is_told_what_can_be_and_what_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "a.db", drive(range(5)))
    with SqliteStore(path)._connection("write") as connection:
        connection.execute("UPDATE odometry SET position_m = zeroblob(24) WHERE keyframe = 3")
    assert cli.main(["map", "info", str(path)]) == 1
    said = capsys.readouterr().out
    assert "model, 64 dimensions" in said
    assert "is damaged; restore a copy of the file." in said


def test_the_command_prints_it_and_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "a.db", drive(range(5), standing()))
    assert cli.main(["map", "info", str(path), "--json", str(tmp_path / "a.json")]) == 0
    said = capsys.readouterr().out
    assert "5 of 1 sessions" in said
    assert "5 poses in map" in said
    assert "all of it" in said
    assert json.loads((tmp_path / "a.json").read_text())["keyframes"] == 5


def test_figures_are_not_written_over_the_map(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "a.db", drive(range(3)))
    before = path.read_bytes()
    (tmp_path / "link.json").symlink_to(path)
    for figures in (path, tmp_path / "link.json"):
        assert cli.main(["map", "info", str(path), "--json", str(figures)]) == 1
        assert "choose another name" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_sessions_are_whole_in_a_narrow_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    path = save(tmp_path / "a.db", drive(range(3), session=Session("a" * 32)))
    assert cli.main(["map", "info", str(path)]) == 0
    said = capsys.readouterr().out
    assert "a" * 32 in said
    assert "…" not in said


def test_an_empty_map_has_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "a.db")
    assert cli.main(["map", "info", str(path)]) == 0
    assert "0 of 0 sessions" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"something else" * 100])
def test_what_is_no_map_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(content)
    with pytest.raises(DatabaseError, match=r"a\.db: "):
        map_info(path)
    with pytest.raises(DatabaseError, match="no such database"):
        map_info(tmp_path / "absent.db")
