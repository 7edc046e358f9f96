# SPDX-License-Identifier: MIT
"""A bag is played into the nodes, each a process of its own, and what they publish is heard."""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from demo.programs import Programs
from netvlad_ros.data.bags import Bag
from netvlad_ros.errors import NetVLADError
from netvlad_ros.keyframe import Match
from netvlad_ros.msg import (
    GlobalDescriptor,
    KeyframeMatches,
    KeyframePoses,
    LoopClosure,
    LoopClosureCandidates,
)
from netvlad_ros.nodes.conversions import closure_from, descriptor_array, poses_from, query_from
from netvlad_ros.nodes.stamps import to_ns
from netvlad_ros.nodes.transport import use_large_message_transport
from netvlad_ros.retrieval.closures import Closure, ClosureSelection
from netvlad_ros.retrieval.loop_detector import Detection
from netvlad_ros.retrieval.selection import Candidate, Selection
from netvlad_ros.verification.rigid import of_pose, quaternion_of
from netvlad_ros.worlds.bag_messages import TOPICS
from netvlad_ros.worlds.odometry import base_from_camera

NODES = ("descriptor_node", "keyframe_database_node", "loop_closure_node", "pose_graph_node")
REMAPPED = {"camera_info": "info", "depth": "depth", "odometry": "odometry"}
QUEUE_DEPTH = 100
START_UP_S = 60.0  # TensorFlow on a slow disk
LATE_S = 30.0  # that playing may take longer than planned
SILENCE_S = 1.5  # after the last image, when nothing more is to be expected

# What is done with each loop closure.
Tell = Callable[[Closure], None]


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
    """What the nodes said of each image, by its stamp, and what their descriptors were made with.

    corrected: (4, 4) of the base in the map, by the names of keyframes, as the pose graph had them last.
    """

    detections: dict[int, Detection]
    fingerprint: str
    corrected: dict[tuple[str, int], np.ndarray]


class Listener(Node):
    """Hears all that the nodes say of an image, and passes each loop closure on when it is found."""

    def __init__(self, tell: Tell) -> None:
        super().__init__("demo")
        self.descriptors: dict[int, GlobalDescriptor] = {}
        self.matches: dict[int, KeyframeMatches] = {}
        self.answers: dict[int, LoopClosureCandidates] = {}
        self._closures: dict[int, list[Closure]] = defaultdict(list)
        self._corrected: dict[tuple[str, int], np.ndarray] = {}
        self._tell = tell
        self._heard_s = time.monotonic()
        self._keep(GlobalDescriptor, "global_descriptor", self.descriptors)
        self._keep(KeyframeMatches, "keyframe_matches", self.matches)
        self._keep(LoopClosureCandidates, "loop_closure_candidates", self.answers)
        self.create_subscription(LoopClosure, "loop_closures", self._hear_closure, QUEUE_DEPTH)
        self.create_subscription(KeyframePoses, "keyframe_poses", self._hear_poses, QUEUE_DEPTH)

    @property
    def hears_all(self) -> bool:
        """Whether each node has found the next one, and this one all of them."""
        read_by = {
            "global_descriptor": 2,
            "keyframe_matches": 3,
            "loop_closures": 2,
            "keyframe_poses": 2,
            "loop_closure_candidates": 1,
        }
        return all(
            self.count_publishers(topic) == 1 and self.count_subscribers(topic) >= readers
            for topic, readers in read_by.items()
        )

    @property
    def silence_s(self) -> float:
        """Since the last message."""
        return time.monotonic() - self._heard_s

    @property
    def heard(self) -> Heard:
        """As replaying the bag without ROS gives it."""
        detections = {stamp_ns: self._detection(stamp_ns) for stamp_ns in sorted(self.descriptors)}
        fingerprint = next(iter(self.answers.values())).fingerprint
        return Heard(detections, fingerprint, self._corrected)

    def _keep(self, kind: type, topic: str, kept: dict) -> None:
        def hear(message: GlobalDescriptor | KeyframeMatches | LoopClosureCandidates) -> None:
            self._heard_s = time.monotonic()
            kept[to_ns(message.header.stamp)] = message

        self.create_subscription(kind, topic, hear, QUEUE_DEPTH)

    def _hear_closure(self, message: LoopClosure) -> None:
        self._heard_s = time.monotonic()
        match, query, geometry = closure_from(message)
        scores = (message.similarity, message.sequence_score, message.margin)
        deviation, agreeing = message.odometry_deviation, message.agrees_with
        closure = Closure(query, Match(match, *scores), geometry, deviation, agreeing, [])
        self._closures[query.stamp_ns].append(closure)
        self._tell(closure)

    def _hear_poses(self, message: KeyframePoses) -> None:
        self._heard_s = time.monotonic()
        found = poses_from(message)
        self._corrected |= {name: of_pose(each.pose) for name, each in found.items()}

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
        closures = ClosureSelection(self._closures[stamp_ns])
        return Detection(stamp_ns, descriptor, query, Selection(candidates, []), closures)


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
    mount = base_from_camera()
    numbers = " ".join(f"{each:g}" for each in (*mount[:3, 3], *quaternion_of(mount[:3, :3])))
    # The bag holds JPEG images, and nothing here knows tf; all else is the default.
    parameters = ["-p", "camera.compressed:=true", "-p", f"sensors.base_from_camera:={numbers}"]
    if playing.model:
        parameters += ["-p", f"extractor.model:={playing.model}"]
    remapping = ["-r", f"image:={playing.topic}"]
    for name, recorded in REMAPPED.items():
        remapping += ["-r", f"{name}:={TOPICS[recorded]}"]
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
    topics = (playing.topic, *(TOPICS[recorded] for recorded in REMAPPED.values()))
    options = ("--topics", *topics, "--rate", f"{rate:.3f}", "--wait-for-subscribers")
    player = [sys.executable, "-m", "netvlad_ros.nodes.bag_player", str(playing.bag), *options]
    programs.start("bag_player", player)
    patience_s = images / playing.images_per_s + LATE_S
    spin_until(lambda: programs.has_ended("bag_player"), "bag_player", patience_s)
    spin_until(lambda: listener.silence_s > SILENCE_S, NODES[0], LATE_S)
