# SPDX-License-Identifier: MIT
"""A recorded drive, played into the three nodes, gives what replaying it without ROS gives."""

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_nodes import NodeProcess, Ros, stamp_ns
from rclpy.serialization import serialize_message

from netvlad_ros import cli
from netvlad_ros.config.files import load_config
from netvlad_ros.data.bags import Bag
from netvlad_ros.evaluation.detections import detect
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.image_data import ImageData
from netvlad_ros.msg import KeyframeMatches, LoopClosure, LoopClosureCandidates
from netvlad_ros.nodes.conversions import query_from
from netvlad_ros.nodes.geometry_messages import geometry_message
from netvlad_ros.retrieval.loop_detector import Detection, LoopDetector
from netvlad_ros.sensors.recording import RecordedImages, sensor_topics

pytestmark = pytest.mark.needs("rclpy")

IMAGES = 84
TOPIC = "/camera/image_raw/compressed"
QUIET_S = 10.0  # after the last image, the others are lost
# Of one image a second. A machine that is too busy for the first gets another chance.
RATES = ("5.6", "2.8", "1.4")
PARAMETERS = {
    "database.exclude_recent_s": 20.0,
    "candidates.min_similarity": 0.75,
}


@pytest.fixture(scope="module")
def genuine_model(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that were trained on real places."""
    model = tmp_path_factory.mktemp("genuine") / "model.keras"
    weights = shared / "reference" / "cartwheel" / "mobilenet_color_raw_8192.h5"
    netvlad("import-weights", weights, "--input", "cartwheel-raw", "-o", model)
    return model


def netvlad(*words: object) -> None:
    assert cli.main([str(word) for word in words]) == 0


def replayed(bag: Path, model: Path, folder: Path, parameters: dict[str, float]) -> dict[str, Any]:
    assignments = [
        word for name, value in parameters.items() for word in ("--set", f"{name}={value}")
    ]
    netvlad("replay", bag, "--model", model, *assignments, "-o", folder)
    return json.loads((folder / "candidates.json").read_text())


def played(
    ros: Ros,
    start: Callable[..., NodeProcess],
    process: Callable[..., Any],
    bag: Path,
    model: Path,
    rate: str,
) -> list[LoopClosureCandidates]:
    """What three nodes answer while the bag is played into them; a busy machine drops or loses images."""
    namespace = f"/rate_{rate.replace('.', '_')}"
    extraction = {"extractor.model": str(model), "camera.compressed": True}
    nodes = [
        start("descriptor_node", extraction, {"image": TOPIC}, namespace=namespace),
        start("keyframe_database_node", PARAMETERS, namespace=namespace),
        start("loop_closure_node", PARAMETERS, namespace=namespace),
    ]
    answers = ros.listen(LoopClosureCandidates, f"{namespace}/loop_closure_candidates")
    for node in nodes:
        node.until_ready()
    player = process("bag_player", bag, "--rate", rate, "--wait-for-subscribers")
    descriptor_node = nodes[0]

    last: tuple[int, float] = (0, time.monotonic())

    def is_over() -> bool:
        nonlocal last
        count = descriptor_node.count
        done = count("published") + count("dropped")
        if done != last[0]:
            last = done, time.monotonic()
        is_quiet = done > 0 and time.monotonic() - last[1] > QUIET_S
        return (done == IMAGES or is_quiet) and len(answers) == count("published")

    descriptor_node.until(is_over, patience_s=120.0)
    assert player.wait() == 0
    for node in nodes:
        assert node.end() == 0
    return answers


@pytest.mark.slow
def test_the_nodes_find_what_replay_finds_and_most_of_the_loops(
    ros: Ros,
    start: Callable[..., NodeProcess],
    process: Callable[..., Any],
    shared: Path,
    genuine_model: Path,
    tmp_path: Path,
) -> None:
    bag = shared / "data" / "bags" / "rtabmap_loop_mcap"
    for rate in RATES:
        answers = played(ros, start, process, bag, genuine_model, rate)
        if len(answers) == IMAGES:
            break

    offline = replayed(bag, genuine_model, tmp_path, PARAMETERS)["queries"]
    assert len(answers) == len(offline)
    for answer, query in zip(answers, offline, strict=True):
        assert (answer.query.number, stamp_ns(answer.header)) == (
            query["keyframe"],
            query["stamp_ns"],
        )
        found = [(each.match.number, each.rank) for each in answer.candidates]
        assert found == [(each["keyframe"], each["rank"]) for each in query["candidates"]]
        similarities = [each.similarity for each in answer.candidates]
        expected = [each["similarity"] for each in query["candidates"]]
        assert similarities == pytest.approx(expected, abs=1e-5)
    assert correct_first_candidates(answers, shared) >= 32


ROOM = {
    "image": "/camera/color/image_raw/compressed",
    "camera_info": "/camera/color/camera_info",
    "depth": "/camera/aligned_depth_to_color/image_raw",
    "odometry": "/odom",
}
ROOM_IMAGES = 125
EVERY_IMAGE = {
    "keyframes.min_interval_s": 0.0,
    "keyframes.min_descriptor_change": 0.0,
    "database.exclude_recent_s": 6.0,
    "camera.compressed": True,
}


def found_offline(bag_path: Path, model: Path) -> list[Detection]:
    """What replaying finds for each keyframe."""
    config = load_config(assignments=[f"{name}={value}" for name, value in EVERY_IMAGE.items()])
    with Bag(bag_path) as bag:
        topics = sensor_topics(bag, ROOM["image"])
        images = RecordedImages(bag, ROOM["image"], topics, config)
        detector = LoopDetector(NetVLADExtractor(model), config)
        found = [*detect(images, detector, config.camera, images.sensors)]
    assert not images.problems
    return [each.detection for each in found if each.detection and each.detection.query]


def assert_same(found: ImageData, expected: ImageData) -> None:
    for part in ("features", "camera", "odometry"):
        one, other = getattr(found, part), getattr(expected, part)
        for name, value in vars(other).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(getattr(one, name), value, err_msg=f"{part}.{name}")


def found_live(
    ros: Ros,
    start: Callable[..., NodeProcess],
    process: Callable[..., Any],
    bag: Path,
    model: Path,
    rate: str,
) -> tuple[list[KeyframeMatches], list[LoopClosure]]:
    """What three nodes find while the bag is played; on a busy machine they drop images."""
    namespace = f"/room_{rate.replace('.', '_')}"
    settings = EVERY_IMAGE | {"extractor.model": str(model)}
    names = ("descriptor_node", "keyframe_database_node", "loop_closure_node")
    nodes = [start(name, settings, ROOM, namespace=namespace) for name in names]
    camera, database, verifier = nodes
    answers = ros.listen(KeyframeMatches, f"{namespace}/keyframe_matches")
    closures = ros.listen(LoopClosure, f"{namespace}/loop_closures")
    for node in nodes:
        node.until_ready()
    player = process("bag_player", bag, "--rate", rate, "--wait-for-subscribers", len(ROOM))

    def is_over() -> bool:
        done = camera.count("published") + camera.count("dropped")
        return done == ROOM_IMAGES and len(answers) == camera.count("published")

    database.until(is_over, patience_s=120.0)
    verifier.until(lambda: verifier.count("received") == len(answers))
    verifier.until(lambda: len(closures) == verifier.count("closures"))
    assert player.wait() == 0
    return answers, closures


def assert_same_closures(found: list[LoopClosure], detections: list[Detection]) -> None:
    """To the last byte, but for the UUID of the session."""
    expected = [each for one in detections if one.closures for each in one.closures.closures]
    assert len(found) == len(expected) > 20
    for message, closure in zip(found, expected, strict=True):
        assert (message.query.number, message.match.number) == (
            closure.query.number,
            closure.match.keyframe.number,
        )
        geometry = serialize_message(geometry_message(closure.geometry))
        assert serialize_message(message.geometry) == geometry
        assert message.odometry_deviation == closure.odometry_deviation
        assert message.agrees_with == closure.agrees_with


@pytest.mark.slow
def test_the_nodes_know_of_keyframes_what_replay_knows_and_close_the_same_loops(
    ros: Ros,
    start: Callable[..., NodeProcess],
    process: Callable[..., Any],
    shared: Path,
    model: Path,
) -> None:
    bag = shared / "data" / "bags" / "rgbd_room_mcap"
    offline = found_offline(bag, model)
    for rate in ("1.0", "0.5"):
        answers, closures = found_live(ros, start, process, bag, model, rate)
        if len(answers) == len(offline):
            break

    for answer, detection in zip(map(query_from, answers), offline, strict=True):
        expected = detection.query
        assert expected is not None
        assert_same(answer.data, expected.data)
        for match, other in zip(answer.matches[:5], expected.matches[:5], strict=True):
            assert match.keyframe.number == other.keyframe.number
            assert_same(match.data, other.data)
    assert_same_closures(closures, offline)


def correct_first_candidates(answers: list[LoopClosureCandidates], shared: Path) -> int:
    """How many of the 44 queries that close a loop have a right first candidate; message i is image i + 1."""
    with (shared / "data" / "rtabmap_samples" / "loop_closures.csv").open() as file:
        truth = {
            int(row["query_image"]): row["matching_images"].split() for row in csv.DictReader(file)
        }
    firsts = {
        answer.query.number + 1: answer.candidates[0].match.number + 1
        for answer in answers
        if answer.candidates
    }
    return sum(str(firsts.get(query)) in matches for query, matches in truth.items())


def test_without_a_threshold_35_of_44_first_matches_are_right(
    shared: Path, genuine_model: Path, tmp_path: Path
) -> None:
    bag = shared / "data" / "bags" / "rtabmap_loop_mcap"
    loops = shared / "data" / "rtabmap_samples" / "loop_closures.csv"
    without = ("--set", "candidates.min_similarity=-1", "--set", "database.exclude_recent_s=20")
    netvlad(
        "replay", bag, "--model", genuine_model, *without, "--ground-truth", loops, "-o", tmp_path
    )
    evaluation = json.loads((tmp_path / "candidates.json").read_text())["evaluation"]
    assert evaluation["without_threshold"]["loops"] == 44
    assert evaluation["without_threshold"]["right"] >= 35


def test_a_clip_without_a_loop_has_no_candidates(
    shared: Path, genuine_model: Path, tmp_path: Path
) -> None:
    results = replayed(
        shared / "data" / "bags" / "euroc_v101_mono8_db3", genuine_model, tmp_path, {}
    )
    assert results["counts"]["keyframes"] > 0
    assert results["counts"]["candidates"] == 0
