# SPDX-License-Identifier: MIT
"""Poses, cameras, features and pictures are stored by the names of keyframes, apart from one another."""

import dataclasses
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netvlad_ros.errors import DatabaseError
from netvlad_ros.image_data import CameraModel, CorrectedPose, LocalFeatures, Pose
from netvlad_ros.keyframe import Keyframe, Session
from netvlad_ros.store import schema
from netvlad_ros.store.keyframe_data import (
    CAMERA_MODEL,
    CORRECTED_POSE,
    LOCAL_FEATURES,
    ODOMETRY,
    THUMBNAIL,
    Table,
)
from netvlad_ros.store.keyframe_store import Changes, StoredKeyframes, StoreHeader
from netvlad_ros.store.sqlite_store import SqliteStore

DIMS = 16
HEADER = StoreHeader("d" * 32, "model", DIMS)
SESSIONS = [Session(digit * 32) for digit in "ab"]
KEYFRAMES = [
    Keyframe(session, number, number * 10**9) for session in SESSIONS for number in range(20)
]

POSE = Pose(
    "odom",
    "base_link",
    np.array([1.0, -0.0, 1e-9]),
    np.array([0.0, 0.6, -0.0, 0.8]),
    np.arange(36.0).reshape(6, 6),
)
CAMERA = CameraModel(
    640, 480, "plumb_bob", np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), np.zeros(5), 0.12
)
FEATURES = LocalFeatures(
    "orb",
    np.array([[1.5, 2.5], [639.0, 479.0]], np.float32),
    np.arange(64, dtype=np.uint8).reshape(2, 32),
    np.array([[0, 0, 1], [np.nan] * 3], np.float32),
)
VALUES: list[tuple[Table[Any], Any]] = [
    (ODOMETRY, POSE),
    (ODOMETRY, dataclasses.replace(POSE, covariance=None, child_frame_id="")),
    (ODOMETRY, dataclasses.replace(POSE, position_m=np.full(3, np.nan))),
    (CORRECTED_POSE, CorrectedPose(dataclasses.replace(POSE, frame_id="map"), "cellar", 7)),
    (CAMERA_MODEL, CAMERA),
    (CAMERA_MODEL, dataclasses.replace(CAMERA, d=np.zeros(0), baseline_m=None)),
    (LOCAL_FEATURES, FEATURES),
    (LOCAL_FEATURES, dataclasses.replace(FEATURES, points_m=None)),
    (
        LOCAL_FEATURES,
        dataclasses.replace(FEATURES, method="xfeat", descriptors=np.ones((2, 64), np.float32)),
    ),
    (
        LOCAL_FEATURES,
        LocalFeatures("orb", np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8)),
    ),
    (CAMERA_MODEL, dataclasses.replace(CAMERA, frame_id="cam0", base_from_camera=np.eye(4))),
    (LOCAL_FEATURES, dataclasses.replace(FEATURES, points_from="stereo")),
    (THUMBNAIL, b"\xff\xd8\xff\xe0" + bytes(range(256))),
]


def descriptors(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, DIMS)).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    store = SqliteStore(tmp_path / "map.db")
    block = StoredKeyframes(KEYFRAMES, descriptors(len(KEYFRAMES)))
    store.save(HEADER, Changes(False, [], [block]))
    return store


def assert_same(found: Any, expected: Any) -> None:
    """Equal to the last bit, with the same type and shape."""
    if dataclasses.is_dataclass(expected):
        assert type(found) is type(expected)
        for field in dataclasses.fields(expected):
            assert_same(getattr(found, field.name), getattr(expected, field.name))
    elif isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tobytes() == expected.tobytes()
        assert found.flags.writeable
    else:
        assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize(("table", "value"), VALUES)
def test_what_was_written_comes_back(table: Table[Any], value: Any, store: SqliteStore):
    one, other = KEYFRAMES[3].name, KEYFRAMES[23].name
    store.write(table, {one: value})
    found = SqliteStore(store.path).read(table, [each.name for each in KEYFRAMES])
    assert list(found) == [one]
    assert_same(found[one], value)
    assert store.read(table, [other, ("f" * 32, 3)]) == {}


def test_numbers_may_be_of_other_types(store: SqliteStore):
    size, baseline_m = np.array([640, 480], np.int32), np.float32(0.5)
    k = CAMERA.k.astype(np.float32)
    camera = CameraModel(size[0], size[1], "plumb_bob", k, CAMERA.d, baseline_m)  # type: ignore[arg-type]
    name = KEYFRAMES[0].name
    store.write(CAMERA_MODEL, {name: camera})
    assert_same(store.read(CAMERA_MODEL, [name])[name], dataclasses.replace(CAMERA, baseline_m=0.5))


def test_what_is_written_again_takes_the_place_of_what_was_there(store: SqliteStore):
    name = KEYFRAMES[0].name
    for graph in ("first", "second"):
        store.write(CORRECTED_POSE, {name: CorrectedPose(POSE, graph, 1)})
    assert store.read(CORRECTED_POSE, [name])[name].graph == "second"


def test_it_goes_with_its_keyframe_and_with_a_reset(store: SqliteStore):
    names = [each.name for each in KEYFRAMES]
    for table, value in VALUES:
        store.write(table, dict.fromkeys(names, value))
    store.save(HEADER, Changes(False, KEYFRAMES[:39], []))
    store.save(HEADER, Changes(False, [], [StoredKeyframes(KEYFRAMES[:39], descriptors(39))]))
    for table, _ in VALUES:
        assert list(store.read(table, names)) == names[39:]
    store.save(HEADER, Changes(True, [], [StoredKeyframes(KEYFRAMES, descriptors(40))]))
    for table, _ in VALUES:
        assert store.read(table, names) == {}


def test_it_is_no_reason_to_refuse_the_next_save(store: SqliteStore):
    SqliteStore(store.path).write(ODOMETRY, {KEYFRAMES[0].name: POSE})
    new = Keyframe(SESSIONS[0], 20, 20 * 10**9)
    store.save(HEADER, Changes(False, [], [StoredKeyframes([new], descriptors(1))]))
    assert list(store.read(ODOMETRY, [KEYFRAMES[0].name])) == [KEYFRAMES[0].name]


def test_what_is_of_no_keyframe_is_refused_with_all_that_came_with_it(store: SqliteStore):
    values = {KEYFRAMES[0].name: POSE, ("f" * 32, 3): POSE}
    with pytest.raises(DatabaseError, match="holds no keyframe ffffffff/3; save the keyframe"):
        store.write(ODOMETRY, values)
    assert store.read(ODOMETRY, values) == {}


@pytest.mark.parametrize(
    ("table", "value"),
    [
        (ODOMETRY, dataclasses.replace(POSE, position_m=np.zeros(2))),
        (ODOMETRY, dataclasses.replace(POSE, covariance=np.zeros((3, 3)))),
        (CAMERA_MODEL, dataclasses.replace(CAMERA, k=np.zeros(4))),
        (LOCAL_FEATURES, dataclasses.replace(FEATURES, keypoints_px=np.zeros((3, 2)))),
        (LOCAL_FEATURES, dataclasses.replace(FEATURES, descriptors=np.zeros((2, 32)))),
    ],
)
def test_arrays_of_the_wrong_shape_or_type_are_an_error_of_the_program(
    table: Table[Any], value: Any, store: SqliteStore
):
    with pytest.raises(ValueError, match=r"reshape|uint8 or float32"):
        store.write(table, {KEYFRAMES[0].name: value})


@pytest.mark.parametrize(
    "use", [lambda store: store.read(ODOMETRY, []), lambda store: store.write(ODOMETRY, {})]
)
def test_without_a_file_there_is_nothing_to_read_or_to_add_to(
    use: Callable[[SqliteStore], Any], tmp_path: Path
):
    store = SqliteStore(tmp_path / "map.db")
    with pytest.raises(DatabaseError, match="there is no such database file"):
        use(store)
    assert not store.path.exists()


def changed(path: Path, *statements: str, with_checksum_of: str = "") -> None:
    """By somebody else; who may even have set the checksums right."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
        if with_checksum_of:
            for row in connection.execute(f"SELECT * FROM {with_checksum_of}").fetchall():
                connection.execute(
                    f"UPDATE {with_checksum_of} SET crc32 = ? WHERE keyframe = ?",
                    (schema.checksum(*row[:-1]), row[0]),
                )


@pytest.mark.parametrize(("table", "value"), VALUES)
def test_a_flipped_bit_anywhere_in_a_row_is_found(
    table: Table[Any], value: Any, store: SqliteStore
):
    name = KEYFRAMES[3].name
    store.write(table, {name: value})
    whole = store.path.read_bytes()
    with closing(sqlite3.connect(store.path)) as connection:
        rows = connection.execute(f"SELECT * FROM {table.name}")
        columns, (row,) = [each[0] for each in rows.description], rows.fetchall()
    for column, content in zip(columns, row, strict=True):
        if not content:
            continue
        flipped = {
            str: lambda text: chr(ord(text[0]) ^ 1) + text[1:],
            bytes: lambda blob: blob[:-1] + bytes([blob[-1] ^ 1]),
            int: lambda number: number ^ 1,
            float: lambda number: number * 2,
        }[type(content)](content)
        with closing(sqlite3.connect(store.path)) as connection, connection:
            connection.execute(f"UPDATE {table.name} SET {column} = ?", (flipped,))
        if column == "keyframe":
            assert SqliteStore(store.path).read(table, [name]) == {}
            name_now = KEYFRAMES[(content ^ 1) - 1].name
        else:
            name_now = name
        with pytest.raises(DatabaseError, match=rf"{table.name} of keyframe .* is damaged"):
            SqliteStore(store.path).read(table, [name_now])
        store.path.write_bytes(whole)


@pytest.mark.parametrize(
    ("table", "damage"),
    [
        (ODOMETRY, "UPDATE odometry SET position_m = zeroblob(16)"),
        (ODOMETRY, "UPDATE odometry SET position_m = 'text'"),
        (ODOMETRY, "UPDATE odometry SET frame_id = x'00'"),
        (ODOMETRY, "UPDATE odometry SET covariance = 3"),
        (CAMERA_MODEL, "UPDATE camera_model SET width_px = 'wide'"),
        (CAMERA_MODEL, "UPDATE camera_model SET baseline_m = 'far'"),
        (CAMERA_MODEL, "UPDATE camera_model SET d = zeroblob(7)"),
        (LOCAL_FEATURES, "UPDATE local_features SET descriptor_length = 1000000000000"),
        (LOCAL_FEATURES, "UPDATE local_features SET descriptor_length = -2"),
        (LOCAL_FEATURES, "UPDATE local_features SET descriptor_type = 'object'"),
        (LOCAL_FEATURES, "UPDATE local_features SET keypoints_px = zeroblob(12)"),
        (THUMBNAIL, "UPDATE thumbnail SET jpeg = 'picture'"),
    ],
)
def test_content_that_cannot_be_is_refused_even_with_a_right_checksum(
    table: Table[Any], damage: str, store: SqliteStore
):
    value = next(value for each, value in VALUES if each is table)
    name = KEYFRAMES[0].name
    store.write(table, {name: value})
    changed(store.path, damage, with_checksum_of=table.name)
    with pytest.raises(DatabaseError, match="of keyframe aaaaaaaa/0 is damaged; restore a copy"):
        store.read(table, [name])


def test_a_damaged_index_leads_to_nothing_of_another_keyframe(store: SqliteStore):
    pictures = {each.name: str(each).encode() for each in KEYFRAMES}
    store.write(THUMBNAIL, pictures)
    whole = store.path.read_bytes()
    with closing(sqlite3.connect(store.path)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_keyframe_1'"
        ).fetchone()
    refused = 0
    for position in range((page - 1) * schema.PAGE_BYTES, page * schema.PAGE_BYTES):
        if not whole[position]:
            continue
        damaged = bytearray(whole)
        damaged[position] ^= 1
        store.path.write_bytes(damaged)
        try:
            assert store.read(THUMBNAIL, pictures).items() <= pictures.items()
        except DatabaseError:
            refused += 1
    assert refused > len(KEYFRAMES) / 2


def test_each_kind_is_read_without_the_pages_of_any_other(store: SqliteStore):
    """Whole pages of everything else are overwritten; what is read does not notice."""
    names = [each.name for each in KEYFRAMES]
    blobs = {
        "descriptor": np.full(DIMS, 1.5, np.float32).tobytes(),
        "thumbnail": b"jpeg" * 3000,
        "local_features": bytes([7]) * 32 * 500,
    }
    many = dataclasses.replace(
        FEATURES,
        keypoints_px=np.zeros((500, 2), np.float32),
        descriptors=np.full((500, 32), 7, np.uint8),
        points_m=None,
    )
    block = StoredKeyframes(KEYFRAMES, np.full((len(KEYFRAMES), DIMS), 1.5, np.float32))
    store.save(HEADER, Changes(True, [], [block]))
    store.write(THUMBNAIL, dict.fromkeys(names, blobs["thumbnail"]))
    store.write(LOCAL_FEATURES, dict.fromkeys(names, many))
    store.write(ODOMETRY, dict.fromkeys(names, POSE))
    whole = store.path.read_bytes()

    def overwritten(*kinds: str) -> None:
        pages = bytearray(whole)
        for start in range(0, len(whole), schema.PAGE_BYTES):
            page = slice(start, start + schema.PAGE_BYTES)
            if any(blobs[kind][:64] in whole[page] for kind in kinds):
                pages[page] = b"\xff" * schema.PAGE_BYTES
        assert pages != whole
        store.path.write_bytes(pages)

    overwritten("thumbnail", "local_features")
    _, blocks = SqliteStore(store.path).load()
    assert [each for block in blocks for each in block.keyframes] == KEYFRAMES
    with pytest.raises(DatabaseError):
        store.read(THUMBNAIL, names)
    overwritten("descriptor", "thumbnail", "local_features")
    assert len(store.read(ODOMETRY, names)) == len(names)
    overwritten("descriptor", "local_features")
    assert set(store.read(THUMBNAIL, names).values()) == {blobs["thumbnail"]}
    with pytest.raises(DatabaseError):
        list(SqliteStore(store.path).load()[1])


def test_rows_of_two_files_fit_into_one_under_their_names(tmp_path: Path):
    """Robots name their keyframes by themselves; nothing has to be numbered anew."""
    both = SqliteStore(tmp_path / "both.db")
    for number, session in enumerate(SESSIONS):
        one = SqliteStore(tmp_path / f"{number}.db")
        mine = [each for each in KEYFRAMES if each.session == session]
        block = StoredKeyframes(mine, descriptors(len(mine)))
        one.save(HEADER, Changes(False, [], [block]))
        value = dataclasses.replace(POSE, frame_id=f"odom {number}")
        one.write(ODOMETRY, {each.name: value for each in mine})
        both.save(HEADER, Changes(False, [], one.load()[1]))
        both.write(ODOMETRY, one.read(ODOMETRY, [each.name for each in mine]))
    _, blocks = both.load()
    assert [each for block in blocks for each in block.keyframes] == KEYFRAMES
    found = both.read(ODOMETRY, [each.name for each in KEYFRAMES])
    assert [each.frame_id for each in found.values()] == ["odom 0"] * 20 + ["odom 1"] * 20
