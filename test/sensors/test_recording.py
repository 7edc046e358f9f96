# SPDX-License-Identifier: MIT
"""From a bag each image gets what a node would have got for it, and the detector keeps it with keyframes."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_extractors import MadeUpExtractor
from recording import ROS2, Recording, header, image, text, write_bag
from sensor_messages import camera_info, odometry

from netvlad_ros.config import Config, DatabaseConfig, KeyframeConfig, SensorsConfig
from netvlad_ros.data.bags import Bag
from netvlad_ros.errors import BagError
from netvlad_ros.evaluation.detections import detect
from netvlad_ros.retrieval.loop_detector import LoopDetector
from netvlad_ros.sensors.collector import Kind
from netvlad_ros.sensors.recording import RecordedImages, sensor_topics

MS = 1_000_000
WIDTH, HEIGHT = 128, 96
IMAGE, DEPTH, INFO = "/cam/image_raw", "/cam/depth/image_raw", "/cam/camera_info"
COUNT = 6


class Mean(MadeUpExtractor):
    """Looks at the mean of the picture only."""

    dims = 2

    def extract(self, image: np.ndarray) -> np.ndarray:
        angle = image.mean() / 100
        return np.array([np.cos(angle), np.sin(angle)], np.float32)


def scene(number: int) -> np.ndarray:
    """Squares with corners."""
    rng = np.random.default_rng(number)
    blocks = rng.integers(0, 100 + 25 * number, (HEIGHT // 8, WIDTH // 8)).astype(np.uint8)
    return blocks.repeat(8, axis=0).repeat(8, axis=1)


def static_transform(parent: str, child: str, z_m: float) -> Any:
    def kind(name: str) -> Any:
        return ROS2.types[name]

    transform = kind("geometry_msgs/msg/Transform")(
        kind("geometry_msgs/msg/Vector3")(0.0, 0.0, z_m),
        kind("geometry_msgs/msg/Quaternion")(0.0, 0.0, 0.0, 1.0),
    )
    head = header(0)
    head.frame_id = parent
    stamped = kind("geometry_msgs/msg/TransformStamped")(head, child, transform)
    return kind("tf2_msgs/msg/TFMessage")([stamped])


def recorded(path: Path, depth_after_ms: int = 40, more: Recording | None = None) -> Path:
    """Images ten times a second; depth of image i is i + 1 metres, and recorded a while after it."""
    stamps = [(number, 10_000 * MS + number * 100 * MS) for number in range(COUNT)]
    infos = [(at - 1, camera_info(at, 100.0, (WIDTH, HEIGHT))) for _, at in stamps]
    depth = [
        (
            at + depth_after_ms * MS,
            image(at, np.full((HEIGHT, WIDTH), 1000 * (number + 1), np.uint16), "16UC1"),
        )
        for number, at in stamps
    ]
    poses = [(at + 2, odometry(at + 50 * MS, (number + 0.5, 0, 0))) for number, at in stamps]
    poses.insert(0, (9_950 * MS, odometry(9_950 * MS, (-0.5, 0.0, 0.0))))
    tf = [
        (0, static_transform("mast", "camera", 0.25)),
        (0, static_transform("base_link", "mast", 1.0)),
    ]
    return write_bag(
        path,
        {
            IMAGE: [(at, image(at, scene(number))) for number, at in stamps],
            INFO: infos,
            DEPTH: depth,
            "/odom": poses,
            "/tf_static": tf,
            **(more or {}),
        },
    )


def config(**sensors: Any) -> Config:
    return Config(
        keyframes=KeyframeConfig(min_interval_s=0.0, min_descriptor_change=0.0),
        database=DatabaseConfig(exclude_recent_s=0.0),
        sensors=SensorsConfig(**sensors),
    )


def test_topics_are_found_by_type_and_by_name(tmp_path: Path):
    with Bag(recorded(tmp_path / "bag")) as bag:
        topics = sensor_topics(bag, IMAGE)
        assert topics == {Kind.CAMERA_INFO: INFO, Kind.ODOMETRY: "/odom", Kind.DEPTH: DEPTH}
        assert Kind.DEPTH not in sensor_topics(bag, IMAGE, "motion")
        with pytest.raises(BagError, match="/odom is nav_msgs/msg/Odometry, expected sensor_msgs"):
            sensor_topics(bag, IMAGE, given={Kind.CAMERA_INFO: "/odom"})
        with pytest.raises(BagError, match=r"has no topic /odo; did you mean /odom\?"):
            sensor_topics(bag, IMAGE, given={Kind.ODOMETRY: "/odo"})


def test_of_several_odometries_that_of_the_usual_name_is_taken_or_none(tmp_path: Path):
    more = [(1, odometry(1))]
    with Bag(recorded(tmp_path / "one", more={"/truth": more})) as bag:
        assert sensor_topics(bag, IMAGE)[Kind.ODOMETRY] == "/odom"
    with Bag(write_bag(tmp_path / "two", {"/a": more, "/b": more, "/t": [(1, text(""))]})) as bag:
        assert Kind.ODOMETRY not in sensor_topics(bag, IMAGE)


def test_a_right_image_is_found_with_its_camera(tmp_path: Path):
    right = [(1, image(1, scene(1)))]
    more = {"/cam/right/image_raw": right, "/cam/right/camera_info": [(1, camera_info(1))]}
    with Bag(
        write_bag(tmp_path / "bag", {IMAGE: right, INFO: [(1, camera_info())], **more})
    ) as bag:
        topics = sensor_topics(bag, IMAGE)
    assert topics[Kind.RIGHT] == "/cam/right/image_raw"
    assert topics[Kind.RIGHT_CAMERA_INFO] == "/cam/right/camera_info"
    assert topics[Kind.CAMERA_INFO] == INFO


@pytest.mark.parametrize("name", ["bag", "bag_mcap", "ros1.bag"])
def test_keyframes_of_a_bag_have_what_was_recorded_beside_them(name: str, tmp_path: Path):
    with Bag(recorded(tmp_path / name)) as bag:
        settings = config(base_from_camera="tf")
        images = RecordedImages(bag, IMAGE, sensor_topics(bag, IMAGE), settings)
        detector = LoopDetector(Mean(), settings)
        found = [*detect(images, detector, settings.camera, images.sensors)]
    assert not images.problems
    assert len(found) == COUNT
    for number, each in enumerate(found):
        assert each.detection is not None
        assert each.detection.query is not None
        data = each.detection.query.data
        assert data.features is not None
        assert data.features.points_m is not None
        known_m = data.features.points_m[np.isfinite(data.features.points_m[:, 2]), 2]
        assert len(known_m) > 3
        np.testing.assert_allclose(known_m, number + 1, atol=1e-5)
        assert data.odometry is not None
        assert data.odometry.position_m[0] == pytest.approx(number)
        assert data.camera is not None
        assert data.camera.base_from_camera is not None
        assert data.camera.base_from_camera[2, 3] == pytest.approx(1.25)


def test_an_image_does_not_wait_longer_than_configured(tmp_path: Path):
    with Bag(recorded(tmp_path / "bag", depth_after_ms=90)) as bag:
        images = RecordedImages(bag, IMAGE, sensor_topics(bag, IMAGE), config(wait_s=0.05))
        found = [images.sensors(scene(0), each.stamp_ns) for each in images]
    assert [each.depth_m is None for each in found] == [True] * COUNT
    assert all(DEPTH in sentence for sentence in images.problems)


def test_a_mount_that_the_bag_does_not_say_is_named(tmp_path: Path):
    with Bag(recorded(tmp_path / "bag")) as bag:
        settings = config(base_from_camera="tf", base_frame="base_footprint")
        images = RecordedImages(bag, IMAGE, sensor_topics(bag, IMAGE), settings)
        cameras = [images.sensors(scene(0), each.stamp_ns).camera for each in images]
    assert all(each is not None and each.base_from_camera is None for each in cameras)
    (sentence,) = images.problems
    assert "does not say how camera is mounted on base_footprint" in sentence


def test_a_damaged_bag_gives_all_images_that_could_be_read(tmp_path: Path):
    path = recorded(tmp_path / "bag")
    (file,) = path.glob("*.db3")
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE messages SET data = x'00' WHERE timestamp > 10300000000")
    seen: list[int] = []
    with Bag(path) as bag:
        images = RecordedImages(bag, IMAGE, sensor_topics(bag, IMAGE), config())
        with pytest.raises(BagError, match="damaged; read"):
            seen.extend(each.stamp_ns for each in images)
    assert seen == [10_000 * MS + number * 100 * MS for number in range(4)]


def test_the_real_room_has_points_on_nearly_all_features(shared: Path):
    settings = config()
    with Bag(shared / "data" / "bags" / "rgbd_room_mcap") as bag:
        topic = bag.image_topic()
        images = RecordedImages(bag, topic, sensor_topics(bag, topic), settings)
        detector = LoopDetector(Mean(), settings)
        detections = detect(images, detector, settings.camera, images.sensors)
        found = [next(detections).detection for _ in range(10)]
    assert not images.problems
    for each in found:
        assert each is not None
        assert each.query is not None
        features, pose = each.query.data.features, each.query.data.odometry
        assert features is not None
        assert features.points_m is not None
        assert features.points_from == "depth"
        assert np.isfinite(features.points_m[:, 2]).mean() > 0.5
        assert pose is not None
        assert pose.child_frame_id == "camera_color_optical_frame"
