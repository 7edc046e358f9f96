# SPDX-License-Identifier: MIT
"""The images of a bag with their positions: odometry, poses or GPS, interpolated at the images' stamps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.data.bags import Bag, Topic
from netvlad_ros.data.geodesy import headings_rad, local_metres
from netvlad_ros.data.image_sources import BagImages
from netvlad_ros.data.places import PlaceDataset, PlaceImages
from netvlad_ros.errors import DatasetError

# Nothing is interpolated over a longer time without positions; a slow GPS gives one a second.
MAX_GAP_S = 2.5
# sensor_msgs/NavSatStatus: below this the receiver had no fix.
STATUS_FIX = 0
NAV_SAT_FIX = "sensor_msgs/msg/NavSatFix"
# Type of message -> the pose inside; the first type that a bag has is taken.
POSES: dict[str, Callable[[Any], Any]] = {
    "nav_msgs/msg/Odometry": lambda message: message.pose.pose,
    "geometry_msgs/msg/PoseStamped": lambda message: message.pose,
    "geometry_msgs/msg/PoseWithCovarianceStamped": lambda message: message.pose.pose,
}
POSE_TYPES = (*POSES, NAV_SAT_FIX)


class Track(NamedTuple):
    """Where the robot was.

    stamps_ns:   (P,) int64, ascending.
    positions_m: (P, 3).
    headings:    (P,) radians, or None.
    note:        what was left out, as a sentence; empty if nothing.
    """

    stamps_ns: np.ndarray
    positions_m: np.ndarray
    headings: np.ndarray | None
    note: str = ""


def read_bag(path: Path, topic: str = "", pose_topic: str = "") -> PlaceDataset:
    """The images of a topic as one sequence, those without a position left out.

    topic, pose_topic: empty where the bag has one only. Raises BagError or DatasetError.
    """
    with Bag(path) as bag:
        choice = "" if topic else bag.choice(bag.image_topic())
        topic = bag.image_topic(topic)
        pose_topic = _pose_topic(bag, pose_topic)
        track = _track(bag, bag.topics[pose_topic])
        images, stamps_ns = _images(bag, topic)
    known = _is_covered(stamps_ns, track.stamps_ns)
    if not known.any():
        raise DatasetError(
            f"{path}: none of {len(known)} images on {topic} was taken while {pose_topic} gave positions; do "
            "both use the same clock?"
        )
    positions_m, headings = _at(stamps_ns[known], track)
    kept = BagImages(path, topic, images.numbers[known], images.received_ns[known])
    places = PlaceImages(kept, positions_m, headings, stamps_ns[known])
    left_out = int(np.sum(~known))
    note = f"{left_out} of {len(known)} images have no position on {pose_topic} within {MAX_GAP_S:g} s."
    notes = (choice, track.note, note if left_out else "")
    return PlaceDataset(path.name, places, places, notes=tuple(filter(None, notes)))


def read_bag_images(path: Path, topic: str = "") -> PlaceImages:
    """The images of a topic with their stamps, and without positions (NaN). Raises BagError."""
    with Bag(path) as bag:
        images, stamps_ns = _images(bag, bag.image_topic(topic))
    return PlaceImages(images, np.full((len(stamps_ns), 2), np.nan), stamps_ns=stamps_ns)


def has_positions(path: Path) -> bool:
    """Whether a bag has a topic that tells where the robot was. Raises BagError."""
    with Bag(path) as bag:
        return any(topic.type in POSE_TYPES for topic in bag.topics.values())


def _images(bag: Bag, topic: str) -> tuple[BagImages, np.ndarray]:
    """All images of a topic, and their stamps in nanoseconds."""
    times = [(each.stamp_ns, each.received_ns) for each in bag.stamped(topic)]
    stamps_ns, received_ns = np.array(times, np.int64).reshape(-1, 2).T
    return BagImages(bag.path, topic, np.arange(len(times)), received_ns), stamps_ns


def _pose_topic(bag: Bag, name: str) -> str:
    expected = " or ".join(POSE_TYPES)
    if name:
        if bag.topic(name).type not in POSE_TYPES:
            raise DatasetError(
                f"{bag.path}: {name} is {bag.topics[name].type}, expected {expected}."
            )
        return name
    for kind in POSE_TYPES:
        found = [topic.name for topic in bag.topics.values() if topic.type == kind]
        if len(found) > 1:
            raise DatasetError(
                f"{bag.path}: has several topics of {kind}; choose one of {', '.join(found)} (--pose-topic)."
            )
        if found:
            return found[0]
    raise DatasetError(
        f"{bag.path}: expected a topic that tells where each image was taken, {expected}; it has none: "
        "give a CSV file of poses, or --ground-truth, instead."
    )


def _track(bag: Bag, topic: Topic) -> Track:
    read = _fixes if topic.type == NAV_SAT_FIX else _poses
    track = read(bag, topic)
    usable = np.isfinite(track.positions_m).all(axis=1)
    _, first = np.unique(track.stamps_ns[usable], return_index=True)
    if not len(first):
        raise DatasetError(
            f"{bag.path}: expected positions on {topic.name}, got none that can be used in "
            f"{topic.count} messages; was the receiver without a fix?"
        )
    kept = np.flatnonzero(usable)[first]
    headings = None if track.headings is None else track.headings[kept]
    lost = topic.count - int(usable.sum())
    note = f"{lost} of {topic.count} messages on {topic.name} are left out: without a fix, or not finite."
    return Track(track.stamps_ns[kept], track.positions_m[kept], headings, note if lost > 0 else "")


def _poses(bag: Bag, topic: Topic) -> Track:
    rows, stamps_ns = [], []
    for each in bag.stamped(topic.name):
        pose = POSES[topic.type](each.message)
        position, turn = pose.position, pose.orientation
        rows.append((position.x, position.y, position.z, turn.x, turn.y, turn.z, turn.w))
        stamps_ns.append(each.stamp_ns)
    values = np.array(rows, np.float64).reshape(-1, 7)
    return Track(np.array(stamps_ns, np.int64), values[:, :3], headings_rad(values[:, 3:]))


def _fixes(bag: Bag, topic: Topic) -> Track:
    """East, north and up of the first fix; no height where the receiver gives none."""
    rows, stamps_ns = [], []
    for each in bag.stamped(topic.name):
        fix = each.message
        if fix.status.status >= STATUS_FIX and np.isfinite((fix.latitude, fix.longitude)).all():
            rows.append((fix.latitude, fix.longitude, fix.altitude))
            stamps_ns.append(each.stamp_ns)
    values = np.array(rows, np.float64).reshape(-1, 3)
    if not np.isfinite(values[:, 2]).all():
        values[:, 2] = 0.0
    positions_m = local_metres(*values.T) if len(values) else values
    return Track(np.array(stamps_ns, np.int64), positions_m, None)


def _is_covered(stamps_ns: np.ndarray, known_ns: np.ndarray) -> np.ndarray:
    """Whether each stamp lies between two positions that are not too far apart, or on one."""
    after = np.searchsorted(known_ns, stamps_ns, "left")
    inside = after < len(known_ns)
    after = np.minimum(after, len(known_ns) - 1)
    before = np.maximum(after - 1, 0)
    gap_ns = known_ns[after] - known_ns[before]
    between = inside & (stamps_ns >= known_ns[0]) & (gap_ns <= MAX_GAP_S * NANOSECONDS)
    return between | (known_ns[after] == stamps_ns)


def _at(stamps_ns: np.ndarray, track: Track) -> tuple[np.ndarray, np.ndarray | None]:
    """Positions and headings at these stamps, in between on straight lines."""
    start_ns = track.stamps_ns[0]  # float64 has no room for the nanoseconds of today
    times, known = stamps_ns - start_ns, track.stamps_ns - start_ns
    positions_m = np.stack([np.interp(times, known, axis) for axis in track.positions_m.T], axis=1)
    if track.headings is None:
        return positions_m, None
    return positions_m, np.interp(times, known, np.unwrap(track.headings))
