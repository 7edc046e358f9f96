# SPDX-License-Identifier: MIT
"""Tuples to learn from out of rendered worlds, each tuple of a batch from another world."""

import itertools
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from netvlad_ros.data.shards import Shard, ShardGroup
from netvlad_ros.errors import WorldError
from netvlad_ros.training.batches import OTHER, SAME, UNKNOWN, TrainingBatch

_log = logging.getLogger(__name__)

_TRIES = 10

# A picture of a shard: which shard, which of its groups, which of the group's pictures.
_Picture = tuple[int, int, int]


class RenderedTuples:
    """A BatchSource over shards of rendered worlds.

    Each group of pictures comes once in an epoch, in another order and as other tuples each time: any of
    the pictures of its place may be the query. Negatives are views of the same world that share nothing
    with the query; where a world has not enough of them, the rest come from other worlds.
    Memory: the index of the shards, 2 kB for each group, and one batch.
    """

    refresh_every_steps = 0

    def __init__(
        self,
        shards: Sequence[Shard],
        tuples: int = 4,
        positives: int = 1,
        negatives: int = 10,
        seed: int = 0,
    ) -> None:
        """tuples: in a batch. Raises WorldError for fewer usable worlds, or too small groups."""
        self._tuples, self._positives, self._negatives = tuples, positives, negatives
        self._seed = seed
        self.skipped = 0  # batches with broken pictures
        self._shards = list(shards)
        self._groups = [
            [number for number, group in enumerate(shard.groups) if group.positives >= positives]
            for shard in self._shards
        ]
        self._refuse_too_few()
        # In each round every world gives one group, but for those that don't fill a batch.
        self._rounds = max(map(len, self._groups))
        self._steps_per_round = len(self._shards) // tuples

    def _refuse_too_few(self) -> None:
        usable = sum(map(bool, self._groups))
        if usable < len(self._shards):
            raise WorldError(
                f"rendered tuples: expected groups with at least {self._positives} positives in each world, "
                f"got {usable} of {len(self._shards)} worlds that have them; render more positives."
            )
        least = self._tuples + bool(self._negatives)
        if usable < least:
            raise WorldError(
                f"rendered tuples: expected at least {least} worlds for {self._tuples} tuples of different "
                f"worlds, got {usable}; render more worlds or ask for fewer tuples."
            )

    @property
    def steps_per_epoch(self) -> int:
        """In which every group comes about once."""
        return self._rounds * self._steps_per_round

    def batches(self, first_step: int) -> Iterator[TrainingBatch]:
        """Endless; depends on the seed and the step only."""
        for step in itertools.count(first_step):
            yield self._readable_batch(step)

    def refresh(self, model: Any, step: int) -> None:
        """Nothing depends on the network."""

    def state(self, step: int) -> dict[str, np.ndarray]:
        """Nothing beyond seed and step."""
        return {}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Nothing to restore."""

    def _readable_batch(self, step: int) -> TrainingBatch:
        """The batch of this step, or of the next one whose pictures are not broken."""
        for tried in range(step, step + _TRIES):
            try:
                return self._batch(tried)
            except (WorldError, OSError) as error:
                self.skipped += 1
                _log.warning("step %d takes the batch of step %d: %s", step, tried + 1, error)
        raise WorldError(
            f"rendered tuples: expected pictures that can be read, got {_TRIES} broken batches one after the "
            "other; delete the shards that were named, and render again."
        )

    def _batch(self, step: int) -> TrainingBatch:
        rng = np.random.default_rng([self._seed, step])
        chosen = self._chosen(step)
        tuples = [self._tuple(shard, group, rng, chosen) for shard, group in chosen]
        pictures = [picture for each in tuples for picture in each]
        images = self._images(pictures)
        return TrainingBatch(
            images.reshape(self._tuples, -1, *images.shape[1:]),
            self._relation(pictures),
            self._positives,
        )

    def _chosen(self, step: int) -> list[tuple[int, int]]:
        """A group each of T different worlds."""
        rounds, place = divmod(step, self._steps_per_round)
        epoch, number = divmod(rounds, self._rounds)
        order = np.random.default_rng([self._seed, 1, rounds]).permutation(len(self._shards))
        found = []
        for shard in order[place * self._tuples : (place + 1) * self._tuples].tolist():
            groups = self._groups[shard]
            turn = np.random.default_rng([self._seed, 2, epoch, shard]).permutation(len(groups))
            found.append((shard, groups[turn[number % len(groups)]]))
        return found

    def _tuple(
        self, shard: int, group: int, rng: np.random.Generator, chosen: list[tuple[int, int]]
    ) -> list[_Picture]:
        """Query, positives, negatives."""
        found = self._shards[shard].groups[group]
        query = self._query(found, rng)
        positives = rng.permutation(np.flatnonzero(self._same(found)[query]))[: self._positives]
        others = rng.permutation(np.flatnonzero(found.relation[query] == OTHER))[: self._negatives]
        inside = [(shard, group, int(picture)) for picture in (query, *positives, *others)]
        missing = self._negatives - len(others)
        return inside + self._elsewhere(missing, rng, {each[0] for each in chosen})

    def _same(self, group: ShardGroup) -> np.ndarray:
        """(1 + P, 1 + P) bool, which pictures of the group's place show the same."""
        return group.relation[: 1 + group.positives, : 1 + group.positives] == SAME

    def _query(self, group: ShardGroup, rng: np.random.Generator) -> int:
        """Any picture of the place with enough positives, and with as many negatives as the first one."""
        enough = self._same(group).sum(axis=1) >= self._positives
        negatives = (group.relation[: len(enough)] == OTHER).sum(axis=1)
        enough &= negatives >= min(self._negatives, negatives[0])
        return int(rng.choice(np.flatnonzero(enough)))

    def _elsewhere(self, count: int, rng: np.random.Generator, used: set[int]) -> list[_Picture]:
        """Pictures of worlds that no tuple of the batch is of."""
        unused = np.array([shard for shard in range(len(self._shards)) if shard not in used])
        found = []
        for shard in rng.choice(unused, count).tolist() if count else []:
            group = int(rng.integers(len(self._shards[shard].groups)))
            size = len(self._shards[shard].groups[group].poses)
            found.append((shard, group, int(rng.integers(size))))
        return found

    def _images(self, pictures: list[_Picture]) -> np.ndarray:
        """uint8 RGB (len(pictures), H, W, 3)."""
        rows: dict[tuple[int, int], list[int]] = {}
        for row, (shard, group, _) in enumerate(pictures):
            rows.setdefault((shard, group), []).append(row)
        images: list[np.ndarray] = [np.empty(0)] * len(pictures)
        for (shard, group), where in rows.items():
            read = self._shards[shard].images(group, [pictures[row][2] for row in where])
            for row, image in zip(where, read, strict=True):
                images[row] = image
        return np.stack(images)

    def _relation(self, pictures: list[_Picture]) -> np.ndarray:
        """(n, n) int8; of pictures of one world in different groups nothing is known."""
        shards, groups, numbers = np.array(pictures).T
        relation = np.where(shards[:, None] == shards, UNKNOWN, OTHER).astype(np.int8)
        for shard, group in set(zip(shards.tolist(), groups.tolist(), strict=True)):
            rows = np.flatnonzero((shards == shard) & (groups == group))
            known = self._shards[shard].groups[group].relation
            relation[np.ix_(rows, rows)] = known[np.ix_(numbers[rows], numbers[rows])]
        return relation
