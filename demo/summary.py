# SPDX-License-Identifier: MIT
"""What came out of a drive: pictures, figures in a file, and the same in words."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo.drawings import ShownPair, draw_best_pairs
from demo.drive import LAPS
from demo.truth import RIGHT_CLOSURE, SAME_PLACE, Poses
from netvlad_ros.evaluation.graph_report import GraphReport, write_graph
from netvlad_ros.evaluation.plots import PicturePair
from netvlad_ros.evaluation.precision_recall import judge
from netvlad_ros.evaluation.report import write_report
from netvlad_ros.evaluation.results import Evaluation, Results
from netvlad_ros.retrieval.closures import Closure

BEST_PAIRS = 6


@dataclass(frozen=True)
class Drive:
    """What the nodes said, and where the robot was.

    graph:          the keyframes as the pose graph's node had them last.
    images_of_laps: how many each lap has.
    """

    results: Results
    evaluation: Evaluation
    graph: GraphReport
    poses: Poses
    images_of_laps: Sequence[int]

    @property
    def keyframe_images(self) -> np.ndarray:
        """(keyframes,) which images they are, from 0."""
        return np.array([keyframe.number - 1 for keyframe in self.results.log.keyframes], int)

    @property
    def closures(self) -> list[tuple[Closure, bool]]:
        """Each with whether it is right."""
        return [(each, self.poses.is_right(each)) for each in self.results.log.closures]

    @property
    def places(self) -> np.ndarray:
        """(keyframes,) whether this place was seen before, long enough ago."""
        results = self.results
        return judge(results.log.first_matches, results.truth or {}).closes_loop

    @property
    def closed(self) -> np.ndarray:
        """(keyframes,) whether a right closure says so."""
        closed = np.zeros(len(self.places), bool)
        for closure, is_right in self.closures:
            closed[self.results.log.position(closure.query)] |= is_right
        return closed

    def distance_m(self, pair: PicturePair) -> float:
        images = self.keyframe_images
        return self.poses.distance_m(int(images[pair.query]), int(images[pair.match]))


def write_summary(folder: Path, drive: Drive) -> list[Path]:
    """Writes all files; returns their paths, those to look at first in front."""
    graph = write_graph(folder, drive.graph)
    pairs, figures = folder / "best_pairs.png", folder / "summary.json"
    draw_best_pairs(pairs, _best_pairs(drive), LAPS)
    figures.write_text(json.dumps(_figures(drive), indent=1) + "\n", encoding="utf-8")
    return [graph[-1], pairs, figures, *graph[:-1], *write_report(folder, drive.results)]


def sentences(drive: Drive) -> list[str]:
    """The same in words."""
    log, found, closed = drive.results.log, drive.closures, drive.closed
    right, places = sum(is_right for _, is_right in found), int(drive.places.sum())
    share = closed.sum() / max(1, places)
    return [
        f"{log.images - len(log.skipped)} of {log.images} images were answered",
        *drive.results.sentences,
        f"loop closures: {right} of {len(found)} are right ({RIGHT_CLOSURE})",
        f"they close {closed.sum()} of {places} places that were seen before ({share:.0%}; {SAME_PLACE})",
        *drive.graph.sentences,
    ]


def _figures(drive: Drive) -> dict[str, object]:
    evaluation, log = drive.evaluation, drive.results.log
    return {
        "images": log.images,
        "images_not_answered": len(log.skipped),
        "keyframes": len(log.keyframes),
        "same_place": SAME_PLACE,
        "fingerprint": drive.results.fingerprint,
        "limits": drive.results.limits,
        "candidates": evaluation.reported.reported,
        "candidates_right": evaluation.reported.right,
        "loops": evaluation.reported.loops,
        "first_matches_right": evaluation.unlimited.right,
        "average_precision": evaluation.curve.average_precision,
        "places": int(drive.places.sum()),
        "places_closed": int(drive.closed.sum()),
        "ate_m": drive.graph.ate_m,
        "closures": [
            {
                "query_keyframe": log.position(closure.query),
                "match_keyframe": log.position(closure.match.keyframe),
                "similarity": closure.match.similarity,
                "right": is_right,
                "error_m": drive.poses.error(closure)[0],
            }
            for closure, is_right in drive.closures
        ],
    }


def _best_pairs(drive: Drive) -> list[ShownPair]:
    """The closure with most inliers, of one lap with the other, of each stretch of the round."""
    log = drive.results.log
    night = int(np.searchsorted(drive.keyframe_images, drive.images_of_laps[0]))
    of_laps = [
        closure
        for closure, is_right in drive.closures
        if is_right and log.position(closure.match.keyframe) < night <= log.position(closure.query)
    ]
    stretches = [part for part in np.array_split(np.arange(len(of_laps)), BEST_PAIRS) if len(part)]
    best = [max((of_laps[i] for i in part), key=_inliers) for part in stretches]
    return [_shown(drive, closure) for closure in best]


def _inliers(closure: Closure) -> int:
    return closure.geometry.inliers


def _shown(drive: Drive, closure: Closure) -> ShownPair:
    log, match = drive.results.log, closure.match
    query, position = log.position(closure.query), log.position(match.keyframe)
    pair = PicturePair(query, position, match.similarity, True)
    seen, before = log.keyframes[query].picture, log.keyframes[position].picture
    return ShownPair(pair, seen, before, drive.distance_m(pair))
