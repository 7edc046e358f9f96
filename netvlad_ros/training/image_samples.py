# SPDX-License-Identifier: MIT
"""Images of places or of rendered worlds in a random order, as clusters and whitening are fitted to them."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from netvlad_ros.config import ExtractorConfig
from netvlad_ros.data.places import PlaceImages
from netvlad_ros.data.shards import Shard
from netvlad_ros.errors import ImageError
from netvlad_ros.extraction.preprocessing import network_input

_log = logging.getLogger(__name__)


@dataclass
class SkippedImages:
    """Images that could not be used, each with the reason, and how many there are."""

    problems: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.problems)

    def add(self, name: str, error: Exception) -> None:
        """Names one image, at once in the log."""
        problem = str(error)
        self.problems.append(problem if name in problem else f"{name}: {problem}")
        _log.warning("skipped %s", self.problems[-1])


def read_for_network(
    places: PlaceImages, index: int, size_px: tuple[int, int] | None
) -> np.ndarray:
    """uint8 RGB (H, W, 3) at (width, height), or its own size. Raises ImageError, naming the image."""
    image = places.read(index)
    try:
        return network_input(image, size_px, ExtractorConfig())
    except ImageError as error:
        raise ImageError(f"{places.names[index]}: {error}") from None


def place_images(
    places: PlaceImages, size_px: tuple[int, int] | None, seed: int, skipped: SkippedImages
) -> Iterator[np.ndarray]:
    """Each image that can be used, uint8 RGB (H, W, 3), once."""
    for index in np.random.default_rng(seed).permutation(len(places)).tolist():
        try:
            yield read_for_network(places, index, size_px)
        except ImageError as error:
            skipped.add(places.names[index], error)


def rendered_images(shards: Sequence[Shard], seed: int) -> Iterator[np.ndarray]:
    """The pictures of rendered worlds, uint8 RGB (H, W, 3): one of each group, then another of each."""
    rng = np.random.default_rng(seed)
    places = [(shard, group) for shard in shards for group in range(len(shard.groups))]
    orders = [rng.permutation(len(shard.groups[group].poses)) for shard, group in places]
    for turn in range(max(map(len, orders), default=0)):
        for place in rng.permutation(len(places)).tolist():
            shard, group = places[place]
            if turn < len(orders[place]):
                yield shard.images(group, [int(orders[place][turn])])[0]
