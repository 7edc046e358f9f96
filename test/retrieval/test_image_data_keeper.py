# SPDX-License-Identifier: MIT
"""What is known of keyframes is kept with them, leaves the memory once saved, and comes with matches."""

import gc
import itertools
import logging
import sqlite3
import weakref
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from netvlad_ros.config import Config, DatabaseConfig, KeyframeConfig
from netvlad_ros.image_data import NOTHING_KNOWN, CameraModel, ImageData, LocalFeatures, Pose
from netvlad_ros.keyframe import Match
from netvlad_ros.retrieval import image_data_keeper
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.retrieval.keyframe_selector import Choice
from netvlad_ros.retrieval.query import Query
from netvlad_ros.store.sqlite_store import SqliteStore

SECOND = 1_000_000_000
CONFIG = Config(
    keyframes=KeyframeConfig(min_interval_s=0.0, min_descriptor_change=0.0),
    database=DatabaseConfig(exclude_recent_s=0.0, matches_with_data=2, sequence_length=1),
)
STAMPS_NS = itertools.count(SECOND, SECOND)
# Places that are less alike the further apart their angles are.
DESCRIPTORS = [
    np.array([np.cos(angle), np.sin(angle)], np.float32) for angle in np.linspace(0, 1, 8)
]


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is found comes from where it lies."""
    monkeypatch.setattr(image_data_keeper, "REMEMBERED", 0)


def known(number: int) -> ImageData:
    """Features, camera and odometry that are told by a number."""
    features = LocalFeatures(
        "orb", np.full((3, 2), number, np.float32), np.full((3, 32), number, np.uint8)
    )
    camera = CameraModel(640, 480, "plumb_bob", np.eye(3), np.zeros(5), None, f"camera{number}")
    odometry = Pose("odom", "base", np.full(3, number, float), np.array([0.0, 0, 0, 1]))
    return ImageData(features, camera, odometry)


def look(database: KeyframeDatabase, number: int, data: ImageData | None = None) -> Query:
    """The image of one place, with what is known of it or of that place."""
    query = database.observe(
        DESCRIPTORS[number],
        next(STAMPS_NS),
        "model",
        data=lambda: known(number) if data is None else data,
    )
    assert query is not None
    return query


def driven(database: KeyframeDatabase | None = None, count: int = 4) -> KeyframeDatabase:
    database = database or KeyframeDatabase(CONFIG)
    for number in range(count):
        look(database, number)
    return database


def number_of(match: Match) -> int:
    """Read from its features, its camera and its odometry, which have to agree."""
    features, camera, odometry = match.data.features, match.data.camera, match.data.odometry
    assert features is not None
    assert camera is not None
    assert odometry is not None
    number = int(features.keypoints_px[0, 0])
    assert camera.frame_id == f"camera{number}"
    assert (odometry.position_m == number).all()
    return number


def best(query: Query, count: int = 2) -> list[int]:
    return [number_of(match) for match in query.matches[:count]]


def test_the_best_matches_bring_along_what_is_known_and_the_others_their_odometry():
    query = look(driven(), 0)
    assert best(query) == [0, 1]
    assert query.data.features is not None
    others = [match.data for match in query.matches[2:]]
    assert [each.features for each in others] == [None, None]
    assert [each.odometry.position_m[0] for each in others if each.odometry] == [2, 3]


def test_nothing_is_read_for_a_query_of_which_nothing_is_known():
    query = look(driven(), 0, NOTHING_KNOWN)
    assert all(match.data is NOTHING_KNOWN for match in query.matches)


def test_it_is_asked_for_only_if_the_image_becomes_a_keyframe():
    database = KeyframeDatabase(Config())  # a second image like the first is none

    def refuse() -> ImageData:
        raise AssertionError

    database.observe(DESCRIPTORS[0], SECOND, "model", data=lambda: known(0))
    assert database.observe(DESCRIPTORS[0], 9 * SECOND, "model", data=refuse) is None


def test_once_it_is_saved_it_leaves_the_memory_and_comes_back_from_the_file(tmp_path: Path):
    database, store, data = driven(), SqliteStore(tmp_path / "map.db"), known(7)
    assert data.features is not None
    features = weakref.ref(data.features)
    look(database, 7, data)
    del data
    database.save(store)
    gc.collect()
    assert features() is None
    assert best(look(database, 7)) == [7, 3]
    assert best(look(database, 0)) == [0, 1]


def test_what_was_read_a_moment_ago_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(image_data_keeper, "REMEMBERED", 2)
    database, store = driven(), SqliteStore(tmp_path / "map.db")
    database.save(store)
    look(database, 0)
    store.path.unlink()
    assert best(look(database, 0)) == [0, 0]


def test_it_is_saved_with_its_keyframe_and_loaded_with_it(tmp_path: Path):
    store = SqliteStore(tmp_path / "map.db")
    driven().save(store)
    database = KeyframeDatabase.load(SqliteStore(tmp_path / "map.db"), CONFIG)
    query = look(database, 3)
    assert best(query) == [3, 2]
    assert query.matches[3].data.odometry is not None
    database.save(store := SqliteStore(tmp_path / "other.db"))
    assert best(look(KeyframeDatabase.load(store, CONFIG), 0)) == [0, 1]


def test_another_file_gets_what_is_only_in_the_first_and_what_is_in_no_file_yet(tmp_path: Path):
    database = driven(count=3)
    database.save(SqliteStore(tmp_path / "first.db"))
    look(database, 5)
    database.save(SqliteStore(tmp_path / "second.db"))
    (tmp_path / "first.db").unlink()
    assert best(look(database, 5)) == [5, 2]
    found = KeyframeDatabase.load(SqliteStore(tmp_path / "second.db"), CONFIG)
    assert best(look(found, 0), 2) == [0, 1]


def test_what_is_added_while_a_save_is_under_way_stays_in_memory(tmp_path: Path):
    database, store = driven(), SqliteStore(tmp_path / "map.db")
    unsaved = database.unsaved(store)
    look(database, 7)
    unsaved.write()
    assert best(look(database, 7)) == [7, 3]
    database.save(store)
    assert best(look(KeyframeDatabase.load(store, CONFIG), 7)) == [7, 7]


def test_a_file_that_somebody_removed_takes_features_with_it_but_no_keyframe_and_no_odometry(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    database, store = driven(), SqliteStore(tmp_path / "map.db")
    database.save(store)
    store.path.unlink()
    with caplog.at_level(logging.WARNING):
        query = look(database, 0)
    assert "there is no such database file" in caplog.text
    assert [match.data.features for match in query.matches] == [None] * 4
    assert [
        match.data.odometry.position_m[0] for match in query.matches if match.data.odometry
    ] == [*range(4)]
    database.save(store)
    query = look(KeyframeDatabase.load(SqliteStore(store.path), CONFIG), 0)
    assert [match.data.features is not None for match in query.matches] == [False, True] + [
        False
    ] * 3
    assert all(match.data.odometry for match in query.matches)


def test_a_removed_keyframe_and_a_reset_take_it_along(tmp_path: Path):
    database, store = driven(), SqliteStore(tmp_path / "map.db")
    database.save(store)
    doomed = database.keyframes[0]
    database.remove([doomed])
    assert best(look(database, 0)) == [1, 2]
    database.save(store)
    assert store.read_data(doomed.name) is NOTHING_KNOWN
    database.reset()
    assert look(database, 0).matches == []


def test_damaged_features_are_named_and_their_keyframe_is_found_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    database, store = driven(), SqliteStore(tmp_path / "map.db")
    database.save(store)
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE local_features SET method = 'orc' WHERE keyframe = 1")
    query = look(KeyframeDatabase.load(store, CONFIG), 0)
    assert [match.data.features is not None for match in query.matches] == [False, True] + [
        False
    ] * 2
    assert query.matches[0].data.odometry is not None
    assert "local_features of keyframe" in caplog.text


def test_a_map_without_it_works_as_before(tmp_path: Path):
    store = SqliteStore(tmp_path / "map.db")
    database = KeyframeDatabase(CONFIG)
    for number in range(4):
        look(database, number, NOTHING_KNOWN)
    database.save(store)
    query = look(KeyframeDatabase.load(store, CONFIG), 2)
    assert query.matches[0].similarity == pytest.approx(1)
    assert [match.data.features for match in query.matches] == [None] * 4


def test_what_no_file_would_take_is_an_error_of_the_program_and_adds_nothing():
    database = driven()
    pose = Pose("odom", "base", np.zeros(2), np.zeros(4))
    with pytest.raises(ValueError, match="reshape"):
        look(database, 1, ImageData(odometry=pose))
    assert len(database) == 4


def test_who_sends_an_image_may_choose_it_or_not_but_a_late_one_is_never_a_keyframe():
    database = KeyframeDatabase(Config())
    ends = [
        database.observe(DESCRIPTORS[0], stamp_ns, "model", choice=choice, external_id=stamp_ns)
        for stamp_ns, choice in (
            (10, Choice.KEYFRAME),
            (11, Choice.KEYFRAME),
            (11, Choice.KEYFRAME),
            (50 * SECOND, Choice.PASSED),
            (51 * SECOND, Choice.UNDECIDED),
        )
    ]
    assert [end is not None for end in ends] == [True, True, False, False, False]
    assert [each.external_id for each in database.keyframes] == [10, 11]
    assert database.passed_over.total() == 3
    assert database.passed_over["its sender chose others"] == 1
