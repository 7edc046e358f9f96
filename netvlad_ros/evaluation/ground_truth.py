# SPDX-License-Identifier: MIT
"""Which images of a recording show the same place, read from a CSV file.

    query_image,matching_images
    41,1 2 3
    42,1 2 3 4

Images are numbered from 1 in the order of their messages on the topic. A line names a query and, with
spaces between them, all earlier images of the same place; a query without a line closes no loop.
"""

import csv
from collections.abc import Iterable
from pathlib import Path

from netvlad_ros.errors import GroundTruthError

GroundTruth = dict[int, frozenset[int]]

HEADER = ["query_image", "matching_images"]


def read_ground_truth(path: str | Path) -> GroundTruth:
    """Query image -> the earlier images of the same place. Raises GroundTruthError."""
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            return _parsed(path, csv.reader(file))
    except OSError as error:
        raise GroundTruthError(f"{path}: can't read the ground truth ({error.strerror}).") from None
    except (UnicodeDecodeError, csv.Error):
        raise GroundTruthError(f"{path}: expected a CSV file, got something else.") from None


def _parsed(path: str | Path, rows: Iterable[list[str]]) -> GroundTruth:
    truth: GroundTruth = {}
    for line, row in enumerate(rows, start=1):
        if line == 1 and row != HEADER:
            expected = ",".join(HEADER)
            got = ",".join(row)[:60]
            raise GroundTruthError(f"{path}: expected the first line {expected!r}, got {got!r}.")
        if line > 1 and row:
            query, matches = _entry(f"{path}: line {line}", row)
            truth[query] = truth.get(query, frozenset()) | matches
    if not truth:
        raise GroundTruthError(f"{path}: expected at least one query and its matches, got none.")
    return truth


def _entry(where: str, row: list[str]) -> tuple[int, frozenset[int]]:
    try:
        query, matches = int(row[0]), frozenset(int(word) for word in row[1].split())
    except (ValueError, IndexError):
        raise GroundTruthError(
            f"{where}: expected image numbers such as '41,1 2 3', got {','.join(row)[:60]!r}."
        ) from None
    if not matches or not 1 <= min(matches) <= max(matches) < query:
        raise GroundTruthError(
            f"{where}: expected images from 1 to {query - 1}, earlier than their query {query}, "
            f"got {row[1][:60]!r}; is the first image number 1?"
        )
    return query, matches
