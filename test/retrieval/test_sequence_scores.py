# SPDX-License-Identifier: MIT
"""Places that look alike one by one are told apart by the keyframes before them."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from netvlad_ros.config import Config, DatabaseConfig, KeyframeConfig
from netvlad_ros.keyframe import ONLY_STREAM, Match, Stream
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.retrieval.query import Query
from netvlad_ros.store.sqlite_store import SqliteStore

SECOND = 1_000_000_000
DIMS = 256
ROUND = 40  # places
# By night everything looks much like the night, and a little like its place.
NIGHT = 2.0


def unit(row: np.ndarray) -> np.ndarray:
    return (row / np.linalg.norm(row)).astype(np.float32)


def view(place: int, light: float = 0.0, visit: int = 0) -> np.ndarray:
    """What a place looks like on one visit: its own part, that of the light, and chance."""
    own = np.random.default_rng(place).standard_normal(DIMS)
    night = np.random.default_rng(12345).standard_normal(DIMS)
    chance = np.random.default_rng([place, visit]).standard_normal(DIMS)
    return unit(own + light * night + (1.5 if light else 0.3) * chance)


class Robot:
    """Drives about, one image a second, unless it is told when."""

    def __init__(self, length: int = 12, recent_s: float = 15.0, backwards: bool = False) -> None:
        self.config = Config(
            keyframes=KeyframeConfig(min_interval_s=0.0, min_descriptor_change=0.0),
            database=DatabaseConfig(
                exclude_recent_s=recent_s,
                max_matches=5,
                sequence_length=length,
                sequence_backwards=backwards,
            ),
        )
        self.database = KeyframeDatabase(self.config)
        self.time_s = 1000

    def drive(
        self,
        places: Iterable[int],
        light: float = 0.0,
        visit: int = 0,
        stream: Stream = ONLY_STREAM,
    ) -> list[Query]:
        found = []
        for place in places:
            self.time_s += 1
            stamp_ns = self.time_s * SECOND
            query = self.database.observe(view(place, light, visit), stamp_ns, "model", stream)
            assert query is not None
            found.append(query)
        return found


def right(queries: Iterable[Query], places: Iterable[int]) -> int:
    """How many first matches are the keyframe of their place, by its number."""
    return sum(
        bool(query.matches) and query.matches[0].keyframe.number == place
        for query, place in zip(queries, places, strict=True)
    )


def by_night(length: int = 12, places: Iterable[int] = range(ROUND), **options: bool) -> int:
    """How many places are found again by night, of those that are driven to."""
    robot, places = Robot(length, **options), list(places)
    robot.drive(range(ROUND))
    return right(robot.drive(places, NIGHT, visit=1), places)


def test_by_night_sequences_find_most_places_and_single_images_hardly_any():
    assert by_night(length=1) < 0.5 * ROUND
    assert by_night(length=12) > 0.8 * ROUND


@pytest.mark.parametrize("places", [range(0, ROUND, 2), np.repeat(range(ROUND), 2)])
def test_twice_and_half_the_speed_find_places_too(places: Iterable[int]):
    places = [int(place) for place in places]
    assert by_night(places=places) > 1.3 * by_night(length=1, places=places)


def test_single_images_have_no_score_of_a_sequence():
    robot = Robot(length=1)
    robot.drive(range(ROUND))
    (query,) = robot.drive([3])
    assert all(np.isnan([each.sequence_score, each.margin]).all() for each in query.matches)


def test_the_margin_is_how_far_the_best_place_is_above_the_best_other_one():
    robot = Robot()
    robot.drive(range(ROUND))
    best, *others = robot.drive(range(20), visit=1)[-1].matches
    near = [each for each in others if abs(each.keyframe.number - best.keyframe.number) <= 5]
    far = [each for each in others if each not in near]
    second = max(each.sequence_score for each in far)
    assert best.margin == pytest.approx(best.sequence_score - max(second, 0.0))
    assert all(each.margin < 0.0 for each in far)


def test_another_visit_of_the_place_is_no_other_place():
    robot = Robot()
    for visit in range(3):
        queries = robot.drive(range(ROUND), visit=visit)
    best, *_ = queries[20].matches
    assert {match.keyframe.number for match in queries[20].matches} >= {20, ROUND + 20}
    assert best.margin > 0.5 * best.sequence_score


def test_a_place_is_found_at_once_where_a_drive_comes_to_a_map():
    robot = Robot()
    robot.drive(range(ROUND))
    robot.drive(range(100, 120))
    assert right(robot.drive(range(10, 20), visit=1), range(10, 20)) == 10


def test_a_robot_that_turns_off_leaves_the_old_way():
    robot = Robot()
    robot.drive(range(ROUND))
    on_the_way = robot.drive(range(20), visit=1)[-1].matches[0]
    turned = robot.drive(range(200, 206))
    assert max(_of(query, range(20, 26)) for query in turned) < 0.5 * on_the_way.sequence_score


def _of(query: Query, numbers: Iterable[int]) -> float:
    """The best score of keyframes with these numbers."""
    return max(
        (each.sequence_score for each in query.matches if each.keyframe.number in numbers),
        default=0.0,
    )


def test_standing_still_changes_nothing():
    found = []
    for stays_s in (0, 60):
        robot = Robot()
        robot.database.configure(
            replace(robot.config, keyframes=KeyframeConfig(min_interval_s=0.0))
        )
        robot.drive(range(ROUND))
        robot.drive(range(20), NIGHT, 1)
        for _ in range(stays_s):
            robot.time_s += 1
            stamp_ns = robot.time_s * SECOND
            assert robot.database.observe(view(19, NIGHT, 1), stamp_ns, "model") is None
        found.append(robot.drive(range(20, ROUND), NIGHT, 1))
    scores = [[query.matches[0].sequence_score for query in queries] for queries in found]
    assert scores[0] == scores[1]


def test_a_gap_in_the_map_costs_what_is_missing_and_no_more():
    robot = Robot()
    robot.drive(range(ROUND))
    gone = [each for each in robot.database.keyframes if 10 <= each.number < 20]
    robot.database.remove(gone)
    queries = robot.drive(range(ROUND), visit=1)
    assert right(queries[:10], range(10)) == 10
    assert right(queries[20:], range(20, ROUND)) == ROUND - 20


def test_the_first_keyframes_of_a_session_are_found_as_single_images_are():
    drives = {}
    for length in (1, 12):
        robot = Robot(length)
        robot.drive(range(ROUND))
        robot.time_s = 10  # the clock was set: another session
        robot.drive(range(500, 517))
        drives[length] = right(robot.drive(range(5), visit=1), range(5))
    assert drives[12] == drives[1] == 5


def test_the_way_back_is_found_only_where_it_is_asked_for():
    back = range(ROUND - 1, -1, -1)
    assert by_night(places=back) < 0.4 * ROUND
    assert by_night(places=back, backwards=True) > 0.7 * ROUND


def test_nothing_that_was_seen_a_moment_ago_matches_or_counts():
    robot = Robot(recent_s=0.0)
    for query in robot.drive(range(12)):
        assert all(each.keyframe.number < query.keyframe.number for each in query.matches)
        assert all(each.sequence_score < 1.0 for each in query.matches)


def test_each_camera_follows_its_own_way():
    robot, left, back = Robot(), Stream("robot", "left"), Stream("robot", "back")
    robot.drive(range(ROUND))
    found: dict[Stream, list[Query]] = {left: [], back: []}
    for place in range(ROUND - 1):
        found[left] += robot.drive([place], NIGHT, 1, left)
        found[back] += robot.drive([ROUND + place], NIGHT, 1, back)
    assert right(found[left], range(ROUND - 1)) > 0.8 * ROUND
    assert max(query.matches[0].sequence_score for query in found[back][12:]) < 1.5


def test_a_map_that_was_loaded_is_found_as_in_the_drive_itself(tmp_path: Path):
    robot = Robot()
    robot.drive(range(ROUND))
    store = SqliteStore(tmp_path / "map.sqlite")
    robot.database.save(store)
    robot.drive(range(300, 320))
    other = Robot()
    other.database, other.time_s = KeyframeDatabase.load(store, other.config), robot.time_s
    places = range(ROUND)
    assert right(other.drive(places, NIGHT, 1), places) > 0.8 * ROUND


def test_after_a_reset_nothing_of_before_is_followed():
    robot = Robot()
    robot.drive(range(ROUND))
    robot.drive(range(10), visit=1)
    robot.database.reset()
    assert [len(query.matches) for query in robot.drive(range(10), visit=2)] == [0] * 10


def test_a_keyframe_that_was_removed_is_not_followed():
    robot = Robot()
    robot.drive(range(ROUND))
    found = robot.drive(range(10), visit=1)[-1].matches
    gone = {each for each in robot.database.keyframes if each.number >= 5}
    robot.database.remove(gone)
    later = [match for query in robot.drive(range(10, 15), visit=1) for match in query.matches]
    assert found
    assert not gone & {match.keyframe for match in later}


def test_a_high_similarity_comes_before_a_sequence_that_says_less():
    keyframe = Robot().drive([0])[0].keyframe
    alone, sequence = Match(keyframe, 0.9), Match(keyframe, 0.1, 2.0)
    assert alone.score > sequence.score > Match(keyframe, 0.1, 1.0).score
