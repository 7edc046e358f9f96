# SPDX-License-Identifier: MIT
"""What a user types, and what the terminal then says: results on stdout, one line for what is wrong."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from recording import SECOND, drive, image, text, write_bag

import netvlad_ros
from netvlad_ros import cli
from netvlad_ros.commands import config as config_command
from netvlad_ros.config.files import load_config
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.store.sqlite_store import SqliteStore

ROOT = Path(__file__).resolve().parents[1]
NETVLAD = [sys.executable, "-m", "netvlad_ros.cli"]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with made-up weights, always the same."""
    from tiny_networks import save_tiny_network

    return save_tiny_network(tmp_path_factory.mktemp("model") / "tiny.keras")


@pytest.fixture(scope="session")
def cartwheel_model(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A genuinely trained network."""
    source = shared / "reference" / "cartwheel" / "mobilenet_color_raw_8192.h5"
    path = tmp_path_factory.mktemp("cartwheel") / "model.keras"
    words = ["import-weights", str(source), "--input", "cartwheel-raw", "-o", str(path)]
    assert cli.main(words) == 0
    return path


def pattern(place: int) -> np.ndarray:
    """A picture that no other place has: the larger the number, the finer and the darker."""
    blocks = np.random.default_rng(place).integers(
        0, 255 // (place + 1), (3 * place + 2, 2), np.uint8
    )
    return cv2.resize(blocks, (160, 120), interpolation=cv2.INTER_NEAREST)


def laps(*places: int) -> dict[str, Any]:
    """A recording of one place a second on /camera."""
    stamps = [number * SECOND for number in range(1, len(places) + 1)]
    return {"/camera": [(s, image(s, pattern(one))) for s, one in zip(stamps, places, strict=True)]}


def replay_words(bag: Path, model: Path, *words: object) -> list[object]:
    """Finds a place again after two seconds, if it looks exactly as before.

    To made-up weights, different places look nearly the same.
    """
    limits = (
        "--set",
        "keyframes.min_descriptor_change=0",
        "--set",
        "database.exclude_recent_s=2",
        "--set",
        "candidates.min_similarity=0.99995",
    )
    return ["replay", bag, "--model", model, *limits, *words]


def in_new_process(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [*NETVLAD, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_and_config_load_nothing_that_takes_long():
    heavy = "{'numpy', 'keras', 'tensorflow', 'faiss', 'cv2', 'matplotlib', 'rosbags', 'rclpy'}"
    for words in (["--help"], ["config"]):
        code = f"""
import sys
from netvlad_ros.cli import main
try:
    main({words})
except SystemExit:
    pass
print(sorted({heavy} & set(sys.modules)))
"""
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]"


def test_only_the_command_that_is_asked_for_is_imported():
    code = """
import sys
from netvlad_ros.cli import COMMANDS, main
try:
    main(["export", "--help"])
except SystemExit:
    pass
modules = {name.replace("-", "_") for name in COMMANDS}
print(sorted(name for name in modules if f"netvlad_ros.commands.{name}" in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "usage: netvlad export" in done.stdout
    assert done.stdout.splitlines()[-1] == "['export']"


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"netvlad {netvlad_ros.__version__}\n"


def test_config_prints_a_file_that_it_reads_itself(netvlad: Run, tmp_path: Path) -> None:
    code, out, _ = netvlad("config", "--set", "candidates.min_similarity=0.85")
    assert code == 0
    file = tmp_path / "config.yaml"
    file.write_text(out, encoding="utf-8")
    assert load_config(file).candidates.min_similarity == 0.85
    assert netvlad("config", "--config", file)[1] == out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--set", "candidates.min_similarty=1"), "did you mean candidates.min_similarity?"),
        (("--set", "candidates.min_similarity=7"), "expected -1 to 1 | model, got 7"),
        (("--set", "min_similarity"), "expected section.name=value"),
        (("--config", "absent.yaml"), "absent.yaml: can't read the configuration file"),
    ],
)
def test_a_mistake_in_the_configuration_is_one_line_and_exit_code_1(
    netvlad: Run, words: tuple[str, ...], says: str
) -> None:
    code, out, err = netvlad("config", *words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("netvlad: ")
    assert says in err


def test_options_may_stand_between_the_words(netvlad: Run, tmp_path: Path) -> None:
    code, _, said = netvlad("evaluate", "m.keras", "-o", tmp_path / "report", tmp_path / "absent")
    assert code == 1
    assert said.startswith(f"netvlad: {tmp_path}/absent: there is no such file or folder")


def test_an_option_that_a_command_has_not_is_refused_with_its_usage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["evaluate", "places.csv", "--radios", "3"])
    said = capsys.readouterr().err
    assert said.startswith("usage: netvlad evaluate")
    assert "unrecognized arguments: --radios" in said


def test_ctrl_c_is_quiet(netvlad: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(config_command, "load_config", interrupt)
    assert netvlad("config") == (130, "", "")


def test_ctrl_c_during_a_replay_is_quiet(tmp_path: Path, model: Path) -> None:
    bag = write_bag(tmp_path / "long", laps(*range(3), *[0, 1, 2] * 300))
    process = subprocess.Popen(
        [*NETVLAD, *map(str, replay_words(bag, model))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert "looks like" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (130, "")


def test_a_reader_that_has_gone_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*NETVLAD, "config"], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert done.stderr == b""


def test_import_weights_makes_a_model_file(netvlad: Run, shared: Path, tmp_path: Path) -> None:
    from netvlad_ros.model import load_model

    source = shared / "reference" / "cartwheel" / "mobilenetv2_gray_1024.h5"
    words = ("--input", "cartwheel-centred", "-o", tmp_path / "grey.keras")
    code, out, _ = netvlad("import-weights", source, *words)
    assert code == 0
    assert "mobilenet_v2, 1024 dimensions" in out
    assert load_model(tmp_path / "grey.keras").fingerprint() in out


def test_import_weights_without_a_preset_lists_those_there_are(
    netvlad: Run, shared: Path, tmp_path: Path
) -> None:
    source = shared / "reference" / "cartwheel" / "mobilenetv2_gray_1024.h5"
    code, _, err = netvlad("import-weights", source, "-o", tmp_path / "grey.keras")
    assert code == 1
    assert "--input: cartwheel-centred" in err


def test_import_weights_refuses_a_file_that_is_not_there_without_tensorflows_chatter(
    tmp_path: Path,
) -> None:
    done = in_new_process("import-weights", tmp_path / "absent.h5", "-o", tmp_path / "m.keras")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"netvlad: {tmp_path}/absent.h5: there is no such file.\n"


def test_play_says_what_it_needs_where_there_is_no_ros(
    netvlad: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, _, err = netvlad("play", "bag")
    assert (code, err.count("\n")) == (1, 1)
    assert "play needs ROS 2" in err


@pytest.mark.needs("rclpy")
def test_play_becomes_the_player_with_all_further_words(process: Any, tmp_path: Path) -> None:
    player = process(NETVLAD[0], *NETVLAD[1:], "play", tmp_path / "absent", "--rate", 2)
    assert player.wait() == 1
    assert player.output == (
        f"netvlad play: {tmp_path}/absent: no such file or folder; expected a bag.\n"
    )


def test_replay_tells_each_loop_and_writes_the_results(
    netvlad: Run, model: Path, tmp_path: Path
) -> None:
    bag = write_bag(tmp_path / "drive", laps(1, 2, 3, 4, 1, 2))
    code, out, _ = netvlad(*replay_words(bag, model, "-o", tmp_path / "results"))
    assert code == 0
    assert "keyframe 4 (4.0 s) looks like keyframe 0 (0.0 s), similarity 1.000" in out
    assert "keyframe 5 (5.0 s) looks like keyframe 1 (1.0 s), similarity 1.000" in out
    assert "6 of 6 images are keyframes, 2 of them have loop-closure candidates" in out
    assert "images/s" in out
    written = sorted(file.name for file in (tmp_path / "results").iterdir())
    closures = [f"closures.{ending}" for ending in ("csv", "g2o", "json", "png")]
    assert written == [
        "candidates.csv",
        "candidates.json",
        *closures,
        "pairs.png",
        "similarity_matrix.png",
    ]
    assert all(str(tmp_path / "results" / name) in out for name in written)


@pytest.mark.parametrize("name", ["drive_mcap", "drive.bag"])
def test_replay_reads_every_kind_of_bag(
    netvlad: Run, model: Path, tmp_path: Path, name: str
) -> None:
    code, out, _ = netvlad(*replay_words(write_bag(tmp_path / name, laps(1, 2, 3, 1)), model))
    assert code == 0
    assert "keyframe 3 (3.0 s) looks like keyframe 0" in out


def test_replay_makes_a_map_but_not_over_one_that_is_there(
    netvlad: Run, model: Path, tmp_path: Path
) -> None:
    bag, file = write_bag(tmp_path / "drive", laps(1, 2, 3, 1)), tmp_path / "hall.db"
    code, out, _ = netvlad(*replay_words(bag, model, "--map", file))
    assert code == 0
    assert out.splitlines()[-1] == str(file)
    assert len(KeyframeDatabase.load(SqliteStore(file))) == 4
    code, _, err = netvlad(*replay_words(bag, model, "--map", file))
    assert code == 1
    assert f"{file} is there already; name another file for the map." in err


def test_replay_compares_with_a_ground_truth(netvlad: Run, model: Path, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive", laps(1, 2, 3, 4, 1, 2))
    truth = tmp_path / "truth.csv"
    truth.write_text("query_image,matching_images\n5,1\n6,1\n", encoding="utf-8")
    _, out, _ = netvlad(*replay_words(bag, model, "--ground-truth", truth))
    assert "precision 50.0%: 1 of 2 best candidates" in out
    assert "recall 50.0%: 1 of 2 loops" in out


@pytest.mark.parametrize("setting", ["keyframes.min_interval_s=0", "keyframes.min_interval_s=2"])
def test_an_evaluation_of_keyframes_finds_in_a_bag_what_replay_finds(
    netvlad: Run, model: Path, tmp_path: Path, setting: str
) -> None:
    bag = write_bag(tmp_path / "drive", laps(1, 2, 3, 4, 3, 2, 1, 2, 3, 1, 4))
    truth = tmp_path / "truth.csv"
    truth.write_text("query_image,matching_images\n5,3\n6,2\n7,1\n9,3 5\n11,4\n", encoding="utf-8")
    words = replay_words(bag, model, "--set", setting, "--ground-truth", truth)
    assert netvlad(*words, "-o", tmp_path / "replay")[0] == 0
    # One image at a time, as in a replay: to made-up weights, rounding may decide which is nearest.
    words = ["evaluate-sequence", model, bag, *words[4:], "--keyframes", "--batch", 1]
    code, out, _ = netvlad(*words, "-o", tmp_path / "report", "--cache", tmp_path)
    assert code == 0
    replayed = json.loads((tmp_path / "replay" / "candidates.json").read_text(encoding="utf-8"))
    (found,) = json.loads((tmp_path / "report" / "results.json").read_text("utf-8"))["results"]
    expected = replayed["evaluation"]
    assert expected["reported"]["reported"] > 0
    assert found["candidates"] == {
        name: expected["reported"][name] for name in ("reported", "right", "loops")
    }
    assert found["right"] == expected["without_threshold"]["right"]
    assert found["looked_up"] == expected["without_threshold"]["reported"]
    for figure, name in (
        ("average precision", "average_precision"),
        ("recall at 100 % precision", "recall_at_full_precision"),
    ):
        assert found["figures"][figure]["value"] == pytest.approx(expected[name], abs=1e-6)
    keyframes = replayed["counts"]["keyframes"]
    assert f"{keyframes} of 11 images are keyframes" in out
    assert "the 2 s before excluded" in found["conditions"]
    assert "keyframes only" in found["conditions"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--dims", 3), "leave out --dims"),
        (("--exclude-seconds", 3), "leave out --exclude-seconds"),
    ],
)
def test_an_evaluation_of_keyframes_takes_its_conditions_from_the_configuration(
    netvlad: Run, model: Path, tmp_path: Path, words: tuple[object, ...], says: str
) -> None:
    bag = write_bag(tmp_path / "drive", laps(1, 2))
    code, _, err = netvlad("evaluate-sequence", model, bag, "--keyframes", *words)
    assert (code, err.count("\n")) == (1, 1)
    assert says in err


def test_the_same_bag_gives_the_same_bytes_in_another_process(
    netvlad: Run, model: Path, tmp_path: Path
) -> None:
    bag = write_bag(tmp_path / "drive", laps(1, 2, 3, 4, 1, 2))
    assert netvlad(*replay_words(bag, model, "-o", tmp_path / "a"))[0] == 0
    done = in_new_process(*replay_words(bag, model, "-o", tmp_path / "b"))
    assert (done.returncode, done.stderr) == (0, "")
    files = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert len(files) == 8
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_images_that_can_not_be_used_are_named_and_skipped(
    netvlad: Run, model: Path, tmp_path: Path
) -> None:
    recording = laps(1, 2, 3, 4, 5, 6, 1)
    for number in (1, 2, 3, 4):
        stamp, _ = recording["/camera"][number]
        recording["/camera"][number] = (stamp, image(stamp, np.zeros((120, 160), np.uint8)))
    code, out, err = netvlad(*replay_words(write_bag(tmp_path / "drive", recording), model))
    assert code == 0
    assert "3 of 7 images are keyframes" in out
    assert "image 2 skipped: expected an image with something to see" in err
    assert "image 5 skipped" not in err
    assert "4 images skipped in all" in err


def test_of_a_damaged_bag_the_readable_part_is_replayed(
    netvlad: Run, model: Path, tmp_path: Path
) -> None:
    bag = write_bag(tmp_path / "drive", laps(*[1, 2, 3, 4] * 10))
    file = bag / "drive.db3"
    whole = file.read_bytes()
    middle = len(whole) // 2 // 4096 * 4096
    file.write_bytes(whole[:middle] + bytes(4096) + whole[middle + 4096 :])
    code, out, err = netvlad(*replay_words(bag, model, "-o", tmp_path / "results"))
    assert code == 1
    assert "looks like" in out
    found = json.loads((tmp_path / "results" / "candidates.json").read_text(encoding="utf-8"))
    assert 4 < found["counts"]["images"] < 40
    assert f"damaged; read {found['counts']['images']} of 40 messages" in err


def test_a_bag_without_a_usable_image_says_why(netvlad: Run, model: Path, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive", drive(3))
    code, out, err = netvlad(*replay_words(bag, model))
    assert (code, out) == (1, "")
    assert (
        "none of 3 images on /camera can be used; the first: expected an image of at least" in err
    )


def test_of_several_image_topics_one_has_to_be_chosen(
    netvlad: Run, model: Path, tmp_path: Path
) -> None:
    bag = write_bag(tmp_path / "drive", {**laps(1, 2), **drive(1, "/rear")})
    code, _, err = netvlad(*replay_words(bag, model))
    assert code == 1
    assert "several image topics; choose one of /camera, /rear" in err
    assert netvlad(*replay_words(bag, model, "--topic", "/camera"))[0] == 0


def test_what_is_no_bag_of_images_is_refused(netvlad: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    silent = write_bag(tmp_path / "silent", {"/log": [(SECOND, text("hello"))]})
    for bag, says in (
        (tmp_path / "absent", "no such file or folder"),
        (tmp_path / "folder", "not a bag"),
        (silent, "it has /log (std_msgs/msg/String)"),
    ):
        code, out, err = netvlad("replay", bag)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert says in err


def test_what_is_no_model_is_refused(netvlad: Run, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive", laps(1, 2))
    (tmp_path / "foreign.keras").write_bytes(b"PK\x03\x04 something else")
    for words, says in (
        (("--model", tmp_path / "absent.keras"), "there is no such model file"),
        (
            ("--model", tmp_path / "foreign.keras"),
            "weights of other projects must go through `netvlad import-weights`",
        ),
    ):
        code, out, err = netvlad("replay", bag, *words)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert says in err


def test_results_that_can_not_be_written_are_refused_before_the_bag_is_replayed(
    netvlad: Run, model: Path, tmp_path: Path
) -> None:
    bag = write_bag(tmp_path / "drive", laps(1, 2, 3, 1))
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    code, out, err = netvlad(*replay_words(bag, model, "-o", tmp_path / "file"))
    assert (code, out) == (1, "")
    assert "can't make this folder" in err


def reported(netvlad: Run, shared: Path, *words: object) -> tuple[int, int]:
    """Of the best candidates in the recorded loop of 44 images, how many are right, and all."""
    truth = shared / "data" / "rtabmap_samples" / "loop_closures.csv"
    bag = shared / "data" / "bags" / "rtabmap_loop_mcap"
    code, out, _ = netvlad("replay", bag, "--ground-truth", truth, *words)
    found = re.search(r": (\d+) of (\d+) best candidates show the right place", out)
    assert code == 0
    assert found
    assert f": {found[1]} of 44 loops were found" in out
    return int(found[1]), int(found[2])


def test_the_places_of_a_recorded_loop_are_recognised(
    netvlad: Run, shared: Path, cartwheel_model: Path
) -> None:
    limits = ("--set", "candidates.min_similarity=-1", "--set", "database.exclude_recent_s=20")
    right, _ = reported(netvlad, shared, "--model", cartwheel_model, *limits)
    assert right >= 35


def test_a_threshold_and_two_queries_find_most_of_the_loop_and_hardly_anything_else(
    netvlad: Run, shared: Path, cartwheel_model: Path
) -> None:
    # This network gives 0.76 and more to nine in ten of the places that are seen again.
    threshold = ("--set", "candidates.min_similarity=0.76")
    queries = ("--set", "candidates.min_consistent_queries=2")
    right, everything = reported(netvlad, shared, "--model", cartwheel_model, *threshold, *queries)
    assert right >= 32
    assert right >= 0.95 * everything


def test_a_recorded_drive_without_a_loop_has_no_candidates(
    netvlad: Run, shared: Path, cartwheel_model: Path
) -> None:
    bag = shared / "data" / "bags" / "euroc_v101_mono8_db3"
    code, out, _ = netvlad("replay", bag, "--model", cartwheel_model)
    assert code == 0
    assert "0 of them have loop-closure candidates" in out


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tiny_2x2_db3", "none of 3 images on /image can be used; the first: expected an image of"),
        ("no_images_db3", "it has /data (example_interfaces/msg/String)"),
    ],
)
def test_other_peoples_bags_that_can_not_be_used_are_refused(
    netvlad: Run, shared: Path, model: Path, name: str, says: str
) -> None:
    bag, threshold = shared / "data" / "bags" / name, "candidates.min_similarity=0.9"
    code, _, err = netvlad("replay", bag, "--model", model, "--set", threshold)
    assert (code, err.count("\n")) == (1, 1)
    assert says in err
