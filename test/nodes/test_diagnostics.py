# SPDX-License-Identifier: MIT
"""An operator reads on /diagnostics how fast the nodes work and why they do not."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from live_nodes import (
    Camera,
    NodeProcess,
    Ros,
    Start,
    picture,
    raw_image,
    stamp,
)
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from netvlad_ros.msg import GlobalDescriptor, KeyframeMatches

pytestmark = pytest.mark.needs("rclpy")

SOON = {"diagnostics.silence_s": 0.5}


@pytest.fixture(scope="module")
def nodes(start_shared: Start, model: Path) -> list[NodeProcess]:
    """One with the usual QoS, and one that asks for more than many a camera offers."""
    qos = "qos_overrides./reliable/image.subscription"
    strict = {f"{qos}.reliability": "reliable", f"{qos}.durability": "transient_local"}
    parameters = SOON | {"extractor.model": str(model)}
    nodes = [
        start_shared("descriptor_node", parameters),
        start_shared("descriptor_node", parameters | strict, namespace="/reliable"),
    ]
    for node in nodes:
        node.until_ready()
    return nodes


@pytest.fixture(scope="module")
def node(nodes: list[NodeProcess]) -> NodeProcess:
    return nodes[0]


@pytest.fixture(scope="module")
def reliable_node(nodes: list[NodeProcess]) -> NodeProcess:
    return nodes[1]


def warns(node: NodeProcess, *words: str) -> None:
    """Waits for a warning on /diagnostics that has these words and the topic, and is in the log as well."""

    def warned() -> bool:
        line = any(all(word in line for word in words) for line in node.lines("WARN"))
        return line and node.says(node.topic("image"), *words) and node.status().level == 1

    node.until(warned)


def test_rates_latencies_by_stage_and_counts_are_reported(node: NodeProcess) -> None:
    camera = Camera(node)
    image = raw_image(picture())
    node.until(lambda: node.count("published") >= 30, lambda: camera.send(image), every_s=1 / 30)
    status = node.status()
    assert status.level == 0
    assert status.message == "working"
    for name in ("received", "lost", "published", "dropped", "refused"):
        total, rate, unit = status.values[name].split()
        assert int(total) >= 0
        assert float(rate.strip("(")) >= 0
        assert unit == "Hz)"
    for stage in ("convert", "extract", "receive to publish"):
        assert float(status.values[f"{stage} (median ms)"]) > 0
    assert len(status.values["model"].split("@")[0]) == 16


def test_where_nobody_publishes_the_warning_names_topics_that_could_be_meant(
    start: Start, ros: Ros
) -> None:
    # Five topics are named, in alphabetical order.
    node = start(
        "keyframe_database_node", SOON, {"global_descriptor": "wrong"}, namespace="/alphabet"
    )
    node.until(lambda: node.says("nothing arrived on /alphabet/wrong", "nobody publishes it"))
    ros.publisher(GlobalDescriptor, "/alphabet/right")
    node.until(lambda: node.says("/alphabet/right", "remap to one of these"))


def test_a_camera_of_the_other_type_is_answered_with_the_parameter_to_set(
    reliable_node: NodeProcess, ros: Ros
) -> None:
    publisher = ros.publisher(CompressedImage, reliable_node.topic("image"))
    warns(reliable_node, "sensor_msgs/msg/CompressedImage", "set camera.compressed to true")
    ros.node.destroy_publisher(publisher)


@pytest.mark.parametrize(
    ("qos", "words"),
    [
        (qos_profile_sensor_data, "subscription.reliability to best_available"),
        (QoSProfile(depth=1), "subscription.durability to volatile"),
    ],
    ids=["reliability", "durability"],
)
def test_a_camera_that_offers_less_than_asked_for_is_answered_with_the_parameter_to_set(
    qos: QoSProfile, words: str, reliable_node: NodeProcess, ros: Ros
) -> None:
    publisher = ros.publisher(Image, reliable_node.topic("image"), qos)
    warns(reliable_node, "test offers", f"qos_overrides./reliable/image.{words}")
    ros.node.destroy_publisher(publisher)


def test_a_connected_but_silent_camera_is_answered_with_the_transport_profile(
    node: NodeProcess,
) -> None:
    Camera(node, qos=qos_profile_sensor_data).send(raw_image(picture()))
    warns(node, "test is matched", "FASTDDS_DEFAULT_PROFILES_FILE=", "fastdds.xml")


def test_a_change_of_the_time_until_a_warning_counts_at_once(start: Start) -> None:
    node = start("loop_closure_node", {"diagnostics.silence_s": 3600.0})
    node.until_ready()
    assert node.status().level == 0
    for silence_s in (0.5, 0.6, 0.5):
        assert node.set("diagnostics.silence_s", silence_s).successful
        node.until(lambda: node.says("nobody publishes it"))


def test_no_matches_while_the_robot_stands_still_is_no_warning(start: Start, ros: Ros) -> None:
    node = start("loop_closure_node", SOON)
    node.until(lambda: node.says("nobody publishes it"))
    ros.publisher(KeyframeMatches, node.topic("keyframe_matches"))
    node.until(lambda: node.says("working"))


def test_a_node_on_simulated_time_says_that_it_stands_still_until_there_is_a_clock(
    start: Start, ros: Ros
) -> None:
    node = start("keyframe_database_node", SOON | {"use_sim_time": True})
    descriptors = ros.publisher(GlobalDescriptor, node.topic("global_descriptor"))
    words = ("use_sim_time is true", "time stands still at 0", "--clock")
    node.until(lambda: node.says(*words, "nobody publishes /clock", "nothing arrived on"))
    assert node.status().level == 1
    (line,) = [each for each in node.lines("WARN") if "nobody publishes /clock" in each]
    assert all(word in line for word in words)
    clock = ros.publisher(Clock, "/clock")
    node.until(lambda: node.says(*words, "test sends nothing on /clock"))
    message = Clock(clock=stamp(5 * 1_000_000_000))
    node.until(lambda: not node.says("use_sim_time"), lambda: clock.publish(message))
    assert node.says("nothing arrived on")  # what else is wrong is still said
    for publisher in (clock, descriptors):
        ros.node.destroy_publisher(publisher)


def test_an_image_without_a_stamp_is_refused_while_simulated_time_stands_still(
    start: Start, model: Path, ros: Ros
) -> None:
    node = start("descriptor_node", {"use_sim_time": True, "extractor.model": str(model)})
    node.until_ready()
    descriptors = ros.listen(GlobalDescriptor, node.topic("global_descriptor"))
    images = ros.publisher(Image, node.topic("image"))

    def send() -> None:
        images.publish(raw_image(picture()))

    node.until(lambda: node.says("image refused: it has no stamp", "/clock", "header.stamp"), send)
    assert node.status().level == 2
    assert descriptors == []
    clock = ros.publisher(Clock, "/clock")
    now = stamp(7 * 1_000_000_000)

    def send_with_clock() -> None:
        clock.publish(Clock(clock=now))
        send()

    node.until(lambda: descriptors, send_with_clock)
    assert descriptors[0].header.stamp == now
    ros.node.destroy_publisher(clock)


def test_a_database_on_simulated_time_saves_without_a_clock(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "map.db"
    parameters = {"use_sim_time": True, "database.path": str(path), "database.autosave_s": 0.1}
    node = start("keyframe_database_node", parameters)
    publisher = node.ros.publisher(GlobalDescriptor, node.topic("global_descriptor"))
    numbers = itertools.count(1)

    def send() -> None:
        message = GlobalDescriptor(fingerprint="a", descriptor=np.eye(4)[0].tolist())
        message.header.stamp = stamp(next(numbers) * 1_000_000_000)
        publisher.publish(message)

    node.until(path.exists, send)
