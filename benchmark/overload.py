# SPDX-License-Identifier: MIT
"""A 30 Hz camera into an extractor of about 3 Hz: how old images get, what memory does, and the drops."""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmark.cameras import Camera, camera, picture, raw_message
from benchmark.models import slow_model
from benchmark.tables import print_table

RATE_HZ = 30.0
REPORTS = 10


def measure(arguments: argparse.Namespace) -> None:
    """One row for each tenth of the time."""
    images = int(60 * arguments.minutes * RATE_HZ)
    with (
        tempfile.TemporaryDirectory() as folder,
        camera(slow_model(Path(folder)), raw_message(picture())) as source,
    ):
        source.wait_until_ready()
        rows = [_row(source, images // REPORTS, part) for part in range(1, REPORTS + 1)]
        source.settle(2.5)
        total = _counts(source)
    header = ["part", "extract ms", "median age ms", "95 % age ms", "age / extract", "node MB"]
    print_table(
        f"640x480 rgb8 at {RATE_HZ:.0f} Hz for {arguments.minutes:g} min, VGG16 at 480x320",
        header,
        rows,
    )
    print_table("Every image accounted for", ["images", "number"], list(total.items()))


def _row(source: Camera, images: int, part: int) -> list[Any]:
    source.ages_ms.clear()
    source.shoot(images, RATE_HZ)
    extract_ms = float(source.diagnostics["extract (median ms)"])
    median_ms, late_ms = (
        statistics.median(source.ages_ms),
        statistics.quantiles(source.ages_ms, n=20)[-1],
    )
    return [part, extract_ms, median_ms, late_ms, median_ms / extract_ms, source.memory_mb()]


def _counts(source: Camera) -> dict[str, Any]:
    counts = {
        name: int(source.diagnostics.get(name, "0").split()[0])
        for name in ("received", "published", "dropped")
    }
    lost = source.published - counts["received"]
    unexplained = counts["received"] - counts["published"] - counts["dropped"]
    return {
        "sent by the camera": source.published,
        **counts,
        "lost by the transport": lost,
        "unexplained": unexplained,
    }
