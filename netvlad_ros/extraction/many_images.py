# SPDX-License-Identifier: MIT
"""Descriptors of many images: kept for the next time, read ahead, and never stopped by a broken one."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from netvlad_ros.data.image_sources import ImageSource
from netvlad_ros.errors import DescriptorError, ImageError
from netvlad_ros.extraction.descriptor_cache import DescriptorCache
from netvlad_ros.extraction.protocol import Extractor

BATCH = 4
# Batches that run at once, which uses cores better than one; meanwhile one thread reads, in order, as bags
# want it. `python -m benchmark folder` shows what it brings.
RUNS = 2
# Descriptors that are handed on at once.
BLOCK_BYTES = 256 << 20

Progress = Callable[[Sequence[int]], Iterable[int]]


@dataclass(frozen=True)
class Skipped:
    """A picture that can't be used, and why not."""

    name: str
    problem: str


@dataclass
class Extraction:
    """What became of the images.

    skipped: those that can't be used, and why not.
    reused:  how many descriptors had been computed before.
    problem: why descriptors are not kept, else empty.
    """

    extracted: int = 0
    reused: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    problem: str = ""


class _Read(NamedTuple):
    """Images, and problems of those that can't be read; by index."""

    images: dict[int, np.ndarray]
    problems: dict[int, str]


class _Found(NamedTuple):
    """Descriptors, and problems of the images that can't be used; by index."""

    descriptors: dict[int, np.ndarray]
    problems: dict[int, str]


class _Group(NamedTuple):
    """Some images: those whose descriptors are known, and what becomes of the others."""

    known: dict[int, np.ndarray]
    others: Future[_Found]


def descriptor_blocks(
    source: ImageSource,
    extractor: Extractor,
    cache_folder: Path | None,
    told: Extraction,
    progress: Progress = iter,
    batch: int = BATCH,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of descriptors (B, dims) with the indices (B,) of their images, ascending over all blocks.

    Descriptors in the cache are not computed again, so that what was interrupted continues. Images that can't
    be used are missing in the blocks and counted in told.
    cache_folder: where descriptors are kept for the next time; None keeps none.
    progress: passes indices on, one by one, and may show how many are left.
    """
    size = max(1, BLOCK_BYTES // (4 * extractor.dims))
    rows: list[np.ndarray] = []
    indices: list[int] = []
    root = source.root
    with DescriptorCache(cache_folder, root, extractor.fingerprint, extractor.dims) as cache:
        for index, descriptor in described(source, extractor, cache, told, progress, batch):
            rows.append(descriptor)
            indices.append(index)
            if len(rows) == size:
                yield _block(rows, indices)
                rows.clear()
                indices.clear()
        cache.write()
        told.problem = cache.problem
    if rows:
        yield _block(rows, indices)


def all_descriptors(
    source: ImageSource,
    extractor: Extractor,
    cache_folder: Path | None,
    told: Extraction,
    progress: Progress = iter,
    batch: int = BATCH,
) -> tuple[np.ndarray, np.ndarray]:
    """The same in one piece: (N, dims) and (N,).

    Raises ImageError if none of the images can be used.
    """
    blocks = list(descriptor_blocks(source, extractor, cache_folder, told, progress, batch))
    if not blocks:
        raise ImageError(
            f"{source.root}: none of {len(source.names)} images can be used; the first: "
            f"{told.skipped[0].problem}"
        )
    descriptors, indices = zip(*blocks, strict=True)
    return np.concatenate(descriptors), np.concatenate(indices)


def described(
    source: ImageSource,
    extractor: Extractor,
    cache: DescriptorCache,
    told: Extraction,
    progress: Progress = iter,
    batch: int = BATCH,
) -> Iterator[tuple[int, np.ndarray]]:
    """Index and descriptor (dims,) of each image that can be used, in order; see descriptor_blocks().

    Memory: RUNS batches in the network at a time, and two that are read ahead.
    """
    waiting: deque[_Group] = deque()
    with (
        ThreadPoolExecutor(1, thread_name_prefix="read") as reader,
        ThreadPoolExecutor(RUNS, thread_name_prefix="run") as runners,
    ):
        for indices in _batches(progress(range(len(source.names))), batch):
            known = _cached(source, indices, cache)
            missing = [index for index in indices if index not in known]
            images = reader.submit(_read, source, missing)
            waiting.append(_Group(known, runners.submit(_run_when_read, images, extractor)))
            if len(waiting) > RUNS + 1:
                yield from _finished(source, waiting.popleft(), cache, told)
        while waiting:
            yield from _finished(source, waiting.popleft(), cache, told)


def _batches(indices: Iterable[int], size: int) -> Iterator[list[int]]:
    rest = iter(indices)
    while part := list(itertools.islice(rest, size)):
        yield part


def _cached(
    source: ImageSource, indices: Sequence[int], cache: DescriptorCache
) -> dict[int, np.ndarray]:
    found = {i: cache.find(_shown(source.names[i]), source.file(i)) for i in indices}
    return {index: descriptor for index, descriptor in found.items() if descriptor is not None}


def _read(source: ImageSource, indices: Sequence[int]) -> _Read:
    images: dict[int, np.ndarray] = {}
    problems: dict[int, str] = {}
    for index in indices:
        try:
            images[index] = source.read(index)
        except ImageError as error:
            problems[index] = str(error)
    return _Read(images, problems)


def _run_when_read(read: Future[_Read], extractor: Extractor) -> _Found:
    images, problems = read.result()
    descriptors, refused = _run(images, extractor)
    return _Found(descriptors, problems | refused)


def _run(images: dict[int, np.ndarray], extractor: Extractor) -> _Found:
    """A batch that fails is run again one by one."""
    if not images:
        return _Found({}, {})
    try:
        found = extractor.extract_batch([*images.values()])
        return _Found(dict(zip(images, found, strict=True)), {})
    except (ImageError, DescriptorError) as error:
        if len(images) == 1:
            return _Found({}, {next(iter(images)): str(error)})
    descriptors: dict[int, np.ndarray] = {}
    problems: dict[int, str] = {}
    for index, image in images.items():
        one, problem = _run({index: image}, extractor)
        descriptors |= one
        problems |= problem
    return _Found(descriptors, problems)


def _finished(
    source: ImageSource, group: _Group, cache: DescriptorCache, told: Extraction
) -> Iterator[tuple[int, np.ndarray]]:
    """Keeps and tells what became of a group; passes on what can be used."""
    new, problems = group.others.result()
    for index in sorted(problems):
        problem = problems[index].removeprefix(f"{source.file(index)}: ")
        told.skipped.append(Skipped(_shown(source.names[index]), problem))
    for index, descriptor in new.items():
        cache.keep(_shown(source.names[index]), source.file(index), descriptor)
    told.reused += len(group.known)
    told.extracted += len(new)
    yield from sorted((group.known | new).items())


def _block(rows: list[np.ndarray], indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.stack(rows), np.array(indices, np.int64)


def _shown(name: str) -> str:
    """A name that can be printed and stored: those of files need not be valid Unicode."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
