# SPDX-License-Identifier: MIT
"""Publishes what a bag recorded, with its timing: `netvlad play`."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from math import inf
from typing import Any

from rclpy.duration import Duration
from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from tqdm import tqdm

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.data import ros1
from netvlad_ros.data.bags import Bag, RawMessage, Topic
from netvlad_ros.errors import BagError, NetVLADError
from netvlad_ros.nodes.process import end, initialise
from netvlad_ros.nodes.transport import use_large_message_transport

QOS = QoSProfile(depth=10)  # reliable: best-effort subscribers are served too
# Static transforms are one message for each of their publishers, and a late subscriber wants all.
LATCHED_QOS = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)

# A subscriber that this side has found still has to find this side; and when a best-effort one has the
# last message, nobody tells.
SETTLE_S = 0.3
ACKNOWLEDGE_S = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Plays a bag until its end, SIGINT or SIGTERM; returns the exit code."""
    words, ros_words = _split(list(sys.argv[1:] if argv is None else argv))
    options = _parser().parse_args(words)
    for rule in options.remap:
        ros_words += ["--ros-args", "--remap", rule, "--"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    use_large_message_transport()
    nodes: list[Node] = []
    try:
        with Bag(options.bag) as bag:
            initialise(ros_words, signal_handler_options=SignalHandlerOptions.NO)
            nodes.append(BagPlayer(bag, options))
            nodes[0].play()
    except NetVLADError as error:
        sys.stderr.write(f"netvlad play: {error}\n")
        return 1
    except KeyboardInterrupt:
        pass
    finally:
        end(nodes)
    return 0


class BagPlayer(Node):
    """Publishes serialised messages as they are, so playing costs little next to what it feeds."""

    def __init__(self, bag: Bag, options: argparse.Namespace) -> None:
        """Raises BagError if nothing of the bag can be published."""
        super().__init__("bag_player", start_parameter_services=False)
        self._bag = bag
        self._options = options
        self._clock_period_s = 1.0 / options.clock if options.clock else inf
        if options.clock:
            self._clock_publisher = self.create_publisher(Clock, "/clock", QOS)
        if options.start_offset * NANOSECONDS >= bag.duration_ns > 0:
            raise BagError(f"{bag.path}: lasts only {bag.duration_ns / NANOSECONDS:.1f} seconds.")
        self._outlets = self._make_outlets(_chosen(bag, options.topics))

    def play(self) -> None:
        """Returns at the end of the bag; with --loop never."""
        self._wait_for_subscribers()
        self._play_once()
        while self._options.loop:
            time.sleep(SETTLE_S)
            self._play_once()

    def close(self) -> None:
        """Waits until subscribers have what was published."""
        end_s = time.monotonic() + ACKNOWLEDGE_S
        for publisher in self._outlets.values():
            publisher.wait_for_all_acked(Duration(seconds=max(0.0, end_s - time.monotonic())))
        time.sleep(SETTLE_S)

    def _make_outlets(self, topics: Sequence[Topic]) -> dict[str, Publisher]:
        outlets: dict[str, Publisher] = {}
        problems = []
        for topic in topics:
            try:
                outlets[topic.name] = self._make_outlet(topic)
            except (BagError, InvalidTopicNameException) as error:
                problems.append(f"{topic.name} ({_first_line(error)})")
        if not outlets:
            raise BagError(
                f"{self._bag.path}: nothing to play; {', '.join(problems) or 'it is empty'}."
            )
        if problems:
            self.get_logger().warning(f"Not played: {', '.join(problems)}.")
        return outlets

    def _make_outlet(self, topic: Topic) -> Publisher:
        if self._options.clock and topic.name == "/clock":
            raise BagError("--clock takes its place")
        if self._bag.is_ros1 and not ros1.has_same_fields(topic.type):
            raise BagError(f"{topic.type} of ROS 1 is unknown or differs in ROS 2")
        return self.create_publisher(
            _message_class(topic.type), topic.name, LATCHED_QOS if topic.latched else QOS
        )

    def _wait_for_subscribers(self) -> None:
        wanted = self._options.wait_for_subscribers
        if not wanted:
            return
        self.get_logger().info(f"Waiting for {wanted} subscribers of {', '.join(self._outlets)}.")
        while sum(each.get_subscription_count() for each in self._outlets.values()) < wanted:
            time.sleep(0.02)
        time.sleep(SETTLE_S)

    def _play_once(self) -> None:
        start_ns = self._bag.start_ns + round(self._options.start_offset * NANOSECONDS)
        clock = PlayingClock(
            start_ns, self._options.rate, self._clock_period_s, self._publish_clock
        )
        with _progress_bar(self._bag) as bar:
            for raw in self._bag.messages(self._outlets, start_ns):
                clock.sleep_until(raw.received_ns)
                self._outlets[raw.topic].publish(self._serialised(raw))
                bar.update((raw.received_ns - self._bag.start_ns) / NANOSECONDS - bar.n)

    def _publish_clock(self, now_ns: int) -> None:
        self._clock_publisher.publish(Clock(clock=Time(nanoseconds=now_ns).to_msg()))

    def _serialised(self, raw: RawMessage) -> bytes:
        return ros1.to_cdr(raw.data, raw.type) if self._bag.is_ros1 else raw.data


class PlayingClock:
    """The time of a bag, which passes while it is played."""

    def __init__(
        self, start_ns: int, rate: float, period_s: float, publish: Callable[[int], None]
    ) -> None:
        """The time starts now, at start_ns; it is published whenever period_s of real time has passed."""
        self._start_ns, self._rate = start_ns, rate
        self._period_s, self._publish = period_s, publish
        self._begin_s = self._next_tick_s = time.monotonic()
        if period_s == inf:
            self._next_tick_s = inf

    def sleep_until(self, due_ns: int) -> None:
        """Returns when the bag's time is due_ns, at once if that is past."""
        due_s = self._begin_s + (due_ns - self._start_ns) / NANOSECONDS / self._rate
        while self._next_tick_s <= due_s:
            _sleep_until(self._next_tick_s)
            passed_s = (self._next_tick_s - self._begin_s) * self._rate
            self._publish(self._start_ns + round(passed_s * NANOSECONDS))
            self._next_tick_s += self._period_s
        _sleep_until(due_s)


def _sleep_until(due_s: float) -> None:
    time.sleep(max(0.0, due_s - time.monotonic()))


def _chosen(bag: Bag, names: Sequence[str]) -> list[Topic]:
    """The topics of these names, or all. Raises BagError for a name that the bag does not have."""
    topics = [bag.topic(name) for name in names] or list(bag.topics.values())
    return [topic for topic in topics if topic.count]


def _message_class(kind: str) -> Any:
    package, _, name = kind.split("/")
    try:
        return getattr(import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError):
        raise BagError(f"{kind} is not installed") from None


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0].rstrip(":")


def _progress_bar(bag: Bag) -> Any:
    """In seconds of the bag, on stderr, if that is a terminal."""
    shape = "{percentage:3.0f}% |{bar}| {n:.1f} of {total:.1f} s"
    return tqdm(total=bag.duration_ns / NANOSECONDS, bar_format=shape, disable=None)


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Our words, and ROS's own from --ros-args on."""
    at = words.index("--ros-args") if "--ros-args" in words else len(words)
    return words[:at], words[at:]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="netvlad play",
        description="Publish the messages of a bag as they were recorded, without decoding them.",
        epilog="ROS arguments such as `--ros-args -r __ns:=/robot1` may follow.",
    )
    parser.add_argument("bag", help="rosbag2 folder, .mcap or .db3 file, or ROS 1 .bag")
    parser.add_argument("--topics", nargs="+", default=[], help="play these topics only")
    parser.add_argument(
        "--remap",
        type=_rule,
        nargs="+",
        default=[],
        metavar="OLD:=NEW",
        help="publish as another topic",
    )
    parser.add_argument("--rate", type=_positive, default=1.0, help="times the recorded speed")
    parser.add_argument("--loop", action="store_true", help="begin again at the end, for ever")
    parser.add_argument(
        "--clock",
        type=_positive,
        nargs="?",
        const=40.0,
        metavar="HZ",
        help="publish the time of recording on /clock so often a second (40), for use_sim_time",
    )
    parser.add_argument(
        "--start-offset",
        type=_positive,
        default=0.0,
        metavar="S",
        help="leave out the first seconds",
    )
    parser.add_argument(
        "--wait-for-subscribers",
        type=int,
        nargs="?",
        const=1,
        default=0,
        metavar="N",
        help="begin when the topics have so many subscribers together (1)",
    )
    return parser


def _rule(text: str) -> str:
    if not all(text.partition(":=")):
        raise argparse.ArgumentTypeError(f"expected OLD:=NEW, got {text}")
    return text


def _positive(text: str) -> float:
    value = float(text)
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
