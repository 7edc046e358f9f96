# SPDX-License-Identifier: MIT
"""The topics beside the images, subscribed to as soon as somebody publishes them."""

import struct
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from netvlad_ros.config import Config, SensorsConfig
from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.errors import MessageError
from netvlad_ros.nodes.diagnostics import Health
from netvlad_ros.nodes.mounts import Mount
from netvlad_ros.nodes.subscriptions import MatchedSubscription, subscribe
from netvlad_ros.sensors.collector import Collected, Kind, SensorCollector

# How often is looked whether somebody publishes what nobody did before.
LOOK_PERIOD_S = 0.2
TYPES: dict[Kind, tuple[type, ...]] = {
    Kind.CAMERA_INFO: (CameraInfo,),
    Kind.DEPTH: (Image, CompressedImage),
    Kind.RIGHT: (Image, CompressedImage),
    Kind.RIGHT_CAMERA_INFO: (CameraInfo,),
    Kind.ODOMETRY: (Odometry,),
}
# 400 poses are a second of fast odometry, for an executor that is busy.
QOS = {Kind.ODOMETRY: QoSProfile(depth=400)}
# Which kinds each choice of sensors.points_from looks for.
_OF_DEPTH, _OF_STEREO = (Kind.DEPTH,), (Kind.RIGHT, Kind.RIGHT_CAMERA_INFO)
WANTED = {
    "auto": (*_OF_DEPTH, *_OF_STEREO),
    "depth": _OF_DEPTH,
    "stereo": _OF_STEREO,
    "motion": (),
}


class SensorTopics:
    """Receives in the executor's thread; another one asks for what belongs to an image."""

    def __init__(self, node: Node, config: Config, health: Health, mount: Mount) -> None:
        self._node, self._health = node, health
        self._points_from = config.sensors.points_from
        hold_ns = round(config.keyframes.hold_s * NANOSECONDS) * config.keyframes.requested
        self._collector = SensorCollector(config.sensors, config.camera, mount, hold_ns)
        self._notes: Mapping[str, str] = {}
        self._changed = threading.Condition()
        self._subscriptions: dict[Kind, MatchedSubscription] = {}
        self._wanted = (Kind.CAMERA_INFO, Kind.ODOMETRY, *WANTED[self._points_from])
        self._look()
        node.create_timer(LOOK_PERIOD_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def configure(self, config: SensorsConfig) -> None:
        """Takes over values that changed while running."""
        self._collector.config = config

    def gauges(self) -> dict[str, object]:
        """Which topics there are, and what is left open, for diagnostics."""
        topics = {
            kind.value: self._subscriptions[kind].topic_name
            if kind in self._subscriptions
            else f"nobody publishes {self._node.resolve_topic_name(kind.value)}"
            for kind in self._wanted
        }
        return topics | {f"note on {name}": sentence for name, sentence in self._notes.items()}

    def collect(self, image: np.ndarray, stamp_ns: int, received_s: float) -> Collected:
        """What belongs to an image, waited for until sensors.wait_s after it was received."""
        wait_s = self._collector.config.wait_s - (time.perf_counter() - received_s)
        with self._changed:
            self._changed.wait_for(
                lambda: self._collector.is_complete(stamp_ns, time.monotonic_ns()),
                max(wait_s, 0.0),
            )
            collected = self._collector.collect(image, stamp_ns)
        self._notes = collected.notes
        for kind, sentence in collected.problems.items():
            self._health.problem(kind, sentence)
        if self._points_from != "auto":
            self._name_absent()
        return collected

    def _name_absent(self) -> None:
        """What was asked for by name."""
        for kind in WANTED[self._points_from][:1]:
            if kind not in self._subscriptions:
                self._health.problem(
                    kind,
                    f"nobody publishes {self._node.resolve_topic_name(kind.value)}, and sensors.points_from "
                    f"is {self._points_from}; remap it, or set sensors.points_from to auto.",
                )

    def _look(self) -> None:
        for kind in self._wanted:
            if kind in _OF_STEREO and Kind.DEPTH in self._subscriptions:
                continue  # which is better
            if kind not in self._subscriptions and (found := self._published(kind)):
                self._subscribe(kind, found)

    def _published(self, kind: Kind) -> type | None:
        """As what it is published, if it is; of two ways the first."""
        topic = self._node.resolve_topic_name(kind.value)
        publishers = self._node.get_publishers_info_by_topic(topic)
        types = {each.topic_type.rpartition("/")[2] for each in publishers}
        return next((each for each in TYPES[kind] if each.__name__ in types), None)

    def _subscribe(self, kind: Kind, message_type: type) -> None:
        def receive(serialised: bytes) -> None:
            self._receive(kind, message_type, serialised)

        self._subscriptions[kind] = subscribe(
            self._node,
            message_type,
            kind.value,
            receive,
            QOS.get(kind, qos_profile_sensor_data),
            on_lost=partial(self._health.count, f"lost of {kind.value}"),
            raw=True,
        )
        with self._changed:
            self._collector.expect(kind, self._subscriptions[kind].topic_name)

    def _receive(self, kind: Kind, message_type: type, serialised: bytes) -> None:
        stamp_ns = stamp_of(serialised) or self._node.get_clock().now().nanoseconds
        with self._changed:
            load = _loading(serialised, message_type)
            self._collector.add(kind, stamp_ns, time.monotonic_ns(), load, len(serialised))
            self._changed.notify_all()


def stamp_of(serialised: bytes) -> int:
    """Nanoseconds of the stamp with which a message begins, without deserialising it; 0 if absurd."""
    order = "<" if serialised[1:2] == b"\x01" else ">"
    try:
        seconds, nanoseconds = struct.unpack_from(f"{order}iI", serialised, 4)
    except struct.error:
        return 0
    if seconds < 0 or nanoseconds >= NANOSECONDS:
        return 0
    return int(seconds) * NANOSECONDS + int(nanoseconds)


def _loading(serialised: bytes, message_type: type) -> Callable[[], Any]:
    def load() -> Any:
        try:
            return deserialize_message(serialised, message_type)
        except Exception as error:  # whatever rclpy raises for bytes that are no message
            raise MessageError(f"its message can't be read ({error})") from None

    return load
