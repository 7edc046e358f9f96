# SPDX-License-Identifier: MIT
"""From an image received to its descriptor published, in the real node, and where the time goes."""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmark.cameras import camera, jpeg_message, picture, raw_message
from benchmark.models import mobilenet_model
from benchmark.tables import print_table

IMAGES, RATE_HZ = 150, 10.0
STAGES = ("convert", "extract", "receive to publish")


def measure(arguments: argparse.Namespace) -> None:
    """640x480 rgb8 and JPEG from another process, at a rate that the network keeps up with."""
    image = picture()
    with tempfile.TemporaryDirectory() as folder:
        model = mobilenet_model(Path(folder))
        rows = [_row("rgb8", model, raw_message(image)), _row("jpeg", model, jpeg_message(image))]
    header = [
        "640x480",
        *(f"{stage} ms" for stage in STAGES),
        "over extract ms",
        "camera to subscriber ms",
    ]
    print_table("descriptor_node", header, rows)


def _row(name: str, model: Path, message: Any) -> list[Any]:
    with camera(model, message) as source:
        source.wait_until_ready()
        source.shoot(IMAGES, RATE_HZ)
        source.settle(1.5)
        stages = [float(source.diagnostics[f"{stage} (median ms)"]) for stage in STAGES]
        return [name, *stages, stages[2] - stages[1], statistics.median(source.ages_ms)]
