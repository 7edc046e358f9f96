# SPDX-License-Identifier: MIT
"""Images of a bag get the position where they were taken, between those that odometry or GPS gave."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recording import ROS2, SECOND, header, image, write_bag

from netvlad_ros.data.bag_places import read_bag
from netvlad_ros.data.read_places import PlaceOptions, read_places, read_sequence
from netvlad_ros.errors import BagError, DatasetError, ImageError

KINDS = ROS2.types


def odometry(stamp_ns: int, x: float, y: float, heading_deg: float = 0.0) -> Any:
    half = np.radians(heading_deg) / 2
    pose = KINDS["geometry_msgs/msg/Pose"](
        KINDS["geometry_msgs/msg/Point"](x, y, 0.0),
        KINDS["geometry_msgs/msg/Quaternion"](0.0, 0.0, np.sin(half), np.cos(half)),
    )
    zero = KINDS["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0)
    twist = KINDS["geometry_msgs/msg/Twist"](zero, zero)
    return KINDS["nav_msgs/msg/Odometry"](
        header(stamp_ns),
        "base_link",
        KINDS["geometry_msgs/msg/PoseWithCovariance"](pose, np.zeros(36)),
        KINDS["geometry_msgs/msg/TwistWithCovariance"](twist, np.zeros(36)),
    )


def fix(stamp_ns: int, latitude: float, longitude: float, status: int = 0) -> Any:
    kind = KINDS["sensor_msgs/msg/NavSatFix"]
    known = KINDS["sensor_msgs/msg/NavSatStatus"](status, 1)
    return kind(header(stamp_ns), known, latitude, longitude, float("nan"), np.zeros(9), 0)


def camera(*times_s: float) -> dict[str, list[tuple[int, Any]]]:
    """Images at these times, recorded 0.3 s later, each as grey as its number."""
    stamps = [round(time_s * SECOND) for time_s in times_s]
    pixels = [np.full((8, 8), 10 * number, np.uint8) for number in range(1, len(stamps) + 1)]
    return {
        "/camera": [
            (at + 300_000_000, image(at, one)) for at, one in zip(stamps, pixels, strict=True)
        ]
    }


def recorded(*messages: Any) -> list[tuple[int, Any]]:
    return [(each.header.stamp.sec * SECOND + each.header.stamp.nanosec, each) for each in messages]


def drive() -> list[tuple[int, Any]]:
    """A metre a second, and a turn from 170 to 190 degrees in the second second."""
    now = 1_700_000_000 * SECOND
    return recorded(
        odometry(now, 0.0, 5.0, 170.0),
        odometry(now + SECOND, 1.0, 5.0, 170.0),
        odometry(now + 2 * SECOND, 2.0, 5.0, -170.0),
    )


NOW_S = 1_700_000_000


@pytest.mark.parametrize("name", ["drive_mcap", "drive_db3", "drive.bag"])
def test_positions_and_headings_are_interpolated_at_the_images_stamps(name: str, tmp_path: Path):
    if name.endswith(".bag"):
        pytest.importorskip("rosbags.rosbag1")
    bag = write_bag(
        tmp_path / name, camera(NOW_S + 0.25, NOW_S + 1.5, NOW_S + 2.0) | {"/odom": drive()}
    )
    dataset = read_places(bag)
    assert dataset.is_sequence
    np.testing.assert_allclose(
        dataset.database.positions_m, [[0.25, 5, 0], [1.5, 5, 0], [2.0, 5, 0]], atol=1e-6
    )
    assert dataset.database.headings_rad is not None
    np.testing.assert_allclose(
        np.degrees(dataset.database.headings_rad) % 360, [170, 180, 190], atol=1e-6
    )
    assert list(dataset.database.names) == ["/camera#1", "/camera#2", "/camera#3"]
    assert dataset.notes == ()


def test_images_without_a_position_are_left_out_and_counted(tmp_path: Path):
    times = (NOW_S - 0.1, NOW_S + 0.5, NOW_S + 2.5, NOW_S + 4.0)
    late = recorded(odometry((NOW_S + 7) * SECOND, 9.0, 5.0))
    bag = write_bag(tmp_path / "b", camera(*times) | {"/odom": [*drive(), *late]})
    dataset = read_bag(bag)
    assert list(dataset.database.names) == ["/camera#2"]  # over the gap of 5 s nobody knows
    assert dataset.notes == ("3 of 4 images have no position on /odom within 2.5 s.",)
    assert dataset.database.read(0)[0, 0] == 20


def test_gps_becomes_local_metres_and_what_is_no_fix_is_not_used(tmp_path: Path):
    fixes = recorded(
        fix(NOW_S * SECOND, 47.0, 8.0),
        fix((NOW_S + 1) * SECOND, 0.0, 0.0, status=-1),
        fix((NOW_S + 2) * SECOND, 47.001, 8.0),
    )
    bag = write_bag(tmp_path / "b", camera(NOW_S + 1.0) | {"/gps": fixes})
    np.testing.assert_allclose(
        read_places(bag).database.positions_m, [[0.0, 111.17 / 2, 0.0]], atol=0.01
    )


def test_poses_that_are_not_finite_are_left_out_and_counted(tmp_path: Path):
    lost = recorded(
        odometry(NOW_S * SECOND + 500_000_000, float("nan"), 5.0),
        odometry(NOW_S * SECOND + 600_000_000, float("inf"), 5.0),
    )
    bag = write_bag(tmp_path / "b", camera(NOW_S + 0.55) | {"/odom": [*drive(), *lost]})
    dataset = read_bag(bag)
    np.testing.assert_allclose(dataset.database.positions_m, [[0.55, 5.0, 0.0]], atol=1e-6)
    assert dataset.notes == (
        "2 of 5 messages on /odom are left out: without a fix, or not finite.",
    )


def test_of_a_bag_with_colour_and_depth_the_note_says_what_was_taken(tmp_path: Path):
    depth = recorded(image(NOW_S * SECOND, np.full((8, 8), 900, np.uint16), "16UC1"))
    recording = camera(NOW_S + 0.5) | {"/depth": depth, "/odom": drive()}
    dataset = read_bag(write_bag(tmp_path / "b", recording))
    assert dataset.notes == ("The images are those of /camera; depth (/depth) is no picture.",)


def test_images_are_read_in_any_order_and_by_any_thread(tmp_path: Path):
    recording = camera(*(NOW_S + 0.1 * i for i in range(20)))
    together = [
        (received // SECOND * SECOND, message) for received, message in recording["/camera"]
    ]
    images = read_sequence(write_bag(tmp_path / "b", {"/camera": together}))
    order = [3, 4, 5, 0, 19, 18, 7, 7, 8]
    assert [int(images.read(i)[0, 0]) for i in order] == [10 * (i + 1) for i in order]
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(int(images.read(6)[0, 0])))
    thread.start()
    thread.join()
    assert found == [70]


def test_a_recorded_loop_is_a_sequence_without_positions(shared: Path):
    images = read_sequence(shared / "data" / "bags" / "rtabmap_loop_mcap")
    assert (len(images), images.has_positions) == (84, False)
    assert images.read(83).shape == (384, 512, 3)
    assert images.read(0).shape == (384, 512, 3)
    assert images.images.file(5).suffix == ".mcap"


def test_a_bag_that_says_nothing_of_positions_is_one_sentence(tmp_path: Path, shared: Path):
    with pytest.raises(DatasetError, match="expected a topic that tells where each image was"):
        read_places(shared / "data" / "bags" / "euroc_v101_mono8_db3")
    with pytest.raises(BagError, match="expected a topic of sensor_msgs"):
        read_sequence(shared / "data" / "bags" / "no_images_db3")
    without_fix = recorded(fix(NOW_S * SECOND, 0.0, 0.0, status=-1))
    bag = write_bag(tmp_path / "no_fix", camera(NOW_S) | {"/gps": without_fix})
    with pytest.raises(DatasetError, match="got none that can be used in 1 messages"):
        read_places(bag)
    bag = write_bag(tmp_path / "late", camera(5.0) | {"/odom": drive()})
    with pytest.raises(DatasetError, match="do both use the same clock"):
        read_places(bag)
    bag = write_bag(tmp_path / "two", camera(NOW_S) | {"/odom": drive(), "/wheels": drive()})
    with pytest.raises(DatasetError, match="choose one of /odom, /wheels"):
        read_places(bag)
    assert len(read_places(bag, PlaceOptions(pose_topic="/wheels")).database) == 1
    with pytest.raises(DatasetError, match="/camera is sensor_msgs/msg/Image, expected nav_msgs"):
        read_places(bag, PlaceOptions(pose_topic="/camera"))
    with pytest.raises(BagError, match="has no topic /wheel;"):
        read_places(bag, PlaceOptions(pose_topic="/wheel"))


def test_a_damaged_image_message_is_named(tmp_path: Path):
    wrong = image(NOW_S * SECOND, np.zeros((8, 8), np.uint8), "rgb8")
    images = read_sequence(write_bag(tmp_path / "b", {"/camera": recorded(wrong)}))
    with pytest.raises(ImageError, match="image 1 of /camera: 8 x 8 rgb8 image: its step"):
        images.read(0)
