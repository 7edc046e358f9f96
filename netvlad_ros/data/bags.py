# SPDX-License-Identifier: MIT
"""Images out of a bag: rosbag2 in sqlite3 or MCAP, and ROS 1."""

import difflib
import heapq
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader as Reader1
from rosbags.rosbag2 import Reader as Reader2
from rosbags.typesys import Stores, get_typestore

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.errors import BagError

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")

_STORAGE_SUFFIXES = (".mcap", ".db3")
_REPAIRS = {
    ".mcap": "`mcap recover` saves what is left of it",
    ".db3": "`sqlite3 BAG.db3 .recover | sqlite3 SAVED.db3` saves what is left of it",
    ".bag": "`rosbag reindex` may repair it",
    "": "give one of its .mcap or .db3 files instead, or repair it with `ros2 bag reindex`",
}


@dataclass(frozen=True)
class Topic:
    """What a bag has under one name."""

    name: str
    type: str  # in ROS 2's spelling, such as sensor_msgs/msg/Image, for ROS 1 bags too
    count: int
    latched: bool  # late subscribers are to get the last messages

    @property
    def is_image(self) -> bool:
        return self.type in IMAGE_TYPES


class StampedMessage(NamedTuple):
    """A message with a header, deserialised."""

    stamp_ns: int  # of the header; where that is zero, when it was recorded
    received_ns: int
    message: Any


class RawMessage(NamedTuple):
    """A message as it lies in the bag."""

    topic: str
    type: str
    received_ns: int  # when it was recorded
    data: bytes  # CDR, or ROS 1's own format if the bag is one of ROS 1


class Bag:
    """A bag that is open for reading.

    path: a rosbag2 folder, with or without metadata.yaml, a single .mcap or .db3 file, or a ROS 1 .bag.
    Raises BagError for what can't be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._readers: list[Reader1 | Reader2] = []
        try:
            self._readers.extend(_open(file) for file in _files(self.path))
        except BagError:
            self.close()
            raise
        self.topics = {topic.name: topic for topic in _topics(self._connections())}

    def __enter__(self) -> "Bag":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
        self._readers = []

    @property
    def is_ros1(self) -> bool:
        return any(isinstance(reader, Reader1) for reader in self._readers)

    @property
    def start_ns(self) -> int:
        """When the first message was recorded; 0 in an empty bag."""
        return min(self._times(), default=(0, 0))[0]

    @property
    def duration_ns(self) -> int:
        """From the first message to just after the last."""
        return max((end for _, end in self._times()), default=self.start_ns) - self.start_ns

    def topic(self, name: str) -> Topic:
        """The topic of this name. Raises BagError, with the nearest or all there are, if there is none."""
        if name in self.topics:
            return self.topics[name]
        near = difflib.get_close_matches(name, self.topics, n=1)
        hint = f"did you mean {near[0]}?" if near else f"{self._contents()}."
        raise BagError(f"{self.path}: has no topic {name}; {hint}")

    def image_topic(self, name: str = "") -> str:
        """The given topic, or the only one with images.

        Raises BagError, naming the topics there are, if there is none, or no such, or several.
        """
        expected = " or ".join(IMAGE_TYPES)
        if name:
            if not self.topic(name).is_image:
                raise BagError(
                    f"{self.path}: {name} is {self.topics[name].type}, expected {expected}."
                )
            return name
        images = [topic.name for topic in self.topics.values() if topic.is_image]
        if not images:
            raise BagError(f"{self.path}: expected a topic of {expected}; {self._contents()}.")
        if len(images) > 1:
            raise BagError(
                f"{self.path}: has several image topics; choose one of {', '.join(images)}."
            )
        return images[0]

    def images(self, topic: str) -> Iterator[tuple[int, Any]]:
        """Stamp in nanoseconds and message of every image, in the order of recording.

        The stamp is that of the header, when the camera took the image; where a driver left it zero, it
        is when the image was recorded. stamped() gives the time of recording as well. Raises BagError
        where the bag is damaged, after all that could be read before.
        """
        for each in self.stamped(topic):
            yield each.stamp_ns, each.message

    def stamped(self, topic: str, start_ns: int = 0) -> Iterator[StampedMessage]:
        """The messages of a topic whose type begins with a header, from a time of recording on.

        Raises BagError where the bag is damaged, after all that could be read before.
        """
        store = get_typestore(Stores.ROS1_NOETIC if self.is_ros1 else Stores.LATEST)
        deserialize = store.deserialize_ros1 if self.is_ros1 else store.deserialize_cdr
        for number, raw in enumerate(self.messages([topic], start_ns)):
            try:
                message: Any = deserialize(raw.data, raw.type)
            except Exception as error:  # rosbags raises whatever it runs into
                raise self._damaged(number, [topic], error) from error
            stamp = message.header.stamp
            stamp_ns = stamp.sec * NANOSECONDS + stamp.nanosec or raw.received_ns
            yield StampedMessage(stamp_ns, raw.received_ns, message)

    def messages(self, topics: Collection[str], start_ns: int = 0) -> Iterator[RawMessage]:
        """The messages of these topics from a time of recording on, in the order of recording.

        Raises BagError where the bag is damaged, after all that could be read before.
        """
        number = 0
        try:
            for raw in self._merged(topics, start_ns):
                yield raw
                number += 1
        except (
            Exception
        ) as error:  # rosbags lets through what sqlite, struct, zstd and others raise
            raise self._damaged(number, topics, error) from error
        if start_ns <= self.start_ns and number < self._count(topics):
            raise self._damaged(number, topics, "the others are missing")

    def _merged(self, topics: Collection[str], start_ns: int) -> Iterator[RawMessage]:
        streams = []
        for reader in self._readers:
            connections = [each for each in reader.connections if each.topic in topics]
            if connections:
                streams.append(reader.messages(connections, start=start_ns))
        for connection, received_ns, data in heapq.merge(*streams, key=lambda message: message[1]):
            yield RawMessage(connection.topic, connection.msgtype, received_ns, bytes(data))

    def _connections(self) -> list[Connection]:
        return [connection for reader in self._readers for connection in reader.connections]

    def _times(self) -> list[tuple[int, int]]:
        return [(each.start_time, each.end_time) for each in self._readers if each.message_count]

    def _count(self, topics: Collection[str]) -> int:
        return sum(self.topics[name].count for name in topics)

    def _contents(self) -> str:
        names = [f"{topic.name} ({topic.type})" for topic in self.topics.values()]
        return f"it has {', '.join(names)}" if names else "it has no topics at all"

    def _damaged(self, number: int, topics: Collection[str], reason: object) -> BagError:
        return BagError(
            f"{self.path}: damaged; read {number} of {self._count(topics)} messages of "
            f"{', '.join(topics)} ({_one_line(reason)}); {_repair(self.path)}."
        )


def is_bag(path: Path) -> bool:
    """Whether this looks like a bag: by its suffix, its metadata or what is in the folder."""
    if path.is_file():
        return path.suffix in (*_STORAGE_SUFFIXES, ".bag")
    return (path / "metadata.yaml").exists() or any(
        any(path.glob(f"*{suffix}")) for suffix in _STORAGE_SUFFIXES
    )


def storage_file(path: Path) -> Path:
    """The file, the first of several, that holds the messages of a bag."""
    inside = sorted(path.iterdir()) if path.is_dir() else []
    return next((file for file in inside if file.suffix in _STORAGE_SUFFIXES), path)


def _files(path: Path) -> list[Path]:
    """What to give to a reader: the path itself, or the storage files of a folder without metadata."""
    if not path.exists():
        raise BagError(f"{path}: no such file or folder; expected a bag.")
    if path.is_file() or (path / "metadata.yaml").exists():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in _STORAGE_SUFFIXES)
    if not files:
        raise BagError(
            f"{path}: not a bag; expected a folder with metadata.yaml or with .mcap or .db3 files, "
            "or a .bag file of ROS 1."
        )
    return files


def _open(path: Path) -> Reader1 | Reader2:
    if path.is_file() and path.suffix not in _REPAIRS:
        raise BagError(f"{path}: not a bag; expected a folder, or a .mcap, .db3 or .bag file.")
    try:
        reader = Reader1(path) if path.suffix == ".bag" else Reader2(path)
        reader.open()
    except Exception as error:  # a damaged file makes rosbags raise nearly anything
        raise BagError(f"{path}: can't be read ({_one_line(error)}); {_repair(path)}.") from error
    return reader


def _topics(connections: list[Connection]) -> Iterator[Topic]:
    """One for each name, although every publisher and every file has a connection of its own."""
    for name in sorted({connection.topic for connection in connections}):
        same = [connection for connection in connections if connection.topic == name]
        count = sum(connection.msgcount for connection in same)
        yield Topic(name, same[0].msgtype, count, any(_is_latched(each.ext) for each in same))


def _is_latched(extension: Any) -> bool:
    if hasattr(extension, "latching"):  # ROS 1
        return bool(extension.latching)
    return any(qos.durability.name == "TRANSIENT_LOCAL" for qos in extension.offered_qos_profiles)


def _repair(path: Path) -> str:
    return _REPAIRS.get(path.suffix, _REPAIRS[""])


def _one_line(reason: object) -> str:
    return " ".join(str(reason).split()) or type(reason).__name__
