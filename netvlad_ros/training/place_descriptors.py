# SPDX-License-Identifier: MIT
"""The descriptors of a set of places by a network that is being trained, computed anew from time to time."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_ros.data.places import PlaceDataset
from netvlad_ros.model.forward import Forward, compile_forward
from netvlad_ros.training.descriptor_store import DescriptorStore

_IMAGES_AT_ONCE = 16
_READ_AHEAD = 2
_PREFIX = "descriptors-"

# From whether it is a query, and its number, to its pixels, or None if they can't be read.
ReadImage = Callable[[bool, int], np.ndarray | None]


class PlaceDescriptors:
    """Which images of the database are nearest to a query, as far as descriptors are known.

    Each set of weights has a folder of its own, so that a resumed run finds the one it had.
    name: of the folder in use; empty before the first.
    """

    def __init__(self, dataset: PlaceDataset, folder: Path) -> None:
        self._dataset, self._folder = dataset, folder
        self._database: DescriptorStore | None = None
        self._queries: DescriptorStore | None = None
        self.name = ""

    @property
    def are_known(self) -> bool:
        """Whether there are any."""
        return self._database is not None

    def refresh(self, model: Any, queries: np.ndarray, read: ReadImage, needed: str) -> None:
        """Computes those of the whole database and of some queries, where this network has not yet.

        needed: the name that a checkpoint goes on with, whose folder stays; all others are removed.
        """
        name = f"{_PREFIX}{model.fingerprint()}"
        database, of_queries = self._open(name, model.descriptor_dims)
        forward = compile_forward(model, "auto")
        everything = np.arange(len(self._dataset.database))
        _compute(forward, database, everything, lambda index: read(False, index))
        if not self._dataset.is_sequence:
            _compute(forward, of_queries, queries, lambda index: read(True, index))
        for folder in self._folder.glob(f"{_PREFIX}*"):
            if folder.name not in (name, needed):
                shutil.rmtree(folder, ignore_errors=True)

    def restore(self, name: str) -> bool:
        """Takes those of a folder again; False if they are gone."""
        dims = DescriptorStore.dims_in(self._folder / name, "database") if name else None
        if dims is None:
            self._database = self._queries = None
            self.name = ""
            return not name
        self._open(name, dims)
        return True

    def ranked(self, query: int, candidates: np.ndarray) -> np.ndarray:
        """Database images by the distance to a query, nearest first; then those without a descriptor."""
        number = np.array([query])
        if self._database is None or self._queries is None or not self._queries.is_there(number)[0]:
            return candidates
        there = self._database.is_there(candidates)
        known, unknown = candidates[there], candidates[~there]
        # Of unit length: the nearest has the largest dot product.
        similarities = self._database.rows(known) @ self._queries.rows(number)[0]
        return np.concatenate([known[np.argsort(-similarities, kind="stable")], unknown])

    def _open(self, name: str, dims: int) -> tuple[DescriptorStore, DescriptorStore]:
        """Of the database and of the queries; one for both in a sequence."""
        folder, dataset = self._folder / name, self._dataset
        database = queries = DescriptorStore(folder, "database", len(dataset.database), dims)
        if not dataset.is_sequence:
            queries = DescriptorStore(folder, "queries", len(dataset.queries), dims)
        self._database, self._queries, self.name = database, queries, name
        return database, queries


def _compute(
    forward: Forward,
    store: DescriptorStore,
    indices: np.ndarray,
    read: Callable[[int], np.ndarray | None],
) -> None:
    missing = store.missing(indices)
    parts = [missing[i : i + _IMAGES_AT_ONCE] for i in range(0, len(missing), _IMAGES_AT_ONCE)]
    for part, images in _read_ahead(read, parts):
        is_read = np.array([image is not None for image in images])
        if is_read.any():
            batch = np.stack([image for image in images if image is not None])
            store.write(part[is_read], forward(batch))
        store.mark_broken(part[~is_read])


def _read_ahead(
    read: Callable[[int], np.ndarray | None], parts: Sequence[np.ndarray]
) -> Iterator[tuple[np.ndarray, list[np.ndarray | None]]]:
    """Each part with its images, which a thread has read while the network was at earlier ones."""

    def images(part: np.ndarray) -> list[np.ndarray | None]:
        return [read(int(index)) for index in part]

    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
        waiting: list[Future[list[np.ndarray | None]]] = []
        for number, part in enumerate(parts):
            while len(waiting) <= _READ_AHEAD and number + len(waiting) < len(parts):
                waiting.append(reader.submit(images, parts[number + len(waiting)]))
            yield part, waiting.pop(0).result()
