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
# An image must be published before it is this many times as old as the extractor takes.
AGE_LIMIT = 2.0


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
    header = [
        "part",
        "extract ms",
        "median age ms",
        "worst age ms",
        "median / extract",
        "worst / extract",
        f"% below {AGE_LIMIT:g}x",
        "node MB",
    ]
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
    ages = [age_ms / extract_ms for age_ms in source.ages_ms]
    median, worst = statistics.median(ages), max(ages)
    return [
        part,
        extract_ms,
        median * extract_ms,
        worst * extract_ms,
        median,
        worst,
        100 * sum(age < AGE_LIMIT for age in ages) / len(ages),
        source.memory_mb(),
    ]


def _counts(source: Camera) -> dict[str, Any]:
    counts = {
        name: int(source.diagnostics.get(name, "0").split()[0])
        for name in ("received", "published", "dropped", "refused", "lost")
    }
    told_lost = counts.pop("lost")
    accounted = counts["published"] + counts["dropped"] + counts["refused"]
    return {
        "sent by the camera": source.published,
        **counts,
        "received, but unexplained": counts["received"] - accounted,
        "lost by the transport": source.published - counts["received"],
        "of them known to the node": told_lost,
    }
