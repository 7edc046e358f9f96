# SPDX-License-Identifier: MIT
"""A map becomes a folder that other programs read, and a map again."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_maps import content, drive, save
from made_up_views import standing

from netvlad_ros import cli
from netvlad_ros.errors import DatabaseError
from netvlad_ros.keyframe import Session, Stream
from netvlad_ros.maps.folder import export_map, import_map
from netvlad_ros.store.sqlite_store import SqliteStore

FRAME = standing(3.0, 4.0, 50.0)
SESSION = Session("a" * 32, Stream("spot", "front"), "cellar")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    drives = (
        drive(range(4), FRAME, session=SESSION, start_s=1_700_000_000),
        drive(range(2), session=Session("b" * 32)),
    )
    return save(tmp_path / "a.db", *drives)


@pytest.fixture
def folder(path: Path) -> Path:
    folder = path.with_name("folder")
    assert export_map(path, folder) == 0
    return folder


def test_other_programs_find_what_they_know(folder: Path) -> None:
    assert np.load(folder / "descriptors.npy").shape == (6, 64)
    with (folder / "keyframes.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [each["number"] for each in lines] == ["0", "1", "2", "3", "0", "1"]
    assert lines[1]["stamp_ns"] == "1700000002000000000"
    assert (lines[0]["robot"], lines[0]["camera"], lines[0]["map"]) == ("spot", "front", "cellar")
    tum = (folder / "corrected" / f"{SESSION.uuid}.tum").read_text().splitlines()
    assert len(tum) == 4
    assert tum[0].startswith("1700000000.000000000 3 4 0 0 0 ")
    assert sorted(each.name for each in (folder / "odometry").iterdir()) == [
        f"{letter * 32}.tum" for letter in "ab"
    ]
    assert (folder / "thumbnails" / "000003.jpg").read_bytes() == b"\xff\xd8\x03"
    assert json.loads((folder / "map.json").read_text())["fingerprint"] == "model"


def test_it_comes_back(path: Path, folder: Path) -> None:
    out = path.with_name("b.db")
    assert import_map(folder, out) == 6
    for (name, before), (again, after) in zip(
        content(path).items(), content(out).items(), strict=True
    ):
        assert name == again
        assert before.thumbnail == after.thumbnail
        assert before.features is not None
        assert after.features is not None
        assert np.array_equal(before.features.descriptors, after.features.descriptors)
        assert before.features.points_m is not None
        assert after.features.points_m is not None
        assert np.array_equal(before.features.points_m, after.features.points_m)
        assert after.camera is not None
        assert after.camera.frame_id == "camera"
        assert before.odometry is not None
        assert after.odometry is not None
        assert after.odometry.position_m == pytest.approx(before.odometry.position_m, abs=1e-7)
        assert (before.map_pose is None) == (after.map_pose is None)
    stores = [SqliteStore(each) for each in (path, out)]
    blocks = [list(each.load()[1]) for each in stores]
    assert np.array_equal(blocks[0][0].descriptors, blocks[1][0].descriptors)
    assert blocks[0][0].keyframes == blocks[1][0].keyframes


def test_the_commands_do_it(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = str(tmp_path / "folder"), str(tmp_path / "b.db")
    assert cli.main(["map", "export", str(path), "-o", folder]) == 0
    assert cli.main(["map", "import", folder, "-o", out]) == 0
    assert "6 keyframes" in capsys.readouterr().out
    assert cli.main(["map", "export", str(path), "-o", folder]) == 1
    assert "is there already" in capsys.readouterr().err


def test_poses_of_another_program_with_fewer_digits_are_taken(folder: Path, tmp_path: Path) -> None:
    file = folder / "corrected" / f"{SESSION.uuid}.tum"
    file.write_text("# by another program\n1700000002.0001 7 8 9 0 0 0 1\n")
    import_map(folder, tmp_path / "b.db")
    known = [each.map_pose for each in content(tmp_path / "b.db").values()]
    assert [each is not None for each in known] == [False, True, False, False, False, False]
    assert known[1] is not None
    assert known[1].pose.position_m.tolist() == [7, 8, 9]


def test_descriptors_of_another_byte_order_are_taken(folder: Path, tmp_path: Path) -> None:
    vectors = np.load(folder / "descriptors.npy")
    np.save(folder / "descriptors.npy", vectors.astype(">f4"))
    import_map(folder, tmp_path / "b.db")
    (block,) = SqliteStore(tmp_path / "b.db").load()[1]
    assert np.array_equal(block.descriptors, vectors)


def test_poses_that_are_no_numbers_stay_out_of_the_folder(tmp_path: Path) -> None:
    block = drive(range(3))
    data = [
        (name, replace(known, odometry=replace(known.odometry, position_m=np.full(3, np.nan))))
        for name, known in block.data
        if known.odometry is not None
    ]
    path = save(tmp_path / "a.db", replace(block, data=data))
    assert export_map(path, tmp_path / "folder") == 3
    assert import_map(tmp_path / "folder", tmp_path / "b.db") == 3


def _cut(name: str, share: float = 0.5) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(share * len(whole))])

    return cut


def _changed(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


TUM = f"odometry/{SESSION.uuid}.tum"


@pytest.mark.parametrize(
    ("damage", "file"),
    [
        (_cut("map.json"), "map.json"),
        (_changed("map.json", '"version": 1', '"version": 2'), "map.json"),
        (_changed("map.json", "fingerprint", "print"), "map.json"),
        (_changed("map.json", '"k"', '"kk"'), "map.json"),
        (_cut("descriptors.npy"), "descriptors.npy"),
        (lambda folder: np.save(folder / "descriptors.npy", np.ones((6, 64), np.int32)), "npy"),
        (lambda folder: np.save(folder / "descriptors.npy", np.ones((6, 64), np.float32)), "npy"),
        (lambda folder: np.save(folder / "descriptors.npy", np.eye(64)[:5]), "keyframes.csv"),
        (_cut("keyframes.csv"), "keyframes.csv"),
        (_changed("keyframes.csv", "stamp_ns", "stamp"), "keyframes.csv"),
        (_changed("keyframes.csv", "a" * 32, "xyz"), "keyframes.csv"),
        (_changed("keyframes.csv", f"{'a' * 32},1,", f"{'a' * 32},0,"), "keyframes.csv"),
        (_changed("keyframes.csv", ",0\n", ",7\n"), "keyframes.csv"),
        (_changed(TUM, "1700000000.", "nan."), TUM),
        (_changed(TUM, " 0 0 0 1", " 0 0 nan 1"), TUM),
        (_changed(TUM, "1700000002.", "1600000000."), TUM),
        (_cut("features/000002.npz"), "features/000002.npz"),
        (_cut("features/000002.npz", 0), "features/000002.npz"),
        (_cut("descriptors.npy", 0), "descriptors.npy"),
        (_changed("map.json", '"format"', "[" * 100_000), "map.json"),
        (
            _changed("map.json", '"distortion_model": "plumb_bob"', '"distortion_model": 7'),
            "map.json",
        ),
        (_changed("map.json", '"child_frame_id": "base', '"child_frame_id": 7, "": "'), TUM),
        (_changed("keyframes.csv", ",0\n", "\n"), "keyframes.csv"),
        (_changed("keyframes.csv", ",0\n", f",{'0' * 200_000}\n"), "keyframes.csv"),
        (lambda folder: (folder / "keyframes.csv").unlink(), "keyframes.csv"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_with_the_file(
    damage: Callable[[Path], None], file: str, folder: Path, tmp_path: Path
) -> None:
    damage(folder)
    with pytest.raises(DatabaseError) as error:
        import_map(folder, tmp_path / "b.db")
    assert str(error.value).startswith(str(folder))
    assert f"{file}: " in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.db", "folder"]
