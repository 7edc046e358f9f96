# SPDX-License-Identifier: MIT
"""Search and add at growing sizes, beside Faiss's flat index."""

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any

import faiss
import numpy as np

from benchmark.tables import console, interleaved_medians_ms, print_table
from netvlad_ros.index.exact import ExactIndex

SIZES = (1_000, 10_000, 100_000)
DIMENSIONS = (256, 1024, 4096)
MATCHES = 20
# Vectors that are sums over a window of a random walk: neighbouring frames look alike, as on a drive.
WINDOW = 50
# A robot that stands still: one vector with so much noise that the similarity of any two is 0.9996.
STILL_SIZE, STILL_DIMENSIONS, STILL_SIMILARITY = 10_000, 1024, 0.9996


def measure(arguments: argparse.Namespace) -> None:
    """One query at a time, as a camera gives them."""
    rows = [row for dims in DIMENSIONS for row in _rows(dims, SIZES, _trajectory(max(SIZES), dims))]
    still = _rows(STILL_DIMENSIONS, (STILL_SIZE,), _still(STILL_SIZE, STILL_DIMENSIONS))
    header = [
        "dims",
        "keyframes",
        "search + add ms",
        "search ms",
        "flat search ms",
        "slowest add ms",
        "MB",
    ]
    print_table(f"ExactIndex, the {MATCHES} best of one query", header, rows)
    print_table(f"The same for a robot that stood still ({STILL_SIMILARITY})", header, still)


def _rows(dims: int, sizes: Sequence[int], chunks: Iterator[np.ndarray]) -> list[list[Any]]:
    index, flat, rows = ExactIndex(dims), faiss.IndexFlatIP(dims), []
    slowest_s = 0.0
    for chunk in chunks:
        for descriptor in chunk:
            start = time.perf_counter()
            index.add(np.array([len(index)]), descriptor[None])
            slowest_s = max(slowest_s, time.perf_counter() - start)
        flat.add(chunk)
        if len(index) in sizes:
            rows.append(_row(index, flat, chunk, 1e3 * slowest_s))
            console.print(f"[dim]  {dims} dimensions, {len(index)} keyframes: done[/dim]")
    return rows


def _row(index: ExactIndex, flat: Any, chunk: np.ndarray, slowest_ms: float) -> list[Any]:
    queries = iter(np.resize(chunk, (10_000, chunk.shape[1])))

    def search_and_add() -> None:
        descriptor = next(queries)
        index.search(descriptor, MATCHES)
        index.add(np.array([len(index)]), descriptor[None])

    size = len(index)
    medians = interleaved_medians_ms(
        {
            "both": search_and_add,
            "search": lambda: index.search(next(queries), MATCHES),
            "flat": lambda: flat.search(next(queries)[None], MATCHES),
        },
        repeats=200,
        batch=20,
    )
    memory_mb = index.size_bytes / 1e6
    index.remove(np.arange(size, len(index)))
    return [
        index.dims,
        size,
        medians["both"],
        medians["search"],
        medians["flat"],
        slowest_ms,
        memory_mb,
    ]


def _trajectory(size: int, dims: int, chunk: int = 1_000) -> Iterator[np.ndarray]:
    """Unit vectors, `chunk` at a time."""
    rng = np.random.default_rng(0)
    tail = rng.standard_normal((WINDOW, dims), dtype=np.float32)
    for _ in range(size // chunk):
        noise = np.concatenate([tail, rng.standard_normal((chunk, dims), dtype=np.float32)])
        sums = np.cumsum(noise, axis=0, dtype=np.float64)
        window = (sums[WINDOW:] - sums[:-WINDOW]).astype(np.float32)
        yield window / np.linalg.norm(window, axis=1, keepdims=True)
        tail = noise[-WINDOW:]


def _still(size: int, dims: int, chunk: int = 1_000) -> Iterator[np.ndarray]:
    """Unit vectors that are nearly the same, `chunk` at a time."""
    rng = np.random.default_rng(0)
    place = rng.standard_normal(dims, dtype=np.float32)
    noise = (1.0 / STILL_SIMILARITY - 1.0) ** 0.5
    for _ in range(size // chunk):
        seen = place + np.float32(noise) * rng.standard_normal((chunk, dims), dtype=np.float32)
        yield seen / np.linalg.norm(seen, axis=1, keepdims=True)
