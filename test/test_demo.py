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

from demo.__main__ import SPEED_M_S, main
from demo.__main__ import TOWN as TOWN_OF_DEMO
from demo.drive import Town, images_of_laps, make_drive
from demo.truth import Poses, read_poses
from netvlad_ros.data.bags import Bag
from netvlad_ros.data.image_messages import to_image
from netvlad_ros.errors import WorldError

pytestmark = pytest.mark.needs("rclpy", "panda3d")

ROOT = Path(__file__).resolve().parents[1]
SECOND = 1_000_000_000
TOWN = Town(TOWN_OF_DEMO, 5.0, SPEED_M_S, has_depth=True)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def bag(output: Path) -> Path:
    return make_drive(TOWN, output)


@pytest.fixture(scope="module")
def told(bag: Path, output: Path) -> str:
    """What it writes to the terminal; it finds the bag that is there."""
    options = ["--step", str(TOWN.step_m), "--images-per-second", "3", "-o", str(output)]
    command = [sys.executable, "-m", "demo", *options]
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
        "sensor_msgs/msg/Image": by_day + by_night,  # depth
        "sensor_msgs/msg/CameraInfo": by_day + by_night,
        "nav_msgs/msg/Odometry": by_day + by_night,  # of two topics
        "tf2_msgs/msg/TFMessage": 1,
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
    assert max(again) < TOWN.step_m
    assert (np.diff(poses.stamps_ns) == np.diff(poses.stamps_ns)[0]).all()


def test_a_bag_that_is_there_is_taken_again(
    bag: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = bag.stat().st_mtime_ns
    assert make_drive(TOWN, output) == bag
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
    assert found["images_not_answered"] <= 0.1 * count  # of a machine that does other things too
    loops = re.findall(r"closes a loop with keyframe .*: (right|wrong), off by (.*) m", told)
    said = sorted((verdict == "right", float(error_m)) for verdict, error_m in loops)
    kept = sorted((each["right"], each["error_m"]) for each in found["closures"])
    assert np.array(said) == pytest.approx(np.array(kept), abs=0.006)
    assert len(loops) > 10
    assert 0 < found["places_closed"] <= sum(each["right"] for each in found["closures"])


@pytest.mark.slow
def test_loop_closures_make_the_map_straight(told: str, output: Path) -> None:
    found = json.loads((output / "summary.json").read_text())
    before_m, after_m = found["ate_m"]
    assert after_m < before_m / 2
    assert f"{before_m:.3f} m by odometry, {after_m:.3f} m corrected" in told


@pytest.mark.slow
def test_it_leaves_pictures_that_are_named_on_the_terminal(told: str, output: Path) -> None:
    for name in ("map", "best_pairs", "similarity_matrix"):
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
