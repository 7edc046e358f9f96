# SPDX-License-Identifier: MIT
"""Which scores of a model mean what, from drives through rendered worlds that nothing was fitted to."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.tables import console, print_table
from netvlad_ros.calibration import SIMILARITY, Calibration, Curve, fit_curve
from netvlad_ros.config import CandidateConfig, Config, VerificationConfig
from netvlad_ros.data.places import angle_between
from netvlad_ros.errors import ImageError
from netvlad_ros.evaluation.calibrating import best_by_quantity
from netvlad_ros.keyframe import Match
from netvlad_ros.quiet import quiet_start_up
from netvlad_ros.retrieval.loop_detector import LoopDetector
from netvlad_ros.retrieval.query import Query
from netvlad_ros.retrieval.stages import Context, Decision, ScoreStage
from netvlad_ros.shipped import model_path
from netvlad_ros.worlds.walks import Shot, walk
from netvlad_ros.worlds.world import World

with quiet_start_up():
    from netvlad_ros.extraction.extractor import NetVLADExtractor
    from netvlad_ros.model import load_model, save_model

# Training takes seeds from 1,000,000 and 900,000,000 on, the demo's towns have small ones.
FIRST_SEED = 70_001
WORLDS_PER_KIND = 12
# Kind -> metres between two pictures, of which there are two a second, and how far a right match may be.
KINDS = {"town": (2.5, 10.0), "street": (2.5, 10.0), "corridor": (0.8, 3.0), "room": (0.4, 3.0)}
HEADING_TOLERANCE_DEG = 45.0
# The light of three rounds; the first shows places again only where it crosses itself.
LIGHTS = (
    ("day", "day", "night"),
    ("day", "cloudy", "night"),
    ("morning", "evening", "night"),
    ("day", "rain", "night"),
    ("cloudy", "autumn", "night"),
    ("day", "winter", "night"),
)
TRAJECTORIES = ("loop", "random-walk")
OUTDOORS = ("town", "street")
# The default, without what verification needs later.
CONFIG = Config(verification=VerificationConfig(features="none"))
PRECISIONS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
REPORTED = (0.5, 0.7, 0.8, 0.9, 0.99)  # of these the groups are shown
THRESHOLDS = (0.3, 0.4, 0.45, 0.5, 0.55, 0.6)
BOOTSTRAPS = 200


@dataclass(frozen=True)
class JudgedQuery:
    """What was found for a keyframe.

    world:       name of the world.
    kind, round, light: of the world and of the round that the query is of.
    best:        of each quantity the value of the match that it ranks first, and whether that is right.
    first:       of the first match, by Match.score.
    closes_loop: whether any keyframe that was searched shows the place of the query.
    """

    world: str
    kind: str
    round: int
    light: str
    best: Mapping[str, tuple[float, bool]]
    first: tuple[Match, bool]
    closes_loop: bool


def measure(arguments: argparse.Namespace) -> None:
    """Drives, judges, fits, prints; the model is written with its curve where --calibrated names a file."""
    path = model_path(arguments.model)
    extractor = NetVLADExtractor(path)
    found: list[JudgedQuery] = []
    jobs = [(kind, number) for number in range(WORLDS_PER_KIND) for kind in KINDS]
    for done, (kind, number) in enumerate(jobs, start=1):
        found += drive(kind, number, extractor)
        console.print(f"{done} of {len(jobs)} worlds, {len(found)} queries", style="dim")
    curves = {quantity: _fitted(found, quantity) for quantity in found[0].best}
    calibration = Calibration(curves, _source(len(jobs)), extractor.fingerprint)
    if arguments.calibrated:
        network = load_model(path)
        network.calibration = calibration
        save_model(network, arguments.calibrated)
        console.print(arguments.calibrated)
    for quantity, curve in curves.items():
        _show_curve(quantity, curve, found)
    _show_groups(calibration, found)


def _source(drives: int) -> str:
    return (
        f"first matches on {drives} drives through rendered towns, streets, corridors and rooms, each "
        "two rounds by day and one by night"
    )


def drive(kind: str, number: int, extractor: NetVLADExtractor) -> Iterator[JudgedQuery]:
    """Each keyframe of a drive, looked up as on a robot with the default configuration."""
    step_m, radius_m = KINDS[kind]
    trajectory = TRAJECTORIES[number // len(LIGHTS) % len(TRAJECTORIES)]
    detector = LoopDetector(extractor, CONFIG)
    keyframes: dict[tuple[str, int], Shot] = {}  # by name, in their order
    with World(FIRST_SEED + number, kind) as world:
        lights = LIGHTS[number % len(LIGHTS)]
        for shot in walk(world, trajectory, len(lights), lights, step_m):
            try:
                image = world.render(shot.pose, shot.conditions, shot.number)
                query = detector.process(image, shot.stamp_ns).query
            except ImageError:  # too dark
                continue
            if query is None:
                continue
            if query.matches:
                searched = [*keyframes.values()][: query.searched]
                right = {
                    match: _any_same_place(shot, [keyframes[match.keyframe.name]], radius_m)
                    for match in query.matches
                }
                yield JudgedQuery(
                    world.name,
                    kind,
                    shot.lap,
                    shot.conditions_name,
                    {
                        quantity: (value, right[match])
                        for quantity, (match, value) in best_by_quantity(query.matches).items()
                    },
                    (query.matches[0], right[query.matches[0]]),
                    _any_same_place(shot, searched, radius_m),
                )
            keyframes[query.keyframe.name] = shot


def _any_same_place(query: Shot, others: Sequence[Shot], radius_m: float) -> bool:
    """Whether one of them was taken near the query and looks the same way."""
    where_m = np.array([other.pose.position_m for other in others])
    headings = np.array([other.pose.yaw_rad for other in others])
    apart_m = np.linalg.norm(where_m - query.pose.position_m, axis=1)
    turned = angle_between(headings, np.float64(query.pose.yaw_rad))
    return bool(np.any((apart_m <= radius_m) & (turned <= np.radians(HEADING_TOLERANCE_DEG))))


def _fitted(queries: Sequence[JudgedQuery], quantity: str) -> Curve:
    return fit_curve(*zip(*(each.best[quantity] for each in queries), strict=True))


def _show_curve(quantity: str, curve: Curve, queries: Sequence[JudgedQuery]) -> None:
    """The curve, and between which values its thresholds are for 95 % of other choices of these worlds."""
    points = zip(curve.values, curve.precisions, strict=True)
    print_table(
        f"{curve.pairs} matches: of those with about this {quantity} so many are right",
        [quantity, "right"],
        [[f"{value:.4f}", f"{precision:.4f}"] for value, precision in points],
    )
    again = [_fitted(sample, quantity) for sample in _resampled(queries)]
    rows = []
    for wanted in PRECISIONS:
        threshold = curve.threshold(wanted)
        spread = [each.threshold(wanted) for each in again]
        reached = [value for value in spread if value is not None]
        low, high = np.quantile(reached, [0.025, 0.975]) if reached else (np.nan, np.nan)
        at = np.inf if threshold is None else threshold
        rows.append(
            [f"{wanted:g}", f"{at:.3f}", f"{low:.3f} to {high:.3f}", *_above(queries, quantity, at)]
        )
    print_table(
        "candidates.min_precision, and the threshold that follows; precision and recall of all above it",
        ["min_precision", "threshold", "95 % of other worlds", "precision", "recall"],
        rows,
    )


def _resampled(matches: Sequence[JudgedQuery]) -> Iterator[list[JudgedQuery]]:
    """Worlds drawn with replacement: matches of one world are not independent."""
    worlds: dict[str, list[JudgedQuery]] = {}
    for each in matches:
        worlds.setdefault(each.world, []).append(each)
    rng, names = np.random.default_rng(0), sorted(worlds)
    for _ in range(BOOTSTRAPS):
        yield [each for name in rng.choice(names, len(names)) for each in worlds[name]]


def _show_groups(calibration: Calibration, queries: Sequence[JudgedQuery]) -> None:
    day = [each for each in queries if each.light != "night"]
    night = [each for each in queries if each.light == "night"]
    groups = {
        "all": list(queries),
        "first round": [each for each in day if each.round == 0],
        "second, same light": [e for e in day if e.round == 1 and e.light == "day"],
        "second, other weather": [e for e in day if e.round == 1 and e.light != "day"],
        "night, indoors": [each for each in night if each.kind not in OUTDOORS],
        "night, outdoors": [each for each in night if each.kind in OUTDOORS],
        **{kind: [each for each in queries if each.kind == kind] for kind in KINDS},
    }
    counts = {
        name: [name, len(group), sum(each.closes_loop for each in group)]
        for name, group in groups.items()
    }
    print_table(
        "Precision / recall of first matches of at least this similarity, single images",
        ["queries", "all", "loops", *map(str, THRESHOLDS)],
        [
            counts[name] + ["/".join(_above(group, SIMILARITY, at)) for at in THRESHOLDS]
            for name, group in groups.items()
        ],
    )
    print_table(
        "Precision / recall of candidates with this candidates.min_precision",
        ["queries", "all", "loops", *map(str, REPORTED)],
        [
            counts[name] + ["/".join(_reported(group, calibration, at)) for at in REPORTED]
            for name, group in groups.items()
        ],
    )


def _above(queries: Sequence[JudgedQuery], quantity: str, threshold: float) -> list[str]:
    """Precision and recall if all that is best by a quantity is reported from a threshold on."""
    best = [each.best[quantity] for each in queries]
    return _shown(queries, [is_right for value, is_right in best if value >= threshold])


def _reported(
    queries: Sequence[JudgedQuery], calibration: Calibration, min_precision: float
) -> list[str]:
    """Precision and recall of first matches with the limits of a calibration."""
    stage = ScoreStage()
    context = Context(CandidateConfig(min_precision=min_precision), [0])
    reported = []
    for each in queries:
        match, is_right = each.first
        query = Query(match.keyframe, [match], calibration=calibration)
        if stage.judge(query, context)[0].decision == Decision.PASS:
            reported.append(is_right)
    return _shown(queries, reported)


def _shown(queries: Sequence[JudgedQuery], reported: Sequence[bool]) -> list[str]:
    loops = sum(each.closes_loop for each in queries)
    return [
        f"{sum(reported) / len(reported):.3f}" if reported else "-",
        f"{sum(reported) / loops:.2f}" if loops else "-",
    ]
