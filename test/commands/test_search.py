# SPDX-License-Identifier: MIT
"""`netvlad search` finds places in a folder, and says in a sentence what it can't search."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_networks import save_tiny_network

from netvlad_ros import cli

ROOT = Path(__file__).resolve().parents[2]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def search(netvlad: Run) -> Run:
    return partial(netvlad, "search")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with made-up weights, always the same."""
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    return save_tiny_network(path, input_width_px=64, input_height_px=48, input_scale=(1 / 255,))


def pattern(place: int) -> np.ndarray:
    blocks = np.random.default_rng(place).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(blocks, (64, 48), interpolation=cv2.INTER_NEAREST)


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """Five places, and a file that is none."""
    folder = tmp_path / "gallery"
    folder.mkdir()
    for place in range(5):
        cv2.imwrite(str(folder / f"{place}.png"), pattern(place))
    (folder / "broken.png").write_text("no image")
    return folder


def video(path: Path, *places: int) -> Path:
    """A place a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 4.0, (64, 48))
    for place in places:
        for _ in range(4):
            writer.write(pattern(place))
    writer.release()
    return path


def test_a_picture_is_found_and_the_second_time_nothing_is_embedded(
    search: Run, model: Path, gallery: Path, tmp_path: Path
):
    cv2.imwrite(str(tmp_path / "query.png"), pattern(3))
    words = (gallery, tmp_path / "query.png", "--model", model, "-n", 3)
    code, out, err = search(*words, "-o", tmp_path / "out")
    assert code == 0
    assert " ms an image\n" in out
    assert "gallery: 5 images described now, 0 before" in out
    assert "   1  1.0000  3.png\n   2  " in out
    assert "gallery: broken.png skipped: expected an image" in err
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [
        "matches.png",
        "results.json",
    ]
    [query] = json.loads((tmp_path / "out" / "results.json").read_text())["queries"]
    assert [match["rank"] for match in query["matches"]] == [1, 2, 3]
    assert query["matches"][0]["path"] == "3.png"
    assert "gallery: 0 images described now, 5 before" in search(*words)[1]


def test_another_input_size_is_another_gallery(search: Run, model: Path, gallery: Path):
    words = (gallery, gallery / "1.png", "--model", model)
    assert "gallery: 5 images described now" in search(*words)[1]
    size = ("--set", "extractor.input_width_px=96", "--set", "extractor.input_height_px=64")
    assert "gallery: 5 images described now" in search(*words, *size)[1]
    assert "gallery: 0 images described now, 5 before" in search(*words)[1]


def test_the_cache_lies_where_it_is_told_to(
    search: Run, model: Path, gallery: Path, tmp_path: Path
):
    search(gallery, gallery / "1.png", "--model", model, "--cache", tmp_path / "mine")
    assert [each.suffix for each in (tmp_path / "mine").iterdir()] == [".sqlite"]
    assert not (tmp_path / "cache").exists()


def test_a_folder_of_queries_is_told_line_by_line(
    search: Run, model: Path, gallery: Path, tmp_path: Path
):
    code, out, err = search(gallery, gallery, "--model", model, "-o", tmp_path / "out")
    assert code == 0
    assert "\n0.png: " in out
    assert "0.png: 0.png" not in out  # an image does not match itself
    assert "5 queries (on average: " in out
    assert ", 1 skipped" in out
    assert "broken.png skipped" in err
    assert (tmp_path / "out" / "matches_001.png").exists()


def test_a_video_is_searched_second_by_second(
    search: Run, model: Path, gallery: Path, tmp_path: Path
):
    drive = video(tmp_path / "drive.avi", 2, 0)
    code, out, _ = search(gallery, drive, "--model", model)
    assert code == 0
    assert "frame 0 at 0.00 s: 2.png, similarity" in out
    assert "frame 4 at 1.00 s: 0.png, similarity" in out
    assert "2 queries" in out
    assert "8 queries" in search(gallery, drive, "--model", model, "--every", 0)[1]


def test_ctrl_c_ends_a_stream_and_writes_what_was_found(model: Path, gallery: Path, tmp_path: Path):
    long = video(tmp_path / "long.avi", *[2, 0] * 200)
    words = [gallery, long, "--model", model, "--every", 0, "-o", tmp_path / "out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "netvlad_ros.cli", "search", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
    )
    assert process.stdout is not None
    while "frame 3" not in (line := process.stdout.readline()):
        assert line
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "queries (on average" in out
    found = json.loads((tmp_path / "out" / "results.json").read_text())["queries"]
    assert 4 <= len(found) < 1600


def test_what_can_not_be_searched_is_one_sentence(
    search: Run, model: Path, gallery: Path, tmp_path: Path
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "dark").mkdir()
    cv2.imwrite(str(tmp_path / "dark" / "1.png"), np.zeros((48, 64, 3), np.uint8))
    for words, says in (
        ((gallery, gallery / "1.png", "--model", "absent.keras"), "no such model file"),
        ((tmp_path / "empty", gallery, "--model", model), "expected images (avif, bmp"),
        ((tmp_path / "absent", gallery, "--model", model), "there is no such folder"),
        ((tmp_path / "dark", gallery, "--model", model), "none of 1 images can be used"),
        ((gallery, tmp_path / "dark", "--model", model), "none of 1 queries can be used"),
        ((gallery, gallery / "broken.png", "--model", model), "expected an image, got a file"),
        ((gallery, "absent.png", "--model", model), "no such file or folder"),
        ((gallery, "77", "--model", model), "camera 77: there is no /dev/video77"),
        ((gallery, gallery, "--model", model, "-o", model), "can't make this folder"),
    ):
        code, _, err = search(*words)
        last = err.splitlines()[-1]
        assert (code, says in last, last.startswith("netvlad: ")) == (1, True, True), err


def test_numbers_that_can_not_be_are_refused(search: Run, gallery: Path):
    for words in (("-n", 0), ("-n", "many"), ("--every", -1), ("--every", "nan")):
        with pytest.raises(SystemExit) as end:
            search(gallery, gallery, *words)
        assert end.value.code == 2


@pytest.mark.slow
def test_places_of_a_recorded_loop_are_found_again(search: Run, shared: Path, tmp_path: Path):
    """The second lap, in the first one: a genuinely trained network finds most places at rank 1."""
    path = tmp_path / "model.keras"
    source = shared / "reference" / "cartwheel" / "mobilenet_color_raw_8192.h5"
    words = ["import-weights", str(source), "--input", "cartwheel-raw", "-o", str(path)]
    assert cli.main(words) == 0
    samples = shared / "data" / "rtabmap_samples"
    rows = (samples / "loop_closures.csv").read_text(encoding="utf-8").splitlines()[1:]
    right = {f"{query}.jpg": places.split() for query, places in (row.split(",") for row in rows)}
    for file in (samples / "images").iterdir():
        lap = tmp_path / ("second" if file.name in right else "first")
        lap.mkdir(exist_ok=True)
        (lap / file.name).symlink_to(file)
    code, _, _ = search(
        tmp_path / "first", tmp_path / "second", "--model", path, "-o", tmp_path / "out"
    )
    assert code == 0
    queries = json.loads((tmp_path / "out" / "results.json").read_text())["queries"]
    first = [
        query["matches"][0]["path"].removesuffix(".jpg") in right[query["query"]]
        for query in queries
    ]
    assert len(first) == 44
    assert sum(first) >= 38
