# SPDX-License-Identifier: MIT
"""`netvlad evaluate-sequence`: precision and recall of the loops in a bag or another sequence of images."""

import argparse
import dataclasses
import hashlib
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from netvlad_ros.commands.detected import Descriptors, describe, detections, image_sequence
from netvlad_ros.commands.evaluate import MODEL_HELP
from netvlad_ros.commands.images import (
    add_evaluation_arguments,
    add_sensor_arguments,
    add_source_arguments,
    options_of,
)
from netvlad_ros.commands.values import parse_positive, parse_seconds, parse_whole
from netvlad_ros.config.files import load_config
from netvlad_ros.data.places import PlaceImages
from netvlad_ros.data.read_places import read_sequence
from netvlad_ros.errors import DatasetError
from netvlad_ros.evaluation.ground_truth import read_ground_truth
from netvlad_ros.evaluation.protocols import SequenceProtocol, named_protocol
from netvlad_ros.evaluation.report import make_folder
from netvlad_ros.evaluation.sequence_report import EvaluatedSequence, write_sequence_report
from netvlad_ros.evaluation.sequences import evaluate_keyframes, evaluate_sequence

DESCRIPTORS = ".npy"
DEFAULT_EXCLUDE_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the sequence and the conditions of the figures."""
    parser.description = (
        "Looks up each image of a sequence among the others, and counts right first matches. Radius, "
        "heading, exclusion window and causality move the figures by tens of points, so they stand "
        "beside each."
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        default="",
        help=f"{MODEL_HELP}; or a .npy file with the descriptors of all images, (images, dimensions)",
    )
    parser.add_argument(
        "sequence",
        metavar="SEQUENCE",
        help="bag, KITTI sequence or its poses, CSV file of poses, folder of images named "
        "@UTM_EAST@UTM_NORTH@, or any folder of images with --ground-truth",
    )
    parser.add_argument(
        "--protocol", metavar="NAME", help="named conditions: kitti00-netvlad_tf_open"
    )
    parser.add_argument(
        "--radius",
        type=parse_positive,
        nargs="+",
        metavar="METRES",
        help="how far a right match may be; several give a table each (default: 5)",
    )
    parser.add_argument(
        "--heading-tolerance",
        type=parse_positive,
        metavar="DEGREES",
        help="right matches look the same way up to this; left out, headings don't matter",
    )
    parser.add_argument(
        "--exclude-images",
        type=parse_whole,
        metavar="N",
        help="never match the N images before (default: 0)",
    )
    parser.add_argument(
        "--exclude-seconds",
        type=parse_seconds,
        metavar="S",
        help="never match what is less than S seconds old (default: 30, or 0 with --exclude-images)",
    )
    parser.add_argument(
        "--both-directions",
        action="store_true",
        default=None,
        help="match later images too, which no robot can",
    )
    parser.add_argument(
        "--tolerance",
        type=parse_whole,
        metavar="N",
        help="with --ground-truth: images up to N beside a listed one are right too (default: 0)",
    )
    parser.add_argument(
        "--dims", type=parse_whole, metavar="D", help="first dimensions only, not normalised again"
    )
    parser.add_argument(
        "--ground-truth",
        metavar="CSV",
        help="instead of positions, lines such as `41,1 2 3`: image 41 shows the place of images 1, 2 and 3, "
        "numbered from 1; below a first line `query_image,matching_images`",
    )
    parser.add_argument(
        "--keyframes",
        action="store_true",
        help="only keyframes count, which are chosen, looked up and reported as by `netvlad replay` and the "
        "nodes, by the configuration (--config, --set), which excludes too",
    )
    add_source_arguments(parser)
    add_sensor_arguments(parser)
    add_evaluation_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Extracts, looks up, prints a table for each radius and writes the report."""
    truth = read_ground_truth(arguments.ground_truth) if arguments.ground_truth else None
    images = read_sequence(arguments.sequence, options_of(arguments))
    protocols = _protocols(arguments, images)
    if truth is None and not images.has_positions:
        raise DatasetError(
            f"{arguments.sequence}: expected positions of its images, found none; give a list of loops "
            "(--ground-truth)."
        )

    if arguments.output:
        make_folder(arguments.output)
    given = arguments.model.endswith(DESCRIPTORS)
    found = _read_descriptors(arguments.model, images) if given else describe(arguments, images)
    sequence = dataclasses.replace(image_sequence(images, found), truth=truth)
    if arguments.keyframes:
        log = detections(arguments, images, found, sequence)
        rows = np.searchsorted(sequence.numbers, [each.number for each in log.keyframes])
        part, indices = sequence.part(rows), found.indices[rows]
        results = [evaluate_keyframes(part, protocol, log) for protocol in protocols]
    else:
        indices = found.indices
        results = [evaluate_sequence(sequence, protocol) for protocol in protocols]
    evaluated = EvaluatedSequence(
        Path(arguments.sequence).name,
        found.model,
        found.fingerprint,
        None if given else images,
        indices,
        results,
        found.skipped,
    )
    _print(evaluated)
    if arguments.output:
        for path in write_sequence_report(arguments.output, evaluated):
            print(path)
    return 0


def _read_descriptors(path: str, images: PlaceImages) -> Descriptors:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise DatasetError(
            f"{path}: expected a .npy file of descriptors, which can't be read."
        ) from None
    shape: tuple[int, ...] = getattr(array, "shape", ())  # an archive of several has none
    if len(shape) != 2 or shape[0] != len(images) or not np.isfinite(array).all():
        raise DatasetError(
            f"{path}: expected finite descriptors of shape ({len(images)}, dimensions), one for each image "
            f"of the sequence, got {shape}."
        )
    digest = hashlib.sha256(array.tobytes()).hexdigest()[:16]
    return Descriptors(
        Path(path).name, f"descriptors:{digest}", np.asarray(array, np.float32), np.arange(shape[0])
    )


def _protocols(arguments: argparse.Namespace, images: PlaceImages) -> list[SequenceProtocol]:
    """The named protocol, or the default one, with what the arguments change; one for each radius."""
    if arguments.keyframes:
        start = _protocol_of_detector(arguments)
    elif arguments.protocol:
        start = named_protocol(arguments.protocol)
    else:
        has_window = arguments.exclude_images is not None or arguments.exclude_seconds is not None
        start = SequenceProtocol(exclude_s=0.0 if has_window else DEFAULT_EXCLUDE_S)
        if not has_window and images.stamps_ns is None:
            raise DatasetError(
                f"{arguments.sequence}: its images have no times, so say how many before each are too "
                "recent to be a loop (--exclude-images N)."
            )
    given = {
        "heading_tolerance_deg": arguments.heading_tolerance,
        "exclude_images": arguments.exclude_images,
        "exclude_s": arguments.exclude_seconds,
        "causal": None if arguments.both_directions is None else False,
        "tolerance_images": arguments.tolerance,
        "descriptor_dims": arguments.dims,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    if (changed or arguments.radius) and start.name:
        changed["name"] = f"{start.name}, changed"
    changed_protocol = dataclasses.replace(start, **changed)
    radii = arguments.radius or [start.radius_m]
    return [dataclasses.replace(changed_protocol, radius_m=radius_m) for radius_m in radii]


def _protocol_of_detector(arguments: argparse.Namespace) -> SequenceProtocol:
    names = ("protocol", "exclude_images", "exclude_seconds", "both_directions", "dims")
    refused = [name for name in names if getattr(arguments, name) is not None]
    if refused:
        raise DatasetError(
            f"--keyframes: the configuration says what is matched with what; leave out "
            f"--{refused[0].replace('_', '-')}, and see database.exclude_recent_s and "
            "extractor.descriptor_dims."
        )
    config = load_config(arguments.config, arguments.set)
    return SequenceProtocol(exclude_s=config.database.exclude_recent_s, of_detector=True)


def _print(evaluated: EvaluatedSequence) -> None:
    console = Console(highlight=False, markup=False)
    console.print(f"{evaluated.model} on {evaluated.name}", style="bold", soft_wrap=True)
    for results in evaluated.results:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("figure")
        table.add_column("value", justify="right", no_wrap=True)
        table.add_column("conditions", overflow="fold")
        for name, value in results.figures.items():
            table.add_row(name, f"{100 * value:.2f} %", results.conditions)
        console.print("", table, results.counts, sep="\n", soft_wrap=not console.is_terminal)
