# SPDX-License-Identifier: MIT
"""`netvlad evaluate`: how often a model finds the places of queries in a database."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from netvlad_ros.commands.config import add_config_arguments
from netvlad_ros.config_files import load_config
from netvlad_ros.errors import DatasetError
from netvlad_ros.quiet import quiet_start_up
from netvlad_ros.shipped import HELP

if TYPE_CHECKING:
    from netvlad_ros.data.places import PlaceDataset
    from netvlad_ros.data.read_places import PlaceOptions
    from netvlad_ros.evaluation.extraction import Extraction
    from netvlad_ros.evaluation.place_recognition import PlaceResults

SKIPPED_SHOWN = 3
MODEL_HELP = (
    f"model file of any runtime ({HELP}), or baseline:thumbnails, baseline:rootsift-vlad, baseline:orb; the "
    "last two take images for their vocabulary (baseline:orb:FOLDER_OR_BAG), or else those that are evaluated"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the places, and where the report goes."""
    parser.description = (
        "Recall@1/5/10/20 as pytorch-NetVlad counts it, and the Open Model Zoo's localization_recall. "
        "Descriptors are kept for the next time, so that an interrupted evaluation continues."
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", default="", help=MODEL_HELP)
    parser.add_argument(
        "dataset",
        metavar="DATASET",
        help="dbStruct .mat file (Pittsburgh, Tokyo), folder of images named @UTM_EAST@UTM_NORTH@..., CSV "
        "file of poses, KITTI sequence, or bag with odometry or GPS",
    )
    parser.add_argument(
        "--queries",
        metavar="DATASET",
        help="look the images of this one up in the other, in the same frame: a second drive",
    )
    parser.add_argument(
        "--radius",
        type=positive,
        metavar="METRES",
        help="of positives, instead of the dataset's own",
    )
    parser.add_argument(
        "--heading-tolerance",
        type=positive,
        metavar="DEGREES",
        help="positives look the same way up to this; left out, headings don't matter",
    )
    add_source_arguments(parser)
    parser.add_argument(
        "--query-images", type=Path, metavar="DIR", help="the same for the queries of a .mat file"
    )
    add_extraction_arguments(parser)


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Where images are that a path does not lead to by itself."""
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder that names of images are relative to"
    )
    parser.add_argument("--topic", default="", help="image topic of a bag, if it has several")
    parser.add_argument(
        "--pose-topic", default="", metavar="TOPIC", help="odometry, pose or GPS topic of a bag"
    )


def add_extraction_arguments(parser: argparse.ArgumentParser) -> None:
    """How descriptors are made and kept, and where the report goes."""
    parser.add_argument(
        "--batch", type=count, default=4, metavar="N", help="images at once (default: 4)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder for descriptors (default: netvlad_ros in $XDG_CACHE_HOME or ~/.cache)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for report.html and results.json; left out, nothing is written",
    )
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Extracts, looks up, prints the table and writes the report."""
    config = load_config(arguments.config, arguments.set)
    dataset = _dataset(arguments)
    with quiet_start_up():
        from netvlad_ros.evaluation.extractors import open_extractor
    from netvlad_ros.evaluation.place_recognition import evaluate_places, refuse_sequence
    from netvlad_ros.evaluation.place_report import write_place_report
    from netvlad_ros.evaluation.report import make_folder

    refuse_sequence(dataset)
    if arguments.output:
        make_folder(arguments.output)
    extractor, name = open_extractor(arguments.model, config.extractor, dataset.database)
    results = evaluate_places(
        dataset, extractor, cache_of(arguments), name, progress, arguments.batch
    )
    _print(results)
    if arguments.output:
        for path in write_place_report(arguments.output, results):
            print(path)
    return 0


def _dataset(arguments: argparse.Namespace) -> "PlaceDataset":
    import dataclasses
    import math

    from netvlad_ros.data.read_places import join_places, read_places

    dataset = read_places(arguments.dataset, options_of(arguments))
    if arguments.queries:
        dataset = join_places(dataset, read_places(arguments.queries, options_of(arguments)))
    if not dataset.database.has_positions or not dataset.queries.has_positions:
        raise DatasetError(f"{arguments.dataset}: its images have no positions to compare.")
    if arguments.radius:
        dataset = dataset.with_radius(arguments.radius)
    if arguments.heading_tolerance:
        tolerance_rad = math.radians(arguments.heading_tolerance)
        dataset = dataclasses.replace(dataset, heading_tolerance_rad=tolerance_rad)
    return dataset


def options_of(arguments: argparse.Namespace) -> "PlaceOptions":
    """What the arguments say of where images are."""
    from netvlad_ros.data.read_places import PlaceOptions

    query_images = getattr(arguments, "query_images", None)
    return PlaceOptions(arguments.images, query_images, arguments.topic, arguments.pose_topic)


def cache_of(arguments: argparse.Namespace) -> Path:
    """The folder for descriptors."""
    from netvlad_ros.cache import cache_folder

    return arguments.cache or cache_folder()


def progress(indices: Sequence[int]) -> Iterable[int]:
    """A bar on stderr, where that is a terminal."""
    from tqdm import tqdm

    return tqdm(indices, unit=" images", leave=False, disable=None)


def tell_extraction(where: str, told: "Extraction") -> None:
    """What became of images, on stderr what is wrong with them."""
    for each in told.skipped[:SKIPPED_SHOWN]:
        print(f"{where}: {each.name} skipped: {each.problem}", file=sys.stderr)
    if len(told.skipped) > SKIPPED_SHOWN:
        print(f"{where}: {len(told.skipped)} images skipped in all", file=sys.stderr)
    if told.problem:
        print(told.problem, file=sys.stderr)
    print(f"{where}: {told.extracted} images described now, {told.reused} before")


def _print(results: "PlaceResults") -> None:
    from rich.console import Console
    from rich.table import Table

    from netvlad_ros.evaluation.place_report import rows

    tell_extraction("database", results.database)
    tell_extraction("queries", results.query)
    console = Console(highlight=False, markup=False)
    for note in results.dataset.notes:
        console.print(note, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"{results.model} on {results.dataset.name}", overflow="fold")
    table.add_column("", justify="right", no_wrap=True)
    for name, value in rows(results):
        table.add_row(name, value)
    console.print(table)
    console.print(results.conditions, style="dim", soft_wrap=True)


def positive(text: str) -> float:
    """A number above 0, of an argument."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def count(text: str) -> int:
    """A whole number from 1 on, of an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text}")
    return int(text)
