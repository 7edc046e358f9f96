# SPDX-License-Identifier: MIT
"""Images out of a bag: rosbag2 in sqlite3 or MCAP, and ROS 1."""

import difflib
import heapq
import re
import shlex
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader as Reader1
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.data.bag_files import (
    ZSTD_SUFFIX,
    BagReader,
    decompressed,
    decompressed_message,
    encoding,
    is_storage,
    is_unclosed,
    storage_suffix,
)
from netvlad_ros.errors import BagError

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
# Of REP 118: millimetres and metres.
DEPTH_ENCODINGS = ("16UC1", "32FC1")

# Of the messages that we read, rosbags' types of ROS 1 lack one.
_TRANSFORMS = "geometry_msgs/TransformStamped[] transforms"

_REPAIRS = {
    ".mcap": "`mcap recover` saves what is left of it",
    ".db3": "`sqlite3 BAG.db3 .recover | sqlite3 SAVED.db3` saves what is left of it",
    ".bag": "`rosbag reindex` of ROS 1 may repair it",
    ".active": "it's still being recorded, or was not closed: `rosbag reindex` of ROS 1 makes a .bag of it",
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
    topic: str = ""


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
        self._readers: list[Reader1 | BagReader] = []
        self._unpacked: list[tempfile.TemporaryDirectory[str]] = []
        try:
            for file in _files(self.path):
                self._readers.append(_open(self._plain(file)))
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
        for folder in self._unpacked:
            folder.cleanup()
        self._readers, self._unpacked = [], []

    @property
    def is_ros1(self) -> bool:
        """Whether its messages are serialised as in ROS 1, which MCAP holds too."""
        return any(encoding(each) == "ros1" for each in self._connections())

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
        """The given topic, or the only one with images; depth is no picture where there are others.

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
        depth = self.depth_topics if len(images) > 1 else []
        pictures = [topic for topic in images if topic not in depth] or images
        if len(pictures) > 1:
            raise BagError(
                f"{self.path}: has several image topics; choose one of {', '.join(images)}."
            )
        return pictures[0]

    @cached_property
    def depth_topics(self) -> list[str]:
        """The image topics whose first message holds distances instead of a picture."""
        images = [topic for topic in self.topics.values() if topic.is_image and topic.count]
        return [topic.name for topic in images if self._is_depth(topic)]

    def choice(self, topic: str) -> str:
        """A sentence on what image_topic() preferred this topic to; empty if to nothing."""
        others = [
            each.name for each in self.topics.values() if each.is_image and each.name != topic
        ]
        if not others or topic in self.depth_topics or not set(others) <= set(self.depth_topics):
            return ""
        return f"The images are those of {topic}; depth ({', '.join(others)}) is no picture."

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
        yield from self.stamped_together([topic], start_ns)

    def stamped_together(
        self, topics: Collection[str], start_ns: int = 0
    ) -> Iterator[StampedMessage]:
        """The same of several topics, in the order of recording."""
        for number, raw in enumerate(self.messages(topics, start_ns)):
            try:
                message = self.deserialised(raw)
            except Exception as error:  # rosbags raises whatever it runs into
                raise self._damaged(number, topics, error) from error
            stamp = message.header.stamp
            stamp_ns = stamp.sec * NANOSECONDS + stamp.nanosec or raw.received_ns
            yield StampedMessage(stamp_ns, raw.received_ns, message, raw.topic)

    def deserialised(self, raw: RawMessage) -> Any:
        """A message as rosbags makes it; raises whatever that runs into."""
        return self._deserialize(raw.data, raw.type)

    @cached_property
    def _deserialize(self) -> Callable[[bytes, str], Any]:
        if not self.is_ros1:
            return get_typestore(Stores.LATEST).deserialize_cdr
        store = get_typestore(Stores.ROS1_NOETIC)
        store.register(get_types_from_msg(_TRANSFORMS, "tf2_msgs/msg/TFMessage"))
        return store.deserialize_ros1

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
            message = decompressed_message(bytes(data))
            yield RawMessage(connection.topic, connection.msgtype, received_ns, message)

    def _plain(self, file: Path) -> Path:
        """The file, unpacked if it's compressed as a whole."""
        if file.suffix != ZSTD_SUFFIX or file.is_dir():
            return file
        folder = tempfile.TemporaryDirectory(prefix="netvlad-bag-")
        self._unpacked.append(folder)
        try:
            return decompressed(file, Path(folder.name))
        except Exception as error:  # of zstd, or a full disk
            raise BagError(
                f"{file}: can't be unpacked into {folder.name} ({_one_line(error)}); `zstd -d {file.name}` "
                "where there is room saves what can be."
            ) from error

    def _is_depth(self, topic: Topic) -> bool:
        try:
            message = next(self.stamped(topic.name)).message
        except (BagError, StopIteration):  # whoever reads its images is told
            return False
        how = str(getattr(message, "encoding", "") or getattr(message, "format", ""))
        return how.startswith(DEPTH_ENCODINGS) or "compressedDepth" in how

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
        return is_storage(path) or _is_ros1(path)
    return (path / "metadata.yaml").exists() or any(map(is_storage, path.glob("*.*")))


def storage_file(path: Path) -> Path:
    """The file, the first of several, that holds the messages of a bag."""
    inside = sorted(path.iterdir()) if path.is_dir() else []
    return next(filter(is_storage, inside), path)


def _files(path: Path) -> list[Path]:
    """What to give to a reader: the path itself, or the storage files of a folder without metadata."""
    if not path.exists():
        raise BagError(f"{path}: no such file or folder; expected a bag.")
    if path.is_file() or ((path / "metadata.yaml").exists() and not _has_other_formats(path)):
        return [path]
    files = sorted(filter(is_storage, path.iterdir()))
    if not files:
        raise BagError(
            f"{path}: not a bag; expected a folder with metadata.yaml or with .mcap or .db3 files, "
            "or a .bag file of ROS 1."
        )
    return files


def _has_other_formats(path: Path) -> bool:
    """Whether metadata names a format that isn't ROS 2's, for which rosbags refuses the whole folder."""
    text = (path / "metadata.yaml").read_text(errors="replace")
    formats = set(re.findall(r"serialization_format:\s*[\"']?(\w+)", text))
    return "cdr" in formats and formats != {"cdr"}


def _is_ros1(path: Path) -> bool:
    return path.name.endswith((".bag", ".bag.active"))


def _open(path: Path) -> Reader1 | BagReader:
    if path.is_file() and not is_storage(path) and not _is_ros1(path):
        raise BagError(f"{path}: not a bag; expected a folder, or a .mcap, .db3 or .bag file.")
    try:
        reader = Reader1(path) if _is_ros1(path) else BagReader(path)
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
    if is_unclosed(path):
        return (
            "it was not closed, and rows are in a file beside it: `sqlite3 "
            f"{shlex.quote(str(path))} 'SELECT count(*) FROM messages'` joins them"
        )
    return _REPAIRS.get(storage_suffix(path), _REPAIRS[""])


def _one_line(reason: object) -> str:
    return " ".join(str(reason).split()) or type(reason).__name__
