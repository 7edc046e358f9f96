# SPDX-License-Identifier: MIT
"""Keyframes leave the camera's node with features, points, camera and odometry; what is wrong is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_nodes import RELIABLE, NodeProcess, Ros, Start, raw_image, stamp, stamp_ns
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Image

from netvlad_ros.msg import GlobalDescriptor, Keyframe

pytestmark = pytest.mark.needs("rclpy")

SECOND = 1_000_000_000
WIDTH, HEIGHT = 160, 120
DEPTH_MM = np.full((HEIGHT, WIDTH), 1500, np.uint16)


def scene(seed: int) -> np.ndarray:
    """Squares with corners that ORB finds."""
    rng = np.random.default_rng(seed)
    return np.kron(
        rng.integers(0, 256, (HEIGHT // 10, WIDTH // 10), np.uint8), np.ones((10, 10))
    ).astype(np.uint8)


class Robot:
    """Publishes what one robot has, image by image, a second of stamps apart."""

    def __init__(self, node: NodeProcess) -> None:
        self.node = node
        node.until_ready()
        self.answers = node.ros.listen(GlobalDescriptor, node.topic("global_descriptor"))
        self._publishers: dict[str, Any] = {}
        self._count = 0
        node.until(lambda: node.count("subscribers"))

    def publish(self, topic: str, message: Any, stamp_ns: int) -> None:
        message.header.stamp = stamp(stamp_ns)
        message.header.frame_id = message.header.frame_id or "camera"
        if topic not in self._publishers:
            name = self.node.topic(topic)
            self._publishers[topic] = self.node.ros.publisher(type(message), name, RELIABLE)
            # The node looks now and then whether somebody publishes.
            self.node.until(self._publishers[topic].get_subscription_count)
        self._publishers[topic].publish(message)

    def see(self, depth: np.ndarray = DEPTH_MM, depth_off_ms: int = 0, **info: Any) -> Any:
        """The answer to a new image with what comes with it; sent again, as best effort may lose any one."""
        sent: list[int] = []

        def send() -> None:
            self._count += 1
            sent.append((1000 + self._count) * SECOND)
            self._send(sent[-1], depth, sent[-1] + depth_off_ms * 1_000_000, info)

        return self.node.until(
            lambda: next((each for each in self.answers if stamp_ns(each.header) in sent), None),
            send,
        )

    def _send(self, now_ns: int, depth: np.ndarray, depth_ns: int, info: dict[str, Any]) -> None:
        camera = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="plumb_bob")
        camera.k = np.array([100.0, 0, 80, 0, 100, 60, 0, 0, 1])
        for name, value in info.items():
            setattr(camera, name, value)
        self.publish("camera_info", camera, now_ns)
        odometry = Odometry(child_frame_id="base")
        odometry.header.frame_id = "odom"
        odometry.pose.pose.position.x = now_ns / SECOND
        odometry.pose.pose.orientation.w = 1.0
        self.publish("odometry", odometry, now_ns)
        self.publish("depth", raw_image(depth, "16UC1"), depth_ns)
        self.publish("image", raw_image(scene(self._count), "mono8"), now_ns)


@pytest.fixture(scope="module")
def nodes(start_shared: Start, model: Path) -> list[NodeProcess]:
    parameters = {
        "extractor.model": str(model),
        "keyframes.min_descriptor_change": 0.0,
        "sensors.base_from_camera": "0.1 0 0.2 0 0 0 1",
    }
    return [
        start_shared("descriptor_node", parameters),
        start_shared("descriptor_node", parameters | {"keyframes.requested": True}),
    ]


@pytest.fixture(scope="module")
def robot(nodes: list[NodeProcess]) -> Robot:
    return Robot(nodes[0])


def test_a_keyframe_comes_with_features_points_camera_mount_and_odometry(robot: Robot) -> None:
    robot.see()
    answer = robot.see()
    assert answer.choice == GlobalDescriptor.KEYFRAME
    assert answer.external_id == -1
    (data,) = answer.data
    (features,) = data.features
    assert features.method == "orb"
    assert features.points_from == "depth"
    points_m = np.array(features.points_m).reshape(-1, 3)
    assert len(points_m) == len(features.keypoints_px) // 2 > 10
    known = points_m[np.isfinite(points_m[:, 2])]
    np.testing.assert_allclose(known[:, 2], 1.5, atol=1e-6)
    assert data.camera_info[0].k[0] == 100.0
    assert data.base_from_camera[0].translation.z == pytest.approx(0.2)
    assert data.odometry[0].pose.pose.position.x == answer.header.stamp.sec
    assert (data.odometry[0].header.frame_id, data.odometry[0].child_frame_id) == ("odom", "base")
    robot.node.until(lambda: "points from depth" in robot.node.status().values["local features"])


def test_a_camera_that_was_there_first_is_no_trouble(start: Start, ros: Ros, model: Path) -> None:
    for kind, topic in ((CameraInfo, "camera_info"), (Image, "depth"), (Odometry, "odometry")):
        ros.publisher(kind, f"/camera_first/{topic}", RELIABLE)
    parameters = {"extractor.model": str(model)}
    node = start("descriptor_node", parameters, namespace="/camera_first")
    node.until_ready()
    node.until(lambda: node.status().values["depth"] == "/camera_first/depth")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"depth_off_ms": 50}, ("/depth is 50 ms later than the images",)),
        ({"depth": np.zeros_like(DEPTH_MM)}, ("/depth: 0 of 19200 pixels have a depth",)),
        ({"depth": np.full_like(DEPTH_MM, 2)}, ("/depth", "another unit")),
        ({"depth": DEPTH_MM[:60]}, ("/depth", "160 x 60", "not aligned")),
        ({"width": 99}, ("/camera_info", "can't be scaled")),
        ({"k": np.zeros(9)}, ("/camera_info", "focal lengths above 0")),
    ],
    ids=[
        "out of step",
        "all zero",
        "another unit",
        "not aligned",
        "another size",
        "no focal length",
    ],
)
def test_what_is_wrong_beside_an_image_is_named_and_the_keyframe_goes_on(
    fields: dict[str, Any], words: tuple[str, ...], robot: Robot
) -> None:
    answer = robot.see(**fields)
    assert answer.choice == GlobalDescriptor.KEYFRAME
    (features,) = answer.data[0].features
    assert len(features.keypoints_px) > 20
    assert features.points_from != "depth"
    robot.node.until(lambda: robot.node.says(*words))


def test_a_back_end_chooses_keyframes_by_their_stamps_and_a_right_image_gives_points(
    nodes: list[NodeProcess], ros: Ros
) -> None:
    node = nodes[1]
    node.until_ready()
    answers = ros.listen(GlobalDescriptor, node.topic("global_descriptor"))
    kinds = {
        "camera_info": CameraInfo,
        "right_camera_info": CameraInfo,
        "right_image": Image,
        "image": Image,
        "keyframe_requests": Keyframe,
    }
    publishers = {
        name: ros.publisher(kind, node.topic(name), RELIABLE) for name, kind in kinds.items()
    }
    node.until(lambda: all(each.get_subscription_count() for each in publishers.values()))
    node.until(lambda: node.count("subscribers"))

    def send(stamp_s: int) -> None:
        """A wall 2 m away, seen by two cameras 0.1 m apart: 5 pixels further left by the right one."""
        left, right = CameraInfo(width=WIDTH, height=HEIGHT), CameraInfo(width=WIDTH, height=HEIGHT)
        for camera, shift in ((left, 0.0), (right, -10.0)):
            camera.k = np.array([100.0, 0, 80, 0, 100, 60, 0, 0, 1])
            camera.p = np.array([100.0, 0, 80, shift, 0, 100, 60, 0, 0, 0, 1, 0])
            camera.r = np.eye(3).ravel()
        messages = {
            "camera_info": left,
            "right_camera_info": right,
            "right_image": raw_image(np.roll(scene(stamp_s), -5, axis=1), "mono8"),
            "image": raw_image(scene(stamp_s), "mono8"),
        }
        for name, message in messages.items():
            message.header.stamp = stamp(stamp_s * SECOND)
            publishers[name].publish(message)

    def ask(stamp_s: int) -> None:
        request = Keyframe(stamp=stamp(stamp_s * SECOND), external_id=stamp_s * 10)
        publishers["keyframe_requests"].publish(request)

    node.until(lambda: node.count("received"), lambda: send(90))
    node.until(lambda: node.count("requests"), lambda: ask(99))  # of which there is no image
    received, asked = node.count("received"), node.count("requests")
    for stamp_s in (100, 101, 102):
        send(stamp_s)
    node.until(lambda: node.count("received") >= received + 3)
    ask(101)
    ask(103)  # its image is yet to come
    node.until(lambda: node.count("requests") >= asked + 2)
    send(103)
    node.until(lambda: len(answers) == 2)
    assert [each.external_id for each in answers] == [1010, 1030]
    assert [each.header.stamp.sec for each in answers] == [101, 103]
    assert {each.choice for each in answers} == {GlobalDescriptor.KEYFRAME}
    for answer in answers:
        (features,) = answer.data[0].features
        assert features.points_from == "stereo"
        depth_m = np.array(features.points_m).reshape(-1, 3)[:, 2]
        assert np.nanmedian(depth_m) == pytest.approx(2.0, abs=0.02)
    node.until(lambda: node.says("a keyframe was requested at 99.000000 s, of which no image came"))
    assert node.count("requests without image") == 1
