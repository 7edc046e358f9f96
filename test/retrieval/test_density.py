# SPDX-License-Identifier: MIT
"""The same way again does not grow a map, other light does; nothing goes that only one keyframe shows."""

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from made_up_maps import SECOND, content, seen, view
from made_up_views import standing

from netvlad_ros.config.files import from_values
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.retrieval.keyframe_selector import Choice
from netvlad_ros.retrieval.query import Query
from netvlad_ros.store.keyframe_store import Changes, StoreHeader
from netvlad_ros.store.sqlite_store import SqliteStore

PLACES = range(20)


class Robot:
    """Drives along places, one in two seconds; loop closures are as a test says."""

    def __init__(self, alike: int = 1, lap_s: int = 10_000, **values: float) -> None:
        config = {
            "database.max_alike": alike,
            "database.sequence_length": 1,
            "database.exclude_recent_s": 10.0,
            "candidates.min_similarity": 0.7,
        }
        given = {f"database.{name}": value for name, value in values.items()}
        self.database = KeyframeDatabase(from_values(config | given))
        self.places: dict[tuple[str, int], int] = {}
        self._laps, self._lap_s = 0, lap_s

    def lap(
        self, places: Sequence[int] = PLACES, light: int = 0, closed: Iterable[int] = PLACES
    ) -> list[Query]:
        """closed: at which places loop closures are found, with all earlier keyframes of the place."""
        self._laps += 1
        queries = []
        for number, place in enumerate(places):
            stamp_ns = (self._lap_s * self._laps + 2 * number) * SECOND
            query = self.database.observe(
                view(place, self._laps, light), stamp_ns, "model", choice=Choice.KEYFRAME
            )
            assert query is not None
            queries.append(query)
            for name, other in self.places.items():
                if other == place and place in closed:
                    self.database.closed(query.keyframe.name, name)
            self.places[query.keyframe.name] = place
        return queries

    @property
    def kept(self) -> list[int]:
        return [self.places[each.name] for each in self.database.keyframes]


def test_the_same_way_again_leaves_the_first_lap_once_the_robot_has_left() -> None:
    robot = Robot()
    robot.lap()
    first = robot.database.keyframes
    robot.lap()
    assert len(robot.database) < 20 + 10
    robot.lap()
    robot.database.settle()
    assert robot.database.keyframes == first


@pytest.mark.parametrize("lap_s", [10_000, 60])
def test_so_many_of_a_place_stay_one_a_lap_in_one_session_too(lap_s: int) -> None:
    robot = Robot(alike=3, lap_s=lap_s)
    for _ in range(6):
        robot.lap()
    robot.database.settle()
    assert len({each.session for each in robot.database.keyframes}) == (3 if lap_s > 3600 else 1)
    assert sorted(robot.kept) == sorted([*PLACES] * 3)


def test_each_light_stays_once() -> None:
    robot = Robot()
    for lap in range(9):
        robot.lap(light=lap % 3)
    robot.database.settle()
    assert sorted(robot.kept) == sorted([*PLACES] * 3)


def test_without_a_closure_a_look_alike_may_be_another_place() -> None:
    robot = Robot()
    robot.lap()
    robot.lap(closed=())
    robot.database.settle()
    assert len(robot.database) == 40


def test_a_closure_a_few_keyframes_away_is_enough() -> None:
    robot = Robot()
    robot.lap()
    robot.lap(closed=[3, 10, 16])
    robot.database.settle()
    assert len(robot.database) == 20


def test_a_closure_of_other_drives_or_far_away_is_not() -> None:
    robot = Robot()
    robot.lap()
    robot.lap(closed=[0])
    robot.database.settle()
    # What is at most five keyframes away went; of the rest nobody knows. The closure itself stays.
    assert len(robot.database) == 20 + 14 + 1


def test_what_was_seen_a_moment_ago_stays() -> None:
    robot = Robot()
    robot.lap()
    queries = robot.lap()
    there = {each.name for each in robot.database.keyframes}
    recent = [each.keyframe.name for each in queries[-5:]]
    assert there.issuperset(recent)
    assert queries[0].keyframe.name not in there


def test_the_last_closure_between_two_drives_stays_for_the_pose_graph() -> None:
    robot = Robot()
    robot.lap(range(10))
    robot.lap(range(5, 15))
    robot.database.settle()
    assert sorted(robot.kept) in ([*sorted([*range(15), place])] for place in range(5, 10))


def test_nothing_goes_by_default() -> None:
    robot = Robot(alike=0)
    for _ in range(4):
        robot.lap()
    robot.database.settle()
    assert len(robot.database) == 80


def test_a_full_map_is_looked_up_and_not_added_to() -> None:
    robot = Robot(alike=0, max_keyframes=25)
    robot.lap()
    queries = robot.lap()
    assert len(robot.database) == 25
    assert robot.database.is_full
    assert all(query.matches for query in queries)
    assert robot.database.last_image.startswith("was looked up")


def test_what_goes_makes_room_in_a_full_map() -> None:
    robot = Robot(max_keyframes=30)
    for _ in range(3):
        robot.lap()
        assert len(robot.database) <= 30
    robot.lap(range(20, 28))
    assert {*range(20, 28)} <= {*robot.kept}


class SlowStore(SqliteStore):
    """One whose disk takes as long as a test wants."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.began, self.may_go_on = threading.Event(), threading.Event()

    def save(self, header: StoreHeader, changes: Changes) -> None:
        """Begins, waits, then writes."""
        self.began.set()
        assert self.may_go_on.wait(20)
        super().save(header, changes)


def test_while_somebody_saves_nothing_goes_and_the_file_follows(tmp_path: Path) -> None:
    robot, store = Robot(), SlowStore(tmp_path / "map.db")
    robot.lap()
    robot.lap(range(3))
    thread = threading.Thread(target=robot.database.unsaved(store).write)
    thread.start()
    assert store.began.wait(20)
    robot.lap()
    assert len(robot.database) == 43
    store.may_go_on.set()
    thread.join(20)
    robot.database.settle()
    assert sorted(robot.kept) == [*PLACES]
    robot.database.save(store)
    assert list(content(store.path)) == [each.name for each in robot.database.keyframes]


def test_what_went_before_it_was_saved_is_not_saved(tmp_path: Path) -> None:
    robot, store = Robot(), SqliteStore(tmp_path / "map.db")
    robot.lap()
    robot.lap()
    unsaved = robot.database.unsaved(store)
    robot.database.settle()
    unsaved.write()
    assert list(content(store.path)) == [each.name for each in robot.database.keyframes]
    robot.lap()
    robot.database.settle()
    robot.database.save(store)
    assert list(content(store.path)) == [each.name for each in robot.database.keyframes]


def test_a_copy_takes_everything_along_and_may_be_taken_away(tmp_path: Path) -> None:
    database = KeyframeDatabase(from_values({}))
    for place in range(5):
        database.observe(
            view(place),
            2 * place * SECOND,
            "model",
            choice=Choice.KEYFRAME,
            data=lambda place=place: seen(place, standing()),  # type: ignore[misc]
        )
    copy, store = SqliteStore(tmp_path / "copy.db"), SqliteStore(tmp_path / "map.db")
    database.unsaved(copy, is_copy=True).write()
    assert all(each.features is not None for each in content(copy.path).values())
    copy.path.unlink()
    assert database.has_unsaved_changes(store)
    database.save(store)
    assert all(each.features is not None for each in content(store.path).values())
