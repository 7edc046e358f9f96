# SPDX-License-Identifier: MIT
"""Which queries extractors answer right on sets of places; each is counted once and kept in a file."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from netvlad_ros.data.places import PlaceDataset
from netvlad_ros.data.read_places import read_places, read_sequence
from netvlad_ros.evaluation.ground_truth import read_ground_truth
from netvlad_ros.evaluation.place_recognition import evaluate_places
from netvlad_ros.evaluation.protocols import SequenceProtocol
from netvlad_ros.evaluation.sequences import ImageSequence, evaluate_sequence
from netvlad_ros.extraction.many_images import Extraction, all_descriptors
from netvlad_ros.extraction.protocol import Extractor
from netvlad_ros.training.validation import RenderedValidation

# A small loop through rooms, 84 images, of which 44 show a place again; see its own README.
LOOP = Path(__file__).resolve().parents[2] / "shared" / "data" / "rtabmap_samples"
LOOP_EXCLUDED_IMAGES = 10


class PlaceSet(Protocol):
    """What an extractor is measured on."""

    @property
    def name(self) -> str:
        """Different for each set, and for other radii."""
        ...

    def hits(self, extractor: Extractor) -> list[float]:
        """1 or 0 of each query, as its first match is right or wrong; or only Recall@1, their mean."""
        ...


@dataclass(frozen=True)
class RenderedPlaces:
    """Worlds that nothing was fitted to."""

    validation: RenderedValidation
    name: str = "rendered"

    def hits(self, extractor: Extractor) -> list[float]:
        return [self.validation.recalls(lambda images: extractor.extract_batch(list(images)))[1]]


@dataclass(frozen=True)
class Loop:
    """The recorded loop, of which images that show a place again are queries."""

    name: str = "loop of 44"

    def hits(self, extractor: Extractor) -> list[float]:
        images, truth = (
            read_sequence(LOOP / "images"),
            read_ground_truth(LOOP / "loop_closures.csv"),
        )
        found, kept = all_descriptors(images.images, extractor, None, Extraction())
        conditions = SequenceProtocol(exclude_images=LOOP_EXCLUDED_IMAGES)
        judged = evaluate_sequence(ImageSequence(found, kept + 1, truth=truth), conditions).judged
        return [float(right) for right in judged.right[judged.closes_loop]]


@dataclass(frozen=True)
class Places:
    """Queries and a database of one's own."""

    name: str
    dataset: PlaceDataset

    def hits(self, extractor: Extractor) -> list[float]:
        ranks = evaluate_places(self.dataset, extractor).ranks
        return [float(rank == 0) for rank in ranks]


def open_places(word: str) -> Places:
    """SET or SET:RADIUS_M, where a set is whatever `netvlad evaluate` reads. Raises NetVLADError."""
    path, _, radius = word.rpartition(":")
    if not path:
        path, radius = word, ""
    dataset = read_places(path)
    name = Path(path).resolve()
    name = name.parent if name.suffix == ".csv" else name
    return Places(name.name, dataset.with_radius(float(radius)) if radius else dataset)


@dataclass(frozen=True)
class Hits:
    """What was counted, by extractor and set.

    file: where it is kept; deleted, all is counted anew.
    """

    file: Path

    def of(self, extractor: Extractor, sets: Sequence[PlaceSet]) -> list[np.ndarray]:
        """Of each set (queries,) 1 or 0, or (1,) their mean."""
        return [np.array(self._one(extractor, each)) for each in sets]

    def _one(self, extractor: Extractor, each: PlaceSet) -> list[float]:
        key = f"{extractor.fingerprint} {each.name}"
        if key not in self._known():
            hits = each.hits(extractor)
            text = json.dumps(self._known() | {key: hits})  # others may have added some
            partial = self.file.with_suffix(f".{os.getpid()}")
            partial.write_text(text)
            partial.replace(self.file)
        return self._known()[key]

    def _known(self) -> dict[str, list[float]]:
        return dict(json.loads(self.file.read_text())) if self.file.is_file() else {}


def mean_recall(hits: Sequence[np.ndarray]) -> float:
    """Over sets, each of which counts the same."""
    return float(np.mean([each.mean() for each in hits]))


def mean_change(hits: Sequence[np.ndarray], before: Sequence[np.ndarray]) -> tuple[float, float]:
    """How much the mean over sets has changed, and its standard error: the same queries are compared."""
    changes = [one - other for one, other in zip(hits, before, strict=True)]
    variances = [each.var() / len(each) for each in changes]
    return float(np.mean([each.mean() for each in changes])), float(
        np.sqrt(np.sum(variances)) / len(changes)
    )
