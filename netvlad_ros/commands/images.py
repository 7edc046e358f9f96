# SPDX-License-Identifier: MIT
"""What commands that describe many images have in common: where the images are, and what became of them."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from netvlad_ros.cache import cache_folder
from netvlad_ros.calibration import resolved_min_similarity
from netvlad_ros.commands.config import add_config_arguments
from netvlad_ros.commands.values import parse_count
from netvlad_ros.config import DEFAULT_CAMERA, CandidateConfig, Config
from netvlad_ros.config.files import load_config
from netvlad_ros.data.bags import Bag
from netvlad_ros.data.read_places import PlaceOptions
from netvlad_ros.extraction.many_images import Extraction
from netvlad_ros.extraction.protocol import Extractor
from netvlad_ros.sensors.collector import Kind
from netvlad_ros.sensors.recording import RecordedImages, sensor_topics

SKIPPED_SHOWN = 3


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Where images are that a path does not lead to by itself."""
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder that names of images are relative to"
    )
    parser.add_argument("--topic", default="", help="image topic of a bag, if it has several")
    parser.add_argument(
        "--pose-topic", default="", metavar="TOPIC", help="odometry, pose or GPS topic of a bag"
    )
    parser.add_argument(
        "--positions",
        choices=("metres", "lat-lon", "lon-lat"),
        default="metres",
        help="what positions in names and columns are: metres, or degrees in this order",
    )


def add_sensor_arguments(parser: argparse.ArgumentParser) -> None:
    """Topics of a bag beside its images."""
    group = parser.add_argument_group(
        "topics beside the images", "found by type and name where a bag has one of each"
    )
    for kind in Kind:
        group.add_argument(f"--{kind.value.replace('_', '-')}", default="", metavar="TOPIC")


def recorded_images(
    arguments: argparse.Namespace, bag: Bag, topic: str, config: Config
) -> RecordedImages:
    """The images of a bag with what was recorded beside them, if anything is made of it. Raises BagError."""
    topics = {}
    if config.verification.features != "none":
        given = {kind: getattr(arguments, kind.value) for kind in Kind}
        topics = sensor_topics(bag, topic, config.sensors.points_from, given)
    return RecordedImages(bag, topic, topics, config)


def tell_sensors(images: RecordedImages) -> None:
    """Which topics were used, and on stderr what is wrong with them."""
    if images.topics:
        print("beside the images:", ", ".join(images.topics.values()))
    print(*(f"{sentence}." for sentence in images.notes), sep="\n", end="\n" * bool(images.notes))
    for sentence, count in images.problems.most_common(SKIPPED_SHOWN):
        print(f"{sentence} ({count} keyframes)", file=sys.stderr)


def options_of(arguments: argparse.Namespace) -> PlaceOptions:
    """What the arguments say of where images are."""
    query_images = getattr(arguments, "query_images", None)
    has_config = "config" in arguments
    camera = load_config(arguments.config, arguments.set).camera if has_config else DEFAULT_CAMERA
    return PlaceOptions(
        arguments.images,
        query_images,
        arguments.topic,
        arguments.pose_topic,
        camera,
        arguments.positions,
    )


def add_evaluation_arguments(parser: argparse.ArgumentParser) -> None:
    """How descriptors are made and kept, and where the report goes."""
    parser.add_argument(
        "--batch", type=parse_count, default=4, metavar="N", help="images at once (default: 4)"
    )
    add_cache_argument(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for report.html and results.json; left out, nothing is written",
    )
    add_config_arguments(parser)


def add_cache_argument(parser: argparse.ArgumentParser) -> None:
    """Where descriptors are kept for the next time."""
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder for descriptors (default: netvlad_ros in $XDG_CACHE_HOME or ~/.cache)",
    )


def cache_of(arguments: argparse.Namespace) -> Path:
    """The folder for descriptors."""
    return arguments.cache or cache_folder()


def progress(indices: Sequence[int]) -> Iterable[int]:
    """A bar on stderr, where that is a terminal."""
    return tqdm(indices, unit=" images", leave=False, disable=None)


def tell_extraction(where: str, told: Extraction) -> None:
    """What became of images, on stderr what is wrong with them."""
    for each in told.skipped[:SKIPPED_SHOWN]:
        print(f"{where}: {each.name} skipped: {each.problem}", file=sys.stderr)
    if len(told.skipped) > SKIPPED_SHOWN:
        print(f"{where}: {len(told.skipped)} images skipped in all", file=sys.stderr)
    if told.problem:
        print(told.problem, file=sys.stderr)
    print(f"{where}: {told.extracted} images described now, {told.reused} before")


def warn_uncalibrated(config: CandidateConfig, extractor: Extractor) -> None:
    """On stderr, where nobody has said which similarity is enough."""
    _, warning = resolved_min_similarity(config, extractor.calibration, extractor.fingerprint)
    if warning:
        print(warning, file=sys.stderr)
