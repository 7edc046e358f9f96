# SPDX-License-Identifier: MIT
"""`netvlad replay`: the loops in a bag, without ROS."""

import argparse
import sys
import time
from pathlib import Path

from tqdm import tqdm

from netvlad_ros.commands.config import add_config_arguments
from netvlad_ros.commands.images import (
    SKIPPED_SHOWN,
    add_sensor_arguments,
    recorded_images,
    tell_sensors,
    warn_uncalibrated,
)
from netvlad_ros.config import Config, with_model
from netvlad_ros.config.files import load_config
from netvlad_ros.data.bags import Bag
from netvlad_ros.errors import BagError, DatabaseError
from netvlad_ros.evaluation.closure_report import write_closures
from netvlad_ros.evaluation.detection_log import DetectionLog
from netvlad_ros.evaluation.detections import detect
from netvlad_ros.evaluation.graph_report import (
    GraphReport,
    corrected_poses,
    graph_report,
    solved,
    write_graph,
)
from netvlad_ros.evaluation.ground_truth import read_ground_truth
from netvlad_ros.evaluation.report import make_folder, write_report
from netvlad_ros.evaluation.results import Results
from netvlad_ros.evaluation.trajectories import read_truth
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.graph.robust import gtsam_module
from netvlad_ros.retrieval.loop_detector import LoopDetector
from netvlad_ros.sensors.recording import RecordedImages
from netvlad_ros.shipped import HELP
from netvlad_ros.store.sqlite_store import SqliteStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bag, the parameters and where the results go."""
    parser.add_argument("bag", metavar="BAG", help="rosbag2 folder, .mcap, .db3 or ROS 1 .bag file")
    parser.add_argument("--topic", default="", help="image topic, if the bag has several")
    parser.add_argument(
        "--model", help=f"model file; short for --set extractor.model=MODEL; {HELP}"
    )
    add_sensor_arguments(parser)
    add_config_arguments(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for candidates.json, candidates.csv, similarity_matrix.png and pairs.png, and for "
        "closures.json, closures.csv, closures.g2o and closures.png; left out, nothing is written",
    )
    parser.add_argument(
        "--ground-truth",
        metavar="CSV",
        help="lines such as `41,1 2 3`: image 41 shows the place of images 1, 2 and 3, "
        "numbered from 1; below a first line `query_image,matching_images`",
    )
    parser.add_argument(
        "--graph",
        action="store_true",
        help="correct keyframes by the pose graph of odometry and loop closures (needs gtsam), and write "
        "graph.g2o, map.png and trajectories for evo: odometry.tum, corrected.tum, truth.tum",
    )
    parser.add_argument(
        "--map",
        type=Path,
        metavar="FILE",
        help="write the keyframes as a map, to localise in; with --graph with corrected poses",
    )
    parser.add_argument(
        "--truth",
        default="",
        metavar="TOPIC",
        help="odometry that is the truth (default: the one with ground_truth in its name)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Plays the bag through the library, tells what it finds, and writes the report."""
    config = _replay_config(arguments)
    truth = read_ground_truth(arguments.ground_truth) if arguments.ground_truth else None
    with Bag(arguments.bag) as bag:
        topic = bag.image_topic(arguments.topic)
        if not arguments.topic and (choice := bag.choice(topic)):
            print(choice)
        extractor = _extractor(config)
        warn_uncalibrated(config.candidates, extractor)

        if arguments.output:
            make_folder(arguments.output)
        results = Results(DetectionLog(), config, extractor.fingerprint, topic, truth)
        images = recorded_images(arguments, bag, topic, config)
        detector = LoopDetector(extractor, config)
        damage = _run_through(bag, images, detector, results)
        tell_sensors(images)
        true_poses = read_truth(bag, arguments.truth) if arguments.graph else None
    _print_summary(results)
    if arguments.output:
        for write in (write_report, write_closures):
            print(*write(arguments.output, results), sep="\n")
    if arguments.graph:
        solution = solved(results.log, config)
        report = graph_report(results.log, config, solution, true_poses)
        _tell_graph(report, arguments.output)
        detector.database.correct(corrected_poses(results.log, solution, config))
    if arguments.map:
        detector.database.save(SqliteStore(arguments.map))
        print(arguments.map)
    if damage:
        raise damage
    return 0


def _tell_graph(report: GraphReport, folder: Path | None) -> None:
    print(*report.sentences, sep="\n")
    if folder:
        print(*write_graph(folder, report), sep="\n")


def _replay_config(arguments: argparse.Namespace) -> Config:
    """Raises at once GraphError where what solves graphs is missing, DatabaseError where the map can't be."""
    if arguments.graph:
        gtsam_module()
    if arguments.map and arguments.map.exists():
        raise DatabaseError(f"{arguments.map} is there already; name another file for the map.")
    if arguments.map:
        SqliteStore(arguments.map).check()
    config = load_config(arguments.config, arguments.set)
    return config if arguments.model is None else with_model(config, arguments.model)


def _extractor(config: Config) -> NetVLADExtractor:
    extractor = NetVLADExtractor(config.extractor.model, config.extractor)
    extractor.warm_up()
    return extractor


def _run_through(
    bag: Bag, recorded: RecordedImages, detector: LoopDetector, results: Results
) -> BagError | None:
    """Fills the log and tells each loop when it is found; returns what is wrong with a damaged bag."""
    log, total = results.log, bag.topics[results.topic].count
    images = detect(recorded, detector, results.config.camera, recorded.sensors)
    started_s = time.perf_counter()
    damage = None
    try:
        for image in tqdm(images, total=total, unit=" images", leave=False, disable=None):
            keyframe = log.add(image)
            if keyframe and keyframe.selection.candidates:
                best = keyframe.selection.candidates[0].match
                tqdm.write(log.sentence(keyframe.query.keyframe, best))
            for closure in keyframe.closures.closures if keyframe else ():
                tqdm.write(log.closure_sentence(closure))
    except BagError as error:
        damage = error
    if not log.keyframes:
        raise damage or _nothing_usable(bag, results)
    seconds = time.perf_counter() - started_s
    print(f"{log.images} images in {seconds:.1f} s ({log.images / seconds:.1f} images/s)")
    return damage


def _nothing_usable(bag: Bag, results: Results) -> BagError:
    skipped = results.log.skipped
    why = f"can be used; the first: {skipped[0].problem}" if skipped else "is there."
    return BagError(f"{bag.path}: none of {len(skipped)} images on {results.topic} {why}")


def _print_summary(results: Results) -> None:
    for image in results.log.skipped[:SKIPPED_SHOWN]:
        print(f"image {image.number} skipped: {image.problem}", file=sys.stderr)
    if len(results.log.skipped) > SKIPPED_SHOWN:
        print(f"{len(results.log.skipped)} images skipped in all", file=sys.stderr)
    print(*results.sentences, sep="\n")
