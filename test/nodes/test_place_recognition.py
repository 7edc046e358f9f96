# SPDX-License-Identifier: MIT
"""From images to candidates: three processes or one, one robot or two, until they are told to end."""

import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_nodes import Camera, NodeProcess, Ros, Start, picture, raw_image, stamp_ns

from netvlad_ros.config.files import from_values
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.msg import GlobalDescriptor, LoopClosureCandidates
from netvlad_ros.retrieval.loop_detector import LoopDetector

pytestmark = pytest.mark.needs("rclpy")

NODES = ("descriptor_node", "keyframe_database_node", "loop_closure_node")
SECOND = 1_000_000_000
PLACES = 5
VALUES = {
    "database.exclude_recent_s": 2.5,
    "candidates.min_similarity": 0.9,
    "keyframes.min_descriptor_change": 0.0,  # to made-up weights, places look nearly the same
}

Found = list[tuple[int, int, float]]  # query, match, similarity


class Robot:
    """The three nodes, in one process or three, and what they find."""

    def __init__(self, ros: Ros, processes: Mapping[str, NodeProcess]) -> None:
        """processes: node -> the process it is in."""
        self.processes = processes
        for node, process in processes.items():
            process.until_ready(node)
        first = processes["descriptor_node"]
        self._camera = Camera(first)
        topic = first.topic("loop_closure_candidates")
        self.answers: list[Any] = ros.listen(LoopClosureCandidates, topic)
        for node, process in processes.items():
            process.until(partial(process.count, "subscribers", node))

    def see(self, image: np.ndarray, stamp_ns_: int) -> Any:
        """The answer to this image, which is sent again until there is one: repeated stamps add nothing."""
        message = raw_image(image)

        def send() -> None:
            self._camera.stamp_ns = stamp_ns_ - SECOND
            self._camera.send(message)

        process = self.processes["loop_closure_node"]
        return process.until(
            lambda: next((a for a in self.answers if stamp_ns(a.header) == stamp_ns_), None), send
        )

    def drive(self, first_place: int) -> Found:
        """Twice past all places."""
        found = []
        for number in range(2 * PLACES):
            image = picture(first_place + number % PLACES)
            answer = self.see(image, (100 + number) * SECOND)
            assert answer.query.number == number
            found += [
                (each.query.number, each.match.number, each.similarity)
                for each in answer.candidates
            ]
        return found


def one_process(start: Start, ros: Ros, model: Path, **options: Any) -> Robot:
    parameters = VALUES | {"extractor.model": str(model)}
    return Robot(ros, dict.fromkeys(NODES, start("place_recognition", parameters, **options)))


def three_processes(start: Start, ros: Ros, model: Path) -> Robot:
    parameters = VALUES | {"extractor.model": str(model)}
    return Robot(ros, {node: start(node, parameters, namespace="/three") for node in NODES})


def expected(model: Path, first_place: int) -> Found:
    """What the library finds offline."""
    detector = LoopDetector(NetVLADExtractor(model), from_values(VALUES))
    found = []
    for number in range(2 * PLACES):
        image = picture(first_place + number % PLACES)
        detection = detector.process(image, (100 + number) * SECOND)
        assert detection.selection is not None
        found += [
            (number, each.match.keyframe.number, each.match.similarity)
            for each in detection.selection.candidates
        ]
    return found


def assert_equal(found: Found, wanted: Found) -> None:
    assert [each[:2] for each in found] == [each[:2] for each in wanted]
    assert [each[2] for each in found] == pytest.approx([each[2] for each in wanted], abs=1e-5)


@pytest.mark.parametrize(
    ("make", "kind"), [(one_process, "keras_model"), (three_processes, "model")]
)
def test_the_nodes_find_what_the_library_finds_offline(
    make: Any, kind: str, start: Start, ros: Ros, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(kind)
    robot = make(start, ros, model)
    found = robot.drive(first_place=0)
    assert {(5, 0), (6, 1), (7, 2), (8, 3), (9, 4)} <= {each[:2] for each in found}
    assert_equal(found, expected(model, first_place=0))
    for process in set(robot.processes.values()):
        assert process.end() == 0


def test_two_robots_in_two_namespaces_do_not_mix(start: Start, ros: Ros, model: Path) -> None:
    names = ("/alice", "/bob")
    parameters = VALUES | {"extractor.model": str(model)}
    processes = [start("place_recognition", parameters, namespace=name) for name in names]
    alice, bob = (Robot(ros, dict.fromkeys(NODES, process)) for process in processes)
    found = alice.drive(first_place=0)
    assert bob.answers == []
    assert_equal(bob.drive(first_place=50), expected(model, first_place=50))
    assert len(alice.answers) == 2 * PLACES
    assert_equal(found, expected(model, first_place=0))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_nodes_end_cleanly_while_images_stream_in(
    number: signal.Signals, start: Start, ros: Ros, model: Path
) -> None:
    process = start("place_recognition", {"extractor.model": str(model)})
    process.until_ready(*NODES)
    camera, image = Camera(process), raw_image(picture(1, 1280, 720))
    descriptors = ros.listen(GlobalDescriptor, process.topic("global_descriptor"))
    process.until(lambda: len(descriptors) > 5, lambda: camera.send(image), every_s=1 / 30)
    process.send(number)
    assert process.exit_code(lambda: camera.send(image), every_s=1 / 30) == 0
    assert "Traceback" not in process.output


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGTERM, 0.0), (signal.SIGINT, 1.0)])
def test_the_nodes_end_cleanly_while_they_start(
    number: signal.Signals, seconds: float, start: Start, ros: Ros, keras_model: Path
) -> None:
    """As soon as the first node is there, and while TensorFlow is imported, which a signal could crash."""
    process = start("place_recognition", {"extractor.model": str(keras_model)})
    node = ("descriptor_node", process.namespace)
    process.until(lambda: node in ros.node.get_node_names_and_namespaces())
    ros.spin(seconds)
    process.send(number)
    assert process.exit_code() == 0
    assert "Traceback" not in process.output
