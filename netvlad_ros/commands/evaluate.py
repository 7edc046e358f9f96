# SPDX-License-Identifier: MIT
"""`netvlad evaluate`: how often a model finds the places of queries in a database."""

import argparse
import dataclasses
import math
from pathlib import Path

from rich.console import Console
from rich.table import Table

from netvlad_ros.commands.images import (
    add_evaluation_arguments,
    add_source_arguments,
    cache_of,
    options_of,
    progress,
    tell_extraction,
)
from netvlad_ros.commands.values import parse_positive
from netvlad_ros.config.files import load_config
from netvlad_ros.data.places import PlaceDataset
from netvlad_ros.data.read_places import read_places
from netvlad_ros.errors import DatasetError
from netvlad_ros.evaluation.extractors import open_extractor
from netvlad_ros.evaluation.place_recognition import PlaceResults, evaluate_places, refuse_sequence
from netvlad_ros.evaluation.place_report import rows, write_place_report
from netvlad_ros.evaluation.report import make_folder
from netvlad_ros.shipped import HELP

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
        type=parse_positive,
        metavar="METRES",
        help="of positives, instead of the dataset's own",
    )
    parser.add_argument(
        "--heading-tolerance",
        type=parse_positive,
        metavar="DEGREES",
        help="positives look the same way up to this; left out, headings don't matter",
    )
    add_source_arguments(parser)
    parser.add_argument(
        "--query-images", type=Path, metavar="DIR", help="the same for the queries of a .mat file"
    )
    add_evaluation_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Extracts, looks up, prints the table and writes the report."""
    config = load_config(arguments.config, arguments.set)
    dataset = _dataset(arguments)
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


def _dataset(arguments: argparse.Namespace) -> PlaceDataset:
    dataset = read_places(arguments.dataset, options_of(arguments), arguments.queries)
    if not dataset.database.has_positions or not dataset.queries.has_positions:
        raise DatasetError(f"{arguments.dataset}: its images have no positions to compare.")
    if arguments.radius:
        dataset = dataset.with_radius(arguments.radius)
    if arguments.heading_tolerance:
        tolerance_rad = math.radians(arguments.heading_tolerance)
        dataset = dataclasses.replace(dataset, heading_tolerance_rad=tolerance_rad)
    return dataset


def _print(results: PlaceResults) -> None:
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
