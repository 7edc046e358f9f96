# SPDX-License-Identifier: MIT
"""The whole way on real ROS 2: a bag is played into the three nodes, and they find the loop in it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from netvlad_ros.config import with_model
from netvlad_ros.config_files import load_config
from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.data.bags import Bag
from netvlad_ros.data.image_messages import to_image
from netvlad_ros.errors import NetVLADError
from netvlad_ros.evaluation.ground_truth import read_ground_truth
from netvlad_ros.evaluation.replay_log import ReplayLog, sentence
from netvlad_ros.evaluation.report import make_folder, write_report
from netvlad_ros.evaluation.results import Results
from netvlad_ros.msg import GlobalDescriptor, KeyframeMatches, LoopClosureCandidates
from netvlad_ros.msg import Keyframe as KeyframeMessage
from netvlad_ros.nodes.conversions import descriptor_array, query_from, to_ns
from netvlad_ros.nodes.transport import use_large_message_transport
from netvlad_ros.replay import ReplayedImage
from netvlad_ros.retrieval.candidates import Candidate, Selection
from netvlad_ros.retrieval.keyframes import Keyframe, Match
from netvlad_ros.retrieval.loop_detector import Detection

ROOT = Path(__file__).resolve().parents[1]
PARAMETERS = Path(__file__).with_suffix(".yaml")
OUTPUT = ROOT / "build" / "demo"
MODEL = OUTPUT / "model.keras"

# Recorded data that does not come with this repository.
SHARED = ROOT.parent / "shared"
WEIGHTS = SHARED / "reference" / "cartwheel" / "mobilenet_color_raw_8192.h5"
INPUT_PRESET = "cartwheel-raw"
BAG = SHARED / "data" / "bags" / "rtabmap_loop_mcap"
GROUND_TRUTH = SHARED / "data" / "rtabmap_samples" / "loop_closures.csv"

NODES = ("descriptor_node", "keyframe_database_node", "loop_closure_node")
QUEUE_DEPTH = 100
PLAY_S = 15.0
START_UP_S = 60.0  # TensorFlow on a slow disk
LAST_ANSWER_S = 5.0
END_S = 5.0


def main() -> int:
    """Runs the demo; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _refuse_missing_data()
        _import_model()
        with Bag(BAG) as bag:
            topic = bag.image_topic()
            _report(bag, topic, _drive(bag, topic))
    except NetVLADError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _refuse_missing_data() -> None:
    missing = [str(path) for path in (WEIGHTS, BAG, GROUND_TRUTH) if not path.exists()]
    if missing:
        raise NetVLADError(
            "the weights and the bag of this demo do not come with the repository yet; put the "
            f"folder `shared` with both beside {ROOT} (missing: {', '.join(missing)})."
        )


def _import_model() -> None:
    print(f"importing {WEIGHTS.name}", flush=True)
    make_folder(OUTPUT)
    done = subprocess.run(
        _netvlad("import-weights", WEIGHTS, "--input", INPUT_PRESET, "-o", MODEL), check=False
    )
    if done.returncode:
        raise NetVLADError(f"{WEIGHTS} could not be imported; the reason is above.")


def _netvlad(*words: object) -> list[str]:
    return [sys.executable, "-m", "netvlad_ros.cli", *map(str, words)]


class Listener(Node):
    """Hears all that the nodes say of an image, and tells each loop when it is found."""

    def __init__(self, start_ns: int) -> None:
        super().__init__("demo")
        self.descriptors: dict[int, GlobalDescriptor] = {}
        self.matches: dict[int, KeyframeMatches] = {}
        self.answers: dict[int, LoopClosureCandidates] = {}
        self._start_ns = start_ns
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
    def detections(self) -> dict[int, Detection]:
        """By stamp, what the nodes found, as replaying the bag without ROS gives it."""
        complete = self.answers.keys() & self.matches.keys() & self.descriptors.keys()
        return {stamp_ns: self._detection(stamp_ns) for stamp_ns in sorted(complete)}

    def _subscribe(self, kind: type, topic: str, heard: dict) -> None:
        def hear(message: GlobalDescriptor | KeyframeMatches | LoopClosureCandidates) -> None:
            heard[to_ns(message.header.stamp)] = message
            if heard is self.answers and message.candidates:
                self._tell(message)

        self.create_subscription(kind, topic, hear, QUEUE_DEPTH)

    def _tell(self, answer: LoopClosureCandidates) -> None:
        best = answer.candidates[0]
        match = Match(_keyframe(best.match), best.similarity)
        print(sentence(_keyframe(answer.query), match, self._start_ns), flush=True)

    def _detection(self, stamp_ns: int) -> Detection:
        query = query_from(self.matches[stamp_ns])
        matches = {match.keyframe.keyframe_id: match for match in query.matches}
        candidates = [
            Candidate(matches[each.match.id], each.rank, each.consistent_queries)
            for each in self.answers[stamp_ns].candidates
        ]
        descriptor = descriptor_array(self.descriptors[stamp_ns])
        return Detection(stamp_ns, descriptor, query, Selection(candidates, []))


def _keyframe(message: KeyframeMessage) -> Keyframe:
    return Keyframe(message.id, message.session, to_ns(message.stamp))


class Programs:
    """Processes that are ended when the block is left, however that happens."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "Programs":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C leaves nothing behind
        for process in self._running.values():
            process.send_signal(signal.SIGINT)
        for process in self._running.values():
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(self, name: str, command: list[str]) -> None:
        """What it writes is kept in a file of its name."""
        with _log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def has_ended(self, name: str) -> bool:
        """Raises NetVLADError if any program has failed."""
        for each, process in self._running.items():
            if process.poll():
                raise NetVLADError(f"{each} failed: {_last_line(_log(each))} (all: {_log(each)})")
        return self._running[name].poll() is not None


def _log(name: str) -> Path:
    return OUTPUT / f"{name}.log"


def _last_line(file: Path) -> str:
    lines = file.read_text(errors="replace").splitlines()
    return lines[-1] if lines else "it wrote nothing"


def _drive(bag: Bag, topic: str) -> Listener:
    """Plays the bag into the nodes; returns what they said."""
    # Other ROS programs, on this machine and on the network, neither disturb nor are disturbed.
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 101))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    use_large_message_transport()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    listener = Listener(bag.start_ns)
    try:
        with Programs() as programs:
            _start_nodes(programs, topic)
            _play(bag, topic, programs, listener)
    finally:
        listener.destroy_node()
        rclpy.try_shutdown()
    return listener


def _start_nodes(programs: Programs, topic: str) -> None:
    print(f"starting {', '.join(NODES)}; ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']}", flush=True)
    parameters = ["--params-file", str(PARAMETERS), "-p", f"extractor.model:={MODEL}"]
    remapping = ["-r", f"image:={topic}"]
    for name in NODES:
        module = [sys.executable, "-m", f"netvlad_ros.nodes.{name}"]
        programs.start(name, [*module, "--ros-args", *parameters, *remapping])


def _play(bag: Bag, topic: str, programs: Programs, listener: Listener) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(listener)

    def spin_until(done: Callable[[], bool], name: str, timeout_s: float) -> bool:
        end_s = time.monotonic() + timeout_s
        while not (finished := done()) and time.monotonic() < end_s:
            programs.has_ended(name)
            executor.spin_once(timeout_sec=0.1)
        return finished

    if not spin_until(lambda: listener.hears_all, NODES[0], START_UP_S):
        raise NetVLADError(f"the nodes are not ready after {START_UP_S:g} s; see {OUTPUT}/*.log.")
    rate = bag.duration_ns / NANOSECONDS / PLAY_S
    images = bag.topics[topic].count
    print(f"playing {images} images at {rate:.1f} times the speed of their recording", flush=True)
    play = ("play", BAG, "--topics", topic, "--rate", f"{rate:.3f}", "--wait-for-subscribers")
    programs.start("bag_player", _netvlad(*play))
    spin_until(lambda: programs.has_ended("bag_player"), "bag_player", START_UP_S + PLAY_S)
    spin_until(lambda: len(listener.answers) == images, NODES[0], LAST_ANSWER_S)


def _report(bag: Bag, topic: str, listener: Listener) -> None:
    """Compares with the ground truth, on the terminal and in pictures."""
    last = max((answer.query.id for answer in listener.answers.values()), default=-1)
    if last < 0 or len(listener.detections) <= last:
        raise NetVLADError(
            f"heard {len(listener.detections)} of {last + 1} answers; is this computer too busy? "
            f"See {OUTPUT}/*.log, or run it again."
        )
    fingerprint = next(iter(listener.answers.values())).fingerprint
    log, truth = _replay_log(bag, topic, listener), read_ground_truth(GROUND_TRUTH)
    config = with_model(load_config(PARAMETERS), MODEL)
    results = Results(log, config, fingerprint, topic, truth)
    for line in results.sentences:
        print(line)
    for path in write_report(OUTPUT, results):
        print(path.relative_to(ROOT))


def _replay_log(bag: Bag, topic: str, listener: Listener) -> ReplayLog:
    log, detections = ReplayLog(), listener.detections
    for number, (stamp_ns, message) in enumerate(bag.images(topic), start=1):
        if stamp_ns in detections:
            log.add(ReplayedImage(number, to_image(message), detections[stamp_ns]))
        else:
            log.add(ReplayedImage(number, problem="the nodes did not answer to this image"))
    return log


if __name__ == "__main__":
    raise SystemExit(main())
