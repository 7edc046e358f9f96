# SPDX-License-Identifier: MIT
"""What came out of a drive: pictures, figures in a file, and the same in words."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo.drawings import DriveMap, ShownPair, draw_best_pairs, draw_map, draw_precision_recall
from demo.drive import LAPS
from demo.truth import SAME_PLACE, Poses
from netvlad_ros.evaluation.plots import PicturePair
from netvlad_ros.evaluation.precision_recall import judge
from netvlad_ros.evaluation.report import write_report
from netvlad_ros.evaluation.results import Evaluation, Results

BEST_PAIRS = 6


@dataclass(frozen=True)
class Drive:
    """What the nodes said, and where the robot was.

    images_of_laps: how many each lap has.
    """

    results: Results
    evaluation: Evaluation
    poses: Poses
    images_of_laps: Sequence[int]

    @property
    def keyframe_images(self) -> np.ndarray:
        """(keyframes,) which images they are, from 0."""
        return np.array([keyframe.number - 1 for keyframe in self.results.log.keyframes], int)

    def distance_m(self, pair: PicturePair) -> float:
        images = self.keyframe_images
        return self.poses.distance_m(int(images[pair.query]), int(images[pair.match]))


def write_summary(folder: Path, drive: Drive) -> list[Path]:
    """Writes all files; returns their paths, those to look at first in front."""
    results, evaluation = drive.results, drive.evaluation
    written = [
        folder / name
        for name in ("map.png", "best_pairs.png", "precision_recall.png", "summary.json")
    ]
    reported = evaluation.reported
    title = f"{reported.right} of {reported.loops} places found again, {_wrong(drive)} wrong"
    draw_map(written[0], _map(drive), LAPS, title)
    draw_best_pairs(written[1], _best_pairs(drive), LAPS)
    draw_precision_recall(written[2], evaluation.curve, reported, f"right: {SAME_PLACE}")
    written[3].write_text(json.dumps(_figures(drive), indent=1) + "\n", encoding="utf-8")
    return [*written, *write_report(folder, results)]


def sentences(drive: Drive) -> list[str]:
    """The same in words."""
    log = drive.results.log
    answered = f"{log.images - len(log.skipped)} of {log.images} images were answered"
    return [answered, *drive.results.sentences, f"right is a match {SAME_PLACE}"]


def _figures(drive: Drive) -> dict[str, object]:
    evaluation, log = drive.evaluation, drive.results.log
    return {
        "images": log.images,
        "images_not_answered": len(log.skipped),
        "keyframes": len(log.keyframes),
        "same_place": SAME_PLACE,
        "fingerprint": drive.results.fingerprint,
        "limits": drive.results.limits,
        "reported": evaluation.reported.reported,
        "right": evaluation.reported.right,
        "loops": evaluation.reported.loops,
        "precision": evaluation.reported.precision,
        "recall": evaluation.reported.recall,
        "first_matches_right": evaluation.unlimited.right,
        "average_precision": evaluation.curve.average_precision,
        "recall_at_full_precision": evaluation.curve.recall_at_full_precision,
        "candidates": [
            {
                "query_keyframe": pair.query,
                "match_keyframe": pair.match,
                "similarity": pair.similarity,
                "right": pair.right,
                "distance_m": drive.distance_m(pair),
            }
            for pair in drive.results.pairs
        ],
    }


def _wrong(drive: Drive) -> int:
    return drive.evaluation.reported.reported - drive.evaluation.reported.right


def _map(drive: Drive) -> DriveMap:
    results = drive.results
    images = drive.keyframe_images
    starts = [0, *np.searchsorted(images, np.cumsum(drive.images_of_laps[:-1])).tolist()]
    first = results.log.first_matches
    closes_loop = judge(first, results.truth or {}).closes_loop
    where_m = drive.poses.positions_m[images]
    return DriveMap(where_m, starts, results.pairs, closes_loop)


def _best_pairs(drive: Drive) -> list[ShownPair]:
    """The most similar right pair, of one lap with the other, of each stretch of the round."""
    keyframes = drive.results.log.keyframes
    is_second = drive.keyframe_images >= drive.images_of_laps[0]
    right = [
        pair
        for pair in drive.results.pairs
        if pair.right and is_second[pair.query] and not is_second[pair.match]
    ]
    stretches = [part for part in np.array_split(np.arange(len(right)), BEST_PAIRS) if len(part)]
    best = [_most_similar([right[i] for i in part]) for part in stretches]
    return [
        ShownPair(
            pair,
            keyframes[pair.query].picture,
            keyframes[pair.match].picture,
            drive.distance_m(pair),
        )
        for pair in best
    ]


def _most_similar(pairs: Sequence[PicturePair]) -> PicturePair:
    return max(pairs, key=lambda pair: pair.similarity)
