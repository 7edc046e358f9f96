# SPDX-License-Identifier: MIT
"""What sequences add to a query: a drive along 10,000 keyframes of a map, and one that matches nothing."""

import argparse
import time

import numpy as np

from benchmark.tables import print_table
from netvlad_ros.config import Config, DatabaseConfig, KeyframeConfig
from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.keyframe import Keyframe, Session
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.store.keyframe_store import StoredKeyframes

KEYFRAMES, DIMS, QUERIES = 10_000, 640, 300
LENGTHS = (1, 8, 12, 16)
# Of a view among chance, so that a place is about as like itself by night as on rendered drives.
NOISE = 2.0


def measure(_: argparse.Namespace) -> None:
    """Prints the median time of a query, search and add included."""
    rng = np.random.default_rng(0)
    places = _unit(rng.standard_normal((KEYFRAMES, DIMS)))
    along = _unit(places[500 : 500 + QUERIES] + _unit(rng.standard_normal((QUERIES, DIMS))) * NOISE)
    elsewhere = _unit(rng.standard_normal((QUERIES, DIMS)))
    rows = []
    for length in LENGTHS:
        times = [_median_ms(places, queries, length) for queries in (along, elsewhere)]
        rows.append([length, *(f"{each:.2f} ms" for each in times)])
    print_table(
        f"one query, search and add included, {KEYFRAMES} keyframes of {DIMS} dimensions",
        ["sequence_length", "along the map", "elsewhere"],
        rows,
    )


def _median_ms(places: np.ndarray, queries: np.ndarray, length: int) -> float:
    config = Config(
        keyframes=KeyframeConfig(min_interval_s=0.0, min_descriptor_change=0.0),
        database=DatabaseConfig(sequence_length=length),
    )
    database, session = KeyframeDatabase(config), Session.new()
    keyframes = [Keyframe(session, number, number * NANOSECONDS) for number in range(len(places))]
    database.add(StoredKeyframes(keyframes, places))
    times_s = []
    for number, descriptor in enumerate(queries):
        started_s = time.perf_counter()
        database.observe(descriptor, number * NANOSECONDS)
        times_s.append(time.perf_counter() - started_s)
    return 1000.0 * float(np.median(times_s))


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
