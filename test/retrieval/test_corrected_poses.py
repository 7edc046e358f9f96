# SPDX-License-Identifier: MIT
"""What a pose graph says of keyframes comes along with matches, and survives being saved and loaded."""

from pathlib import Path

import numpy as np
import pytest

from netvlad_ros.image_data import CorrectedPose, ImageData, Pose
from netvlad_ros.keyframe import Keyframe
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.retrieval.query import Query
from netvlad_ros.store.keyframe_data import CORRECTED_POSE
from netvlad_ros.store.sqlite_store import SqliteStore

UNIT = np.array([0.6, 0.8], np.float32)
ODOMETRY = Pose("odom", "base", np.zeros(3), np.array([0, 0, 0, 1.0]))


def corrected(x_m: float) -> CorrectedPose:
    pose = Pose("map", "base", np.array([x_m, 0, 0]), np.array([0, 0, 0, 1.0]))
    return CorrectedPose(pose, "graph", 7)


def seen(database: KeyframeDatabase, second: int) -> Query:
    query = database.observe(
        UNIT if second % 2 else UNIT[::-1].copy(),
        second * 10**9,
        data=lambda: ImageData(odometry=ODOMETRY),
    )
    assert query is not None
    return query


def stored_m(file: Path, keyframe: Keyframe) -> float:
    found = SqliteStore(file).read(CORRECTED_POSE, [keyframe.name])
    return float(found[keyframe.name].pose.position_m[0])


@pytest.fixture
def database() -> KeyframeDatabase:
    return KeyframeDatabase()


def test_it_is_stored_with_a_keyframe_that_is_not_saved_yet_or_was_before(
    database: KeyframeDatabase, tmp_path: Path
):
    store = SqliteStore(tmp_path / "map.db")
    keyframe = seen(database, 1).keyframe
    assert database.correct({keyframe.name: corrected(1)}) == 1
    database.save(store)
    assert stored_m(store.path, keyframe) == 1
    assert not database.has_unsaved_changes(store)
    database.correct({keyframe.name: corrected(2)})
    assert database.has_unsaved_changes(store)
    database.save(store)
    assert stored_m(store.path, keyframe) == 2


def test_each_store_gets_what_it_does_not_have(database: KeyframeDatabase, tmp_path: Path):
    first, second = (SqliteStore(tmp_path / name) for name in ("a.db", "b.db"))
    keyframe = seen(database, 1).keyframe
    database.save(first)
    database.correct({keyframe.name: corrected(3)})
    database.save(second)
    database.save(first)
    assert stored_m(first.path, keyframe) == stored_m(second.path, keyframe) == 3


def test_a_match_brings_the_newest_one_along(database: KeyframeDatabase, tmp_path: Path):
    keyframe = seen(database, 1).keyframe
    database.save(SqliteStore(tmp_path / "map.db"))
    database.correct({keyframe.name: corrected(4)})
    (match,) = seen(database, 102).matches
    assert match.data.map_pose is not None
    assert match.data.map_pose.pose.position_m[0] == 4
    loaded = KeyframeDatabase.load(SqliteStore(tmp_path / "map.db"))
    loaded.correct({keyframe.name: corrected(5)})
    matches = {each.keyframe: each.data.map_pose for each in seen(loaded, 201).matches}
    pose = matches[keyframe]
    assert pose is not None
    assert pose.pose.position_m[0] == 5


def test_what_is_not_in_here_is_left_alone(database: KeyframeDatabase, tmp_path: Path):
    keyframe = seen(database, 1).keyframe
    assert database.correct({("ab" * 16, 3): corrected(1)}) == 0
    database.correct({keyframe.name: corrected(1)})
    database.remove([keyframe])
    database.save(SqliteStore(tmp_path / "map.db"))
    assert len(KeyframeDatabase.load(SqliteStore(tmp_path / "map.db"))) == 0
    database.correct({keyframe.name: corrected(1)})
    database.reset()
    assert seen(database, 301).matches == []
