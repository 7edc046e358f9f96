# SPDX-License-Identifier: MIT
"""Descriptors are kept, looked up and stored, whatever comes in and however the process ends."""

import os
import resource
import signal
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_nodes import NodeProcess, Start, stamp, stamp_ns

from netvlad_ros.errors import DatabaseError
from netvlad_ros.msg import (
    GlobalDescriptor,
    ImageData,
    KeyframeMatches,
    LocalFeatures,
    LoopClosure,
)
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.srv import MapFile
from netvlad_ros.store.sqlite_file import LOCK_TIMEOUT_S
from netvlad_ros.store.sqlite_store import SqliteStore

pytestmark = pytest.mark.needs("rclpy")

SECOND = 1_000_000_000
DIMS = 16
# Every image is a keyframe, and only what is looked at in a test leads to a save.
QUIET = {"keyframes.min_interval_s": 0.0, "database.autosave_s": 0.0}


def place(number: int) -> np.ndarray:
    """A unit vector for each place, far from all others."""
    vector = np.random.default_rng(number).normal(size=DIMS).astype(np.float32)
    return vector / np.linalg.norm(vector)


def described(
    vector: np.ndarray,
    stamp_s: float,
    fingerprint: str = "model_a",
    robot: str = "spot",
    camera: str = "front",
) -> GlobalDescriptor:
    message = GlobalDescriptor(robot=robot, camera=camera, fingerprint=fingerprint)
    message.header.stamp = stamp(round(stamp_s * SECOND))
    message.header.frame_id = "front_camera"
    message.descriptor = vector.tolist()
    return message


class Drive:
    """Feeds one node and hears what it answers."""

    def __init__(self, node: NodeProcess) -> None:
        self.node = node
        node.until_ready()
        self._publisher = node.ros.publisher(GlobalDescriptor, node.topic("global_descriptor"))
        self.answers: list[Any] = node.ros.listen(KeyframeMatches, node.topic("keyframe_matches"))
        node.until(lambda: self._publisher.get_subscription_count() and node.count("subscribers"))

    def send(self, message: GlobalDescriptor) -> None:
        self._publisher.publish(message)

    def visit(self, number: int, stamp_s: float) -> Any:
        """The answer to a keyframe at this place."""
        count = len(self.answers)
        self.send(described(place(number), stamp_s))
        return self.node.until(lambda: self.answers[count:])[0]


@pytest.fixture
def drive(start: Start) -> Callable[..., Drive]:
    """Starts a node with these parameters."""
    return lambda **parameters: Drive(
        start(
            "keyframe_database_node",
            QUIET | {name.replace("__", "."): value for name, value in parameters.items()},
        )
    )


def stored(path: Path) -> int:
    """How many keyframes a file holds; none before its first save is complete."""
    try:
        return len(KeyframeDatabase.load(SqliteStore(path)))
    except DatabaseError as error:
        if "holds nothing yet" not in str(error):
            raise
        return 0


def test_a_revisited_place_is_found_with_all_that_names_it(drive: Callable[..., Drive]) -> None:
    one = drive(database__exclude_recent_s=2.0, database__map="cellar")
    first = one.visit(1, 100.0)
    for second in (1, 2, 3):
        one.visit(1 + second, 100.0 + second)
    again = one.visit(1, 104.5)
    assert first.matches == []
    assert stamp_ns(again.header) == round(104.5 * SECOND)
    assert again.header.frame_id == "front_camera"
    assert len(again.query.session) == 32
    assert (again.query.number, again.query.map, again.query.external_id) == (4, "cellar", -1)
    assert (again.query.robot, again.query.camera) == ("spot", "front")
    assert again.query.stamp == again.header.stamp
    assert (again.query_number, again.fingerprint) == (4, "model_a")
    best = again.matches[0]
    assert (best.keyframe.session, best.keyframe.number) == (again.query.session, 0)
    assert best.keyframe.stamp == stamp(100 * SECOND)
    assert best.similarity == pytest.approx(1.0, abs=1e-5)
    assert best.sequence_score == best.margin  # there is no other place
    assert [match.keyframe.number for match in again.matches] in ([0, 1, 2], [0, 2, 1])


def with_features(number: int, stamp_s: float, **fields: Any) -> GlobalDescriptor:
    """A keyframe that its sender chose, with a feature at the pixel of this number."""
    message = described(place(number), stamp_s)
    features = LocalFeatures(method="orb", keypoints_px=[float(number)] * 2, is_binary=True)
    features.descriptors, features.descriptor_bytes = bytes(32), 32
    message.data = [ImageData(features=[features])]
    message.choice, message.external_id = GlobalDescriptor.KEYFRAME, 70 + number
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def test_features_and_a_back_ends_numbers_come_back_with_matches_also_from_a_file(
    drive: Callable[..., Drive], tmp_path: Path
) -> None:
    one = drive(database__exclude_recent_s=0.0, database__path=str(tmp_path / "map.db"))
    for number in (1, 2):
        one.send(with_features(number, 100.0 + number))
    one.node.until(lambda: len(one.answers) == 2)
    assert one.node.call("save").success
    one.send(with_features(1, 110.0))
    (answer,) = one.node.until(lambda: one.answers[2:])
    assert answer.query.external_id == 71
    assert answer.data[0].features[0].keypoints_px.tolist() == [1.0, 1.0]
    best = answer.matches[0]
    assert best.keyframe.external_id == 71
    assert best.data[0].features[0].keypoints_px.tolist() == [1.0, 1.0]
    assert bytes(best.data[0].features[0].descriptors) == bytes(32)


def test_features_that_can_not_be_are_left_out_and_the_place_is_found_all_the_same(
    drive: Callable[..., Drive],
) -> None:
    one = drive(database__exclude_recent_s=0.0)
    one.send(with_features(1, 101.0))
    broken = with_features(1, 102.0)
    broken.data[0].features[0].descriptor_bytes = 2**31
    one.send(broken)
    (answer,) = one.node.until(lambda: one.answers[1:])
    assert answer.matches[0].similarity == pytest.approx(1.0, abs=1e-5)
    assert not answer.data
    one.node.until(lambda: "features of a keyframe are refused" in one.node.output)


def test_an_image_that_its_sender_passed_over_is_no_keyframe(drive: Callable[..., Drive]) -> None:
    one = drive()
    one.send(with_features(1, 101.0, choice=GlobalDescriptor.PASSED))
    one.send(with_features(1, 102.0, choice=9))
    one.send(with_features(2, 103.0))
    (answer,) = one.node.until(lambda: one.answers)
    assert answer.query.number == 0
    assert answer.query.stamp.sec == 103
    one.node.until(lambda: "expected a choice of 0" in one.node.output)


def test_what_was_left_out_is_counted_and_its_best_shown(drive: Callable[..., Drive]) -> None:
    one = drive(database__exclude_recent_s=10.0)
    for second in range(3):
        answer = one.visit(second, 100.0 + second)
    assert answer.matches == []
    assert (answer.searched, answer.recent, answer.exclude_recent_s) == (0, 2, 10.0)
    (best,) = answer.best_recent
    assert best.keyframe.number in (0, 1)
    assert answer.best_recent_age_s == 2.0 - best.keyframe.number


def test_the_diagnostics_name_size_and_model_of_the_index_and_the_last_keyframe(
    drive: Callable[..., Drive],
) -> None:
    one = drive()
    one.visit(1, 100.0)
    one.node.until(lambda: one.node.count("keyframes") == 1)
    values = one.node.status().values
    assert values["model"] == "model_a"
    assert values["last image"].startswith("became keyframe ")
    assert values["added"].startswith("1 (")
    assert "index (MB)" in values
    assert float(values["search and add (median ms)"]) > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_map_is_saved_at_the_end_and_loaded_at_the_next_start(
    number: signal.Signals, drive: Callable[..., Drive], tmp_path: Path
) -> None:
    path = tmp_path / "map.db"
    first = drive(database__path=str(path))
    first.visit(1, 100.0)
    first.visit(2, 101.0)
    first.node.send(number)
    assert first.node.exit_code() == 0
    assert stored(path) == 2
    assert f"2 keyframes saved to {path}" in first.node.output
    assert "context is invalid" not in first.node.output
    assert "Traceback" not in first.node.output

    second = drive(database__path=str(path))
    answer = second.visit(1, 5.0)
    assert answer.query.number == 0
    assert answer.matches[0].keyframe.number == 0
    assert answer.matches[0].keyframe.session != answer.query.session
    assert answer.matches[0].keyframe.robot == "spot"


def test_what_was_autosaved_survives_kill_9(drive: Callable[..., Drive], tmp_path: Path) -> None:
    path = tmp_path / "map.db"
    one = drive(database__path=str(path), database__autosave_s=0.2)
    for number in range(20):
        one.visit(number, 100.0 + number)
    one.node.until(lambda: path.exists() and stored(path) == 20)
    one.node.send(signal.SIGKILL)
    one.node.exit_code()
    assert stored(path) == 20
    again = drive(database__path=str(path))
    assert again.visit(7, 1000.0).matches[0].keyframe.number == 7


def test_services_save_load_and_reset(drive: Callable[..., Drive], tmp_path: Path) -> None:
    path = tmp_path / "map.db"
    one = drive(database__path=str(path))
    nothing = one.node.call("save")
    assert not nothing.success
    assert "nothing to save" in nothing.message
    assert not one.node.call("load").success
    one.visit(1, 100.0)
    saved = one.node.call("save")
    assert saved.success
    assert saved.message == f"1 keyframes saved to {path}"
    one.visit(2, 101.0)
    assert one.node.call("reset").success
    assert one.visit(1, 102.0).matches == []
    assert one.node.call("reset").success
    assert one.node.call("load").success
    assert one.visit(1, 103.0).matches[0].keyframe.number == 0


def test_a_file_is_the_same_by_a_relative_and_an_absolute_name(
    drive: Callable[..., Drive], tmp_path: Path
) -> None:
    path = tmp_path / "map.db"
    one = drive(database__path=os.path.relpath(path))
    one.visit(1, 100.0)
    assert one.node.call("save").success
    assert one.node.set("database.path", str(path)).successful
    one.visit(2, 101.0)
    assert one.node.call("save").message == f"2 keyframes saved to {path}"
    assert one.node.end() == 0
    assert stored(path) == 2


def test_a_reset_before_the_end_leaves_the_saved_map(
    drive: Callable[..., Drive], tmp_path: Path
) -> None:
    path = tmp_path / "map.db"
    one = drive(database__path=str(path))
    one.visit(1, 100.0)
    assert one.node.call("save").success
    assert one.node.call("reset").success
    assert one.node.end() == 0
    assert stored(path) == 1


def test_without_a_path_save_says_which_parameter_to_set(drive: Callable[..., Drive]) -> None:
    one = drive()
    one.visit(1, 100.0)
    answer = one.node.call("save")
    assert not answer.success
    assert "database.path is empty" in answer.message


def test_the_path_may_be_given_while_running(drive: Callable[..., Drive], tmp_path: Path) -> None:
    one = drive()
    one.visit(1, 100.0)
    assert one.node.set("database.path", str(tmp_path / "late.db")).successful
    assert one.node.call("save").success
    assert stored(tmp_path / "late.db") == 1


def test_a_bag_played_twice_is_a_second_session_that_matches_the_first(
    drive: Callable[..., Drive],
) -> None:
    one = drive(database__exclude_recent_s=0.0)
    first = [one.visit(number, 100.0 + number).query for number in range(3)]
    for number in range(3):
        answer = one.visit(number, 100.0 + number)
        assert answer.query.session != first[0].session
        best = answer.matches[0].keyframe
        assert (best.number, best.session) == (number, first[0].session)
    assert any("time jumped back by 2.000 s" in line for line in one.node.lines("WARN"))


def test_two_robots_and_two_cameras_share_a_database(drive: Callable[..., Drive]) -> None:
    one = drive(database__exclude_recent_s=10.0)
    streams = [("spot", "front"), ("spot", "rear"), ("anymal", "front")]
    answers = []
    for number, (robot, camera) in enumerate(streams):
        one.send(described(place(1), 100.0, robot=robot, camera=camera))
        answers.append(one.node.until(partial(one.answers.__getitem__, slice(number, None)))[0])
    assert len({answer.query.session for answer in answers}) == 3
    assert [(answer.query.robot, answer.query.camera) for answer in answers] == streams
    # The rear camera of the same robot sees nothing that was not seen a moment ago; the other robot does.
    assert [len(answer.matches) for answer in answers] == [0, 0, 2]
    assert one.node.count("refused") == 0


def test_repeated_and_slightly_late_stamps_add_nothing_and_are_counted(
    drive: Callable[..., Drive],
) -> None:
    one = drive()
    one.visit(1, 100.0)
    one.send(described(place(2), 100.0))
    one.send(described(place(3), 99.9))
    one.node.until(lambda: one.node.count("images that are no keyframes") == 2)
    one.node.until(lambda: one.node.says("repeated or earlier stamps", "header.stamp"))
    assert one.visit(4, 101.0).query.number == 1


def test_what_does_not_fit_is_refused_with_its_reason_and_the_next_good_one_taken(
    drive: Callable[..., Drive],
) -> None:
    one = drive()
    # The first descriptor decides on nothing if it is itself refused.
    one.send(described(np.full(DIMS, np.nan), 90.0, robot="other"))
    one.node.until(lambda: one.node.says("unit length", "nan"))
    one.visit(1, 100.0)
    absurd_stamp = described(place(1), 101.0)
    absurd_stamp.header.stamp.sec, absurd_stamp.header.stamp.nanosec = 2**31 - 1, 2**32 - 1
    bad = {
        "shape (5,)": described(place(1)[:5], 101.0),
        "shape (0,)": described(place(1)[:0], 101.0),
        "length 2": described(2.0 * place(1), 101.0),
        "got one of model_b": described(place(1), 101.0, fingerprint="model_b"),
        "999999999 nanoseconds": absurd_stamp,
    }
    for words, message in bad.items():
        one.send(message)
        one.node.until(partial(one.node.says, words))
        assert one.node.status().level == 2
    assert one.node.count("refused") == 6
    assert one.visit(2, 102.0).query.number == 1
    assert one.node.lines("ERROR")


def test_a_database_of_another_model_is_left_alone(
    drive: Callable[..., Drive], tmp_path: Path
) -> None:
    path = tmp_path / "map.db"
    database = KeyframeDatabase()
    database.observe(place(1), SECOND, "model_b")
    database.save(SqliteStore(path))
    one = drive(database__path=str(path), database__autosave_s=0.1)
    one.send(described(place(1), 100.0))
    one.node.until(lambda: one.node.says("model_b, got one of model_a"))
    assert one.node.end() == 0
    kept = KeyframeDatabase.load(SqliteStore(path))
    assert (kept.fingerprint, len(kept)) == ("model_b", 1)


def test_a_damaged_file_is_reported_and_left_alone_while_the_node_works(
    drive: Callable[..., Drive], tmp_path: Path
) -> None:
    path = tmp_path / "map.db"
    path.write_bytes(b"no database at all" * 1000)
    content = path.read_bytes()
    one = drive(database__path=str(path), database__autosave_s=0.1)
    assert one.node.says("started without the map", str(path), "can't read")
    one.visit(1, 100.0)
    one.visit(2, 101.0)
    assert one.node.end() == 0
    assert path.read_bytes() == content
    assert any(str(path) in line for line in one.node.lines("ERROR"))
    (other,) = tmp_path.glob("map.2*.db")  # the drive is not lost with the map
    assert stored(other) == 2


def test_a_file_whose_first_save_was_cut_short_is_written_to(
    drive: Callable[..., Drive], tmp_path: Path
) -> None:
    path = tmp_path / "map.db"
    path.touch()
    one = drive(database__path=str(path))
    one.visit(1, 100.0)
    assert one.node.end() == 0
    assert not one.node.lines("ERROR")
    assert [each.name for each in tmp_path.glob("map*")] == ["map.db"]
    assert stored(path) == 1


def test_a_map_that_was_removed_meanwhile_is_written_anew(
    drive: Callable[..., Drive], tmp_path: Path
) -> None:
    path = tmp_path / "map.db"
    one = drive(database__path=str(path), database__autosave_s=0.1)
    one.visit(1, 100.0)
    one.node.until(lambda: path.exists() and stored(path) == 1)
    path.unlink()
    one.visit(2, 101.0)
    one.node.until(lambda: path.exists() and stored(path) == 2)
    assert one.node.end() == 0
    assert not one.node.lines("ERROR")


def test_a_full_disk_is_reported_and_nothing_lost(
    drive: Callable[..., Drive], tmp_path: Path
) -> None:
    path = tmp_path / "map.db"
    one = drive(database__path=str(path), database__autosave_s=0.1)
    one.visit(1, 100.0)
    one.node.until(lambda: path.exists() and stored(path) == 1)
    # A file that may not grow is as good as a disk that is full.
    unlimited = resource.prlimit(one.node.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(one.node.pid, resource.RLIMIT_FSIZE, (path.stat().st_size, unlimited[1]))
    for number in range(2, 500):
        one.visit(number, 100.0 + number)
    one.node.until(lambda: one.node.says(str(path), "can't write"))
    assert one.node.status().level == 2
    assert stored(path) < 499
    resource.prlimit(one.node.pid, resource.RLIMIT_FSIZE, unlimited)
    one.node.until(lambda: stored(path) == 499)
    one.node.until(lambda: one.node.status().level == 0)
    assert one.node.end() == 0
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("place", ["/", "absent/map.db", "."])
def test_a_place_where_no_file_can_be_written_ends_the_node_at_the_start(
    place: str, start: Start, tmp_path: Path
) -> None:
    path = place if place == "/" else str(tmp_path / place)
    node = start("keyframe_database_node", QUIET | {"database.path": path})
    assert node.exit_code() == 1
    (line,) = node.lines("FATAL")
    assert path.rstrip(".").rstrip("/") in line
    assert "Traceback" not in node.output


def test_queries_are_answered_while_a_map_is_saved(
    drive: Callable[..., Drive], tmp_path: Path
) -> None:
    """Another process holds the file, so that the save waits for as long as it may."""
    path = tmp_path / "map.db"
    one = drive(database__path=str(path), database__autosave_s=0.2)
    one.visit(1, 100.0)
    one.node.until(lambda: path.exists() and stored(path) == 1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    slowest_s = 0.0
    for number in range(20):
        start_s = time.monotonic()
        one.visit(number, 101.0 + number)
        slowest_s = max(slowest_s, time.monotonic() - start_s)
        one.node.ros.spin(0.1)
    one.node.until(lambda: one.node.says("another process is writing it"))
    other.close()
    one.node.until(lambda: stored(path) == 21)
    assert slowest_s < 0.5 * LOCK_TIMEOUT_S


def map_file(node: NodeProcess, service: str, path: Path | str) -> MapFile.Response:
    """What a service with a file name answers."""
    name = node.topic(f"keyframe_database_node/{service}")
    answer: MapFile.Response = node.ros.call(MapFile, name, MapFile.Request(path=str(path)))
    return answer


def test_a_map_is_saved_to_a_file_and_loaded_from_it_by_name(
    drive: Callable[..., Drive], tmp_path: Path
) -> None:
    usual, other = tmp_path / "usual.db", tmp_path / "other.db"
    one = drive(database__path=str(usual), database__exclude_recent_s=0.0)
    one.send(with_features(1, 101.0))
    one.node.until(lambda: one.answers)
    answer = map_file(one.node, "save_map", other)
    assert (answer.success, answer.message) == (True, f"1 keyframes saved to {other}")
    assert not usual.exists()
    assert one.node.call("save").success
    assert (stored(usual), stored(other)) == (1, 1)
    one.send(with_features(2, 103.0))
    one.node.until(lambda: one.answers[1:])
    refused = map_file(one.node, "load_map", other)
    assert not refused.success
    assert "2 keyframes are not all saved; call ~/save, ~/save_map or ~/reset" in refused.message
    assert one.node.call("save").success
    loaded = map_file(one.node, "load_map", other)
    assert (loaded.success, loaded.message) == (True, f"1 keyframes loaded from {other}")
    one.send(with_features(3, 105.0))
    one.node.until(lambda: one.answers[2:])
    assert one.answers[2].matches[0].data[0].features  # which are in the other file
    assert one.node.call("save").success
    assert (stored(usual), stored(other)) == (2, 2)


def test_a_name_that_is_no_map_is_refused_with_a_sentence_and_nothing_is_lost(
    drive: Callable[..., Drive], tmp_path: Path
) -> None:
    one = drive(database__exclude_recent_s=0.0)
    one.visit(1, 100.0)
    foreign = tmp_path / "letter.db"
    foreign.write_text("dear all" * 1000)
    for service, path, sentence in (
        ("save_map", "", "path is empty"),
        ("load_map", "", "path is empty"),
        ("save_map", tmp_path, "it is a folder"),
        ("save_map", tmp_path / "absent" / "map.db", "does not exist"),
        ("save_map", foreign, "the file is something else"),
        ("load_map", tmp_path / "map.db", "not all saved"),
    ):
        answer = map_file(one.node, service, path)
        assert not answer.success
        assert sentence in answer.message
    assert map_file(one.node, "save_map", tmp_path / "map.db").success
    assert "something else" in map_file(one.node, "load_map", foreign).message
    assert "no such database" in map_file(one.node, "load_map", tmp_path / "none.db").message
    assert one.visit(2, 140.0).matches
    assert foreign.read_text().startswith("dear all")


def test_the_same_way_again_does_not_grow_the_map_once_loop_closures_say_so(
    drive: Callable[..., Drive], tmp_path: Path
) -> None:
    path = tmp_path / "map.db"
    one = drive(
        database__path=str(path),
        database__max_alike=1,
        database__exclude_recent_s=5.0,
        candidates__min_similarity=0.9,
    )
    closures = one.node.ros.publisher(LoopClosure, one.node.topic("loop_closures"))
    one.node.until(closures.get_subscription_count)
    for lap in range(2):
        for number in range(8):
            answer = one.visit(number, 100.0 * (lap + 1) + number)
            if lap:
                match = answer.matches[0].keyframe
                closures.publish(LoopClosure(query=answer.query, match=match))
    one.node.ros.spin(1.0)  # for the last closure to be heard
    assert one.node.end() == 0
    assert stored(path) == 8


def test_a_full_map_says_so_and_is_looked_up(drive: Callable[..., Drive]) -> None:
    one = drive(database__max_keyframes=2, database__exclude_recent_s=0.0)
    for number in range(3):
        answer = one.visit(number, 100.0 + number)
    assert len(answer.matches) == 2
    one.node.until(lambda: "the map is full with 2 keyframes" in one.node.output)
    one.node.until(lambda: one.node.count("looked up") == 1)
    assert one.node.count("keyframes") == 2
