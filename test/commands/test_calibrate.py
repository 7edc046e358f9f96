# SPDX-License-Identifier: MIT
"""`netvlad calibrate` turns drives into limits, says how sure they are, and what it can not tell."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from netvlad_ros.config import CandidateConfig
from netvlad_ros.config.files import load_config

Run = Callable[..., tuple[int, str, str]]
SETTINGS = (
    *("--set", "database.exclude_recent_s=20", "--set", "keyframes.min_descriptor_change=0"),
    *("--set", "verification.features=none"),
)


def drive(folder: Path, places: int, laps: int = 2) -> Path:
    """The same places in each lap, 10 m and a second apart."""
    folder.mkdir()
    lines = ["image,x_m,y_m,time_s"]
    for number in range(places * laps):
        place = number % places
        rng = np.random.default_rng(place)
        blocks = rng.integers(0, 256, (6, 8, 3)) + np.random.default_rng(number).normal(
            0, 9, (6, 8, 3)
        )
        picture = np.clip(blocks, 0, 255).astype(np.uint8)
        cv2.imwrite(
            str(folder / f"{number}.png"),
            cv2.resize(picture, (64, 48), interpolation=cv2.INTER_NEAREST),
        )
        lines.append(f"{number}.png,{10 * place},0,{number}")
    (folder / "poses.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "poses.csv"


@pytest.fixture
def calibrate(netvlad: Run, tmp_path: Path) -> Run:
    def run(*words: object) -> tuple[int, str, str]:
        model = ("--model", "baseline:thumbnails", "--cache", tmp_path / "cache")
        return netvlad("calibrate", *SETTINGS, *words, *model, "-o", tmp_path / "out")

    return run


def test_limits_come_out_with_an_interval_a_picture_and_a_file_of_parameters(
    calibrate: Run, tmp_path: Path
):
    code, out, _ = calibrate(drive(tmp_path / "drive", 45))
    assert code == 0
    assert "40 of them close a loop" in out or "45 of them close a loop" in out
    assert "right: within 5 m" in out
    assert "similarity: from " in out
    assert "sequence score: from " in out
    assert "100.0% (95 %: " in out
    assert "more loops that are found would make it narrow enough" in out
    picture = cv2.imread(str(tmp_path / "out" / "distributions.png"))
    assert picture is not None
    candidates = load_config(tmp_path / "out" / "parameters.yaml").candidates
    assert 0.5 < float(candidates.min_similarity) <= 1.0
    assert float(candidates.min_sequence_score) > 0.0


def test_with_local_features_the_least_number_of_inliers_comes_out_too(
    calibrate: Run, tmp_path: Path
):
    features = ("--set", "verification.features=orb")
    code, out, _ = calibrate(drive(tmp_path / "drive", 45), *features)
    assert code == 0
    assert "inliers: " in out


def test_too_few_loops_leave_the_models_own_calibration(calibrate: Run, tmp_path: Path):
    code, out, _ = calibrate(drive(tmp_path / "drive", 25))
    assert code == 0
    assert "the model's own calibration stays" in out
    assert load_config(tmp_path / "out" / "parameters.yaml").candidates == CandidateConfig()


def test_several_drives_count_together(calibrate: Run, tmp_path: Path):
    drives = [drive(tmp_path / name, 25) for name in ("one", "two")]
    assert "similarity: from " in calibrate(*drives)[1]


@pytest.mark.slow
def test_without_positions_it_says_that_geometry_tells_what_is_right(
    netvlad: Run, shared: Path, tmp_path: Path
):
    bag = shared / "data" / "bags" / "rtabmap_loop_mcap"
    words = ("--set", "database.exclude_recent_s=20", "--cache", tmp_path / "cache")
    code, out, _ = netvlad("calibrate", bag, "--model", "baseline:thumbnails", *words)
    assert code == 0
    assert (
        "local features agree by geometry as closures.min_inliers asks for, which "
        "look-alike places" in out
    )


def test_without_positions_and_without_features_nothing_tells_what_is_right(
    calibrate: Run, shared: Path
):
    code, _, err = calibrate(shared / "data" / "bags" / "rtabmap_loop_mcap")
    assert code == 1
    assert "nothing tells what is right" in err
