# SPDX-License-Identifier: MIT
"""Bags that are healthy though rosbags alone refuses them, or reads them in part, come out whole."""

import shutil
import sqlite3
import struct
from pathlib import Path

import numpy as np
import pytest
from recording import ROS2, SECOND, compressed_image, drive, image, text, write_bag
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2.writer import Writer

from netvlad_ros.data.bags import Bag, is_bag
from netvlad_ros.errors import BagError

MAGIC = b"\x89MCAP0\r\n"
IMAGE = "sensor_msgs/msg/Image"


def stamps_s(path: Path) -> list[int]:
    with Bag(path) as bag:
        return [stamp // SECOND for stamp, _ in bag.images(bag.image_topic())]


def left_open(folder: Path, checkpoint: int) -> Path:
    """A bag of six images as a recorder that was killed leaves it, its rows (partly) in the -wal file."""
    source = sqlite3.connect(write_bag(folder / "drive", drive(6)) / "drive.db3")
    work, copy = folder / "work", folder / "50% left?"
    work.mkdir()
    copy.mkdir()
    opened = sqlite3.connect(work / "drive.db3")
    opened.execute("PRAGMA journal_mode=WAL")
    opened.execute("PRAGMA wal_autocheckpoint=0")
    for line in source.iterdump():
        if line == "COMMIT;":
            continue
        opened.execute(line)
    opened.commit()
    if checkpoint:
        opened.execute("PRAGMA wal_checkpoint")
        rows = opened.execute("SELECT topic_id, data FROM messages").fetchall()
        for number, (topic, data) in enumerate(rows, start=7):
            values = (topic, number * SECOND, data)
            opened.execute(
                "INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)", values
            )
        opened.commit()
    for file in work.iterdir():
        shutil.copy(file, copy)
    opened.close()
    return copy


@pytest.mark.parametrize(("checkpoint", "count"), [(0, 6), (1, 12)])
def test_rows_that_are_still_in_the_wal_file_are_read_and_nothing_is_changed(
    tmp_path: Path, checkpoint: int, count: int
) -> None:
    bag = left_open(tmp_path, checkpoint)
    before = {file.name: file.read_bytes() for file in bag.iterdir() if "shm" not in file.name}
    assert len(stamps_s(bag)) == count
    after = {file.name: file.read_bytes() for file in bag.iterdir() if "shm" not in file.name}
    assert after == before


def test_an_unfinished_transaction_is_told_with_the_command_that_ends_it(tmp_path: Path) -> None:
    file = write_bag(tmp_path / "drive", drive(3)) / "drive.db3"
    opened = sqlite3.connect(file)
    opened.execute("PRAGMA cache_size=1")
    for number in range(300):
        values = (1, number, bytes(4000))
        opened.execute("INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)", values)
    copy = tmp_path / "copy.db3"
    shutil.copy(file, copy)
    shutil.copy(f"{file}-journal", f"{copy}-journal")
    opened.close()
    with pytest.raises(BagError, match=r"sqlite3 \S*copy.db3 'SELECT count\(\*\) FROM messages'"):
        Bag(copy)
    sqlite3.connect(copy).execute("SELECT count(*) FROM messages").fetchone()
    assert stamps_s(copy) == [1, 2, 3]


def test_what_lies_beside_an_empty_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "drive.db3").write_bytes(b"")
    (tmp_path / "drive.db3-wal").write_bytes(b"rows")
    with pytest.raises(BagError, match="missing tables"):
        Bag(tmp_path / "drive.db3")
    assert (tmp_path / "drive.db3-wal").read_bytes() == b"rows"


def sized(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def record(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + struct.pack("<Q", len(body)) + body


def write_mcap(
    path: Path, profile: bytes, channels: list[tuple[bytes, ...]], messages: list[tuple[int, bytes]]
) -> Path:
    """channels: topic, encoding, schema, its encoding, its text; messages: channel from 1 on, data."""
    content = MAGIC + record(1, sized(profile) + sized(b"test"))
    for number, (topic, encoding, schema, schema_encoding, definition) in enumerate(channels, 1):
        head = struct.pack("<H", number)
        content += record(3, head + sized(schema) + sized(schema_encoding) + sized(definition))
        content += record(4, 2 * head + sized(topic) + sized(encoding) + sized(b""))
    for at, (channel, data) in enumerate(messages, 1):
        content += record(5, struct.pack("<HIQQ", channel, 0, at * SECOND, at * SECOND) + data)
    path.write_bytes(content + record(15, bytes(4)) + record(2, bytes(20)) + MAGIC)
    return path


CAMERA = (b"/camera", b"cdr", IMAGE.encode(), b"ros2msg", b"")
CDR = [(1, bytes(ROS2.serialize_cdr(message, IMAGE))) for _, message in drive(3)["/camera"]]


@pytest.mark.parametrize(
    ("profile", "others"),
    [
        (b"ros2", []),
        (b"", []),
        (b"ros2", [(b"/notes", b"json", b"Log", b"jsonschema", b"{}")]),
        (b"", [(b"/notes", b"protobuf", b"Log", b"protobuf", b"\xff\xfe\x00")]),
    ],
)
def test_channels_of_other_encodings_are_left_out_of_an_mcap_file(
    tmp_path: Path, profile: bytes, others: list[tuple[bytes, ...]]
) -> None:
    messages = [*CDR, *((2, b"{}") for _ in others)]
    path = write_mcap(tmp_path / "drive.mcap", profile, [CAMERA, *others], messages)
    assert stamps_s(path) == [1, 2, 3]
    with Bag(path) as bag:
        assert list(bag.topics) == ["/camera"]


def test_ros1_in_mcap_is_read(tmp_path: Path) -> None:
    channel = (b"/camera", b"ros1", b"sensor_msgs/Image", b"ros1msg", b"")
    ros1 = [(1, bytes(ROS2.cdr_to_ros1(data, IMAGE))) for _, data in CDR]
    path = write_mcap(tmp_path / "drive.mcap", b"ros1", [channel], ros1)
    assert stamps_s(path) == [1, 2, 3]
    with Bag(path) as bag:
        assert bag.is_ros1
        assert bag.topics["/camera"].type == IMAGE


def test_an_mcap_file_without_channels_of_ros_says_so(tmp_path: Path) -> None:
    channel = (b"/notes", b"json", b"Log", b"jsonschema", b"{}")
    path = write_mcap(tmp_path / "notes.mcap", b"", [channel], [(1, b"{}")])
    with pytest.raises(BagError, match="Only json channels, none of ROS"):
        Bag(path)


@pytest.mark.parametrize("size", [8, 9, 20, 60, 200])
def test_an_mcap_file_that_ends_early_is_refused(tmp_path: Path, size: int) -> None:
    path = write_mcap(tmp_path / "drive.mcap", b"ros2", [CAMERA], CDR)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(BagError, match=r"can't be read .*mcap recover"):
        Bag(path)


@pytest.mark.parametrize("storage", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize("has_metadata", [True, False])
def test_compressed_bags_are_read_with_and_without_metadata(
    tmp_path: Path, storage: StoragePlugin, mode: CompressionMode, has_metadata: bool
) -> None:
    writer = Writer(tmp_path / "drive", version=9, storage_plugin=storage)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/camera", IMAGE, typestore=ROS2)
        for received_ns, message in drive(3)["/camera"]:
            writer.write(connection, received_ns, ROS2.serialize_cdr(message, IMAGE))
    if not has_metadata:
        (tmp_path / "drive" / "metadata.yaml").unlink()
    assert is_bag(tmp_path / "drive")
    assert stamps_s(tmp_path / "drive") == [1, 2, 3]


def test_a_compressed_file_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "drive.db3.zstd"
    path.write_bytes(b"\x28\xb5\x2f\xfd and no more")
    with pytest.raises(
        BagError, match=r"drive.db3.zstd: can't be unpacked .*`zstd -d drive.db3.zstd`"
    ):
        Bag(path)


def test_a_ros1_recording_that_was_not_closed_is_told_with_what_to_do(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "drive.bag", drive(3))
    closed = path.rename(tmp_path / "drive.bag.active")
    assert stamps_s(closed) == [1, 2, 3]
    closed.write_bytes(closed.read_bytes()[: closed.stat().st_size // 2])
    with pytest.raises(BagError, match=r"was not closed: `rosbag reindex` of ROS 1"):
        Bag(closed)


def test_metadata_that_names_files_elsewhere_reads_nothing_outside_of_the_bag(
    tmp_path: Path,
) -> None:
    bag = write_bag(tmp_path / "drive", drive(2))
    secret = (bag / "drive.db3").rename(tmp_path / "elsewhere.db3")
    metadata = bag / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("drive.db3", str(secret)))
    with pytest.raises(BagError, match=r"files are missing.*elsewhere.db3"):
        Bag(bag)


def test_a_file_of_no_bytes_is_refused(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive", drive(2))
    (bag / "drive.db3").write_bytes(b"")
    with pytest.raises(BagError, match="can't be read"):
        Bag(bag)


@pytest.mark.parametrize(
    "depth",
    [
        image(SECOND, np.full((8, 8), 900, np.uint16), "16UC1"),
        image(SECOND, np.ones((8, 8), np.float32), "32FC1"),
        compressed_image(SECOND, b"x", "16UC1; compressedDepth png"),
        compressed_image(SECOND, b"x", "16UC1; png compressed "),
    ],
)
def test_between_colour_and_depth_the_colour_is_taken_and_named(
    tmp_path: Path, depth: object
) -> None:
    recording = {**drive(2, "/color"), "/depth": [(SECOND, depth)]}
    with Bag(write_bag(tmp_path / "rgbd", recording)) as bag:
        assert bag.image_topic() == "/color"
        assert (
            bag.choice("/color") == "The images are those of /color; depth (/depth) is no picture."
        )
        assert bag.image_topic("/depth") == "/depth"
        assert bag.choice("/depth") == ""


def test_left_and_right_have_to_be_chosen_from_though_there_is_depth_too(tmp_path: Path) -> None:
    depth = image(SECOND, np.full((8, 8), 900, np.uint16), "16UC1")
    recording = {**drive(2, "/left"), **drive(2, "/right"), "/depth": [(SECOND, depth)]}
    with Bag(write_bag(tmp_path / "stereo", recording)) as bag:
        with pytest.raises(BagError, match="several image topics"):
            bag.image_topic()
        assert bag.choice("/left") == ""


def test_the_only_topic_stays_the_one_though_it_is_depth(tmp_path: Path) -> None:
    depth = image(SECOND, np.full((8, 8), 900, np.uint16), "16UC1")
    with Bag(
        write_bag(tmp_path / "d", {"/depth": [(SECOND, depth)], "/log": [(1, text("a"))]})
    ) as bag:
        assert bag.image_topic() == "/depth"


def test_a_recorded_bag_with_colour_and_depth_needs_no_topic(shared: Path) -> None:
    with Bag(shared / "data" / "bags" / "rgbd_room_mcap") as bag:
        assert bag.image_topic() == "/camera/color/image_raw/compressed"
