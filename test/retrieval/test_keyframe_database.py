# SPDX-License-Identifier: MIT
"""A keyframe database over time: what is kept, what is found, and when a new session begins."""

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netvlad_ros.config import Config, DatabaseConfig, KeyframeConfig
from netvlad_ros.errors import DatabaseError, DescriptorError
from netvlad_ros.keyframe import MAX_STREAMS, Keyframe, Stream
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.retrieval.query import Query
from netvlad_ros.retrieval.stream_clock import LATE
from netvlad_ros.store.sqlite_store import SqliteStore

SECOND = 1_000_000_000
DIMS = 32


def configured(
    interval_s: float = 0.0, recent_s: float = 10.0, max_matches: int = 3, change: float = 0.0
) -> Config:
    return Config(
        keyframes=KeyframeConfig(min_interval_s=interval_s, min_descriptor_change=change),
        database=DatabaseConfig(
            max_matches=max_matches, exclude_recent_s=recent_s, sequence_length=1
        ),
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


def matched(query: Query | None) -> list[int]:
    """The numbers of the matched keyframes, best first."""
    assert query is not None
    return [match.keyframe.number for match in query.matches]


def sessions_of(keyframes: list[Keyframe]) -> list[int]:
    """Which session each is of, counted in the order in which they appear."""
    known: dict[str, int] = {}
    return [known.setdefault(each.session.uuid, len(known)) for each in keyframes]


def test_the_first_image_becomes_a_keyframe_and_matches_nothing():
    database = KeyframeDatabase(configured())
    query = database.observe(place(1), 5 * SECOND, "model", Stream("spot", "front"))
    assert query is not None
    assert query.keyframe.number == 0
    assert query.keyframe.session.stream == Stream("spot", "front")
    assert query.keyframe.stamp_ns == 5 * SECOND
    assert query.matches == []
    assert (query.searched, query.recent.count, query.number) == (0, 0, 0)
    assert database.keyframes == [query.keyframe]
    assert database.fingerprint == "model"


def test_an_image_is_looked_up_before_it_is_added():
    database = KeyframeDatabase(configured(recent_s=0.0))
    queries = drive(database, [1] * 4)
    assert [sorted(matched(query)) for query in queries] == [[], [0], [0, 1], [0, 1, 2]]


def test_only_keyframes_are_kept_and_looked_up():
    database = KeyframeDatabase(configured(interval_s=2.0))
    queries = drive(database, [1, 2, 3, 4, 5])
    assert [query is not None for query in queries] == [True, False, True, False, True]
    assert [each.stamp_ns // SECOND for each in database.keyframes] == [0, 2, 4]


def test_a_robot_that_stands_still_adds_no_keyframes():
    database = KeyframeDatabase(configured(change=0.5))
    queries = drive(database, [1, 1, 1, 2, 2])
    assert [query is not None for query in queries] == [True, False, False, True, False]


def test_matches_come_best_first_with_their_similarity():
    database = KeyframeDatabase(configured(recent_s=0.0))
    drive(database, [1, 2, 3])
    query = database.observe(place(2, view=9), 60 * SECOND, "model")
    assert query is not None
    assert query.matches[0].keyframe.number == 1
    assert query.matches[0].similarity == pytest.approx(
        place(2, view=9) @ place(2, view=1), abs=1e-6
    )
    similarities = [match.similarity for match in query.matches]
    assert similarities == sorted(similarities, reverse=True)


def test_what_was_seen_a_moment_ago_never_crowds_out_old_matches():
    database = KeyframeDatabase(configured(recent_s=10.0, max_matches=3))
    drive(database, [1, 2, 3, 4])
    for second in range(50):  # stands at place 2 and sees it again and again
        query = database.observe(place(2, view=2), (140 + second) * SECOND // 10, "model")
    assert len(matched(query)) == 3
    assert matched(query)[0] == 1
    assert set(matched(query)) <= {0, 1, 2, 3}


def test_what_was_left_out_is_counted_and_the_best_of_it_shown():
    database = KeyframeDatabase(configured(recent_s=10.0, max_matches=3))
    drive(database, [1, 2, 3, 4, 5], start_s=0.0)
    query = drive(database, [7, 8, 8], start_s=100.0)[-1]
    assert query is not None
    assert (query.searched, len(query.matches)) == (5, 3)
    assert (query.recent.count, query.recent.exclude_s) == (2, 10.0)
    assert query.recent.best is not None
    assert query.recent.best.keyframe.number == 6  # place 8 a second ago
    assert query.recent.best_age_s == 1.0
    assert query.recent.best.similarity == pytest.approx(place(8, 1) @ place(8, 2), abs=1e-6)


@pytest.mark.parametrize(
    ("stamp_ns", "numbers"),
    [(10 * SECOND - 1, []), (10 * SECOND, [0]), (10 * SECOND + 1, [1])],
)
def test_a_keyframe_is_recent_for_exactly_as_long_as_configured(stamp_ns: int, numbers: list[int]):
    database = KeyframeDatabase(configured(recent_s=10.0, max_matches=1))
    database.observe(place(1, view=0), 0, "model")
    database.observe(place(1, view=1), 1, "model")
    assert matched(database.observe(place(1, view=1), stamp_ns, "model")) == numbers


def test_a_stamp_that_is_repeated_or_late_is_no_keyframe():
    database = KeyframeDatabase(configured())
    observed = [
        database.observe(place(number), int(stamp_s * SECOND), "model") is not None
        for number, stamp_s in enumerate([5.0, 5.0, 4.5, 4.000000001, 5.1, 5.05])
    ]
    assert observed == [True, False, False, False, True, False]
    assert database.passed_over[LATE] == 4
    assert database.last_image == f"is no keyframe: {LATE}"
    assert sessions_of(database.keyframes) == [0, 0]


def test_each_image_that_is_no_keyframe_has_a_reason():
    database = KeyframeDatabase(configured(interval_s=2.0, change=0.5))
    drive(database, [1, 2, 1, 2])
    assert database.last_image == f"became keyframe {database.keyframes[-1]}"
    assert sum(database.passed_over.values()) == 2
    assert {reason.split(" (")[1] for reason in database.passed_over} == {
        "keyframes.min_interval_s)",
        "keyframes.min_descriptor_change)",
    }


@pytest.mark.parametrize("back_s", [1.0, 5.0, 1e9])
def test_a_stamp_that_jumps_back_starts_a_new_session(
    back_s: float, caplog: pytest.LogCaptureFixture
):
    database = KeyframeDatabase(configured())
    database.observe(place(1), int(1e18), "model")
    with caplog.at_level(logging.WARNING):
        database.observe(place(2), int(1e18 - back_s * 1e9), "model")
    assert sessions_of(database.keyframes) == [0, 1]
    assert [each.number for each in database.keyframes] == [0, 0]
    assert "time jumped back" in caplog.text
    assert database.passed_over[LATE] == 0


def test_a_stamp_far_ahead_starts_a_new_session_too(caplog: pytest.LogCaptureFixture):
    database = KeyframeDatabase(configured())
    drive(database, [1], start_s=0.0)  # a computer that does not know the time yet
    with caplog.at_level(logging.WARNING):
        drive(database, [1], start_s=1.8e9)
    assert sessions_of(database.keyframes) == [0, 1]
    assert "time jumped ahead" in caplog.text


@pytest.mark.parametrize("jump_s", [-5.0, -1e6, 1e6])
def test_when_the_clock_is_set_only_what_remains_of_the_wait_is_waited_for(jump_s: float):
    database = KeyframeDatabase(configured(recent_s=10.0, max_matches=100))
    drive(database, [1] * 5, start_s=2e6)
    after = drive(database, [1] * 15, start_s=2e6 + 5 + jump_s)
    old = database.keyframes[0].session
    found = [
        {each.keyframe.number for each in query.matches if each.keyframe.session == old}
        for query in after
        if query
    ]
    # After 5 s of driving the clock is set; the first keyframe may be matched 5 s later, not 10.
    assert found == [set(range(max(0, second - 4))) & set(range(5)) for second in range(15)]


def test_the_same_bag_played_twice_matches_its_first_run():
    database = KeyframeDatabase(configured(recent_s=2.0, max_matches=3))
    route = [1, 2, 3, 4, 5]
    drive(database, route, start_s=1000.0)
    first = database.keyframes[0].session
    again = drive(database, route, start_s=1000.0)
    best = [query.matches[0] for query in again if query]
    assert [match.keyframe.number for match in best] == [0, 1, 2, 3, 4]
    assert all(match.keyframe.session == first for match in best)
    assert all(match.similarity == pytest.approx(1.0) for match in best)


def test_a_map_that_was_loaded_is_an_earlier_session(tmp_path: Path):
    store = SqliteStore(tmp_path / "map.db")
    first = KeyframeDatabase(configured())
    drive(first, [1, 2, 3], start_s=1000.0)
    first.save(store)

    second = KeyframeDatabase.load(SqliteStore(tmp_path / "map.db"), configured(recent_s=30.0))
    assert second.keyframes == first.keyframes
    assert second.fingerprint == "model"
    query = second.observe(place(2, view=5), 0, "model")
    assert query is not None
    assert query.keyframe.number == 0
    assert query.keyframe.session != first.keyframes[0].session
    assert query.matches[0].keyframe == first.keyframes[1]
    assert query.matches[0].keyframe.age_s(query.keyframe) == float("inf")


def test_a_name_is_never_used_again_whatever_was_lost(tmp_path: Path):
    """Saved, gone on, killed and loaded again: what came after the save had names of its own."""
    store, names = SqliteStore(tmp_path / "map.db"), []
    database = KeyframeDatabase(configured())
    drive(database, [1])
    database.save(store)
    for _ in range(3):
        database = KeyframeDatabase.load(SqliteStore(tmp_path / "map.db"), configured())
        names += [query.keyframe.name for query in drive(database, [2, 3]) if query]
    assert len(set(names)) == 6


def test_a_second_run_is_added_to_the_map_and_a_third_knows_both(tmp_path: Path):
    path, sessions = tmp_path / "map.db", []
    for run in range(3):
        store = SqliteStore(path)
        database = (
            KeyframeDatabase.load(store, configured()) if run else KeyframeDatabase(configured())
        )
        drive(database, [1, 2], start_s=500.0)
        database.save(store)
        again = KeyframeDatabase.load(SqliteStore(path))
        assert again.keyframes == database.keyframes
        sessions.append(sessions_of(again.keyframes))
    assert sessions == [[0, 0], [0, 0, 1, 1], [0, 0, 1, 1, 2, 2]]


def test_a_save_writes_only_what_changed(tmp_path: Path):
    store = SqliteStore(tmp_path / "map.db")
    database = KeyframeDatabase(configured())
    drive(database, [1, 2, 3])
    database.save(store)
    drive(database, [4, 5], start_s=3.0)
    database.remove(database.keyframes[:1])
    unsaved = database.unsaved(store)
    added = [each for block in unsaved.changes.added for each in block.keyframes]
    assert added == database.keyframes[-2:]
    assert [each.number for each in unsaved.changes.removed] == [0]
    assert not unsaved.changes.cleared
    database.save(store)
    assert KeyframeDatabase.load(SqliteStore(store.path)).keyframes == database.keyframes


def test_what_is_added_while_a_save_is_under_way_is_saved_the_next_time(tmp_path: Path):
    store = SqliteStore(tmp_path / "map.db")
    database = KeyframeDatabase(configured())
    drive(database, [1, 2])
    unsaved = database.unsaved(store)
    drive(database, [3], start_s=2.0)
    unsaved.write()
    assert len(KeyframeDatabase.load(SqliteStore(store.path))) == 2
    assert database.has_unsaved_changes(store)
    database.save(store)
    assert len(KeyframeDatabase.load(SqliteStore(store.path))) == 3


def test_what_another_thread_wrote_is_not_written_twice(tmp_path: Path):
    """A node may end before it takes up what its writing thread has done."""
    store = SqliteStore(tmp_path / "map.db")
    database = KeyframeDatabase(configured())
    drive(database, [1, 2])
    writer = threading.Thread(target=database.unsaved(store).write)
    writer.start()
    writer.join()
    assert not database.has_unsaved_changes(store)
    drive(database, [3], start_s=2.0)
    database.save(store)
    assert KeyframeDatabase.load(SqliteStore(store.path)).keyframes == database.keyframes


def test_another_file_gets_everything(tmp_path: Path):
    database = KeyframeDatabase(configured())
    drive(database, [1, 2])
    stores = [SqliteStore(tmp_path / name) for name in ("a.db", "b.db")]
    for store in stores:
        database.save(store)
        drive(database, [3, 4], start_s=100.0 * len(database))
    database.save(stores[0])
    sizes = [len(KeyframeDatabase.load(SqliteStore(store.path))) for store in stores]
    assert sizes == [6, 4]


def test_a_file_that_somebody_removed_is_written_anew_with_everything(tmp_path: Path):
    store = SqliteStore(tmp_path / "map.db")
    database = KeyframeDatabase(configured())
    drive(database, [1, 2])
    database.save(store)
    assert not database.has_unsaved_changes(store)
    store.path.unlink()
    assert database.has_unsaved_changes(store)
    drive(database, [3], start_s=2.0)
    database.save(store)
    assert KeyframeDatabase.load(SqliteStore(store.path)).keyframes == database.keyframes


def test_keyframes_can_be_removed():
    database = KeyframeDatabase(configured(recent_s=0.0))
    drive(database, [1, 2, 3])
    gone = database.keyframes[1]
    database.remove([gone])
    (query,) = drive(database, [2], start_s=3.0)
    assert query is not None
    assert gone not in [match.keyframe for match in query.matches]
    with pytest.raises(DatabaseError, match=f"^there is no keyframe {gone}; "):
        database.remove([database.keyframes[0], gone])
    assert len(database) == 3


def test_a_recent_keyframe_can_be_removed():
    database = KeyframeDatabase(configured(recent_s=10.0))
    drive(database, [1, 2, 3])
    database.remove(database.keyframes[1:])
    (query,) = drive(database, [3], start_s=3.0)
    assert query is not None
    assert query.recent.count == 1


def test_robots_do_not_hold_back_each_others_keyframes():
    database = KeyframeDatabase(configured(recent_s=10.0))
    one, other = Stream("one", "front"), Stream("other", "front")
    database.observe(place(1, 0), SECOND, "model", one)
    query = database.observe(place(1, 1), SECOND, "model", other)
    assert query is not None
    assert [match.keyframe.session.stream for match in query.matches] == [one]


def test_cameras_of_one_robot_hold_back_what_the_robot_saw_a_moment_ago():
    database = KeyframeDatabase(configured(recent_s=10.0, max_matches=10))
    left, right = Stream("spot", "left"), Stream("spot", "right")
    for second in range(12):
        query = database.observe(place(second), second * SECOND, "model", left)
        query = database.observe(place(second, 1), second * SECOND, "model", right)
    assert query is not None
    assert sorted(matched(query)) == [0, 0, 1, 1]
    assert query.recent.count == 23 - 4
    assert query.recent.best is not None
    assert query.recent.best.keyframe.session.stream == left


def test_a_camera_that_starts_while_the_robot_stands_still_matches_nothing_recent():
    """The other one makes no keyframes meanwhile, but time goes on."""
    database = KeyframeDatabase(configured(recent_s=30.0, change=0.01))
    front, rear = Stream("spot", "front"), Stream("spot", "rear")
    for second in range(300):
        database.observe(place(0), second * SECOND, "model", front)
    for second in range(300, 400):
        database.observe(place(second // 35), second * SECOND, "model", front)
        query = database.observe(place(second), second * SECOND, "model", rear)
        assert query is not None
        ages_s = [second - match.keyframe.stamp_ns / SECOND for match in query.matches]
        assert min(ages_s, default=30.0) >= 30.0
        assert query.recent.best is None or 0.0 <= query.recent.best_age_s < 30.0


def test_a_longer_exclusion_holds_at_once():
    database = KeyframeDatabase(configured(recent_s=10.0))
    drive(database, list(range(100)))
    database.configure(configured(recent_s=50.0))
    (query,) = drive(database, [5], start_s=100.0)
    assert query is not None
    assert query.recent.count == 49
    assert query.searched == 51


def test_each_camera_chooses_its_own_keyframes():
    database = KeyframeDatabase(configured(interval_s=2.0))
    kept = {
        camera: [
            database.observe(place(second), second * SECOND, "model", Stream("", camera))
            is not None
            for second in range(4)
        ]
        for camera in ("left", "right")
    }
    assert kept == {"left": [True, False, True, False], "right": [True, False, True, False]}


def test_a_camera_whose_name_changes_with_every_image_is_refused_in_the_end():
    database = KeyframeDatabase(configured())
    for number in range(MAX_STREAMS):
        database.observe(place(1), SECOND, "model", Stream("", f"frame {number}"))
    with pytest.raises(DescriptorError, match=r"at most 1000 cameras; .*camera\.name"):
        database.observe(place(1), SECOND, "model", Stream("", "one more"))
    assert database.observe(place(1), 2 * SECOND, "model", Stream("", "frame 7")) is not None


def test_queries_of_a_camera_are_counted_from_the_start_and_from_a_reset():
    database = KeyframeDatabase(configured())
    numbers = [query.number for query in drive(database, [1, 2, 3]) if query]
    database.reset()
    numbers += [query.number for query in drive(database, [1, 2]) if query]
    assert numbers == [0, 1, 2, 0, 1]


def test_a_reset_forgets_everything_and_names_are_new():
    database = KeyframeDatabase(configured())
    before = [query.keyframe.name for query in drive(database, [1, 2, 3]) if query]
    database.reset()
    assert len(database) == 0
    (query,) = drive(database, [1], start_s=3.0)
    assert query is not None
    assert query.matches == []
    assert query.keyframe.name not in before


def test_after_a_reset_no_image_is_late():
    database = KeyframeDatabase(configured())
    drive(database, [1, 2, 3])
    database.reset()
    query = database.observe(place(3), 3 * SECOND // 2, "model")
    assert query is not None
    assert database.passed_over[LATE] == 0


def test_a_reset_accepts_another_model():
    database = KeyframeDatabase(configured())
    drive(database, [1, 2, 3])
    database.reset()
    other = np.ones(4, np.float32) / 2
    query = database.observe(other, 0, "other model")
    assert query is not None
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
    assert len(matched(query)) == 1


def test_one_value_says_nothing_and_an_empty_descriptor_less():
    database = KeyframeDatabase(configured())
    for absurd in (np.empty(0, np.float32), np.ones(1, np.float32), np.ones((1, 1), np.float32)):
        with pytest.raises(DescriptorError, match=r"^expected a descriptor of two or more float32"):
            database.observe(absurd, 0, "model")
    assert drive(database, [1])[0] is not None


def test_it_knows_whether_there_is_something_to_save(tmp_path: Path):
    store = SqliteStore(tmp_path / "map.db")
    database = KeyframeDatabase(configured())
    states: list[Any] = [database.has_unsaved_changes(store)]
    drive(database, [1, 2])
    states.append(database.has_unsaved_changes(store))
    database.save(store)
    states.append(database.has_unsaved_changes(store))
    database.reset()
    states.append(database.has_unsaved_changes(store))
    database.save(store)
    states.append(database.has_unsaved_changes(store))
    assert states == [False, True, False, True, False]
    assert len(KeyframeDatabase.load(SqliteStore(store.path))) == 0


def test_a_database_that_never_saw_an_image_saves_nothing(tmp_path: Path):
    with pytest.raises(DatabaseError, match=r"^there is nothing to save"):
        KeyframeDatabase(configured()).save(SqliteStore(tmp_path / "map.db"))
    assert not (tmp_path / "map.db").exists()


@pytest.mark.parametrize("seed", range(5))
def test_matches_are_the_best_of_all_old_keyframes(seed: int):
    rng = np.random.default_rng(seed)
    database = KeyframeDatabase(configured(recent_s=5.0, max_matches=4))
    seen: list[np.ndarray] = []
    for second in range(80):
        descriptor = place(int(rng.integers(6)), view=second)
        query = database.observe(descriptor, second * SECOND, "model")
        assert query is not None
        ranked = sorted(range(second), key=lambda each: -float(seen[each] @ descriptor))
        assert matched(query) == [each for each in ranked if each <= second - 5][:4]
        recent = [each for each in ranked if each > second - 5]
        shown = [query.recent.best.keyframe.number] if query.recent.best else []
        assert shown == recent[:1]
        seen.append(descriptor)


# --- Localisation --------------------------------------------------------------------------------------


def localising(**fields: Any) -> Config:
    config = configured(**fields)
    return replace(config, database=replace(config.database, mode="localisation"))


def test_in_localisation_nothing_is_added_and_everything_is_found(tmp_path: Path) -> None:
    database, store = KeyframeDatabase(configured()), SqliteStore(tmp_path / "map.db")
    drive(database, [1, 2, 3])
    database.save(store)
    database.configure(localising())
    found = drive(database, [2, 3, 1], start_s=100.0)
    assert [matched(query)[0] for query in found] == [1, 2, 0]
    assert len(database) == 3
    assert not database.has_unsaved_changes(store)
    assert "was looked up as keyframe" in database.last_image


def test_sequences_are_scored_in_localisation_as_in_mapping() -> None:
    config = Config(
        keyframes=KeyframeConfig(min_interval_s=0.0, min_descriptor_change=0.0),
        database=DatabaseConfig(exclude_recent_s=10.0),
    )
    scores = []
    for mode in ("mapping", "localisation"):
        database = KeyframeDatabase(config)
        drive(database, [*range(20)])
        database.configure(replace(config, database=replace(config.database, mode=mode)))
        stream = Stream("another robot")
        again = [
            database.observe(place(number, 100), (100 + number) * SECOND, "model", stream)
            for number in range(5, 12)
        ]
        scores.append([each.matches[0].sequence_score for each in again if each])
    assert scores[0][0] > 0
    assert scores[1] == pytest.approx(scores[0], abs=0.2)


def test_a_name_is_never_used_again_whatever_the_mode() -> None:
    database = KeyframeDatabase(configured())
    names = []
    for second, mode in enumerate(["mapping", "localisation", "both", "localisation", "mapping"]):
        config = configured()
        database.configure(replace(config, database=replace(config.database, mode=mode)))
        (query,) = drive(database, [second], start_s=float(second))
        assert query is not None
        names.append(query.keyframe.name)
    assert len({*names}) == 5
    assert [each.name for each in database.keyframes] == [names[0], names[2], names[4]]


def test_localisation_without_any_map_finds_nothing() -> None:
    database = KeyframeDatabase(localising())
    assert [matched(query) for query in drive(database, [1, 1, 1])] == [[], [], []]
    assert len(database) == 0
