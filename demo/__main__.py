# SPDX-License-Identifier: MIT
"""Renders a drive through a town, plays it into the nodes, and shows their loop closures and map."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from demo.drive import Town, images_of_laps, make_drive
from demo.live import Heard, Playing, Tell, play
from demo.summary import Drive, sentences, write_summary
from demo.truth import Poses, read_poses
from netvlad_ros.config import Config, with_model
from netvlad_ros.data.bags import Bag
from netvlad_ros.data.image_messages import to_image
from netvlad_ros.errors import NetVLADError
from netvlad_ros.evaluation.detection_log import DetectionLog, told
from netvlad_ros.evaluation.detections import ImageDetection
from netvlad_ros.evaluation.graph_report import graph_report
from netvlad_ros.evaluation.report import make_folder
from netvlad_ros.evaluation.results import Results
from netvlad_ros.graph.parts import GraphClosure
from netvlad_ros.graph.pose_graph import Solution
from netvlad_ros.retrieval.closures import Closure
from netvlad_ros.retrieval.loop_detector import Detection
from netvlad_ros.shipped import HELP, model_path

ROOT = Path(__file__).resolve().parents[1]
# Which town, and how fast the robot drives in there.
TOWN, SPEED_M_S = 70002, 5.0


def main(words: Sequence[str] | None = None) -> int:
    """Runs the demo; returns the exit code."""
    options = _parser().parse_args(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _run(options)
    except NetVLADError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--model", default="", help=f"model file; {HELP}")
    parser.add_argument(
        "--town", type=int, default=TOWN, metavar="SEED", help=f"which (default: {TOWN})"
    )
    parser.add_argument(
        "--step", type=float, default=2.5, metavar="METRES", help="between images (default: 2.5)"
    )
    parser.add_argument(
        "--images-per-second", type=float, default=5.0, metavar="N", help="played (default: 5)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=ROOT / "build" / "demo", metavar="DIR", help="folder"
    )
    return parser


def _run(options: argparse.Namespace) -> None:
    model_path(options.model)  # before anything that takes long
    make_folder(options.output)
    bag_path = make_drive(
        Town(options.town, options.step, SPEED_M_S, has_depth=True), options.output
    )
    poses = read_poses(bag_path)
    with Bag(bag_path) as bag:
        topic = bag.image_topic()
    playing = Playing(bag_path, topic, options.images_per_second, options.model, options.output)
    drive = _judged(playing, poses, play(playing, _teller(poses)))
    for line in sentences(drive):
        print(line)
    for path in write_summary(options.output, drive):
        print(path)


def _teller(poses: Poses) -> Tell:
    """Prints each closure when it is found, and whether it is right."""

    def tell(closure: Closure) -> None:
        start_ns = int(poses.stamps_ns[0])
        query, match = (
            told(each, start_ns, each.number) for each in (closure.query, closure.match.keyframe)
        )
        verdict = "right" if poses.is_right(closure) else "wrong"
        said = f"{query} closes a loop with {match}: {closure.geometry.in_words}"
        print(f"{said}: {verdict}, off by {poses.error(closure)[0]:.2f} m", flush=True)

    return tell


def _judged(playing: Playing, poses: Poses, heard: Heard) -> Drive:
    """What was heard, beside the truth."""
    config = with_model(Config(), playing.model)
    log, truth = _detection_log(playing, heard.detections), poses.ground_truth()
    results = Results(log, config, heard.fingerprint, playing.topic, truth)
    if results.evaluation is None:
        raise NetVLADError("the drive is too short: no place is seen twice; leave --step out.")
    graph = graph_report(log, config, _solution(log, heard), poses.truth)
    return Drive(results, results.evaluation, graph, poses, images_of_laps(playing.bag))


def _solution(log: DetectionLog, heard: Heard) -> Solution:
    """As the pose graph's node published it."""
    closures = [
        GraphClosure(each.match.keyframe, each.query, metric, each.geometry.frame)
        for each in log.closures
        if (metric := each.geometry.metric) is not None
    ]
    return Solution(heard.corrected, used=closures)


def _detection_log(playing: Playing, detections: dict[int, Detection]) -> DetectionLog:
    log = DetectionLog()
    with Bag(playing.bag) as bag:
        for number, (stamp_ns, message) in enumerate(bag.images(playing.topic), start=1):
            if stamp_ns in detections:
                log.add(ImageDetection(number, to_image(message), detections[stamp_ns]))
            else:
                log.add(ImageDetection(number, problem="the nodes did not answer to this image"))
    return log


if __name__ == "__main__":
    raise SystemExit(main())
