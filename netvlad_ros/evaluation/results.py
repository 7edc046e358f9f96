# SPDX-License-Identifier: MIT
"""The outcome of a replay together with what it was made with, and its comparison with a ground truth."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from netvlad_ros.calibration import resolved_min_sequence_score, resolved_min_similarity
from netvlad_ros.config import Config
from netvlad_ros.evaluation.detection_log import DetectionLog
from netvlad_ros.evaluation.ground_truth import GroundTruth
from netvlad_ros.evaluation.plots import PicturePair
from netvlad_ros.evaluation.precision_recall import (
    PrecisionRecall,
    PrecisionRecallCurve,
    judge,
    precision_recall,
    precision_recall_curve,
)
from netvlad_ros.retrieval.stages import Decision


@dataclass(frozen=True)
class Results:
    """A replay and what it was made with; truth is None where nobody knows it."""

    log: DetectionLog
    config: Config
    fingerprint: str
    topic: str
    truth: GroundTruth | None = None

    @property
    def candidates(self) -> int:
        """How many candidates all keyframes have together."""
        return sum(len(each.selection.candidates) for each in self.log.keyframes)

    @property
    def queries_with_candidates(self) -> int:
        """How many keyframes have a candidate."""
        return sum(bool(each.selection.candidates) for each in self.log.keyframes)

    @property
    def limits(self) -> str:
        """What a candidate had to reach, in words."""
        config, query = self.config.candidates, self.log.keyframes[0].query
        similarity, _ = resolved_min_similarity(config, query.calibration, query.fingerprint)
        score = resolved_min_sequence_score(config, query.calibration)
        if score is None or self.config.database.sequence_length == 1:
            return f"similarity at least {similarity:.3g}"
        return f"similarity at least {similarity:.3g} or sequence score at least {score:.3g}"

    @property
    def sentences(self) -> list[str]:
        """What came out, in words."""
        log = self.log
        counts = (
            f"{len(log.keyframes)} of {log.images} images are keyframes, "
            f"{self.queries_with_candidates} of them have loop-closure candidates"
        )
        return [
            counts,
            *filter(None, [self.closures_in_words]),
            *(self.evaluation.sentences if self.evaluation else ()),
        ]

    @property
    def closures_in_words(self) -> str:
        """How many matches are loop closures, and which gates stopped the others that were compared.

        Empty for a log of candidates alone.
        """
        selections = [each.closures for each in self.log.keyframes]
        if not any(each.summary or each.geometries for each in selections):
            return ""
        compared = sum(len(each.geometries) for each in selections)
        if not compared:
            return "no match was compared by geometry: none has local features"
        stopped = Counter(
            f"{'held' if verdict.decision == Decision.HOLD else 'rejected'} by {verdict.stage} {{}}"
            for _, _, verdict in self.log.rejections
        )
        gates = ", ".join(gate.format(count) for gate, count in stopped.most_common())
        queries = len({each.query.name for each in self.log.closures})
        return (
            f"keyframes with loop closures: {queries} ({len(self.log.closures)} of {compared} matches that "
            f"were compared by geometry{f'; {gates}' if gates else ''})"
        )

    @property
    def evaluation(self) -> "Evaluation | None":
        """How many of the reported loops are right, and how many of the loops are reported."""
        if self.truth is None:
            return None
        unlimited = judge(self.log.first_matches, self.truth)
        reported = judge(self.log.first_candidates, self.truth)
        return Evaluation(
            precision_recall(reported),
            precision_recall(unlimited),
            precision_recall_curve(unlimited),
        )

    @property
    def pairs(self) -> list[PicturePair]:
        """The best candidate of each keyframe that has one."""
        first = self.log.first_candidates
        right = judge(first, self.truth).right if self.truth is not None else None
        return [
            PicturePair(
                query,
                int(first.matches[query]),
                float(first.similarities[query]),
                None if right is None else bool(right[query]),
            )
            for query in np.flatnonzero(first.matches >= 0).tolist()
        ]

    @property
    def true_pairs(self) -> np.ndarray | None:
        """(pairs, 2): query and earlier keyframe whose images show the same place."""
        if self.truth is None:
            return None
        position = {each.number: i for i, each in enumerate(self.log.keyframes)}
        pairs = [
            (position[query], position[match])
            for query, matches in self.truth.items()
            for match in matches
            if query in position and match in position
        ]
        return np.array(pairs, int).reshape(-1, 2)


@dataclass(frozen=True)
class Evaluation:
    """Results against a ground truth.

    reported:  the best candidates, as they were reported.
    unlimited: the best matches that were old enough, whatever their similarity.
    curve:     these over all similarities.
    """

    reported: PrecisionRecall
    unlimited: PrecisionRecall
    curve: PrecisionRecallCurve

    @property
    def sentences(self) -> list[str]:
        """The same in words."""
        reported, unlimited, curve = self.reported, self.unlimited, self.curve
        right = f"{reported.right} of {reported.reported} best candidates show the right place"
        found = f"{reported.right} of {reported.loops} loops were found"
        unlimited_right = f"{unlimited.right} of {unlimited.loops} best matches are right"
        average = f"average precision {curve.average_precision:.3f}"
        return [
            f"precision {reported.precision:.1%}: {right}",
            f"recall {reported.recall:.1%}: {found}",
            f"without a threshold: {unlimited_right}, {average}",
        ]
