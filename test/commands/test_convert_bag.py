# SPDX-License-Identifier: MIT
"""A bag with messages of the first format is converted; everything else in it stays as it was."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from netvlad_ros.data.old_messages import FIRST_FORMAT, PACKAGE, OldMessages, _store
from netvlad_ros.keyframe import numbered_session

Run = Callable[..., tuple[int, str, str]]
OLD = _store(FIRST_FORMAT)
SECOND = 1_000_000_000


def old(name: str, *values: Any) -> Any:
    return OLD.types[PACKAGE + name](*values)


def time(second: int) -> Any:
    return OLD.types["builtin_interfaces/msg/Time"](second, 0)


def header(second: int) -> Any:
    return OLD.types["std_msgs/msg/Header"](time(second), "front_camera")


def keyframe(number: int, session: int, second: int) -> Any:
    return old("Keyframe", "spot", number, session, time(second))


def messages() -> dict[str, tuple[str, list[Any]]]:
    """Topic -> type and messages: the answer to keyframe 9 of session 1."""
    query, recent, place = keyframe(9, 1, 100), keyframe(8, 1, 95), keyframe(3, 0, 400)
    matches = [old("KeyframeMatch", recent, 0.99), old("KeyframeMatch", place, 0.8)]
    vector = np.array([0.6, 0.8], np.float32)
    candidate = old("LoopClosureCandidate", query, place, 0.8, 0, 2, [])
    rejected = old("RejectedMatch", matches[0], "exclude_recent", 5.0, 30.0, "is 5.0 s old")
    text = OLD.types["std_msgs/msg/String"]
    return {
        "/global_descriptor": (
            PACKAGE + "GlobalDescriptor",
            [old("GlobalDescriptor", header(100), "spot", "model_a", vector)],
        ),
        "/keyframe_matches": (
            PACKAGE + "KeyframeMatches",
            [old("KeyframeMatches", header(100), query, "model_a", 30.0, matches)] * 2,
        ),
        "/loop_closure_candidates": (
            PACKAGE + "LoopClosureCandidates",
            [old("LoopClosureCandidates", header(100), query, "model_a", [candidate])],
        ),
        "/loop_closure_node/rejected": (
            PACKAGE + "RejectedMatches",
            [old("RejectedMatches", header(100), query, [rejected])],
        ),
        "/chatter": ("std_msgs/msg/String", [text("as it was")]),
    }


@pytest.fixture(params=[StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def bag(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "drive"
    with Writer(path, version=9, storage_plugin=request.param) as writer:
        for topic, (kind, content) in messages().items():
            connection = writer.add_connection(topic, kind, typestore=OLD)
            for number, each in enumerate(content):
                writer.write(connection, number * SECOND, bytes(OLD.serialize_cdr(each, kind)))
    return path


def read(path: Path) -> dict[str, list[Any]]:
    """Every topic's messages in today's types."""
    store, found = OldMessages("").store, dict[str, list[Any]]()
    with Reader(path) as reader:
        for connection, _, data in reader.messages():
            assert connection.digest == store.hash_rihs01(connection.msgtype)
            message = store.deserialize_cdr(data, connection.msgtype)
            found.setdefault(connection.topic, []).append(message)
    return found


def test_every_message_says_the_same_in_the_new_format(netvlad: Run, bag: Path, tmp_path: Path):
    code, out, _ = netvlad("convert-bag", bag, "-o", tmp_path / "new")
    assert code == 0
    assert out.startswith("5 messages converted")
    new = read(tmp_path / "new")
    (descriptor,) = new["/global_descriptor"]
    assert (descriptor.robot, descriptor.camera) == ("spot", "front_camera")
    assert descriptor.descriptor.tolist() == pytest.approx([0.6, 0.8])
    first, second = new["/keyframe_matches"]
    assert (first.query_number, second.query_number) == (0, 1)
    assert (first.query.session, first.query.number) == (numbered_session("drive", 1), 9)
    assert (first.searched, first.recent, first.exclude_recent_s) == (1, 1, 30.0)
    (match,), (recent,) = first.matches, first.best_recent
    assert (match.keyframe.session, match.keyframe.number) == (numbered_session("drive", 0), 3)
    assert match.similarity == pytest.approx(0.8)
    assert math.isnan(match.sequence_score)
    assert (recent.keyframe.number, first.best_recent_age_s) == (8, 5.0)
    (candidate,) = new["/loop_closure_candidates"][0].candidates
    assert (candidate.match.number, candidate.rank, candidate.consistent_queries) == (3, 0, 2)
    (rejected,) = new["/loop_closure_node/rejected"][0].rejected
    assert (rejected.verdict.stage, rejected.verdict.value) == ("exclude_recent", 5.0)
    assert new["/chatter"][0].data == "as it was"


def test_a_bag_of_today_is_copied(netvlad: Run, bag: Path, tmp_path: Path):
    netvlad("convert-bag", bag, "-o", tmp_path / "new")
    code, out, _ = netvlad("convert-bag", tmp_path / "new", "-o", tmp_path / "again")
    assert (code, out.split()[0]) == (0, "0")
    assert repr(read(tmp_path / "again")) == repr(read(tmp_path / "new"))


def test_messages_of_today_whose_hash_nobody_wrote_down_are_copied(
    netvlad: Run, bag: Path, tmp_path: Path
):
    """As in bags of Humble."""
    netvlad("convert-bag", bag, "-o", tmp_path / "new")
    old_messages = OldMessages("")
    for topic, messages_of in read(tmp_path / "new").items():
        kind = messages()[topic][0]
        if kind.startswith(PACKAGE):
            assert old_messages.is_old(kind, "")
            data = bytes(old_messages.store.serialize_cdr(messages_of[0], kind))
            assert old_messages.convert(kind, topic, data) == data


def test_what_can_not_be_read_or_written_is_one_sentence(netvlad: Run, bag: Path, tmp_path: Path):
    for words, reason in (
        ((tmp_path / "absent", "-o", tmp_path / "new"), "can't be read"),
        ((bag, "-o", bag), "can't be written"),
        ((bag, "-o", tmp_path / "new", "--map", tmp_path / "absent.db"), "there is no such"),
    ):
        code, _, err = netvlad("convert-bag", *words)
        assert (code, err.count("\n")) == (1, 1)
        assert reason in err
