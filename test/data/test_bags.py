# SPDX-License-Identifier: MIT
"""Every image of a bag comes out, with the time at which it was taken; damage is never hidden."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from recording import ROS2, SECOND, compressed_image, drive, image, text, write_bag

from netvlad_ros.data import ros1
from netvlad_ros.data.bags import Bag
from netvlad_ros.data.image_messages import to_image
from netvlad_ros.errors import BagError

KINDS = ["drive", "drive_mcap", "drive.bag"]


def greys(bag: Bag, topic: str = "/camera") -> list[tuple[int, int]]:
    """Stamp in seconds and grey value of every image."""
    return [(stamp // SECOND, int(to_image(one)[0, 0])) for stamp, one in bag.images(topic)]


@pytest.mark.parametrize("kind", KINDS)
def test_images_come_in_order_with_the_stamps_of_their_headers(tmp_path: Path, kind: str) -> None:
    with Bag(write_bag(tmp_path / kind, drive(3))) as bag:
        assert [stamp for stamp, _ in bag.images("/camera")] == [SECOND, 2 * SECOND, 3 * SECOND]
        assert greys(bag) == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize("kind", KINDS)
def test_topics_say_what_they_hold(tmp_path: Path, kind: str) -> None:
    recording = {**drive(3), "/log": [(SECOND, text("hello"))]}
    with Bag(write_bag(tmp_path / kind, recording, latched=["/log"])) as bag:
        camera, log = bag.topics["/camera"], bag.topics["/log"]
        assert (camera.type, camera.count, camera.is_image) == ("sensor_msgs/msg/Image", 3, True)
        assert (log.type, log.count, log.is_image) == ("std_msgs/msg/String", 1, False)
        assert (camera.latched, log.latched) == (False, True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_zero_stamp_is_replaced_by_the_time_of_recording(tmp_path: Path, kind: str) -> None:
    unstamped = {"/camera": [(5 * SECOND + 7, image(0, np.zeros((8, 8), np.uint8)))]}
    with Bag(write_bag(tmp_path / kind, unstamped)) as bag:
        assert [stamp for stamp, _ in bag.images("/camera")] == [5 * SECOND + 7]


@pytest.mark.parametrize("kind", KINDS)
def test_compressed_images_come_out_too(tmp_path: Path, kind: str) -> None:
    jpeg = cv2.imencode(".jpg", np.full((8, 8), 100, np.uint8))[1].tobytes()
    recording = {"/camera/compressed": [(SECOND, compressed_image(SECOND, jpeg))]}
    with Bag(write_bag(tmp_path / kind, recording)) as bag:
        assert greys(bag, bag.image_topic()) == [(1, 100)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_only_image_topic_needs_no_name(tmp_path: Path, kind: str) -> None:
    recording = {"/a_log": [(SECOND, text("hello"))], **drive(1)}
    with Bag(write_bag(tmp_path / kind, recording)) as bag:
        assert bag.image_topic() == "/camera"
        assert bag.image_topic("/camera") == "/camera"


def test_among_several_image_topics_one_has_to_be_chosen(tmp_path: Path) -> None:
    with Bag(write_bag(tmp_path / "two", {**drive(1, "/left"), **drive(2, "/right")})) as bag:
        with pytest.raises(BagError, match="choose one of /left, /right"):
            bag.image_topic()
        assert bag.image_topic("/right") == "/right"
        assert len(list(bag.images("/right"))) == 2


def test_without_any_images_the_error_names_what_there_is(tmp_path: Path) -> None:
    with Bag(write_bag(tmp_path / "log", {"/log": [(SECOND, text("hello"))]})) as bag:
        with pytest.raises(BagError, match=r"it has /log \(std_msgs/msg/String\)"):
            bag.image_topic()
        with pytest.raises(BagError, match="/log is std_msgs/msg/String, expected sensor_msgs"):
            bag.image_topic("/log")


def test_a_misspelt_topic_is_answered_with_the_nearest(tmp_path: Path) -> None:
    recording = {**drive(1, "/cam0/image_raw"), **drive(1, "/back")}
    says = "no topic cam0/image; did you mean /cam0/image_raw"
    with Bag(write_bag(tmp_path / "two", recording)) as bag, pytest.raises(BagError, match=says):
        bag.image_topic("cam0/image")


@pytest.mark.parametrize("kind", KINDS)
def test_messages_start_where_they_are_told_to(tmp_path: Path, kind: str) -> None:
    with Bag(write_bag(tmp_path / kind, {**drive(4), "/log": [(SECOND, text("hello"))]})) as bag:
        assert bag.start_ns == SECOND
        messages = list(bag.messages(["/camera", "/log"], start_ns=3 * SECOND))
        assert [raw.received_ns for raw in messages] == [3 * SECOND + 7, 4 * SECOND + 7]


@pytest.mark.parametrize(("kind", "suffix"), [("drive", ".db3"), ("drive_mcap", ".mcap")])
def test_a_storage_file_is_a_bag_too(tmp_path: Path, kind: str, suffix: str) -> None:
    folder = write_bag(tmp_path / kind, drive(3))
    with Bag(folder / f"{kind}{suffix}") as bag:
        assert greys(bag) == [(1, 1), (2, 2), (3, 3)]


def test_a_folder_without_metadata_is_read_in_the_order_of_time(tmp_path: Path) -> None:
    """So an interrupted recording needs no repair. _10 comes before _9 in the order of names."""
    folder = tmp_path / "split"
    folder.mkdir()
    for name, number in (("drive_9", 1), ("drive_10", 2)):
        one = write_bag(tmp_path / name, {"/camera": [drive(2)["/camera"][number - 1]]})
        (one / f"{name}.db3").rename(folder / f"{name}.db3")
    with Bag(folder) as bag:
        assert bag.topics["/camera"].count == 2
        assert greys(bag) == [(1, 1), (2, 2)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bag_that_is_cut_off_is_refused_with_the_way_to_repair_it(
    tmp_path: Path, kind: str
) -> None:
    path = write_bag(tmp_path / kind, drive(50))
    file = next(path.glob(f"{kind}.*")) if path.is_dir() else path
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(BagError, match=r"can't be read .*(recover|reindex)"):
        Bag(path)


def test_what_lies_before_a_damaged_page_is_read(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "drive", drive(200, side_px=128))
    file = path / "drive.db3"
    whole = file.read_bytes()
    middle = len(whole) // 2 // 4096 * 4096
    file.write_bytes(whole[:middle] + bytes(4096) + whole[middle + 4096 :])
    stamps: list[int] = []
    with Bag(path) as bag, pytest.raises(BagError, match="malformed") as error:
        stamps.extend(stamp for stamp, _ in bag.images("/camera"))
    assert stamps == [number * SECOND for number in range(1, len(stamps) + 1)]
    assert 50 < len(stamps) < 200
    assert f"read {len(stamps)} of 200 messages of /camera" in str(error.value)


def test_messages_that_are_missing_without_a_trace_are_reported(tmp_path: Path) -> None:
    """An MCAP reader steps over zeros in the middle of a chunk as if they were records."""
    path = write_bag(tmp_path / "drive_mcap", drive(100))
    file = path / "drive_mcap.mcap"
    whole = file.read_bytes()
    end = whole.rindex(b"mono8") - len(whole) // 8
    file.write_bytes(whole[: end - 9000] + bytes(9000) + whole[end:])
    with Bag(path) as bag, pytest.raises(BagError, match=r"damaged; read .* of 100 messages"):
        list(bag.images("/camera"))


def test_a_message_that_is_no_image_inside_is_reported(tmp_path: Path) -> None:
    recording = {"/camera": [drive(1)["/camera"][0], (SECOND + 8, image(0, np.zeros((8, 8))))]}
    path = write_bag(tmp_path / "drive", recording)
    file = path / "drive.db3"
    file.write_bytes(file.read_bytes().replace((512).to_bytes(4, "little"), b"\xff\xff\xff\x7f"))
    with Bag(path) as bag:
        images = bag.images("/camera")
        next(images)
        with pytest.raises(BagError, match="read 1 of 2 messages"):
            next(images)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("absent", None, "no such file or folder"),
        ("absent.bag", None, "no such file or folder"),
        ("notes.txt", b"hello", "not a bag; expected a folder"),
        ("empty.mcap", b"", "seems to be empty"),
        ("empty.db3", b"", "missing tables"),
        ("empty.bag", b"", "seems to be empty"),
        ("garbage.mcap", bytes(100), "magic is invalid"),
        ("garbage.db3", b"hello" * 1000, "not a database"),
        ("garbage.bag", b"hello" * 1000, "magic is invalid"),
    ],
)
def test_what_is_no_bag_is_refused(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BagError, match=says):
        Bag(path)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BagError, match=r"expected a folder with metadata.yaml"):
        Bag(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "nonsense: [", "rosbag2_bagfile_information: {version: 99}"]
)
def test_metadata_that_can_not_be_read_is_reported(tmp_path: Path, content: str) -> None:
    path = write_bag(tmp_path / "drive", drive(2))
    (path / "metadata.yaml").write_text(content)
    with pytest.raises(BagError, match=r"give one of its .mcap or .db3 files instead"):
        Bag(path)


@pytest.mark.parametrize(
    ("name", "topic", "count", "first_ns"),
    [
        ("euroc_v101_mono8_db3", "/cam0/image_raw", 32, 1403715273262142976),
        ("rtabmap_loop_mcap", "/camera/image_raw/compressed", 84, 1600000000000000000),
        ("tiny_2x2_db3", "/image", 3, 0),
    ],
)
def test_recorded_bags_are_read(
    shared: Path, name: str, topic: str, count: int, first_ns: int
) -> None:
    with Bag(shared / "data" / "bags" / name) as bag:
        assert bag.image_topic() == topic
        images = list(bag.images(topic))
    assert len(images) == bag.topics[topic].count == count
    assert images[0][0] == first_ns
    assert all(to_image(message).size for _, message in images)


def test_a_recorded_bag_without_images_is_refused(shared: Path) -> None:
    path = shared / "data" / "bags" / "no_images_db3"
    with Bag(path) as bag, pytest.raises(BagError, match="it has /data"):
        bag.image_topic()


def test_ros1_messages_become_those_of_ros2(tmp_path: Path) -> None:
    with Bag(write_bag(tmp_path / "drive.bag", drive(1))) as bag:
        (raw,) = bag.messages(["/camera"])
    message = drive(1)["/camera"][0][1]
    assert ros1.has_same_fields(raw.type)
    assert ros1.to_cdr(raw.data, raw.type) == ROS2.serialize_cdr(message, raw.type)


@pytest.mark.parametrize("kind", ["sensor_msgs/msg/Range", "our_msgs/msg/Own"])
def test_types_that_ros2_changed_or_lacks_are_known(kind: str) -> None:
    assert not ros1.has_same_fields(kind)


def test_a_ros1_message_that_is_cut_off_is_refused() -> None:
    with pytest.raises(BagError, match="sensor_msgs/msg/Image is damaged"):
        ros1.to_cdr(bytes(30), "sensor_msgs/msg/Image")
