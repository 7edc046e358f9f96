# SPDX-License-Identifier: MIT
"""Precision and recall of the loops in a sequence of images, each of which is looked up among the others.

Of each image the nearest descriptor counts, by Euclidean distance, among those that the protocol allows. See
precision_recall.py for what is counted.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.data.places import angle_between
from netvlad_ros.data.position_grid import PositionGrid
from netvlad_ros.errors import DatasetError
from netvlad_ros.evaluation.detection_log import DetectionLog
from netvlad_ros.evaluation.ground_truth import GroundTruth
from netvlad_ros.evaluation.precision_recall import (
    JudgedMatches,
    PrecisionRecall,
    PrecisionRecallCurve,
    precision_recall,
    precision_recall_curve,
)
from netvlad_ros.evaluation.protocols import SequenceProtocol
from netvlad_ros.index.nearest import nearest_allowed

# Of a query, and of images that show its place, those that could have been matched.
Findable = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ImageSequence:
    """What is known of N images in the order they were taken in.

    descriptors:  (N, D) float32.
    numbers:      (N,) of the images in the recording, from 1 on; those that could not be used are missing.
    positions_m:  (N, 2) or (N, 3), or None.
    headings_rad: (N,), or None.
    stamps_ns:    (N,) int64, or None.
    truth:        which images show the same place, instead of positions.
    """

    descriptors: np.ndarray
    numbers: np.ndarray
    positions_m: np.ndarray | None = None
    headings_rad: np.ndarray | None = None
    stamps_ns: np.ndarray | None = None
    truth: GroundTruth | None = None

    def part(self, rows: np.ndarray) -> "ImageSequence":
        """Some of the images, in their order."""

        def of_rows(known: np.ndarray | None) -> np.ndarray | None:
            return None if known is None else known[rows]

        return ImageSequence(
            self.descriptors[rows],
            self.numbers[rows],
            of_rows(self.positions_m),
            of_rows(self.headings_rad),
            of_rows(self.stamps_ns),
            self.truth,
        )


@dataclass(frozen=True)
class SequenceResults:
    """Figures, and the conditions they hold under.

    matches:      (N,) which image, 0 to N - 1, is the first match; -1 if none is allowed.
    similarities: (N,) minus its squared distance; -inf if there is none.
    judged:       what the ground truth says of them.
    curve:        precision and recall over all thresholds.
    area:         under it: the trapezoids from the first match on, or the sum of the protocol.
    candidates:   what a detector reported, by the thresholds and stages of its configuration; else None.
    """

    protocol: SequenceProtocol
    conditions: str
    matches: np.ndarray
    similarities: np.ndarray
    judged: JudgedMatches
    curve: PrecisionRecallCurve
    area: float
    candidates: PrecisionRecall | None = None

    @property
    def figures(self) -> dict[str, float]:
        """All of them as shares, by name."""
        everything = precision_recall(self.judged)
        best = _best_f1(self.curve)
        reported = (
            {
                "precision of the candidates": self.candidates.precision,
                "recall of the candidates": self.candidates.recall,
            }
            if self.candidates
            else {}
        )
        return reported | {
            "first matches right": everything.recall,
            "precision without a threshold": everything.precision,
            "precision at best F1": float(self.curve.precision[best]) if best >= 0 else 1.0,
            "recall at best F1": float(self.curve.recall[best]) if best >= 0 else 0.0,
            "AUC": self.area,
            "average precision": self.curve.average_precision,
            "recall at 100 % precision": self.curve.recall_at_full_precision,
        }

    @property
    def counts(self) -> str:
        """How many first matches are right."""
        everything = precision_recall(self.judged)
        return (
            f"{everything.right} of {everything.loops} queries with a loop have a right first match; "
            f"{everything.reported} of {len(self.matches)} images could be looked up"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file; every figure carries its conditions."""
        everything = precision_recall(self.judged)
        return {
            "protocol": dataclasses.asdict(self.protocol),
            "conditions": self.conditions,
            "images": len(self.matches),
            "looked_up": everything.reported,
            "loops": everything.loops,
            "right": everything.right,
            "candidates": dataclasses.asdict(self.candidates) if self.candidates else None,
            "figures": {
                name: {"value": value, "conditions": self.conditions}
                for name, value in self.figures.items()
            },
        }


def evaluate_sequence(sequence: ImageSequence, protocol: SequenceProtocol) -> SequenceResults:
    """Looks up every image and counts. Raises DatasetError where the protocol asks for what is not known."""
    _refuse_unknown(sequence, protocol)
    matches, similarities = first_matches(sequence, protocol)

    def findable(query: int, images: np.ndarray) -> np.ndarray:
        numbers, stamps_ns = sequence.numbers, sequence.stamps_ns
        ns_ago = None if stamps_ns is None else stamps_ns[query] - stamps_ns[images]
        return images[_may_match(protocol, numbers[query] - numbers[images], ns_ago)]

    return _counted(sequence, protocol, matches, similarities, similarities, findable)


def evaluate_keyframes(
    sequence: ImageSequence, protocol: SequenceProtocol, log: DetectionLog
) -> SequenceResults:
    """Counts what a LoopDetector has found, as `netvlad replay` and the nodes do, and judges as above.

    sequence: the keyframes of the log only. Raises DatasetError as above.
    """
    _refuse_unknown(sequence, protocol)
    first, reported = log.first_matches, log.first_candidates

    def findable(query: int, images: np.ndarray) -> np.ndarray:
        return images[images < first.available[query]]

    # Of unit vectors.
    nearness = 2.0 * first.similarities - 2.0
    found = _counted(sequence, protocol, first.matches, nearness, first.scores, findable)
    right, closes_loop = _judged(sequence, protocol, reported.matches, findable)
    judged = JudgedMatches(reported.scores, right, closes_loop)
    return dataclasses.replace(found, candidates=precision_recall(judged))


def _counted(
    sequence: ImageSequence,
    protocol: SequenceProtocol,
    matches: np.ndarray,
    similarities: np.ndarray,
    scores: np.ndarray,
    findable: Findable,
) -> SequenceResults:
    right, closes_loop = _judged(sequence, protocol, matches, findable)
    judged = JudgedMatches(scores, right, closes_loop)
    curve = precision_recall_curve(judged)
    area = _area_from_second(judged) if protocol.auc_from_second else _trapezoids(curve)
    conditions = protocol.conditions(sequence.truth is not None)
    return SequenceResults(protocol, conditions, matches, similarities, judged, curve, area)


def first_matches(
    sequence: ImageSequence, protocol: SequenceProtocol
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) the nearest image that may be matched, -1 if there is none, and minus its squared distance.

    Of equal distances the earliest image counts. Memory is that of one block of distances.
    """
    dims = protocol.descriptor_dims or sequence.descriptors.shape[1]
    matches, squared = nearest_allowed(
        sequence.descriptors[:, :dims],
        lambda rows, columns: _allowed(sequence, protocol, rows, columns),
    )
    return matches, -squared


def _allowed(
    sequence: ImageSequence, protocol: SequenceProtocol, rows: slice, columns: slice
) -> np.ndarray:
    """(rows, columns): whether a query may be matched with an image."""
    numbers = sequence.numbers
    return _may_match(
        protocol,
        numbers[rows, None] - numbers[None, columns],
        None
        if sequence.stamps_ns is None
        else sequence.stamps_ns[rows, None] - sequence.stamps_ns[columns],
    )


def _may_match(
    protocol: SequenceProtocol, images_ago: np.ndarray, ns_ago: np.ndarray | None
) -> np.ndarray:
    """Whether images so many numbers and nanoseconds before their query may be matched."""
    if not protocol.causal:
        images_ago = np.abs(images_ago)
        ns_ago = None if ns_ago is None else np.abs(ns_ago)
    allowed = images_ago > protocol.exclude_images
    if protocol.exclude_s and ns_ago is not None:
        allowed = allowed & (ns_ago >= round(protocol.exclude_s * NANOSECONDS))
    return allowed


def _judged(
    sequence: ImageSequence, protocol: SequenceProtocol, matches: np.ndarray, findable: Findable
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) whether the first match is right, and (N,) whether there was something to find."""
    right, closes_loop = np.zeros(len(matches), bool), np.zeros(len(matches), bool)
    for query, same in enumerate(same_places(sequence, protocol)):
        known = findable(query, same)
        closes_loop[query] = len(known) > 0
        right[query] = matches[query] in known
    return right, closes_loop


def same_places(sequence: ImageSequence, protocol: SequenceProtocol) -> Iterator[np.ndarray]:
    """Per image all others of its place, whether or not they may be matched."""
    if sequence.truth is not None:
        yield from _listed(sequence, protocol, sequence.truth)
    elif sequence.positions_m is not None:
        grid = PositionGrid(sequence.positions_m, protocol.radius_m)
        for query, position_m in enumerate(sequence.positions_m):
            same, distances_m = grid.within(position_m, protocol.radius_m)
            if not protocol.radius_is_inside:
                same = same[distances_m < protocol.radius_m]
            yield _looking_the_same_way(sequence, protocol, query, same)


def _looking_the_same_way(
    sequence: ImageSequence, protocol: SequenceProtocol, query: int, same: np.ndarray
) -> np.ndarray:
    headings = sequence.headings_rad
    if protocol.heading_tolerance_deg is None or headings is None:
        return same
    apart = angle_between(headings[same], headings[query])
    return same[apart <= np.radians(protocol.heading_tolerance_deg)]


def _listed(
    sequence: ImageSequence, protocol: SequenceProtocol, truth: GroundTruth
) -> Iterator[np.ndarray]:
    reach = np.arange(-protocol.tolerance_images, protocol.tolerance_images + 1)
    for number in sequence.numbers.tolist():
        named = np.array(sorted(truth.get(number, ())), np.int64)
        yield np.flatnonzero(np.isin(sequence.numbers, (named[:, None] + reach).reshape(-1)))


def _refuse_unknown(sequence: ImageSequence, protocol: SequenceProtocol) -> None:
    count, dims = sequence.descriptors.shape
    if sequence.truth is None and sequence.positions_m is None:
        raise DatasetError(
            "nobody knows where these images were taken; give positions, or a list of loops (--ground-truth)."
        )
    if sequence.truth is not None and not protocol.causal:
        raise DatasetError(
            "a list of loops names earlier images only, so later ones can't be counted."
        )
    if protocol.exclude_s and sequence.stamps_ns is None:
        raise DatasetError(
            "these images have no times; exclude a number of images instead (--exclude-images)."
        )
    if protocol.heading_tolerance_deg is not None and sequence.headings_rad is None:
        raise DatasetError("these images have no headings; leave the heading tolerance out.")
    if protocol.descriptor_dims > dims:
        raise DatasetError(
            f"the protocol takes the first {protocol.descriptor_dims} dimensions, and these descriptors have "
            f"{dims}; use a whitened model of more, or set the dimensions (--dims)."
        )
    if not count:
        raise DatasetError("expected at least one image, got none.")


def _trapezoids(curve: PrecisionRecallCurve) -> float:
    """Area under straight lines between the points, from recall 0 at the first precision on."""
    if not len(curve.recall):
        return 0.0
    recall = np.concatenate([[0.0], curve.recall])
    precision = np.concatenate([curve.precision[:1], curve.precision])
    return float(np.sum(np.diff(recall) * (precision[1:] + precision[:-1]) / 2.0))


def _area_from_second(judged: JudgedMatches) -> float:
    """Steps of recall times precision, one for each query, without the first (netvlad_tf_open)."""
    order = np.argsort(-judged.scores, kind="stable")
    right = np.cumsum(judged.right[order])
    precision = right / np.arange(1, len(right) + 1)
    recall = right / max(1, int(judged.closes_loop.sum()))
    return float(np.sum(np.diff(recall) * precision[1:]))


def _best_f1(curve: PrecisionRecallCurve) -> int:
    """Where the harmonic mean of precision and recall is largest; -1 on an empty curve."""
    together = curve.precision + curve.recall
    if not len(together):
        return -1
    product = 2.0 * curve.precision * curve.recall
    return int(
        np.argmax(np.divide(product, together, out=np.zeros(len(product)), where=together > 0))
    )
