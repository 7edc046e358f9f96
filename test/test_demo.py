# SPDX-License-Identifier: MIT
"""`make demo`, with few images: what it says, what it leaves, and what it calls the same place."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from demo.__main__ import main
from demo.drive import Town, images_of_laps, make_drive
from demo.truth import Poses, read_poses
from netvlad_ros.data.bags import Bag
from netvlad_ros.data.image_messages import to_image
from netvlad_ros.errors import WorldError

pytestmark = pytest.mark.needs("rclpy", "panda3d")

ROOT = Path(__file__).resolve().parents[1]
SECOND = 1_000_000_000
STEP_M = 10.0


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def bag(output: Path) -> Path:
    return make_drive(Town(6, STEP_M), output)


@pytest.fixture(scope="module")
def told(bag: Path, output: Path) -> str:
    """What it writes to the terminal; it finds the bag that is there."""
    command = [
        sys.executable,
        "-m",
        "demo",
        "--town",
        "6",
        "--step",
        str(STEP_M),
        "-o",
        str(output),
    ]
    domain = str(1 + (os.getpid() + 50) % 101)  # not that of the other tests
    environment = os.environ | {"ROS_DOMAIN_ID": domain}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_bag_has_what_a_robot_records_once_by_day_and_once_by_night(bag: Path) -> None:
    by_day, by_night = images_of_laps(bag)
    with Bag(bag) as opened:
        kinds = {topic.type: topic.count for topic in opened.topics.values()}
        images = [to_image(message) for _, message in opened.images(opened.image_topic())]
    assert kinds == {
        "sensor_msgs/msg/CompressedImage": by_day + by_night,
        "sensor_msgs/msg/CameraInfo": by_day + by_night,
        "nav_msgs/msg/Odometry": by_day + by_night,
    }
    sky = [float(np.mean(each[:60])) for each in images]
    assert np.mean(sky[:by_day]) > 1.5 * np.mean(sky[by_day:])


def test_the_second_lap_passes_the_places_of_the_first(bag: Path) -> None:
    poses, (by_day, _) = read_poses(bag), images_of_laps(bag)
    first = range(by_day)
    again = [
        min(poses.distance_m(image, other) for other in first)
        for image in range(by_day, len(poses.stamps_ns))
    ]
    assert max(again) < STEP_M
    assert (np.diff(poses.stamps_ns) == np.diff(poses.stamps_ns)[0]).all()


def test_a_bag_that_is_there_is_taken_again(
    bag: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = bag.stat().st_mtime_ns
    assert make_drive(Town(6, STEP_M), output) == bag
    assert bag.stat().st_mtime_ns == before
    assert "earlier run" in capsys.readouterr().out


def test_a_step_beyond_the_town_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="step"):
        make_drive(Town(6, 0.0), tmp_path)


@pytest.mark.slow
def test_every_image_is_answered_and_every_verdict_is_that_of_the_poses(
    told: str, bag: Path, output: Path
) -> None:
    count = sum(images_of_laps(bag))
    assert re.search(rf"\d+ of {count} images were answered", told)
    found = json.loads((output / "summary.json").read_text())
    assert found["images_not_answered"] <= 0.05 * count  # of a machine that does other things too
    loops = re.findall(r"keyframe (\d+) .* looks like keyframe (\d+) .*: (right|wrong), ", told)
    assert [(int(query), int(match), verdict == "right") for query, match, verdict in loops] == [
        (each["query_keyframe"], each["match_keyframe"], each["right"])
        for each in found["candidates"]
    ]
    assert all(each["distance_m"] <= 5.0 for each in found["candidates"] if each["right"])
    assert found["loops"] > 0.5 * count / 2


@pytest.mark.slow
def test_it_leaves_pictures_that_are_named_on_the_terminal(told: str, output: Path) -> None:
    for name in ("map", "best_pairs", "precision_recall", "similarity_matrix"):
        picture = cv2.imread(str(output / f"{name}.png"))
        assert picture is not None
        assert picture.std() > 10.0
        assert f"{name}.png" in told


def test_without_the_model_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("netvlad_ros.shipped.SHIPPED_MODEL", tmp_path / "gone.keras")
    assert main(["-o", str(tmp_path / "out")]) == 1
    assert (
        "gone.keras: the model that comes with this package is missing" in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def poses(*rows: tuple[float, float, float]) -> Poses:
    """Of x, y and heading in degrees, a second apart."""
    x_m, y_m, headings = np.array(rows).T
    stamps = np.arange(len(rows)) * SECOND
    return Poses(stamps, np.column_stack([x_m, y_m]), np.radians(headings))


def test_the_same_street_from_the_other_side_is_another_place() -> None:
    drive = poses((0, 0, 0), (1, 0, 180), (2, 0, 10), (3, 0, -170), (12, 0, 0), (12, 0, 350))
    truth = {query: sorted(same) for query, same in drive.ground_truth().items()}
    assert truth == {3: [1], 4: [2], 5: [3], 6: [3, 5]}
