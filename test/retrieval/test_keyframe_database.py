# SPDX-License-Identifier: MIT
"""A keyframe database over time: what is kept, what is found, and when a new session begins."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netvlad_ros.config import CandidateConfig, Config, DatabaseConfig, KeyframeConfig
from netvlad_ros.errors import DescriptorError
from netvlad_ros.retrieval.database import KeyframeDatabase, Query
from netvlad_ros.retrieval.index import KeyframeIndex

SECOND = 1_000_000_000
DIMS = 32


def configured(
    interval_s: float = 0.0, recent_s: float = 10.0, max_matches: int = 3, change: float = 0.0
) -> Config:
    return Config(
        keyframes=KeyframeConfig(min_interval_s=interval_s, min_descriptor_change=change),
        candidates=CandidateConfig(exclude_recent_s=recent_s),
        database=DatabaseConfig(max_matches=max_matches),
    )


def place(number: int, view: int = 0) -> np.ndarray:
    """What a place looks like; its views are more alike than different places are."""
    row = np.random.default_rng(number).standard_normal(DIMS)
    row += 0.1 * np.random.default_rng([number, view]).standard_normal(DIMS)
    return (row / np.linalg.norm(row)).astype(np.float32)


def drive(
    database: KeyframeDatabase, places: list[int], start_s: float = 0.0
) -> list[Query | None]:
    """One image a second."""
    return [
        database.observe(place(number, view=second), int((start_s + second) * SECOND), "model")
        for second, number in enumerate(places)
    ]


def matched_ids(query: Query | None) -> list[int]:
    assert query is not None
    return [match.keyframe.keyframe_id for match in query.matches]


def test_the_first_image_becomes_a_keyframe_and_matches_nothing():
    database = KeyframeDatabase(configured())
    query = database.observe(place(1), 5 * SECOND, "model")
    assert query is not None
    assert (query.keyframe.keyframe_id, query.keyframe.session) == (0, 0)
    assert query.keyframe.stamp_ns == 5 * SECOND
    assert query.matches == []
    assert len(database) == 1
    assert database.fingerprint == "model"


def test_an_image_is_looked_up_before_it_is_added():
    database = KeyframeDatabase(configured(recent_s=0.0))
    queries = drive(database, [1] * 4)
    assert [sorted(matched_ids(query)) for query in queries] == [[], [0], [0, 1], [0, 1, 2]]


def test_only_keyframes_are_kept_and_looked_up():
    database = KeyframeDatabase(configured(interval_s=2.0))
    queries = drive(database, [1, 2, 3, 4, 5])
    assert [query is not None for query in queries] == [True, False, True, False, True]
    assert [each.stamp_ns // SECOND for each in database.index.keyframes] == [0, 2, 4]  # type: ignore[union-attr]


def test_a_robot_that_stands_still_adds_no_keyframes():
    database = KeyframeDatabase(configured(change=0.5))
    queries = drive(database, [1, 1, 1, 2, 2])
    assert [query is not None for query in queries] == [True, False, False, True, False]


def test_matches_come_best_first_with_their_similarity():
    database = KeyframeDatabase(configured(recent_s=0.0))
    drive(database, [1, 2, 3])
    query = database.observe(place(2, view=9), 60 * SECOND, "model")
    assert query is not None
    assert query.matches[0].keyframe.keyframe_id == 1
    assert query.matches[0].similarity == pytest.approx(
        place(2, view=9) @ place(2, view=1), abs=1e-6
    )
    similarities = [match.similarity for match in query.matches]
    assert similarities == sorted(similarities, reverse=True)


def test_what_was_seen_a_moment_ago_never_crowds_out_old_matches():
    database = KeyframeDatabase(configured(recent_s=10.0, max_matches=3))
    drive(database, [1, 2, 3, 4])
    for second in range(50):  # stands at place 2 and sees it again and again
        query = database.observe(place(2, view=2), (100 + second) * SECOND // 10, "model")
    ids = matched_ids(query)
    recent = [each for each in ids if each > 3]
    assert set(ids) - set(recent) <= {0, 1, 2, 3}
    assert len(ids) - len(recent) == 3
    assert next(each for each in ids if each <= 3) == 1


def test_the_best_recent_match_shows_what_was_excluded():
    database = KeyframeDatabase(configured(recent_s=10.0, max_matches=3))
    drive(database, [1, 2, 3, 4, 5], start_s=0.0)
    query = drive(database, [7, 8, 8], start_s=100.0)[-1]
    assert matched_ids(query)[0] == 6  # place 8 a second ago
    assert [each for each in matched_ids(query) if each >= 5] == [6]
    assert len(matched_ids(query)) == 1 + 3


@pytest.mark.parametrize(
    ("stamp_ns", "ids"),
    [
        (10 * SECOND - 1, [1]),  # both are recent: the better one
        (10 * SECOND, [1, 0]),  # the first is old enough, and the second is the best recent one
        (10 * SECOND + 1, [1]),  # both are old enough: the better one
    ],
)
def test_a_keyframe_is_recent_for_exactly_as_long_as_configured(stamp_ns: int, ids: list[int]):
    database = KeyframeDatabase(configured(recent_s=10.0, max_matches=1))
    database.observe(place(1, view=0), 0, "model")
    database.observe(place(1, view=1), 1, "model")
    assert matched_ids(database.observe(place(1, view=1), stamp_ns, "model")) == ids


def test_a_stamp_that_is_repeated_or_late_is_no_keyframe():
    database = KeyframeDatabase(configured())
    observed = [
        database.observe(place(number), int(stamp_s * SECOND), "model") is not None
        for number, stamp_s in enumerate([5.0, 5.0, 4.5, 4.000000001, 5.1, 5.05])
    ]
    assert observed == [True, False, False, False, True, False]
    assert database.late_images == 4
    assert database.session == 0


@pytest.mark.parametrize("back_s", [1.0, 5.0, 1e9])
def test_a_stamp_that_jumps_back_starts_a_new_session(
    back_s: float, caplog: pytest.LogCaptureFixture
):
    database = KeyframeDatabase(configured(interval_s=3600.0))
    database.observe(place(1), int(1e18), "model")
    with caplog.at_level(logging.WARNING):
        query = database.observe(place(2), int(1e18 - back_s * 1e9), "model")
    assert query is not None  # in a session of its own, the first image is a keyframe
    assert query.keyframe.session == 1
    assert "time jumped back" in caplog.text
    assert database.late_images == 0


def test_a_stamp_far_ahead_starts_a_new_session_too(caplog: pytest.LogCaptureFixture):
    database = KeyframeDatabase(configured())
    drive(database, [1], start_s=0.0)  # a computer that does not know the time yet
    with caplog.at_level(logging.WARNING):
        query = drive(database, [1], start_s=1.8e9)[0]
    assert query is not None
    assert query.keyframe.session == 1
    assert "time jumped ahead" in caplog.text


@pytest.mark.parametrize("jump_s", [-5.0, -1e6, 1e6])
def test_what_was_recent_when_the_clock_was_set_stays_so(jump_s: float):
    database = KeyframeDatabase(configured(recent_s=10.0))
    drive(database, [1] * 5, start_s=2e6)
    after = drive(database, [1] * 15, start_s=2e6 + 5 + jump_s)
    sessions = [
        {match.keyframe.session for match in query.matches} if query else set() for query in after
    ]
    assert all(0 not in each for each in sessions[:10])
    assert all(0 in each for each in sessions[10:])


def test_the_same_bag_played_twice_matches_its_first_run():
    database = KeyframeDatabase(configured(recent_s=2.0, max_matches=3))
    route = [1, 2, 3, 4, 5]
    drive(database, route, start_s=1000.0)
    again = drive(database, route, start_s=1000.0)
    best_old = [
        next(match for match in query.matches if match.keyframe.session == 0)
        for query in again[2:]
        if query
    ]
    assert [match.keyframe.keyframe_id for match in best_old] == [2, 3, 4]
    assert all(match.similarity == pytest.approx(1.0) for match in best_old)


def test_a_session_that_was_lost_is_not_begun_again(tmp_path: Path):
    path, sessions = tmp_path / "map.db", []
    first = KeyframeDatabase(configured())
    drive(first, [1])
    first.save(path)
    for _ in range(3):  # begun, noted in the file, and killed
        database = KeyframeDatabase(configured(), KeyframeIndex.load(path))
        database.save(path)
        (query,) = drive(database, [2])
        assert query is not None
        sessions.append((query.keyframe.session, query.keyframe.keyframe_id))
    assert sessions == [(1, 1), (2, 1), (3, 1)]


def test_a_map_that_was_loaded_is_an_earlier_session(tmp_path: Path):
    first = KeyframeDatabase(configured())
    drive(first, [1, 2, 3], start_s=1000.0)
    first.save(tmp_path / "map.db")

    second = KeyframeDatabase(configured(recent_s=30.0), KeyframeIndex.load(tmp_path / "map.db"))
    assert len(second) == 3
    query = second.observe(place(2, view=5), 0, "model")
    assert query is not None
    assert (query.keyframe.keyframe_id, query.keyframe.session) == (3, 1)
    assert query.matches[0].keyframe.keyframe_id == 1
    assert query.matches[0].keyframe.age_s(query.keyframe) == float("inf")


def test_a_second_run_is_added_to_the_map_and_a_third_knows_both(tmp_path: Path):
    path, sessions = tmp_path / "map.db", []
    for run in range(3):
        index = KeyframeIndex.load(path) if run else None
        database = KeyframeDatabase(configured(), index)
        drive(database, [1, 2], start_s=500.0)
        database.save(path)
        sessions.append([each.session for each in KeyframeIndex.load(path).keyframes])
    assert sessions == [[0, 0], [0, 0, 1, 1], [0, 0, 1, 1, 2, 2]]


def test_a_reset_forgets_everything_and_ids_go_on():
    database = KeyframeDatabase(configured())
    drive(database, [1, 2, 3])
    database.reset()
    assert len(database) == 0
    (query,) = drive(database, [1], start_s=3.0)
    assert query is not None
    assert query.matches == []
    assert (query.keyframe.keyframe_id, query.keyframe.session) == (3, 1)


def test_after_a_reset_no_image_is_late():
    database = KeyframeDatabase(configured())
    drive(database, [1, 2, 3])
    database.reset()
    query = database.observe(place(3), 3 * SECOND // 2, "model")
    assert query is not None
    assert query.keyframe.session == 1
    assert database.late_images == 0


def test_a_reset_accepts_another_model():
    database = KeyframeDatabase(configured())
    drive(database, [1, 2, 3])
    database.reset()
    other = np.ones(4, np.float32) / 2
    query = database.observe(other, 0, "other model")
    assert query is not None
    assert query.keyframe.keyframe_id == 3
    assert database.fingerprint == "other model"


def test_a_reset_of_an_empty_database_is_nothing_special():
    database = KeyframeDatabase(configured())
    database.reset()
    assert drive(database, [1])[0] is not None


@pytest.mark.parametrize(
    ("descriptor", "fingerprint"),
    [
        (place(1), "other model"),
        (np.ones(4, np.float32) / 2, "model"),
        (np.full(DIMS, np.nan, np.float32), "model"),
        (place(1) * 2, "model"),
        (place(1).astype(np.float64), "model"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(descriptor: np.ndarray, fingerprint: str):
    database = KeyframeDatabase(configured(interval_s=2.0))
    drive(database, [1])
    with pytest.raises(DescriptorError):
        database.observe(descriptor, 60 * SECOND, fingerprint)
    assert len(database) == 1
    assert database.fingerprint == "model"
    assert database.observe(place(2), 2 * SECOND, "model") is not None  # as if it had not been


def test_a_first_descriptor_that_is_refused_binds_to_no_model():
    database = KeyframeDatabase(configured())
    with pytest.raises(DescriptorError):
        database.observe(np.full(4, np.nan, np.float32), 0, "broken model")
    assert drive(database, [1])[0] is not None
    assert database.fingerprint == "model"


def test_values_can_change_while_it_runs():
    database = KeyframeDatabase(configured(interval_s=0.0))
    drive(database, [1, 2])
    database.configure(configured(interval_s=10.0, max_matches=1, recent_s=0.0))
    assert database.observe(place(3), 5 * SECOND, "model") is None
    query = database.observe(place(3), 11 * SECOND, "model")
    assert len(matched_ids(query)) == 1


def test_it_knows_whether_there_is_something_to_save(tmp_path: Path):
    database = KeyframeDatabase(configured())
    states: list[Any] = [database.has_unsaved_changes]
    drive(database, [1, 2])
    states.append(database.has_unsaved_changes)
    database.save(tmp_path / "map.db")
    states.append(database.has_unsaved_changes)
    database.reset()
    states.append(database.has_unsaved_changes)
    assert states == [False, True, False, True]


def test_a_database_that_never_saw_an_image_saves_nothing(tmp_path: Path):
    KeyframeDatabase(configured()).save(tmp_path / "map.db")
    assert not (tmp_path / "map.db").exists()


@pytest.mark.parametrize("seed", range(5))
def test_matches_are_the_best_of_all_old_keyframes_and_the_best_recent_one(seed: int):
    rng = np.random.default_rng(seed)
    database = KeyframeDatabase(configured(recent_s=5.0, max_matches=4))
    seen: list[np.ndarray] = []
    for second in range(80):
        descriptor = place(int(rng.integers(6)), view=second)
        query = database.observe(descriptor, second * SECOND, "model")
        ranked = sorted(range(second), key=lambda each: -float(seen[each] @ descriptor))
        old = [each for each in ranked if each <= second - 5][:4]
        recent = [each for each in matched_ids(query) if each > second - 5]
        assert [each for each in matched_ids(query) if each not in recent] == old
        assert recent in ([], [each for each in ranked if each > second - 5][:1])
        assert matched_ids(query)[:1] == ranked[:1]
        seen.append(descriptor)
