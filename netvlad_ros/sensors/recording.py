# SPDX-License-Identifier: MIT
"""The images of a bag, each with what was recorded beside it, as if the bag were played."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from netvlad_ros.config import Config
from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.data.bags import IMAGE_TYPES, Bag, StampedMessage
from netvlad_ros.errors import BagError
from netvlad_ros.sensors.collector import Kind, SensorCollector
from netvlad_ros.sensors.static_frames import recorded_mount
from netvlad_ros.verification.sensors import Sensors

CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
ODOMETRY = "nav_msgs/msg/Odometry"


class RecordedImages:
    """Gives the images in the order of recording; each waits as in a node for what belongs to it.

    topics:   by what they hold.
    problems: what was missing or wrong, as sentences, and for how many images that were asked about.
    notes:    the same of what was left open.
    """

    def __init__(self, bag: Bag, image_topic: str, topics: Mapping[Kind, str], config: Config):
        self.topics = dict(topics)
        self.problems: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self._bag, self._image_topic = bag, image_topic
        self._wait_ns = round(config.sensors.wait_s * NANOSECONDS)
        mount = recorded_mount(bag, config.sensors)
        self._collector = SensorCollector(config.sensors, config.camera, mount)
        for kind, topic in self.topics.items():
            self._collector.expect(kind, topic)

    def __iter__(self) -> Iterator[StampedMessage]:
        """Raises BagError where the bag is damaged, after all images that could be read before."""
        kinds = {topic: kind for kind, topic in self.topics.items()}
        waiting: deque[StampedMessage] = deque()
        damage: BagError | None = None
        try:
            for each in self._bag.stamped_together([self._image_topic, *kinds]):
                while waiting and each.received_ns - waiting[0].received_ns > self._wait_ns:
                    yield waiting.popleft()
                if each.topic == self._image_topic:
                    waiting.append(each)
                else:
                    load = partial(_same, each.message)
                    self._collector.add(kinds[each.topic], each.stamp_ns, each.received_ns, load)
                while waiting and self._collector.is_complete(
                    waiting[0].stamp_ns, each.received_ns
                ):
                    yield waiting.popleft()
        except BagError as error:
            damage = error
        yield from waiting
        if damage is not None:
            raise damage

    def sensors(self, image: np.ndarray, stamp_ns: int) -> Sensors:
        """What belongs to the image that was given last."""
        collected = self._collector.collect(image, stamp_ns)
        self.problems.update(collected.problems.values())
        self.notes.update(collected.notes.values())
        return collected.sensors


def sensor_topics(
    bag: Bag, image_topic: str, points_from: str = "auto", given: Mapping[Kind, str] | None = None
) -> dict[Kind, str]:
    """What a bag has beside the images of a topic.

    camera_info is found beside its images by name, the right images of a pair by the name of the left ones,
    depth where there is only one.
    points_from: as the parameter sensors.points_from.
    given:       topics that are known by name.
    Raises BagError for a topic that is not there or of another type.
    """
    topics = {kind: _checked(bag, kind, name) for kind, name in (given or {}).items() if name}
    candidates = {
        Kind.CAMERA_INFO: _infos_beside(bag, image_topic),
        Kind.ODOMETRY: _odometry(bag),
        Kind.DEPTH: bag.depth_topics if points_from in ("auto", "depth") else [],
    }
    for kind, found in candidates.items():
        if kind not in topics and len(found) == 1:
            topics[kind] = found[0]
    if Kind.DEPTH not in topics and points_from in ("auto", "stereo"):
        rights = [each for each in _images(bag) if _is_right_of(each, image_topic)]
        if Kind.RIGHT not in topics and rights:
            topics[Kind.RIGHT] = rights[0]
    if Kind.RIGHT in topics and Kind.RIGHT_CAMERA_INFO not in topics:
        infos = _infos_beside(bag, topics[Kind.RIGHT])
        if infos and infos[0] != topics.get(Kind.CAMERA_INFO):
            topics[Kind.RIGHT_CAMERA_INFO] = infos[0]
    return topics


def _same(message: Any) -> Any:
    return message


def _images(bag: Bag) -> list[str]:
    return [each.name for each in bag.topics.values() if each.is_image and each.count]


def _is_right_of(topic: str, left: str) -> bool:
    """Such as /right/image of /left/image, and /camera/right/image of /camera/image."""
    return topic != left and left in (
        topic.replace("right", "left"),
        topic.replace("/right", "", 1),
    )


def _infos_beside(bag: Bag, image_topic: str) -> list[str]:
    """In the namespace of the images, or of one above, as image_transport's topics lie deeper."""
    infos = {each.name for each in bag.topics.values() if each.type == CAMERA_INFO and each.count}
    namespace = image_topic
    while "/" in namespace:
        namespace = namespace.rpartition("/")[0]
        if f"{namespace}/camera_info" in infos:
            return [f"{namespace}/camera_info"]
    return []


def _odometry(bag: Bag) -> list[str]:
    """The only one; of several, /odom."""
    found = [each.name for each in bag.topics.values() if each.type == ODOMETRY and each.count]
    return ["/odom"] if "/odom" in found else found


def _checked(bag: Bag, kind: Kind, name: str) -> str:
    expected = {
        Kind.CAMERA_INFO: (CAMERA_INFO,),
        Kind.RIGHT_CAMERA_INFO: (CAMERA_INFO,),
        Kind.ODOMETRY: (ODOMETRY,),
    }.get(kind, IMAGE_TYPES)
    topic = bag.topic(name)
    if topic.type not in expected:
        raise BagError(f"{bag.path}: {name} is {topic.type}, expected {' or '.join(expected)}.")
    return name
