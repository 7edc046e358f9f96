# SPDX-License-Identifier: MIT
"""How well an extractor finds the places of a dataset's queries in its database."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_ros.data.places import PlaceDataset
from netvlad_ros.errors import DatasetError, ImageError
from netvlad_ros.evaluation.recall import (
    N_VALUES,
    OPEN_MODEL_ZOO_RADIUS_M,
    hit_ranks,
    localization_recall,
    recall_at_n,
)
from netvlad_ros.extraction.many_images import (
    BATCH,
    Extraction,
    Progress,
    all_descriptors,
    descriptor_blocks,
)
from netvlad_ros.extraction.protocol import Extractor
from netvlad_ros.index.nearest import NearestNeighbours

# Of so many queries the report shows pictures, the best and the worst.
SHOWN = 8
SHOWN_MATCHES = 5


@dataclass(frozen=True)
class PlaceResults:
    """What was found for the Q queries that could be used.

    queries:      (Q,) their indices in the dataset.
    predictions:  (Q, n) indices of database images, nearest descriptor first; n is 20, or all there are.
    similarities: (Q, n) cosine similarities of the descriptors.
    positives:    per query the database images that show its place.
    ranks:        (Q,) place of the first of them among the predictions, from 0; -1 if it is not there.
    distances_m:  (Q, n) how far the predictions lie from the query.
    """

    dataset: PlaceDataset
    model: str
    fingerprint: str
    queries: np.ndarray
    predictions: np.ndarray
    similarities: np.ndarray
    positives: Sequence[np.ndarray]
    ranks: np.ndarray
    distances_m: np.ndarray
    database: Extraction = field(default_factory=Extraction)
    query: Extraction = field(default_factory=Extraction)

    @property
    def recalls(self) -> dict[int, float]:
        """Recall@n as pytorch-NetVlad counts it."""
        return recall_at_n(self.ranks)

    @property
    def localization_recall(self) -> float:
        """The Open Model Zoo's, of the first image, strictly below 25 m."""
        return localization_recall(self.distances_m)

    @property
    def without_positives(self) -> int:
        """How many queries no database image could answer; they count as misses."""
        return sum(not len(right) for right in self.positives)

    @property
    def conditions(self) -> str:
        """What the figures depend on besides the model, as a sentence."""
        dataset, tolerance = self.dataset, self.dataset.heading_tolerance_rad
        heading = (
            "any heading" if tolerance is None else f"headings within {np.degrees(tolerance):g}°"
        )
        skipped = len(self.query.skipped)
        return (
            f"positives within {dataset.positive_radius_m:g} m, {heading}; {len(self.queries)} queries, "
            f"{self.without_positives} of them without a positive, which count as misses; {skipped} queries "
            f"skipped; {len(dataset.database) - len(self.database.skipped)} database images, "
            f"{len(self.database.skipped)} skipped"
        )

    def worst(self, count: int = SHOWN) -> np.ndarray:
        """Rows of the queries with positives that were missed, those that were surest of it first."""
        answerable = np.array([len(right) > 0 for right in self.positives], bool)
        missed = np.flatnonzero((self.ranks != 0) & answerable)
        return missed[np.argsort(-self.similarities[missed, 0], kind="stable")][:count]

    def best(self, count: int = SHOWN) -> np.ndarray:
        """Rows of the queries whose first match is right, those that looked least alike first."""
        found = np.flatnonzero(self.ranks == 0)
        return found[np.argsort(self.similarities[found, 0], kind="stable")][:count]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        names, found = self.dataset.database.names, self.dataset.queries.names
        return {
            "dataset": self.dataset.name,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "conditions": self.conditions,
            "positive_radius_m": self.dataset.positive_radius_m,
            "recall": {str(n): value for n, value in self.recalls.items()},
            "localization_recall": self.localization_recall,
            "localization_recall_radius_m": OPEN_MODEL_ZOO_RADIUS_M,
            "queries": len(self.queries),
            "queries_without_positives": self.without_positives,
            "notes": list(self.dataset.notes),
            "skipped": [
                {"image": each.name, "problem": each.problem}
                for each in (*self.database.skipped, *self.query.skipped)
            ],
            "results": [
                {
                    "query": found[query],
                    "rank": int(rank) + 1 if rank >= 0 else None,
                    "match": names[int(self.predictions[row, 0])],
                    "similarity": round(float(self.similarities[row, 0]), 6),
                    "distance_m": round(float(self.distances_m[row, 0]), 3),
                }
                for row, (query, rank) in enumerate(
                    zip(self.queries.tolist(), self.ranks, strict=True)
                )
            ],
        }


def evaluate_places(
    dataset: PlaceDataset,
    extractor: Extractor,
    cache_folder: Path | None = None,
    model: str = "",
    progress: Progress = iter,
    batch: int = BATCH,
) -> PlaceResults:
    """Looks up every query among all database images.

    cache_folder: where descriptors are kept for the next time; None keeps none.
    Memory: the descriptors of all queries and of one block of the database.
    Raises DatasetError for a sequence, ImageError if no image can be used.
    """
    refuse_sequence(dataset)
    of_queries, of_database = Extraction(), Extraction()
    descriptors, queries = all_descriptors(
        dataset.queries.images, extractor, cache_folder, of_queries, progress, batch
    )
    nearest = NearestNeighbours(descriptors, max(N_VALUES))
    for block, indices in descriptor_blocks(
        dataset.database.images, extractor, cache_folder, of_database, progress, batch
    ):
        nearest.add(block, indices)
    if not nearest.indices.shape[1]:
        raise ImageError(
            f"{dataset.database.images.root}: none of {len(dataset.database)} images can be used; the first: "
            f"{of_database.skipped[0].problem}"
        )
    positives = [dataset.positives(query) for query in queries.tolist()]
    distances_m = np.stack(
        [dataset.distances_m(int(q), row) for q, row in zip(queries, nearest.indices, strict=True)]
    )
    return PlaceResults(
        dataset,
        model,
        extractor.fingerprint,
        queries,
        nearest.indices,
        1.0 - nearest.squared_distances / 2.0,  # of unit vectors
        positives,
        hit_ranks(nearest.indices, positives),
        distances_m,
        of_database,
        of_queries,
    )


def refuse_sequence(dataset: PlaceDataset) -> None:
    """Raises DatasetError if there are no queries of their own."""
    if dataset.is_sequence:
        raise DatasetError(
            f"{dataset.name}: its images are one sequence; give queries of the same frame (--queries), or "
            "use `netvlad evaluate-sequence`."
        )
