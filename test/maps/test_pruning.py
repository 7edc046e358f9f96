# SPDX-License-Identifier: MIT
"""Keyframes of a session, of before a date, or too many of them go; everything else stays as it was."""

from pathlib import Path

import numpy as np
import pytest
from made_up_maps import SECOND, content, drive, save, view

from netvlad_ros import cli
from netvlad_ros.keyframe import Keyframe, Session
from netvlad_ros.store.keyframe_store import StoredKeyframes


def pruned(path: Path, *words: str) -> list[tuple[str, int]]:
    """Names of what is left, which know what they knew; the map itself stays as it is."""
    before, out = path.read_bytes(), path.with_name("out.db")
    assert cli.main(["map", "prune", str(path), "-o", str(out), *words]) == 0
    assert path.read_bytes() == before
    left, all_of_them = content(out), content(path)
    for name, data in left.items():
        assert data.thumbnail == all_of_them[name].thumbnail
        assert data.features is not None
    return list(left)


def test_a_session_goes_by_its_uuid_or_how_that_begins(tmp_path: Path) -> None:
    sessions = [Session(f"{letter}" * 32) for letter in "abc"]
    path = save(tmp_path / "a.db", *(drive(range(3), session=each) for each in sessions))
    left = pruned(path, "--session", "a" * 32, "--session", "bb")
    assert left == [("c" * 32, number) for number in range(3)]


def test_what_is_older_than_a_date_goes(tmp_path: Path) -> None:
    old, new = drive(range(3), start_s=1_700_000_000), drive(range(4), start_s=1_800_000_000)
    path = save(tmp_path / "a.db", old, new)
    assert pruned(path, "--before", "2026-01-31") == [each.name for each in new.keyframes]


def test_of_each_place_so_many_stay_the_oldest_ones(tmp_path: Path) -> None:
    laps = [drive(range(8), visit=visit, start_s=1000 * visit) for visit in range(4)]
    path = save(tmp_path / "a.db", *laps)
    assert pruned(path, "--alike", "1") == [each.name for each in laps[0].keyframes]


def test_what_is_the_only_one_of_its_place_stays(tmp_path: Path) -> None:
    laps = [drive(range(8)), drive(range(4, 12), visit=1, start_s=1000)]
    path = save(tmp_path / "a.db", *laps)
    left = pruned(path, "--alike", "1")
    assert {each.name for each in laps[0].keyframes} <= set(left)
    assert {each.name for each in laps[1].keyframes[4:]} <= set(left)
    # The last closure between the two drives stays too, so that their pose graph is one.
    assert len(left) == 8 + 4 + 1


def test_a_number_is_reached_by_what_looks_most_like_its_neighbours(tmp_path: Path) -> None:
    """A robot that stood still fills a map; how it went there stays."""
    places = [0, 1, 2, *([3] * 10), 4, 5, 6]
    session = Session.new()
    keyframes = [Keyframe(session, n, n * SECOND) for n in range(len(places))]
    views = np.array([view(place, visit=n) for n, place in enumerate(places)])
    known = list(drive(places, session=session).data)
    path = save(tmp_path / "a.db", StoredKeyframes(keyframes, views, known))
    left = [places[number] for _, number in pruned(path, "--max", "8")]
    assert left == [0, 1, 2, 3, 3, 4, 5, 6]


def test_a_dry_run_says_what_would_go_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = Session.new()
    path = save(tmp_path / "a.db", drive(range(5), session=session), drive(range(3)))
    assert cli.main(["map", "prune", str(path), "--session", session.uuid, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "5 of 8 keyframes would go, 3 are left" in said
    assert f"session {session.uuid}: 5 of 5" in said
    assert [each.name for each in tmp_path.iterdir()] == ["a.db"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "expected --session, --before, --alike or --max"),
        (["--session", "f00"], "has no session f00; `netvlad map info` lists them"),
        (["--session", "aa", "--session", "f00"], "has no session f00"),
        (["--session", ""], "has no session (no name)"),
        (["--max", "1"], "expected -o MAP for what is left, or --dry-run"),
    ],
)
def test_what_is_not_clear_is_refused(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "a.db", drive(range(3), session=Session("a" * 32)))
    out = [] if "--dry-run" in sentence else ["-o", str(tmp_path / "out.db")]
    assert cli.main(["map", "prune", str(path), *out, *words]) == 1
    assert sentence in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["a.db"]


def test_without_local_features_nobody_knows_places(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    block = drive(range(3))
    path = save(tmp_path / "a.db", StoredKeyframes(block.keyframes, block.descriptors))
    assert cli.main(["map", "prune", str(path), "--alike", "1", "--dry-run"]) == 1
    assert "has no local features" in capsys.readouterr().err
