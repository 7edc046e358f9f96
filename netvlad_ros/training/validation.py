# SPDX-License-Identifier: MIT
"""How well a network that is being trained finds places that it does not learn from."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from netvlad_ros.config import ExtractorConfig
from netvlad_ros.data.places import PlaceDataset
from netvlad_ros.data.shards import Shard
from netvlad_ros.evaluation.place_recognition import evaluate_places, refuse_sequence
from netvlad_ros.evaluation.recall import recall_at_n
from netvlad_ros.extraction.preprocessing import network_input
from netvlad_ros.model.forward import Forward
from netvlad_ros.training.batches import OTHER, SAME, UNKNOWN

_IMAGES_AT_ONCE = 16


class Validation(Protocol):
    """A set of places that is kept for it."""

    def recalls(self, forward: Forward) -> dict[int, float]:
        """Recall@n by n."""
        ...


class RenderedValidation:
    """The first picture of every group is looked up among the other pictures of all worlds.

    Views of the same world of which nothing is known are left out of a query's database.
    Memory: all descriptors.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = list(shards)

    def recalls(self, forward: Forward) -> dict[int, float]:
        """Recall@n by n."""
        places = [(shard, group) for shard in self._shards for group in range(len(shard.groups))]
        descriptors = [self._descriptors(shard, group, forward) for shard, group in places]
        queries = np.stack([each[0] for each in descriptors])  # (Q, D)
        database = np.concatenate([each[1:] for each in descriptors])  # (N, D)
        relation = self._relation(places)
        similarities = np.where(relation == UNKNOWN, -np.inf, queries @ database.T)
        best = np.where(relation == SAME, similarities, -np.inf).max(axis=1, keepdims=True)
        ranks = ((relation == OTHER) & (similarities >= best)).sum(axis=1)
        return recall_at_n(ranks)

    def _descriptors(self, shard: Shard, group: int, forward: Forward) -> np.ndarray:
        images = shard.images(group, range(len(shard.groups[group].poses)))
        starts = range(0, len(images), _IMAGES_AT_ONCE)
        return np.concatenate([forward(images[i : i + _IMAGES_AT_ONCE]) for i in starts])

    def _relation(self, places: list[tuple[Shard, int]]) -> np.ndarray:
        """(Q, N) int8 of each query to each picture that isn't one."""
        sizes = [len(shard.groups[group].poses) - 1 for shard, group in places]
        worlds = np.array([shard.world for shard, _ in places])
        of_picture = np.repeat(worlds, sizes)
        relation = np.where(worlds[:, None] == of_picture, UNKNOWN, OTHER).astype(np.int8)
        ends = np.cumsum(sizes)
        for row, (shard, group) in enumerate(places):
            inside = slice(ends[row] - sizes[row], ends[row])
            relation[row, inside] = shard.groups[group].relation[0, 1:]
        return relation


class PlaceValidation:
    """The queries of a set of places, as `netvlad evaluate` counts them."""

    def __init__(self, dataset: PlaceDataset, size_px: tuple[int, int]) -> None:
        """Raises DatasetError for a sequence, which has no queries of its own."""
        refuse_sequence(dataset)
        self._dataset, self._size_px = dataset, size_px

    def recalls(self, forward: Forward) -> dict[int, float]:
        """Recall@n by n."""
        extractor = LiveExtractor(forward, self._size_px)
        # The network is another one each time, so that there is nothing to keep.
        return evaluate_places(self._dataset, extractor).recalls


class LiveExtractor:
    """An Extractor of a network that is still changing; its fingerprint says only that it is none to keep."""

    fingerprint = "in training"
    calibration = None

    def __init__(self, forward: Forward, size_px: tuple[int, int]) -> None:
        self._forward, self._size_px, self._config = forward, size_px, ExtractorConfig()
        width, height = size_px
        self.dims = forward(np.zeros((1, height, width, 3), np.uint8)).shape[1]

    def extract(self, image: np.ndarray) -> np.ndarray:
        """See Extractor."""
        return self.extract_batch([image])[0]

    def extract_batch(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """See Extractor."""
        return self._forward(
            np.stack([network_input(image, self._size_px, self._config) for image in images])
        )
