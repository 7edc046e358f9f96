# SPDX-License-Identifier: MIT
"""Renders a drive through a town, plays it into the three nodes, and tells the loops that they find."""

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
from netvlad_ros.evaluation.detection_log import DetectionLog, sentence
from netvlad_ros.evaluation.detections import ImageDetection
from netvlad_ros.evaluation.report import make_folder
from netvlad_ros.evaluation.results import Results
from netvlad_ros.keyframe import Keyframe, Match
from netvlad_ros.retrieval.loop_detector import Detection
from netvlad_ros.shipped import HELP, model_path

ROOT = Path(__file__).resolve().parents[1]


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
    parser.add_argument("--town", type=int, default=9, metavar="SEED", help="which (default: 9)")
    parser.add_argument(
        "--step", type=float, default=1.5, metavar="METRES", help="between images (default: 1.5)"
    )
    parser.add_argument(
        "--images-per-second", type=float, default=10.0, metavar="N", help="played (default: 10)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=ROOT / "build" / "demo", metavar="DIR", help="folder"
    )
    return parser


def _run(options: argparse.Namespace) -> None:
    model_path(options.model)  # before anything that takes long
    make_folder(options.output)
    bag_path = make_drive(Town(options.town, options.step), options.output)
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
    """Prints each loop when it is found, and whether it is one."""

    def tell(query: Keyframe, match: Match) -> None:
        images = [poses.index(each.stamp_ns) for each in (query, match.keyframe)]
        verdict = "right" if poses.is_same_place(*images) else "wrong"
        found = sentence(query, match, int(poses.stamps_ns[0]))
        print(f"{found}: {verdict}, {poses.distance_m(*images):.1f} m apart", flush=True)

    return tell


def _judged(playing: Playing, poses: Poses, heard: Heard) -> Drive:
    """What was heard, beside the truth."""
    config = with_model(Config(), playing.model)
    log, truth = _detection_log(playing, heard.detections), poses.ground_truth()
    results = Results(log, config, heard.fingerprint, playing.topic, truth)
    if results.evaluation is None:
        raise NetVLADError("the drive is too short: no place is seen twice; leave --step out.")
    return Drive(results, results.evaluation, poses, images_of_laps(playing.bag))


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
