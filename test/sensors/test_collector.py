# SPDX-License-Identifier: MIT
"""What belongs to an image is found by its stamp; what is missing or wrong is named, and the rest goes on."""

import re
from functools import partial
from typing import Any

import numpy as np
import pytest
from recording import image
from sensor_messages import HEIGHT, WIDTH, camera_info, odometry

from netvlad_ros.config import CameraConfig, SensorsConfig
from netvlad_ros.errors import MessageError
from netvlad_ros.sensors import topic_buffer
from netvlad_ros.sensors.collector import Collected, Kind, SensorCollector

MS = 1_000_000
SECOND = 1000 * MS
PICTURE = np.zeros((HEIGHT, WIDTH), np.uint8)
DEPTH = np.full((HEIGHT, WIDTH), 1500, np.uint16)
RIGHT = np.full((HEIGHT, WIDTH), 9, np.uint8)


class Robot:
    """Sends what comes with images; the clock is that of the stamps."""

    def __init__(self, *kinds: Kind, **config: Any) -> None:
        self.collector = SensorCollector(SensorsConfig(**config), CameraConfig(), self._mount)
        self.mount: np.ndarray | None = None
        for kind in kinds:
            self.collector.expect(kind, f"/{kind}")

    def _mount(self, frame_id: str) -> np.ndarray | None:
        if frame_id != "camera":
            raise MessageError(f"tf knows nothing of {frame_id}")
        return self.mount

    def send(self, kind: Kind, stamp_ms: int, message: Any) -> "Robot":
        self.collector.add(kind, stamp_ms * MS, stamp_ms * MS, lambda: message)
        return self

    def info(self, stamp_ms: int = 0, **fields: Any) -> "Robot":
        return self.send(Kind.CAMERA_INFO, stamp_ms, camera_info(**fields))

    def depth(self, stamp_ms: int, pixels: np.ndarray = DEPTH) -> "Robot":
        return self.send(Kind.DEPTH, stamp_ms, image(0, pixels, "16UC1"))

    def odometry(self, stamp_ms: int, x_m: float = 0.0, **fields: Any) -> "Robot":
        message = odometry(0, (x_m, 0.0, 0.0), **fields)
        return self.send(Kind.ODOMETRY, stamp_ms, message)

    def at(self, stamp_ms: int, picture: np.ndarray = PICTURE) -> Collected:
        return self.collector.collect(picture, stamp_ms * MS)


def problem(collected: Collected) -> str:
    """The only one."""
    (sentence,) = collected.problems.values()
    return sentence


def test_everything_that_belongs_to_an_image_comes_with_it():
    robot = Robot(Kind.CAMERA_INFO, Kind.DEPTH, Kind.ODOMETRY).info()
    robot.mount = np.eye(4)
    for stamp_ms in (900, 1000, 1100):
        robot.depth(stamp_ms, DEPTH + np.uint16(stamp_ms)).odometry(stamp_ms, stamp_ms / 1000)
    found = robot.at(1003)
    assert not found.problems
    sensors = found.sensors
    assert sensors.camera is not None
    assert sensors.camera.base_from_camera is robot.mount
    assert sensors.depth_m is not None
    assert sensors.depth_m[0, 0] == pytest.approx(2.5)
    assert sensors.odometry is not None
    assert sensors.odometry.position_m[0] == pytest.approx(1.003)
    assert (sensors.right, sensors.rig) == (None, None)


def test_a_right_image_comes_with_both_cameras():
    robot = Robot(Kind.CAMERA_INFO, Kind.RIGHT, Kind.RIGHT_CAMERA_INFO).info()
    robot.send(Kind.RIGHT, 10, image(0, RIGHT)).send(
        Kind.RIGHT_CAMERA_INFO, 0, camera_info(baseline_m=0.1)
    )
    sensors = robot.at(10).sensors
    assert sensors.right is not None
    assert sensors.right[0, 0] == 9
    assert sensors.rig is not None
    assert sensors.rig.baseline_m == pytest.approx(0.1)


def test_both_cameras_are_scaled_to_images_that_are():
    robot = Robot(Kind.CAMERA_INFO, Kind.RIGHT, Kind.RIGHT_CAMERA_INFO).info(size_px=(64, 48))
    info = camera_info(size_px=(64, 48), baseline_m=0.1)
    robot.send(Kind.RIGHT, 0, image(0, RIGHT)).send(Kind.RIGHT_CAMERA_INFO, 0, info)
    rig = robot.at(0).sensors.rig
    assert rig is not None
    assert (rig.right.width_px, rig.right.k[0, 0]) == (WIDTH, 15.0)
    assert rig.baseline_m == pytest.approx(0.1)


def test_right_images_of_another_size_are_named():
    robot = Robot(Kind.CAMERA_INFO, Kind.RIGHT).info().send(Kind.RIGHT, 0, image(0, RIGHT[:16]))
    assert "it has 32 x 16 pixels and the left image 32 x 24" in problem(robot.at(0))


def test_without_any_topic_nothing_is_found_and_nothing_is_wrong():
    found = Robot().at(0)
    assert not found.problems
    assert found.sensors.camera is None


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (Robot(Kind.CAMERA_INFO).at(0), "nothing has come on /camera_info"),
        (Robot(Kind.CAMERA_INFO).info(focal_px=0.0).at(0), "/camera_info: .*focal lengths above"),
        (
            Robot(Kind.CAMERA_INFO).info(size_px=(32, 32)).at(0),
            "/camera_info: .*images of 32 x 32 pixels, which can't be scaled to 32 x 24",
        ),
        (Robot(Kind.DEPTH).at(0), "nothing has come on /depth"),
        (
            Robot(Kind.DEPTH).depth(950).at(1000),
            "/depth is 50 ms earlier than the images, more than the 20 ms of sensors.tolerance_s",
        ),
        (Robot(Kind.DEPTH).depth(1030).at(1000), "/depth is 30 ms later than the images"),
        (Robot(Kind.DEPTH).depth(0).at(5000), r"nothing has come on /depth for 5\.0 s of images"),
        (
            Robot(Kind.DEPTH).depth(0, np.zeros_like(DEPTH)).at(0),
            "/depth: 0 of 768 pixels have a depth",
        ),
        (
            Robot(Kind.DEPTH).depth(0, np.full_like(DEPTH, 2)).at(0),
            r"/depth: its median is 0\.002 m, which is of another unit",
        ),
        (
            Robot(Kind.DEPTH).depth(0, DEPTH[:16]).at(0),
            "/depth: it has 32 x 16 pixels and the image 32 x 24, so it is not aligned",
        ),
        (
            Robot(Kind.CAMERA_INFO, Kind.RIGHT).info().send(Kind.RIGHT, 0, image(0, RIGHT)).at(0),
            "/right_image: .*tells no baseline",
        ),
        (
            Robot(Kind.RIGHT).send(Kind.RIGHT, 0, image(0, RIGHT)).at(0),
            "/right_image: the left camera sends no camera_info",
        ),
        (Robot(Kind.ODOMETRY).at(0), "/odometry: no odometry has come yet"),
        (Robot(Kind.ODOMETRY).odometry(0).at(1000), r"/odometry: .* 1\.000 s earlier .* stopped"),
    ],
)
def test_what_is_missing_or_wrong_is_named_with_its_topic(found: Collected, sentence: str):
    assert re.match(sentence, problem(found)), problem(found)
    sensors = found.sensors
    assert sensors.depth_m is None
    assert sensors.rig is None
    assert sensors.odometry is None


def test_a_camera_that_changes_is_named_once_and_the_new_one_holds():
    robot = Robot(Kind.CAMERA_INFO).info()
    robot.at(0)
    robot.info(100, focal_px=60.0)
    changed = robot.at(100)
    assert "/camera_info: the camera is another one than before" in problem(changed)
    assert changed.sensors.camera is not None
    assert changed.sensors.camera.k[0, 0] == 60.0
    assert not robot.at(200).problems


def test_a_scaled_image_has_a_scaled_camera():
    camera = Robot(Kind.CAMERA_INFO).info(size_px=(64, 48)).at(0).sensors.camera
    assert camera is not None
    assert (camera.width_px, camera.k[0, 0]) == (WIDTH, 15.0)


def test_a_mount_that_is_not_known_leaves_the_camera():
    robot = Robot(Kind.CAMERA_INFO)
    message = camera_info()
    message.header.frame_id = "elsewhere"
    found = robot.send(Kind.CAMERA_INFO, 0, message).at(0)
    assert problem(found) == "tf knows nothing of elsewhere"
    assert found.sensors.camera is not None


def test_odometry_of_a_base_says_nothing_of_a_camera_whose_mount_is_not_known():
    robot = Robot(Kind.CAMERA_INFO, Kind.ODOMETRY).info().odometry(0)
    assert "how camera is mounted on it is not known" in robot.at(0).notes["mount"]
    robot.mount = np.eye(4)
    assert not robot.at(0).notes
    of_camera = Robot(Kind.CAMERA_INFO, Kind.ODOMETRY).info().odometry(0, child_frame_id="camera")
    assert not of_camera.at(0).notes


def test_odometry_that_jumps_is_named_and_goes_on_in_a_frame_of_its_own():
    robot = Robot(Kind.ODOMETRY).odometry(0).odometry(100, 50.0).odometry(200, 50.1)
    found = robot.at(150)
    assert "/odometry: odometry jumped by 50.0 m" in problem(found)
    assert found.sensors.odometry is not None
    assert found.sensors.odometry.frame_id == "odom+1"
    assert not robot.at(160).problems


@pytest.mark.parametrize("value", [np.nan, -1.5])
def test_a_covariance_that_is_none_is_named_and_the_pose_goes_on_without(value: float):
    found = Robot(Kind.ODOMETRY).odometry(0, covariance=value).at(0)
    assert "/odometry: odometry has a covariance" in problem(found)
    assert found.sensors.odometry is not None
    assert found.sensors.odometry.covariance is None


def test_a_covariance_of_zeros_is_one_that_was_left_out():
    found = Robot(Kind.ODOMETRY).odometry(0, covariance=0.0).at(0)
    assert not found.problems
    assert "/odometry gives no covariance" in found.notes["covariance"]
    assert found.sensors.odometry is not None
    assert found.sensors.odometry.covariance is None


def test_odometry_that_is_not_finite_is_named_and_left_out():
    robot = Robot(Kind.ODOMETRY).odometry(0).odometry(100, np.nan).odometry(200, 2.0)
    found = robot.at(100)
    assert "not finite" in problem(found)
    assert found.sensors.odometry is not None
    assert found.sensors.odometry.position_m[0] == 1.0


def test_an_image_waits_for_what_may_still_come_and_not_for_what_stopped():
    robot = Robot(Kind.CAMERA_INFO, Kind.DEPTH, Kind.ODOMETRY)
    complete = robot.collector.is_complete
    assert not complete(1000 * MS, 1000 * MS)
    robot.info(0).depth(1000).odometry(990)
    assert not complete(1000 * MS, 1000 * MS)
    robot.odometry(1010)
    assert complete(1000 * MS, 1000 * MS)
    robot.odometry(9000)
    assert complete(9000 * MS, 9000 * MS)  # depth has been silent for seconds


def test_what_never_came_is_waited_for_only_at_first():
    robot = Robot(Kind.DEPTH)
    assert not robot.collector.is_complete(0, 0)
    assert robot.collector.is_complete(3 * SECOND, 3 * SECOND)


def test_large_messages_are_kept_as_long_as_there_is_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(topic_buffer, "MAX_BYTES", 250)
    robot = Robot(Kind.DEPTH)
    message = image(0, DEPTH, "16UC1")
    for stamp_ms in (0, 100, 200):
        now_ns = stamp_ms * MS
        robot.collector.add(Kind.DEPTH, now_ns, now_ns, lambda: message, 100)
    assert robot.at(100).sensors.depth_m is not None
    assert robot.at(0).sensors.depth_m is None


def test_messages_are_loaded_only_if_they_are_needed_and_kept_for_seconds_only():
    robot, loaded = Robot(Kind.DEPTH), []

    def load(stamp_ms: int) -> Any:
        loaded.append(stamp_ms)
        return image(0, DEPTH, "16UC1")

    for stamp_ms in range(0, 10_000, 100):
        robot.collector.add(Kind.DEPTH, stamp_ms * MS, stamp_ms * MS, partial(load, stamp_ms))
    assert not robot.at(8000).problems
    assert loaded == [8000]
    assert "/depth is" in problem(robot.at(6000)) or "nothing" in problem(robot.at(6000))
