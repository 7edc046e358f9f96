# SPDX-License-Identifier: MIT
"""A folder of images by their descriptors, and the images in it that look most like a query."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from netvlad_ros.config import DEFAULT_CAMERA, CameraConfig
from netvlad_ros.data.image_files import Picture, image_paths, shown_name
from netvlad_ros.data.image_sources import ImageFiles
from netvlad_ros.errors import ImageError
from netvlad_ros.extraction.descriptor_cache import DescriptorCache
from netvlad_ros.extraction.many_images import Extraction, Progress, Skipped, described
from netvlad_ros.extraction.protocol import Extractor
from netvlad_ros.index.exact import ExactIndex


@dataclass(frozen=True)
class GalleryMatch:
    """An image of the gallery that looks like a query; rank 1 is the most similar one.

    name: its file, relative to the gallery.
    """

    rank: int
    name: str
    similarity: float
    path: Path


@dataclass
class Times:
    """How long the steps of several pictures took together, in seconds."""

    pictures: int = 0
    reading_s: float = 0.0
    embedding_s: float = 0.0
    search_s: float = 0.0

    def means_ms(self) -> dict[str, float]:
        """By step, milliseconds a picture; empty where there were no pictures."""
        steps = {"reading": self.reading_s, "embedding": self.embedding_s, "search": self.search_s}
        return (
            {step: 1000.0 * s / self.pictures for step, s in steps.items()} if self.pictures else {}
        )


@dataclass
class Gallery:
    """The descriptors of a folder of images.

    fingerprint: of the descriptors.
    paths:       file of each vector of the index, by its id.
    told:        what became of the images.
    """

    folder: Path
    fingerprint: str
    index: ExactIndex
    paths: list[Path] = field(default_factory=list)
    told: Extraction = field(default_factory=Extraction)
    _ids: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the folder is called."""
        return f"{self.folder.resolve().name}/"

    def search(self, descriptor: np.ndarray, count: int, query: Path | None) -> list[GalleryMatch]:
        """The most similar images, best first, without the query itself if it is one of them."""
        file = None if query is None else _file_of(query)
        itself = self._ids.get(file, []) if file else []
        ids, similarities = self.index.search(descriptor, count, np.array(itself, np.int64))
        pairs = zip([self.paths[i] for i in ids], similarities.tolist(), strict=True)
        return [
            GalleryMatch(rank, shown_name(path, self.folder), similarity, path)
            for rank, (path, similarity) in enumerate(pairs, 1)
        ]

    def add(self, path: Path, descriptor: np.ndarray) -> None:
        """Keeps the descriptor of an image."""
        self.index.add(np.array([len(self.paths)]), descriptor[None])
        if file := _file_of(path):
            self._ids.setdefault(file, []).append(len(self.paths))
        self.paths.append(path)


@dataclass(frozen=True)
class Answer:
    """A query and its matches, best first; skipped is why there are none."""

    query: Picture
    matches: list[GalleryMatch]
    skipped: Skipped | None = None


def embed_gallery(
    folder: Path,
    extractor: Extractor,
    cache: DescriptorCache,
    progress: Progress = iter,
    camera: CameraConfig = DEFAULT_CAMERA,
) -> Gallery:
    """The descriptors of all images in a folder and its folders, those in the cache not computed again.

    progress: passes their numbers on, one by one, and may show how many are left.
    camera:   how many pixels they may have.
    Raises ImageError if there is no folder, no image in it, or none that can be used.
    """
    gallery = Gallery(folder, extractor.fingerprint, ExactIndex(extractor.dims))
    paths, told = image_paths(folder), gallery.told
    images = ImageFiles(folder, [str(path.relative_to(folder)) for path in paths], camera)
    for number, descriptor in described(images, extractor, cache, told, progress):
        gallery.add(paths[number], descriptor)
    cache.write()
    cache.forget_all_but(shown_name(path, folder) for path in gallery.paths)
    told.problem = cache.problem
    if not gallery.paths:
        raise ImageError(
            f"{folder}: none of {len(paths)} images can be used; the first: {told.skipped[0].problem}"
        )
    return gallery


def search_all(
    queries: Iterator[Picture],
    gallery: Gallery,
    extractor: Extractor,
    count: int,
    times: Times,
) -> Iterator[Answer]:
    """Looks up one picture after another; adds to times what it took.

    count: how many matches a query has. An image of the gallery does not match itself.
    """
    while True:
        start_s = time.perf_counter()
        query = next(queries, None)
        if query is None:
            return
        times.reading_s += time.perf_counter() - start_s
        descriptor = _embedded(query, extractor, times)
        if isinstance(descriptor, Skipped):
            yield Answer(query, [], descriptor)
            continue
        start_s = time.perf_counter()
        matches = gallery.search(descriptor, count, query.path)
        times.search_s += time.perf_counter() - start_s
        yield Answer(query, matches)


def _embedded(picture: Picture, extractor: Extractor, times: Times) -> np.ndarray | Skipped:
    if picture.image is None:
        return Skipped(picture.name, picture.problem)
    start_s = time.perf_counter()
    try:
        descriptor = extractor.extract(picture.image)
    except ImageError as error:
        return Skipped(picture.name, str(error))
    times.embedding_s += time.perf_counter() - start_s
    times.pictures += 1
    return descriptor


def _file_of(path: Path) -> tuple[int, int] | None:
    """What is the same for all names of a file; None if it is gone by now."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
