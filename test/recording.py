# SPDX-License-Identifier: MIT
"""Makes small bags for tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

ROS1, ROS2 = get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.LATEST)
ROS1.register(
    get_types_from_msg("geometry_msgs/TransformStamped[] transforms", "tf2_msgs/msg/TFMessage")
)
SECOND = 1_000_000_000

Recording = Mapping[str, Sequence[tuple[int, Any]]]  # topic -> (received_ns, message)


def header(stamp_ns: int) -> Any:
    time = ROS2.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, SECOND))
    return ROS2.types["std_msgs/msg/Header"](time, "camera")


def image(stamp_ns: int, pixels: np.ndarray, encoding: str = "mono8") -> Any:
    """A sensor_msgs/Image of (H, W) or (H, W, channels)."""
    height, width = pixels.shape[:2]
    data = np.frombuffer(pixels.tobytes(), np.uint8)
    kind = ROS2.types["sensor_msgs/msg/Image"]
    return kind(header(stamp_ns), height, width, encoding, 0, data.size // height, data)


def compressed_image(stamp_ns: int, data: bytes, format: str = "jpeg") -> Any:
    """A sensor_msgs/CompressedImage."""
    kind = ROS2.types["sensor_msgs/msg/CompressedImage"]
    return kind(header(stamp_ns), format, np.frombuffer(data, np.uint8))


def text(data: str) -> Any:
    """A std_msgs/String."""
    return ROS2.types["std_msgs/msg/String"](data)


def drive(
    count: int = 5, topic: str = "/camera", period_ns: int = SECOND, side_px: int = 8
) -> dict[str, Sequence[tuple[int, Any]]]:
    """Images number 1, 2, ...: stamped after as many periods, of that grey, recorded 7 ns later."""
    shape = (side_px, side_px)
    stamps = [(number, number * period_ns) for number in range(1, count + 1)]
    return {topic: [(at + 7, image(at, np.full(shape, one, np.uint8))) for one, at in stamps]}


def write_bag(path: Path, recording: Recording, latched: Sequence[str] = ()) -> Path:
    """A bag of ROS 1 if the path ends in .bag; MCAP if it ends in _mcap; sqlite3 otherwise."""
    if path.suffix == ".bag":
        return _write_ros1(path, recording, latched)
    storage = StoragePlugin.MCAP if path.name.endswith("_mcap") else StoragePlugin.SQLITE3
    with Writer2(path, version=9, storage_plugin=storage) as writer:
        for topic, messages in recording.items():
            kind = messages[0][1].__msgtype__
            offered = [_LATCHED] if topic in latched else []
            connection = writer.add_connection(
                topic, kind, typestore=ROS2, offered_qos_profiles=offered
            )
            for received_ns, message in messages:
                writer.write(connection, received_ns, ROS2.serialize_cdr(message, kind))
    return path


def _write_ros1(path: Path, recording: Recording, latched: Sequence[str]) -> Path:
    with Writer1(path) as writer:
        for topic, messages in recording.items():
            kind = messages[0][1].__msgtype__
            connection = writer.add_connection(
                topic, kind, typestore=ROS1, latching=int(topic in latched)
            )
            for received_ns, message in messages:
                raw = ROS2.cdr_to_ros1(ROS2.serialize_cdr(message, kind), kind)
                writer.write(connection, received_ns, raw)
    return path


_FOREVER = QosTime(2147483647, 4294967295)
_LATCHED = Qos(
    QosHistory.KEEP_LAST,
    1,
    QosReliability.RELIABLE,
    QosDurability.TRANSIENT_LOCAL,
    _FOREVER,
    _FOREVER,
    QosLiveliness.AUTOMATIC,
    _FOREVER,
    False,
)
