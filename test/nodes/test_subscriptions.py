# SPDX-License-Identifier: MIT
"""A subscription gets what is sent, however its publishers send it, and what it does not get is counted."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
import rclpy
from live_nodes import Ros
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import String

from netvlad_ros.errors import ConfigError
from netvlad_ros.nodes.subscriptions import Losses, MatchedSubscription, subscribe

pytestmark = pytest.mark.needs("rclpy")

IMAGES = 45
SMALL, VGA = 30_000, 921_600  # bytes; FastDDS's shared memory takes 0.5 MB by itself

# A camera of 30 Hz in a process of its own: topic, name, reliability, bytes of an image, number of images,
# and how many subscriptions it waits for. It keeps what a busy machine takes later.
CAMERA = """
import sys, time
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

topic, name, reliability, size, images, subscriptions = sys.argv[1:]
rclpy.init()
node = rclpy.create_node(name)
qos = QoSProfile(depth=int(images), reliability=ReliabilityPolicy[reliability])
publisher = node.create_publisher(Image, topic, qos)
image = Image(data=bytes(int(size)))
while publisher.get_subscription_count() < int(subscriptions):
    time.sleep(0.02)
time.sleep(1.0)
start_s = time.monotonic()
for number in range(int(images)):
    time.sleep(max(0.0, start_s + number / 30 - time.monotonic()))
    image.header.frame_id = f"{name} {number}"
    publisher.publish(image)
time.sleep(1.0)
"""

_topics = count(1)


class Listener:
    """A node that subscribes as ours do."""

    def __init__(self, parameters: dict[str, Any], topic: str, qos: QoSProfile) -> None:
        self._context = rclpy.context.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self._node = rclpy.create_node(
            "listener", context=self._context, parameter_overrides=overrides
        )
        self.received: Counter[str] = Counter()
        self.lost = 0
        self.subscription: MatchedSubscription = subscribe(
            self._node, Image, topic, self._receive, qos, self._lose
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        self._context.shutdown()

    def asks_for(self, *reliabilities: str) -> bool:
        profiles = self.subscription.profiles
        return {each.reliability.name for each in profiles} == set(reliabilities)

    def has_all_of(self, *cameras: str) -> bool:
        """Every image of these cameras, each once."""
        return self.received == Counter(
            f"{camera} {number}" for camera in cameras for number in range(IMAGES)
        )

    def _receive(self, image: Image) -> None:
        self.received[image.header.frame_id] += 1

    def _lose(self, number: int) -> None:
        self.lost += number


@pytest.fixture
def topic() -> str:
    return f"/subscriptions{next(_topics)}/image"


@pytest.fixture
def listen(topic: str) -> Iterator[Callable[..., Listener]]:
    listeners: list[Listener] = []

    def listen(qos: QoSProfile = qos_profile_sensor_data, **parameters: Any) -> Listener:
        overrides = {
            f"qos_overrides.{topic}.subscription.{name}": value
            for name, value in parameters.items()
        }
        listeners.append(Listener(overrides, topic, qos))
        return listeners[-1]

    yield listen
    for listener in listeners:
        listener.close()


@pytest.fixture
def film(topic: str) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Starts a camera, which ends after its images."""
    running: list[subprocess.Popen[bytes]] = []

    def film(
        name: str,
        reliability: str,
        size: int = SMALL,
        images: int = IMAGES,
        subscriptions: int = 1,
    ) -> "subprocess.Popen[bytes]":
        words = [topic, name, reliability, *map(str, (size, images, subscriptions))]
        running.append(subprocess.Popen([sys.executable, "-c", CAMERA, *words]))
        return running[-1]

    yield film
    for one in running:
        one.kill()
        one.wait()


def test_every_large_image_of_a_reliable_camera_arrives(
    listen: Callable[..., Listener], film: Callable[..., Any], ros: Ros
) -> None:
    """In this process nobody gave FastDDS more shared memory; best effort would lose nine of ten."""
    listener = listen(QoSProfile(depth=100))
    film("camera", "RELIABLE", VGA)
    ros.until(lambda: listener.has_all_of("camera"))
    assert listener.asks_for("RELIABLE")
    assert listener.lost == 0


def test_a_camera_may_go_and_come_back_with_another_reliability(
    listen: Callable[..., Listener], film: Callable[..., Any], ros: Ros
) -> None:
    listener = listen(QoSProfile(depth=100))
    expected = []
    for name, reliability in (
        ("first", "BEST_EFFORT"),
        ("second", "RELIABLE"),
        ("third", "BEST_EFFORT"),
    ):
        camera = film(name, reliability)
        expected.append(name)
        ros.until(lambda: listener.has_all_of(*expected))
        assert listener.asks_for(reliability)
        assert camera.wait(60.0) == 0


def test_two_cameras_on_one_topic_with_different_reliability_are_both_heard_once(
    listen: Callable[..., Listener], film: Callable[..., Any], ros: Ros
) -> None:
    listener = listen(QoSProfile(depth=100))
    # A reliable one is heard by both of the listener's subscriptions, once it has two.
    film("reliable", "RELIABLE", VGA, subscriptions=2)
    quick = film("quick", "BEST_EFFORT")

    def of(camera: str) -> int:
        return sum(name.startswith(camera) for name in listener.received)

    ros.until(lambda: of("reliable") == IMAGES and quick.poll() is not None)
    assert set(listener.received.values()) == {1}
    # Best effort may lose some on a busy machine, and these are counted.
    assert of("quick")
    assert listener.lost <= IMAGES - of("quick")


@pytest.mark.parametrize("reliability", ["best_effort", "reliable"])
def test_a_reliability_that_the_user_gave_stays(
    reliability: str, listen: Callable[..., Listener], film: Callable[..., Any], ros: Ros
) -> None:
    listener = listen(reliability=reliability)
    film("camera", "RELIABLE")
    ros.until(lambda: listener.received)
    assert listener.asks_for(reliability.upper())
    assert not listener.subscription.is_matched


def test_best_available_is_what_is_done_anyway(
    listen: Callable[..., Listener], film: Callable[..., Any], ros: Ros
) -> None:
    listener = listen(reliability="best_available")
    assert listener.asks_for("BEST_EFFORT")
    film("camera", "RELIABLE")
    ros.until(lambda: listener.has_all_of("camera"))
    assert listener.asks_for("RELIABLE")


@pytest.mark.parametrize(
    "wrong",
    [{"reliability": "best"}, {"reliability": 1}, {"depth": 0}, {"history": "some"}],
    ids=str,
)
def test_an_impossible_override_is_refused_with_what_is_possible(
    wrong: dict[str, Any], listen: Callable[..., Listener], topic: str
) -> None:
    with pytest.raises(ConfigError, match=f"{topic}.*best_available .*reliable or best_effort"):
        listen(**wrong)


def test_what_a_full_queue_overwrites_is_counted_as_lost(ros: Ros) -> None:
    """The reader does nothing while a thousand messages come in, of which its queue keeps ten."""
    received: list[Any] = []
    lost: list[int] = []
    subscription = subscribe(
        ros.node, String, "/flood", received.append, QoSProfile(depth=10), lost.append
    )
    publisher = ros.publisher(String, "/flood")
    ros.until(lambda: received, lambda: publisher.publish(String()))
    before, sent = len(received), 1000
    for number in range(sent):
        publisher.publish(String(data=str(number)))
    ros.until(lambda: received[-1].data == str(sent - 1))
    assert subscription.profiles[0].reliability == ReliabilityPolicy.RELIABLE
    assert len(received) - before == 10
    assert sum(lost) == sent - 10


def test_losses_are_counted_for_each_publisher_from_its_first_message_on() -> None:
    lost: list[int] = []
    losses = Losses(lost.append)
    for publisher, number in ((b"a", 7), (b"b", 1), (b"a", 8), (b"b", 4), (b"a", 10), (b"b", 3)):
        losses.arrived(publisher, number)
    assert lost == [2, 1]  # b's 2 and 3, a's 9


def test_a_loss_that_the_middleware_reports_too_counts_once() -> None:
    lost: list[int] = []
    losses = Losses(lost.append)
    losses.reported(3)
    losses.arrived(b"a", 1)
    losses.arrived(b"a", 5)
    losses.arrived(b"a", 7)
    assert lost == [3, 1]


def test_without_numbers_only_what_the_middleware_reports_counts() -> None:
    lost: list[int] = []
    losses = Losses(lost.append)
    losses.arrived(b"", None)
    losses.arrived(b"", None)
    losses.reported(2)
    assert lost == [2]
