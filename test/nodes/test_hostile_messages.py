# SPDX-License-Identifier: MIT
"""Absurd stamps and endless strings are answered with a sentence of bounded length; the nodes live on."""

from typing import Any

import pytest
from live_nodes import Camera, NodeProcess, Ros, Start, picture, raw_image, stamp, stamp_ns
from sensor_msgs.msg import Image

from netvlad_ros.msg import (
    GlobalDescriptor,
    Keyframe,
    KeyframeMatch,
    KeyframeMatches,
    LoopClosureCandidates,
)
from netvlad_ros.nodes.throttle import MAX_LENGTH

pytestmark = pytest.mark.needs("rclpy")

NODES = ("descriptor_node", "keyframe_database_node", "loop_closure_node")
ENDLESS = "x" * 1_000_000
SECOND = 1_000_000_000


class Robot:
    """All three nodes, what is sent to them, and what they answer."""

    def __init__(self, process: NodeProcess) -> None:
        process.until_ready(*NODES)
        self.process, self.camera = process, Camera(process)
        self.descriptors = process.ros.listen(GlobalDescriptor, process.topic("global_descriptor"))
        self.matches = process.ros.listen(KeyframeMatches, process.topic("keyframe_matches"))
        self.answers = process.ros.listen(
            LoopClosureCandidates, process.topic("loop_closure_candidates")
        )
        self._publishers = {
            kind: process.ros.publisher(kind, process.topic(topic))
            for kind, topic in (
                (Image, "image"),
                (GlobalDescriptor, "global_descriptor"),
                (KeyframeMatches, "keyframe_matches"),
            )
        }

    def send(self, message: Any) -> None:
        self._publishers[type(message)].publish(message)

    def must_refuse(self, node: str, message: Any, *words: str) -> None:
        """Until it does so; then the next good image is answered by all of them."""
        process = self.process
        process.until(lambda: process.says(*words, node=node), lambda: self.send(message))
        assert process.status(node).level == 2
        # Of sentences of one kind another is logged only after a second.
        process.until(
            lambda: any(all(word in line for word in words) for line in process.lines("ERROR")),
            lambda: self.send(message),
        )
        self.must_answer()

    def must_answer(self) -> None:
        """Images with later stamps, until one of them went all the way."""
        sent: list[int] = []

        def send() -> None:
            self.camera.send(raw_image(picture()))
            sent.append(self.camera.stamp_ns)

        self.process.until(
            lambda: any(stamp_ns(each.header) in sent for each in self.answers), send
        )


@pytest.fixture(scope="module", params=["", "1"], ids=["unchecked", "checked fields"])
def robot(request: Any, start_shared: Start, model: Any, ros: Ros) -> Robot:
    """ROS_PYTHON_CHECK_FIELDS lets rclpy raise where a field is set to what it can't hold."""
    parameters = {
        "extractor.model": str(model),
        "keyframes.min_descriptor_change": 0.0,
        "diagnostics.silence_s": 3600.0,
    }
    environment = {"ROS_PYTHON_CHECK_FIELDS": request.param}
    return Robot(start_shared("place_recognition", parameters, environment=environment))


def described(to: Robot, /, **fields: Any) -> GlobalDescriptor:
    """A descriptor that is new and in order, but for the fields."""
    to.must_answer()
    good = to.descriptors[-1]
    to.camera.stamp_ns += SECOND
    message = GlobalDescriptor(
        robot=good.robot, camera="rear", fingerprint=good.fingerprint, descriptor=good.descriptor
    )
    message.header.stamp = stamp(to.camera.stamp_ns)
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def matched(**fields: Any) -> KeyframeMatches:
    keyframe = Keyframe(session="b" * 32, number=7, stamp=stamp(100 * SECOND))
    message = KeyframeMatches(query=keyframe, query_number=7, fingerprint="a")
    message.matches = [
        KeyframeMatch(keyframe=Keyframe(session="a" * 32, stamp=stamp(SECOND)), similarity=0.9)
    ]
    for name, value in fields.items():
        setattr(message.query, name, value)
    return message


def absurd() -> Any:
    time = stamp(0)
    time.sec, time.nanosec = 2**31 - 1, 2**32 - 1
    return time


WORDS = ("999999999 nanoseconds", "2147483647 s and 4294967295 ns", "header.stamp")


def test_an_image_with_an_absurd_stamp_is_refused(robot: Robot) -> None:
    image = raw_image(picture())
    image.header.stamp = absurd()
    robot.must_refuse("descriptor_node", image, "image refused", *WORDS)


def test_a_descriptor_with_an_absurd_stamp_is_refused(robot: Robot) -> None:
    message = described(robot)
    message.header.stamp = absurd()
    robot.must_refuse("keyframe_database_node", message, "descriptor refused", *WORDS)


def test_matches_with_an_absurd_stamp_are_refused(robot: Robot) -> None:
    message = matched(stamp=absurd())
    robot.must_refuse("loop_closure_node", message, "matches refused", *WORDS)


def test_the_last_moment_that_a_stamp_can_show_is_answered(robot: Robot) -> None:
    message = described(robot, camera="of the year 2038")
    message.header.stamp.sec, message.header.stamp.nanosec = 2**31 - 1, 999_999_999
    last = message.header.stamp
    robot.process.until(
        lambda: any(each.header.stamp == last for each in robot.answers),
        lambda: robot.send(message),
    )
    robot.must_answer()


def is_bounded(process: NodeProcess) -> bool:
    texts = [
        text
        for node in NODES
        for status in [process.status(node)]
        for text in (status.message, *status.values.values())
    ]
    lengths = [len(text) for text in (*texts, *process.output.splitlines())]
    return max(lengths) < 3 * MAX_LENGTH


@pytest.mark.parametrize("name", ["robot", "camera", "fingerprint"])
def test_endless_names_of_a_descriptor_get_into_no_log(name: str, robot: Robot) -> None:
    before = len(robot.process.lines("ERROR")), len(robot.matches)
    message = described(robot, **{name: ENDLESS})
    robot.process.until(
        lambda: (
            robot.process.says("descriptor refused", "...", node="keyframe_database_node")
            or any(getattr(each.query, name, "") == ENDLESS for each in robot.matches[before[1] :])
        ),
        lambda: robot.send(message),
    )
    robot.must_answer()
    robot.process.ros.spin(0.5)  # what is on /diagnostics now is newer
    assert is_bounded(robot.process)


def test_an_endless_frame_of_an_image_gets_into_no_log(robot: Robot) -> None:
    image = raw_image(picture())
    image.header.frame_id = ENDLESS
    count = len(robot.answers)

    def send() -> None:
        robot.camera.stamp_ns += SECOND
        image.header.stamp = stamp(robot.camera.stamp_ns)
        robot.send(image)

    robot.process.until(
        lambda: any(len(each.header.frame_id) > 1000 for each in robot.answers[count:]), send
    )
    robot.must_answer()
    assert is_bounded(robot.process)


def test_an_endless_encoding_of_an_image_is_refused(robot: Robot) -> None:
    image = raw_image(picture(), ENDLESS)
    image.header.stamp = stamp(robot.camera.stamp_ns + 1)
    robot.must_refuse("descriptor_node", image, "image refused", "xxx' is not supported")
    assert is_bounded(robot.process)


@pytest.mark.parametrize("name", ["session", "map", "robot", "camera"])
def test_endless_names_of_a_query_get_into_no_log(name: str, robot: Robot) -> None:
    message = matched(**{name: ENDLESS})
    robot.process.until(
        lambda: any(getattr(each.query, name) == ENDLESS for each in robot.answers),
        lambda: robot.send(message),
    )
    robot.must_answer()
    robot.process.ros.spin(0.5)
    assert is_bounded(robot.process)
