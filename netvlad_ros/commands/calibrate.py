# SPDX-License-Identifier: MIT
"""`netvlad calibrate`: the parameters that reach a wanted precision, from one's own drives."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from netvlad_ros.calibration import INLIERS, SEQUENCE_SCORE, SIMILARITY, Calibration
from netvlad_ros.commands.detected import describe, detections, image_sequence
from netvlad_ros.commands.evaluate import MODEL_HELP
from netvlad_ros.commands.images import (
    add_evaluation_arguments,
    add_sensor_arguments,
    add_source_arguments,
    options_of,
)
from netvlad_ros.commands.values import parse_positive, parse_share
from netvlad_ros.config import Config
from netvlad_ros.config.files import load_config, to_yaml
from netvlad_ros.data.read_places import read_sequence
from netvlad_ros.errors import DatasetError, NetVLADError
from netvlad_ros.evaluation.calibrating import (
    MIN_STRETCHES,
    WIDTH,
    JudgedQuery,
    Limit,
    judged_queries,
    limits_of,
    loop_stretches,
    together,
)
from netvlad_ros.evaluation.calibration_picture import draw_distributions
from netvlad_ros.evaluation.detection_log import DetectionLog, LoggedKeyframe
from netvlad_ros.evaluation.protocols import SequenceProtocol
from netvlad_ros.evaluation.report import make_folder
from netvlad_ros.evaluation.sequences import ImageSequence, same_places
from netvlad_ros.keyframe import Match
from netvlad_ros.verification.verifier import verify


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The drives, what is right in them, and how much of what is reported has to be."""
    parser.description = (
        "Looks for the least similarity and sequence score that reach a wanted precision on your own drives, "
        "which have to pass places again. Right matches are told by where the robot was; without odometry, "
        "poses or GPS, by whether both images agree by geometry."
    )
    parser.add_argument("--model", metavar="MODEL", default="", help=MODEL_HELP)
    parser.add_argument(
        "drives",
        nargs="+",
        metavar="BAG",
        help="bag, or another sequence as evaluate-sequence reads it",
    )
    parser.add_argument(
        "--precision",
        type=parse_share,
        default=0.99,
        help="share of what is reported that has to be right (default: 0.99)",
    )
    parser.add_argument(
        "--radius",
        type=parse_positive,
        default=5.0,
        metavar="METRES",
        help="how far a right match may be (default: 5)",
    )
    parser.add_argument(
        "--heading-tolerance",
        type=parse_positive,
        default=45.0,
        metavar="DEGREES",
        help="right matches look the same way up to this, where headings are known (default: 45)",
    )
    add_source_arguments(parser)
    add_sensor_arguments(parser)
    add_evaluation_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Drives, judges, prints the limits, and writes the picture and the parameters."""
    drives = [_drive(arguments, path) for path in arguments.drives]
    config = load_config(arguments.config, arguments.set)
    if len({drive.by_poses for drive in drives}) > 1:
        raise DatasetError("some drives have positions and others have none; calibrate them apart.")
    queries = [
        judged
        for number, drive in enumerate(drives)
        for judged in drive.judged(arguments, config, number)
    ]
    limits = limits_of(queries, arguments.precision, drives[0].calibration)
    outcome = _Outcome(queries, limits, together(queries, limits))
    for line in _sentences(outcome, arguments, drives[0].by_poses):
        print(line)
    if arguments.output:
        for path in _written(arguments.output, outcome, arguments):
            print(path)
    return 0


@dataclass(frozen=True)
class _Drive:
    """What the detector found on a drive, and where its keyframes were, if that is known."""

    log: DetectionLog
    keyframes: ImageSequence
    calibration: Calibration | None

    @property
    def by_poses(self) -> bool:
        """Whether poses say what is right."""
        return self.keyframes.positions_m is not None

    def judged(
        self, arguments: argparse.Namespace, config: Config, number: int
    ) -> list[JudgedQuery]:
        """The queries of the drive of this number."""
        log = self.log

        def inliers(query: LoggedKeyframe, match: Match) -> int:
            return verify(query.query.data, match.data, config.verification).inliers

        if not self.by_poses:
            least = config.closures.min_inliers
            return judged_queries(
                log, lambda query, match: inliers(query, match) >= least, drive=number
            )
        has_headings = self.keyframes.headings_rad is not None
        protocol = SequenceProtocol(
            radius_m=arguments.radius,
            heading_tolerance_deg=arguments.heading_tolerance if has_headings else None,
        )
        same = [set(each.tolist()) for each in same_places(self.keyframes, protocol)]

        def is_right(query: LoggedKeyframe, match: Match) -> bool:
            return log.position(match.keyframe) in same[log.position(query.query.keyframe)]

        def closes_loop(query: LoggedKeyframe) -> bool:
            searched = query.query.searched
            return any(each < searched for each in same[log.position(query.query.keyframe)])

        has_features = config.verification.features != "none"
        return judged_queries(log, is_right, closes_loop, inliers if has_features else None, number)


def _drive(arguments: argparse.Namespace, path: str) -> _Drive:
    images = read_sequence(path, options_of(arguments))
    if not images.has_positions:  # features of all matches are compared
        arguments = _with_all_data(arguments)
    found = describe(arguments, images)
    sequence = image_sequence(images, found)
    log = detections(arguments, images, found, sequence)
    rows = np.searchsorted(sequence.numbers, [each.number for each in log.keyframes])
    extractor = found.extractor
    return _Drive(log, sequence.part(rows), extractor.calibration if extractor else None)


def _with_all_data(arguments: argparse.Namespace) -> argparse.Namespace:
    config = load_config(arguments.config, arguments.set)
    if config.verification.features == "none":
        raise DatasetError(
            "the drives have no positions, and verification.features is none: nothing tells what is right."
        )
    asked = f"database.matches_with_data={2 * config.database.max_matches}"
    return argparse.Namespace(**{**vars(arguments), "set": [*arguments.set, asked]})


@dataclass(frozen=True)
class _Outcome:
    """Limits of each quantity, and what is reported with those of similarity and sequence score."""

    queries: Sequence[JudgedQuery]
    limits: dict[str, Limit]
    together: Limit

    @property
    def is_enough(self) -> bool:
        """Whether there was enough to find; if not, the limits stay the model's own."""
        return loop_stretches(self.queries) >= MIN_STRETCHES


def _sentences(outcome: _Outcome, arguments: argparse.Namespace, by_poses: bool) -> list[str]:
    loops, stretches = outcome.together.loops, loop_stretches(outcome.queries)
    told = (
        f"right: within {arguments.radius:g} m, headings within {arguments.heading_tolerance:g}°"
        if by_poses
        else "right: as many local features agree by geometry as closures.min_inliers asks for, which "
        "look-alike places do too"
    )
    lines = [
        f"{len(outcome.queries)} queries, {loops} of them close a loop, in {stretches} stretches",
        told,
    ]
    if not outcome.is_enough:
        lines.append(
            f"that is too little to calibrate with ({MIN_STRETCHES} stretches with a loop): the model's own "
            "calibration stays; drive along more places again."
        )
        return lines
    for quantity, limit in outcome.limits.items():
        lines.append(f"{quantity.replace('_', ' ')}: {_of(limit, arguments.precision)}")
    lines.append(f"similarity or sequence score: {_of(outcome.together, arguments.precision)}")
    more = outcome.together.more_loops
    if more:
        lines.append(
            f"the interval is wider than {100 * WIDTH:g} points: {more} more loops that are found would make "
            "it narrow enough."
        )
    return lines


def _of(limit: Limit, wanted: float) -> str:
    if not limit.reported:
        return f"no value reaches {wanted:.1%}"
    low, high = limit.interval
    least = "" if limit.value is None else f"from {limit.value:.3f} on "
    return (
        f"{least}{limit.right} of {limit.reported} are right, {limit.precision:.1%} (95 %: {low:.1%} to "
        f"{high:.1%}); {limit.recall:.1%} of the loops are found"
    )


def _written(folder: Path, outcome: _Outcome, arguments: argparse.Namespace) -> list[Path]:
    make_folder(folder)
    picture, parameters = folder / "distributions.png", folder / "parameters.yaml"
    draw_distributions(picture, outcome.queries, outcome.limits)
    text = "".join(f"# {line}\n" for line in _header(outcome, arguments)) + to_yaml(
        _calibrated(outcome, arguments)
    )
    try:
        parameters.write_text(text, encoding="utf-8")
    except OSError as error:
        raise NetVLADError(
            f"{parameters}: can't write the parameters ({error.strerror})."
        ) from None
    return [picture, parameters]


def _header(outcome: _Outcome, arguments: argparse.Namespace) -> list[str]:
    drives = ", ".join(Path(each).name for each in arguments.drives)
    if not outcome.is_enough:
        return [f"netvlad calibrate: too few loops in {drives}; the model's own calibration stays."]
    return [f"netvlad calibrate on {drives}: {_of(outcome.together, arguments.precision)}."]


def _calibrated(outcome: _Outcome, arguments: argparse.Namespace) -> Config:
    """The configuration with the limits; one that no value reaches is closed."""
    config = load_config(arguments.config, arguments.set)
    if not outcome.is_enough:
        return config
    similarity = outcome.limits[SIMILARITY].value
    candidates = replace(
        config.candidates, min_similarity=1.0 if similarity is None else similarity
    )
    if SEQUENCE_SCORE in outcome.limits:
        score = outcome.limits[SEQUENCE_SCORE].value
        candidates = replace(candidates, min_sequence_score=100.0 if score is None else score)
    closures = config.closures
    if INLIERS in outcome.limits and (least := outcome.limits[INLIERS].value) is not None:
        closures = replace(closures, min_inliers=max(4, math.ceil(least)))
    return replace(config, candidates=candidates, closures=closures)
