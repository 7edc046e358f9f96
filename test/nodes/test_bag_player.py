# SPDX-License-Identifier: MIT
"""What was recorded arrives in another process: unchanged, in order, in time and to the last message."""

import signal
import time
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import (
    DurabilityPolicy,
    QoSProfile,
    qos_profile_sensor_data,
)
from recording import ROS2, SECOND, drive, header, image, text, write_bag
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import String

from netvlad_ros.nodes.bag_player import PlayingClock, main

pytestmark = pytest.mark.needs("rclpy")

FAST_NS = SECOND // 50
RELIABLE = QoSProfile(depth=1000)
LATCHED = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Listener:
    """A ROS node that keeps what it hears, and when."""

    def __init__(self) -> None:
        self._context = rclpy.context.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("listener", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self.heard: dict[str, list[Any]] = {}
        self.times_s: list[float] = []

    def listen(self, kind: Any, topic: str, qos: QoSProfile = RELIABLE) -> None:
        self.heard[topic] = []
        self._node.create_subscription(kind, topic, lambda message: self._keep(topic, message), qos)

    def _keep(self, topic: str, message: Any) -> None:
        self.heard[topic].append(message)
        self.times_s.append(time.monotonic())

    def wait(self, enough: Callable[[], bool], timeout_s: float = 8.0) -> None:
        """Listens until there is enough, or for the given time."""
        end_s = time.monotonic() + timeout_s
        while not enough() and time.monotonic() < end_s:
            self._executor.spin_once(timeout_sec=0.05)

    def greys(self, topic: str = "/camera") -> list[int]:
        return [message.data[0] for message in self.heard[topic]]

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


@pytest.fixture
def listener() -> Iterator[Listener]:
    one = Listener()
    yield one
    one.close()


@pytest.mark.parametrize("kind", ["drive", "drive_mcap", "drive.bag"])
def test_every_message_arrives_unchanged_and_in_order(
    tmp_path: Path, process: Any, listener: Listener, kind: str
) -> None:
    recording = {
        **drive(20, period_ns=FAST_NS),
        "/log": [(number * FAST_NS, text(f"line {number}")) for number in range(20)],
    }
    listener.listen(Image, "/camera")
    listener.listen(String, "/log")
    bag = write_bag(tmp_path / kind, recording)
    player = process("bag_player", bag, "--wait-for-subscribers", 2)
    listener.wait(lambda: all(len(messages) == 20 for messages in listener.heard.values()))
    assert player.wait() == 0, player.output
    assert listener.greys() == list(range(1, 21))
    assert [message.data for message in listener.heard["/log"]] == [f"line {n}" for n in range(20)]
    last = listener.heard["/camera"][-1]
    assert (last.header.stamp.sec, last.header.stamp.nanosec) == divmod(20 * FAST_NS, SECOND)
    assert (last.header.frame_id, last.encoding, last.step) == ("camera", "mono8", 8)


def test_a_best_effort_subscriber_gets_large_images_too(
    tmp_path: Path, process: Any, listener: Listener
) -> None:
    pixels = np.zeros((720, 1280, 3), np.uint8)
    messages = [
        (n * SECOND // 20, image(n * SECOND // 20, pixels + n, "rgb8")) for n in range(1, 11)
    ]
    listener.listen(Image, "/camera", qos_profile_sensor_data)
    bag = write_bag(tmp_path / "drive", {"/camera": messages})
    player = process("bag_player", bag, "--wait-for-subscribers")
    listener.wait(lambda: len(listener.heard["/camera"]) == 10)
    assert player.wait() == 0, player.output
    assert listener.greys() == list(range(1, 11))


def test_options_choose_what_is_played_and_how(
    tmp_path: Path, process: Any, listener: Listener
) -> None:
    """Left out: another topic, and the first images. Changed: the name, the namespace, the speed."""
    listener.listen(Image, "/robot/front")
    listener.listen(Image, "/robot/other")
    recording = {**drive(6, "camera", period_ns=SECOND // 2), **drive(6, "other")}
    bag = write_bag(tmp_path / "drive", recording)
    words = (
        "--topics camera --start-offset 0.6 --rate 5 --remap camera:=front --wait-for-subscribers"
    )
    player = process("bag_player", bag, *words.split(), "--ros-args", "-r", "__ns:=/robot")
    listener.wait(lambda: len(listener.heard["/robot/front"]) == 4)
    assert player.wait() == 0, player.output
    assert listener.greys("/robot/front") == [3, 4, 5, 6]
    assert listener.heard["/robot/other"] == []
    assert 0.2 < listener.times_s[-1] - listener.times_s[0] < 1.0  # 0.3 s instead of 1.5


def test_a_loop_begins_again_with_its_clock_until_it_is_interrupted(
    tmp_path: Path, process: Any, listener: Listener
) -> None:
    listener.listen(Image, "/camera")
    listener.listen(Clock, "/clock")
    bag = write_bag(tmp_path / "drive", drive(4, period_ns=SECOND // 20))
    player = process("bag_player", bag, "--loop", "--clock", 100, "--wait-for-subscribers")
    listener.wait(lambda: len(listener.heard["/camera"]) >= 6)
    player.send(signal.SIGINT)
    assert player.wait() == 0, player.output
    assert "Traceback" not in player.output
    assert listener.greys()[:6] == [1, 2, 3, 4, 1, 2]
    times = [each.clock.sec * SECOND + each.clock.nanosec for each in listener.heard["/clock"]]
    assert min(times) == SECOND // 20 + 7
    assert max(times) <= 4 * SECOND // 20 + 7
    assert len(times) >= 16


def test_a_latched_message_reaches_a_late_subscriber(
    tmp_path: Path, process: Any, listener: Listener
) -> None:
    recording = {
        "/map_name": [(1, text("the map"))],
        "/log": [(2, text("a")), (9 * SECOND, text("b"))],
    }
    listener.listen(String, "/log")
    player = process(
        "bag_player",
        write_bag(tmp_path / "drive", recording, ["/map_name"]),
        "--wait-for-subscribers",
    )
    listener.wait(lambda: bool(listener.heard["/log"]))
    listener.listen(String, "/map_name", LATCHED)
    listener.wait(lambda: bool(listener.heard["/map_name"]))
    player.send(signal.SIGTERM)
    assert [message.data for message in listener.heard["/map_name"]] == ["the map"]
    assert player.wait() == 0, player.output


def test_what_can_not_be_published_is_named_and_the_rest_is_played(
    tmp_path: Path, process: Any, listener: Listener
) -> None:
    """ROS 1's Range has a field less, and ROS 2 has no topics that begin with a digit."""
    listener.listen(Image, "/camera")
    reading = ROS2.types["sensor_msgs/msg/Range"](header(0), 0, 0.0, 0.0, 0.0, 0.0, 0.0)
    others = {"/2nd": drive(1)["/camera"], "/sonar": [(SECOND, reading)]}
    bag = write_bag(tmp_path / "drive.bag", drive(2, period_ns=FAST_NS) | others)
    player = process("bag_player", bag, "--wait-for-subscribers")
    listener.wait(lambda: len(listener.heard["/camera"]) == 2)
    assert player.wait() == 0, player.output
    assert "/sonar (sensor_msgs/msg/Range of ROS 1 is unknown or differs in ROS 2)" in player.output
    assert "/2nd (" in player.output
    assert listener.greys() == [1, 2]


def test_of_a_damaged_bag_the_rest_is_played(
    tmp_path: Path, process: Any, listener: Listener
) -> None:
    listener.listen(Image, "/camera")
    bag = write_bag(tmp_path / "drive", drive(40, period_ns=FAST_NS, side_px=128))
    file = bag / "drive.db3"
    whole = file.read_bytes()
    middle = len(whole) // 2 // 4096 * 4096
    file.write_bytes(whole[:middle] + bytes(4096) + whole[middle + 4096 :])
    player = process("bag_player", bag, "--wait-for-subscribers")
    heard = listener.heard["/camera"]
    listener.wait(lambda: f"read {len(heard)} of 40 messages" in player.output)
    assert player.wait() == 1
    assert 10 < len(heard) < 40
    assert f"read {len(heard)} of 40 messages" in player.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--topics /camer", "has no topic /camer; did you mean /camera?"),
        ("--start-offset 10", "lasts only 4.0 seconds"),
    ],
)
def test_what_a_bag_does_not_have_is_refused_in_one_line(
    tmp_path: Path, process: Any, words: str, says: str
) -> None:
    player = process("bag_player", write_bag(tmp_path / "drive", drive(5)), *words.split())
    assert player.wait() == 1
    assert says in player.output
    assert len(player.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--rate 0", "expected a number above 0"),
        ("--rate nan", "expected a number above 0"),
        ("--remap camera", "expected OLD:=NEW"),
    ],
)
def test_wrong_words_are_refused(capsys: pytest.CaptureFixture[str], words: str, says: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bag", *words.split()])
    assert says in capsys.readouterr().err


def test_waiting_for_subscribers_ends_when_it_is_asked_to(tmp_path: Path, process: Any) -> None:
    player = process(
        "bag_player", write_bag(tmp_path / "drive", drive(5)), "--wait-for-subscribers"
    )
    player.wait_for_output("Waiting for 1 subscribers of /camera")
    player.send(signal.SIGTERM)
    assert player.wait() == 0
    assert "Traceback" not in player.output


def test_time_passes_faster_at_a_higher_rate() -> None:
    begin_s = time.monotonic()
    clock = PlayingClock(100 * SECOND, rate=10.0, period_s=inf, publish=lambda now_ns: None)
    clock.sleep_until(102 * SECOND)
    assert 0.2 <= time.monotonic() - begin_s < 1.0


def test_what_is_due_already_is_not_waited_for() -> None:
    begin_s = time.monotonic()
    clock = PlayingClock(100 * SECOND, rate=1.0, period_s=inf, publish=lambda now_ns: None)
    clock.sleep_until(90 * SECOND)
    assert time.monotonic() - begin_s < 0.5


def test_the_clock_is_published_evenly_however_long_one_sleeps() -> None:
    published: list[int] = []
    clock = PlayingClock(100 * SECOND, rate=2.0, period_s=0.01, publish=published.append)
    for due in (100.05, 100.0501, 100.11):
        clock.sleep_until(round(due * SECOND))
    assert published == [100 * SECOND + tick * SECOND // 50 for tick in range(6)]
