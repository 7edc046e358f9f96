# SPDX-License-Identifier: MIT
"""Tuples out of a set of places: the best positive of each query, and negatives that look most like it.

Arandjelovic et al., NetVLAD, section 4 and appendix A. P positives, N negatives.
"""

import itertools
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from netvlad_ros.data.places import PlaceDataset, PlaceImages, angle_between
from netvlad_ros.errors import DatasetError, ImageError
from netvlad_ros.training.batches import OTHER, SAME, UNKNOWN, TrainingBatch
from netvlad_ros.training.config import MiningConfig, TrainingConfig, TupleConfig
from netvlad_ros.training.distribution import task_name
from netvlad_ros.training.image_samples import SkippedImages, read_for_network
from netvlad_ros.training.place_descriptors import PlaceDescriptors
from netvlad_ros.training.remembered import RememberedNegatives

_ONCE = 1 << 62  # a number of steps that divides 0 and no other step

_log = logging.getLogger(__name__)


class _Image(NamedTuple):
    """An image of the queries or of the database, and its pixels, uint8 RGB (H, W, 3)."""

    places: PlaceImages
    number: int
    pixels: np.ndarray


def mined_tuples(dataset: PlaceDataset, config: TrainingConfig, folder: Path) -> "MinedTuples":
    """As a configuration wants them; descriptors are kept in the folder of a run. Raises DatasetError."""
    size_px = (config.data.image_width_px, config.data.image_height_px)
    return MinedTuples(
        dataset, size_px, folder / task_name(), config.tuples, config.mining, config.run.seed
    )


class MinedTuples:
    """A BatchSource over a set of places; every query comes once in an epoch.

    Queries with fewer positives than asked for are left out and counted. Images that can't be read are
    named once, counted, and replaced by the next best.

    Until the first refresh(), and for images without a descriptor, it is not known what is near and hard, and
    random images are taken. Which negatives were the hardest of a query is remembered for its next turn; what
    came after a step is forgotten when it is asked for again, so that each step gives the same batch.

    Memory: the descriptors of a pool while a query is mined (200 MB for 1000 of 32768 dimensions), 80 bytes
    for each query that remembers ten negatives, and one batch. On disk, 2 bytes a dimension for each image,
    twice.

    queries_left_out: how many; skipped: images that could not be used.
    """

    def __init__(
        self,
        dataset: PlaceDataset,
        size_px: tuple[int, int],
        folder: Path,
        tuples: TupleConfig | None = None,
        mining: MiningConfig | None = None,
        seed: int = 0,
    ) -> None:
        """size_px: (width, height) that images are resized to. Raises DatasetError if no query is usable."""
        self._dataset, self._size_px, self._seed = dataset, size_px, seed
        self._tuples, self._mining = tuples or TupleConfig(), mining or MiningConfig()
        self._queries = self._usable_queries()
        self.queries_left_out = len(dataset.queries) - len(self._queries)
        self.skipped = SkippedImages()
        self._broken: set[tuple[bool, int]] = set()
        self._descriptors = PlaceDescriptors(dataset, folder)
        self._remembered = RememberedNegatives()
        self._in_checkpoint = ""

    @property
    def refresh_every_steps(self) -> int:
        """As many as take so many queries."""
        every = self._mining.refresh_every_queries
        return -(-every // self._tuples.tuples_per_batch) if every else _ONCE

    @property
    def steps_per_epoch(self) -> int:
        """In which every query comes once."""
        return -(-len(self._queries) // self._tuples.tuples_per_batch)

    def batches(self, first_step: int) -> Iterator[TrainingBatch]:
        """Endless."""
        self._remembered.go_back_to(first_step)
        for step in itertools.count(first_step):
            yield self._batch(step)

    def refresh(self, model: Any, step: int) -> None:
        """Descriptors of the database, and of the queries until the next refresh.

        What an interrupted refresh with the same weights has computed is used again.
        """
        self._descriptors.refresh(model, self._queries_from(step), self._read, self._in_checkpoint)

    def state(self, step: int) -> dict[str, np.ndarray]:
        """The remembered negatives, and which descriptors are in use."""
        queries, negatives = self._remembered.arrays(step)
        self._in_checkpoint = self._descriptors.name
        name = np.array(self._in_checkpoint)
        return {"queries": queries, "negatives": negatives, "descriptors": name}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Goes on; if the descriptors are gone, with random images until the next refresh."""
        self._remembered.restore(state["queries"], state["negatives"])
        self._in_checkpoint = str(state["descriptors"])
        if not self._descriptors.restore(self._in_checkpoint):
            _log.warning(
                "the descriptors %s are gone: images are chosen at random until the next refresh",
                self._in_checkpoint,
            )

    def _usable_queries(self) -> np.ndarray:
        dataset, wanted = self._dataset, self._tuples.positives
        counts = np.array(
            [len(dataset.nontrivial_positives(i)) for i in range(len(dataset.queries))]
        )
        usable = np.flatnonzero(counts >= wanted)
        radius_m = dataset.nontrivial_radius_m
        told = f"{wanted} positives within {radius_m:g} m, got {len(usable)} among {len(counts)}"
        if not len(usable):
            raise DatasetError(
                f"{dataset.name}: expected queries with at least {told}; is the radius right?"
            )
        if len(usable) < len(counts):
            _log.info("%s: queries with at least %s; the others are left out", dataset.name, told)
        return usable

    def _queries_from(self, step: int) -> np.ndarray:
        """Those that come until the next refresh."""
        steps = self.refresh_every_steps
        if steps >= self.steps_per_epoch:
            return self._queries
        size = self._tuples.tuples_per_batch
        return np.unique([self._query(turn) for turn in range(step * size, (step + steps) * size)])

    def _query(self, turn: int) -> int:
        """Whose turn it is in the endless sequence of epochs."""
        epoch, place = divmod(turn, len(self._queries))
        return int(np.random.default_rng([self._seed, epoch]).permutation(self._queries)[place])

    def _batch(self, step: int) -> TrainingBatch:
        size = self._tuples.tuples_per_batch
        tuples = [
            self._readable_tuple(step, turn) for turn in range(step * size, (step + 1) * size)
        ]
        images = np.stack([[image.pixels for image in each] for each in tuples])
        relation = self._relation([image for each in tuples for image in each])
        return TrainingBatch(images, relation, self._tuples.positives)

    def _readable_tuple(self, step: int, turn: int) -> list[_Image]:
        """The tuple of the query whose turn it is, or of another one if its images are broken."""
        rng = np.random.default_rng([self._seed, step, turn])
        others = rng.permutation(self._queries).tolist()
        for query in itertools.chain([self._query(turn)], others):
            found = self._tuple(step, query, rng)
            if found:
                return found
        raise DatasetError(
            f"{self._dataset.name}: expected a query with {self._tuples.positives} positives and "
            f"{self._tuples.negatives} negatives that can be read, got none; {self.skipped.count} images "
            "could not be used."
        )

    def _tuple(self, step: int, query: int, rng: np.random.Generator) -> list[_Image]:
        """Query, positives, negatives; nothing if too few of them can be read."""
        near = rng.permutation(self._dataset.nontrivial_positives(query))
        far = self._descriptors.ranked(query, self._pool(query, rng))
        positives = self._first(
            False, self._descriptors.ranked(query, near), self._tuples.positives
        )
        negatives = self._first(False, far, self._tuples.negatives)
        found = [*self._first(True, [query], 1), *positives, *negatives]
        if len(found) < 1 + self._tuples.positives + self._tuples.negatives:
            return []
        if self._descriptors.are_known:
            self._remembered.remember(step, query, far[: self._mining.remembered])
        return found

    def _pool(self, query: int, rng: np.random.Generator) -> np.ndarray:
        """Database images far away, and those that were hard the last time."""
        drawn = self._dataset.sample_negatives(query, self._mining.pool, rng)
        if not self._descriptors.are_known:
            return drawn
        return np.union1d(drawn, self._remembered.of(query))

    def _first(self, is_query: bool, indices: Iterable[int], count: int) -> list[_Image]:
        """The first so many that can be read."""
        places = self._dataset.queries if is_query else self._dataset.database
        read = ((int(index), self._read(is_query, int(index))) for index in indices)
        usable = (_Image(places, index, pixels) for index, pixels in read if pixels is not None)
        return list(itertools.islice(usable, count))

    def _read(self, is_query: bool, index: int) -> np.ndarray | None:
        """uint8 RGB (H, W, 3); None if it can't be used, which is told the first time."""
        places = self._dataset.queries if is_query else self._dataset.database
        if (is_query, index) in self._broken:
            return None
        try:
            return read_for_network(places, index, self._size_px)
        except ImageError as error:
            self._broken.add((is_query, index))
            self.skipped.add(places.names[index], error)
            return None

    def _relation(self, images: list[_Image]) -> np.ndarray:
        """(n, n) int8 from positions and headings, by the radii of the set."""
        positions_m = np.stack([image.places.positions_m[image.number] for image in images])
        distances_m = np.linalg.norm(positions_m[:, None] - positions_m, axis=-1)
        same = (distances_m <= self._dataset.nontrivial_radius_m) & self._look_alike(images)
        other = distances_m > self._dataset.positive_radius_m
        relation = SAME * same.astype(np.int8) + OTHER * other.astype(np.int8)
        sides = np.array([image.places is self._dataset.queries for image in images])
        numbers = np.array([image.number for image in images])
        is_itself = (sides[:, None] == sides) & (numbers[:, None] == numbers)
        return np.where(is_itself, UNKNOWN, relation).astype(np.int8)

    def _look_alike(self, images: list[_Image]) -> np.ndarray:
        """(n, n) bool, whether they look the same way; true where headings don't matter."""
        tolerance_rad = self._dataset.heading_tolerance_rad
        headings = [image.places.headings_rad for image in images]
        if tolerance_rad is None:
            return np.ones((len(images),) * 2, bool)
        headings_rad = np.array(
            [
                known[image.number]
                for known, image in zip(headings, images, strict=True)
                if known is not None
            ]
        )
        return angle_between(headings_rad[:, None], headings_rad) <= tolerance_rad
