# SPDX-License-Identifier: MIT
"""One command starts our nodes and the adapter for a back-end; runs where `ros2 launch` is installed."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from foreign_messages import Foreign
from launched import Launch
from live_nodes import Ros, Status, picture, raw_image, stamp
from sensor_msgs.msg import Image

from netvlad_ros.msg import GlobalDescriptor

pytestmark = [pytest.mark.needs("rclpy", "launch_ros"), pytest.mark.slow]

# Images wait for two seconds of stamps to be asked for: twenty of these, on a busy machine too.
PERIOD_NS = 100_000_000
# Seen before any test makes it importable.
IS_INSTALLED = find_spec("rtabmap_msgs") is not None
TOPIC = "/launched_with_a_back_end/camera"


class BackEnd:
    """Makes a keyframe of each image, by messages of its own."""

    def __init__(self, ros: Ros, kind: type, topic: str) -> None:
        self._ros = ros
        self._images = ros.publisher(Image, TOPIC)
        self._keyframes = ros.publisher(kind, topic)
        self._number = 100

    def until_described(self, messages: Callable[[int, Any], Any], descriptors: list[Any]) -> Any:
        """The first descriptor with one of its numbers; messages: from a number and a stamp."""

        def see() -> None:
            self._number += 1
            now = stamp(self._number * PERIOD_NS)
            image = raw_image(picture(self._number))
            image.header.stamp, image.header.frame_id = now, "front_optical"
            self._images.publish(image)
            self._keyframes.publish(messages(self._number, now))

        return self._ros.until(
            lambda: next((each for each in descriptors if each.external_id > 100), None), see
        )


def test_with_rtabmap_its_nodes_become_keyframes(
    launch: Callable[..., Launch],
    ros: Ros,
    model: Path,
    foreign: Foreign,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in foreign.environment("rtabmap_msgs").items():
        monkeypatch.setenv(name, value)
    info = import_module("rtabmap_msgs.msg").Info

    def messages(number: int, now: Any) -> Any:
        message = info(ref_id=number)
        message.header.stamp = now
        return message

    descriptors = ros.listen(GlobalDescriptor, "/launched_rtabmap/global_descriptor")
    launched = launch(
        file="rtabmap.launch.py",
        model=model,
        image_topic=TOPIC,
        namespace="/launched_rtabmap",
        rtabmap="/slam/mapper",
    )
    try:
        answer = BackEnd(ros, info, "/slam/info").until_described(messages, descriptors)
    except AssertionError:
        pytest.fail(launched.output)
    assert answer.header.stamp == stamp(answer.external_id * PERIOD_NS)
    assert launched.end() == 0


def test_with_cslam_its_keyframes_become_ours_which_all_robots_get(
    launch: Callable[..., Launch],
    ros: Ros,
    model: Path,
    foreign: Foreign,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in foreign.environment("cslam_common_interfaces").items():
        monkeypatch.setenv(name, value)
    keyframe = import_module("cslam_common_interfaces.msg").KeyframeOdom

    def messages(number: int, now: Any) -> Any:
        message = keyframe(id=number)
        message.odom.header.stamp = now
        return message

    descriptors = ros.listen(GlobalDescriptor, "/netvlad/global_descriptor")
    launched = launch(file="cslam.launch.py", model=model, image_topic=TOPIC, robot="r3")
    try:
        back_end = BackEnd(ros, keyframe, "/r3/cslam/keyframe_odom")
        answer = back_end.until_described(messages, descriptors)
        database = "/r3/keyframe_database_node"
        ros.until(lambda: ros.statuses.get(database, Status()).count("received"))
    except AssertionError:
        pytest.fail(launched.output)
    assert answer.robot == "r3"
    assert launched.end() == 0


def test_without_the_back_ends_messages_the_launch_ends_and_says_so(
    launch: Callable[..., Launch], model: Path
) -> None:
    if IS_INSTALLED:
        pytest.skip("rtabmap_msgs is installed")
    launched = launch(file="rtabmap.launch.py", model=model, namespace="/launched_in_vain_too")
    launched.wait()
    assert "needs the messages of rtabmap_msgs, which is not installed" in launched.output
