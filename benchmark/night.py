# SPDX-License-Identifier: MIT
"""The demo's drives, the same round by day and by night, through several towns: places found again."""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmark.tables import console, print_table
from demo.drive import Town, make_drive
from demo.truth import SAME_PLACE, Poses, read_poses
from netvlad_ros.calibration import Calibration
from netvlad_ros.config import Config
from netvlad_ros.config.files import from_values
from netvlad_ros.data.bags import Bag
from netvlad_ros.data.image_messages import to_image
from netvlad_ros.evaluation.calibrating import (
    JudgedQuery,
    judged_queries,
    limits_of,
    together,
)
from netvlad_ros.evaluation.detection_log import DetectionLog
from netvlad_ros.evaluation.detections import detect_described
from netvlad_ros.evaluation.precision_recall import (
    JudgedMatches,
    judge,
    precision_recall,
    precision_recall_curve,
)
from netvlad_ros.quiet import quiet_start_up
from netvlad_ros.retrieval.loop_detector import LoopDetector
from netvlad_ros.shipped import model_path

with quiet_start_up():
    from netvlad_ros.extraction.extractor import NetVLADExtractor

STEP_M = 1.5  # the demo's
WANTED_PRECISION = 0.99


def measure(arguments: argparse.Namespace) -> None:
    """Prints a line for each town, and for all of them, without and with sequences."""
    extractor = NetVLADExtractor(model_path(arguments.model))
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        drives = {town: _Drive(town, Path(scratch), extractor) for town in arguments.towns}
    for length in (1, Config().database.sequence_length):
        config = from_values({"database.sequence_length": length, "verification.features": "none"})
        rows, judged, reported = [], [], []
        queries = {}
        for town, drive in drives.items():
            judged.append(drive.judged(LoopDetector(extractor, config)))
            queries[town] = drive.queries
            reported.append(drive.reported)
            rows.append(_row(str(town), judged[-1], reported[-1]))
        rows.append(_row("all", _joined(judged), _joined(reported)))
        print_table(
            f"sequence_length {length}: queries whose first match is right ({SAME_PLACE})",
            [
                "town",
                "loops",
                "right",
                "average precision",
                "recall at 100 %",
                "candidates",
                "recall",
            ],
            rows,
        )
    _show_pairs(queries, extractor.calibration)


def _show_pairs(
    queries: Mapping[int, Sequence[JudgedQuery]], calibration: Calibration | None
) -> None:
    """Limits that `netvlad calibrate` finds in one town, and what they report in the others."""
    rows = []
    for town, own in queries.items():
        limits = limits_of(own, WANTED_PRECISION, calibration)
        here = together(own, limits)
        low, high = here.interval
        others = {other: together(each, limits) for other, each in queries.items() if other != town}
        outside = [
            f"{other}: {each.right} of {each.reported}"
            for other, each in others.items()
            if each.reported and not low <= each.precision <= high
        ]
        recall = sum(each.right for each in others.values()) / sum(
            each.loops for each in others.values()
        )
        rows.append(
            [
                str(town),
                f"{here.right} of {here.reported}",
                f"{low:.2f} to {high:.2f}",
                f"{len(others) - len(outside)} of {len(others)}",
                f"{recall:.2f}",
                ", ".join(outside),
            ]
        )
    print_table(
        f"calibrated on one town for {WANTED_PRECISION:.0%}, and the precision on others",
        ["town", "right there", "95 %", "others inside", "recall there", "outside"],
        rows,
    )


class _Drive:
    """One town's images as descriptors, and where they were taken."""

    def __init__(self, town: int, folder: Path, extractor: NetVLADExtractor) -> None:
        bag = make_drive(Town(town, STEP_M), folder)
        self._poses: Poses = read_poses(bag)
        with Bag(bag) as opened:
            stamped = [
                (each.stamp_ns, each.received_ns, extractor.extract(to_image(each.message)))
                for each in opened.stamped(opened.image_topic())
            ]
        self._stamps_ns, self._received_ns = np.array([each[:2] for each in stamped], np.int64).T
        self._descriptors = np.array([each[2] for each in stamped])
        console.print(f"town {town}: {len(stamped)} images", style="dim")

    def judged(self, detector: LoopDetector) -> JudgedMatches:
        """The first matches."""
        log, truth = DetectionLog(), self._poses.ground_truth()
        numbers = np.arange(1, len(self._stamps_ns) + 1)
        for each in detect_described(
            self._descriptors, numbers, self._stamps_ns, self._received_ns, detector
        ):
            log.add(each)
        self.reported = judge(log.first_candidates, truth)
        self.queries = judged_queries(
            log,
            lambda query, match: (
                log.keyframes[log.position(match.keyframe)].number in truth.get(query.number, ())
            ),
            lambda query: any(
                each.number in truth.get(query.number, ())
                for each in log.keyframes[: query.query.searched]
            ),
        )
        return judge(log.first_matches, truth)


def _joined(parts: Sequence[JudgedMatches]) -> JudgedMatches:
    return JudgedMatches(
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.right for part in parts]),
        np.concatenate([part.closes_loop for part in parts]),
    )


def _row(name: str, judged: JudgedMatches, reported: JudgedMatches) -> list[str]:
    curve, found = precision_recall_curve(judged), precision_recall(reported)
    return [
        name,
        str(int(judged.closes_loop.sum())),
        str(int(judged.right.sum())),
        f"{curve.average_precision:.3f}",
        f"{curve.recall_at_full_precision:.2f}",
        f"{found.right} of {found.reported}",
        f"{found.recall:.2f}",
    ]
