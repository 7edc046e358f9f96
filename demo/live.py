# SPDX-License-Identifier: MIT
"""A bag is played into the three nodes, each a process of its own, and what they say is heard."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from demo.programs import Programs
from netvlad_ros.data.bags import Bag
from netvlad_ros.errors import NetVLADError
from netvlad_ros.keyframe import Keyframe, Match
from netvlad_ros.msg import GlobalDescriptor, KeyframeMatches, LoopClosureCandidates
from netvlad_ros.nodes.conversions import descriptor_array, keyframe_from, query_from
from netvlad_ros.nodes.stamps import to_ns
from netvlad_ros.nodes.transport import use_large_message_transport
from netvlad_ros.retrieval.closures import ClosureSelection
from netvlad_ros.retrieval.loop_detector import Detection
from netvlad_ros.retrieval.selection import Candidate, Selection

NODES = ("descriptor_node", "keyframe_database_node", "loop_closure_node")
QUEUE_DEPTH = 100
START_UP_S = 60.0  # TensorFlow on a slow disk
LATE_S = 30.0  # that playing may take longer than planned
SILENCE_S = 1.5  # after the last image, when nothing more is to be expected

# What is done with the first candidate of a keyframe.
Tell = Callable[[Keyframe, Match], None]


@dataclass(frozen=True)
class Playing:
    """What is played, and with what.

    bag, topic: images; images_per_s: how fast; model: empty for the shipped one; logs: folder for what the
    nodes write.
    """

    bag: Path
    topic: str
    images_per_s: float
    model: str
    logs: Path


@dataclass(frozen=True)
class Heard:
    """What the nodes said of each image, by its stamp, and what their descriptors were made with."""

    detections: dict[int, Detection]
    fingerprint: str


class Listener(Node):
    """Hears all that the nodes say of an image, and passes each loop on when it is found."""

    def __init__(self, tell: Tell) -> None:
        super().__init__("demo")
        self.descriptors: dict[int, GlobalDescriptor] = {}
        self.matches: dict[int, KeyframeMatches] = {}
        self.answers: dict[int, LoopClosureCandidates] = {}
        self._tell = tell
        self._heard_s = time.monotonic()
        self._subscribe(GlobalDescriptor, "global_descriptor", self.descriptors)
        self._subscribe(KeyframeMatches, "keyframe_matches", self.matches)
        self._subscribe(LoopClosureCandidates, "loop_closure_candidates", self.answers)

    @property
    def hears_all(self) -> bool:
        """Whether each node has found the next one, and this one all of them."""
        chain = ("global_descriptor", "keyframe_matches")
        return self.count_publishers("loop_closure_candidates") == 1 and all(
            self.count_publishers(topic) == 1 and self.count_subscribers(topic) == 2
            for topic in chain
        )

    @property
    def silence_s(self) -> float:
        """Since the last message."""
        return time.monotonic() - self._heard_s

    @property
    def heard(self) -> Heard:
        """As replaying the bag without ROS gives it."""
        detections = {stamp_ns: self._detection(stamp_ns) for stamp_ns in sorted(self.descriptors)}
        return Heard(detections, next(iter(self.answers.values())).fingerprint)

    def _subscribe(self, kind: type, topic: str, heard: dict) -> None:
        def hear(message: GlobalDescriptor | KeyframeMatches | LoopClosureCandidates) -> None:
            self._heard_s = time.monotonic()
            heard[to_ns(message.header.stamp)] = message
            if heard is self.answers and message.candidates:
                best = message.candidates[0]
                scores = (best.similarity, best.sequence_score, best.margin)
                self._tell(keyframe_from(message.query), Match(keyframe_from(best.match), *scores))

        self.create_subscription(kind, topic, hear, QUEUE_DEPTH)

    def _detection(self, stamp_ns: int) -> Detection:
        descriptor = descriptor_array(self.descriptors[stamp_ns])
        if stamp_ns not in self.matches.keys() & self.answers.keys():  # no keyframe
            return Detection(stamp_ns, descriptor, None, None)
        query = query_from(self.matches[stamp_ns])
        matches = {match.keyframe.name: match for match in query.matches}
        candidates = [
            Candidate(matches[each.match.session, each.match.number], each.rank, [])
            for each in self.answers[stamp_ns].candidates
        ]
        selection = Selection(candidates, [])
        # The demo judges candidates.
        return Detection(stamp_ns, descriptor, query, selection, ClosureSelection())


def play(playing: Playing, tell: Tell) -> Heard:
    """Returns what the nodes said. Raises NetVLADError if a program fails."""
    # Other ROS programs, on this machine and on the network, neither disturb nor are disturbed.
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 101))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    use_large_message_transport()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    listener = Listener(tell)
    try:
        with Programs(playing.logs) as programs:
            _start_nodes(programs, playing)
            _play(programs, playing, listener)
    finally:
        listener.destroy_node()
        rclpy.try_shutdown()
    _refuse_gaps(listener, playing.logs)
    return listener.heard


def _refuse_gaps(listener: Listener, logs: Path) -> None:
    """Images may be dropped, which the nodes count; but whatever they said has to arrive here."""
    heard = len(listener.matches.keys() & listener.answers.keys() & listener.descriptors.keys())
    said = max((answer.query.number for answer in listener.answers.values()), default=-1) + 1
    if heard < max(1, said):
        raise NetVLADError(
            f"heard {heard} of {said} answers; is this computer too busy? See {logs}/*.log, or run it again."
        )


def _start_nodes(programs: Programs, playing: Playing) -> None:
    print(f"starting {', '.join(NODES)}; ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']}", flush=True)
    parameters = [
        "-p",
        "camera.compressed:=true",
    ]  # the bag holds JPEG images; all else is the default
    if playing.model:
        parameters += ["-p", f"extractor.model:={playing.model}"]
    remapping = ["-r", f"image:={playing.topic}"]
    for name in NODES:
        module = [sys.executable, "-m", f"netvlad_ros.nodes.{name}"]
        programs.start(name, [*module, "--ros-args", *parameters, *remapping])


def _play(programs: Programs, playing: Playing, listener: Listener) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(listener)

    def spin_until(done: Callable[[], bool], name: str, timeout_s: float) -> bool:
        end_s = time.monotonic() + timeout_s
        while not (finished := done()) and time.monotonic() < end_s:
            programs.has_ended(name)
            executor.spin_once(timeout_sec=0.1)
        return finished

    if not spin_until(lambda: listener.hears_all, NODES[0], START_UP_S):
        raise NetVLADError(
            f"the nodes are not ready after {START_UP_S:g} s; see {playing.logs}/*.log."
        )
    with Bag(playing.bag) as bag:
        images, recorded_s = bag.topics[playing.topic].count, bag.duration_ns / 1e9
    rate = playing.images_per_s * recorded_s / images
    print(f"playing {images} images at {rate:.1f} times the speed of the camera", flush=True)
    options = ("--topics", playing.topic, "--rate", f"{rate:.3f}", "--wait-for-subscribers")
    player = [sys.executable, "-m", "netvlad_ros.nodes.bag_player", str(playing.bag), *options]
    programs.start("bag_player", player)
    patience_s = images / playing.images_per_s + LATE_S
    spin_until(lambda: programs.has_ended("bag_player"), "bag_player", patience_s)
    spin_until(lambda: listener.silence_s > SILENCE_S, NODES[0], LATE_S)
