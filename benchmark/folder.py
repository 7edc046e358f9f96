# SPDX-License-Identifier: MIT
"""Descriptors of all images of a folder, as evaluation and search make them, beside the bare model."""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from benchmark.models import slow_model
from benchmark.tables import console, print_table
from netvlad_ros.data.image_files import read_image
from netvlad_ros.data.image_sources import ImageFiles
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.extraction.many_images import BATCH, Extraction, all_descriptors
from netvlad_ros.runtime.choice import open_chosen
from netvlad_ros.shipped import model_path

REPEATS = 7
# Of the JPEG files.
SIZES = ((320, 240), (640, 480))


def measure(arguments: argparse.Namespace) -> None:
    """The model that comes with the package, and one that takes a hundred times as long."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = [
            [name, f"{width}x{height}", *_rates(model, _images(folder, count, width, height))]
            for name, model, count in (
                ("compact, 320x240", model_path(""), 400),
                ("VGG16, 480x320", slow_model(folder), 8),
            )
            for width, height in SIZES
        ]
    print_table(
        "Images a second", ["model", "JPEG files", "bare model", "from a folder", "share"], rows
    )
    console.print(f"bare model: the same images in memory, resized, {BATCH} at once\n")


def _images(scratch: Path, count: int, width_px: int, height_px: int) -> ImageFiles:
    """Blurred noise, which takes about as many bytes a pixel as photographs do."""
    folder = scratch / f"{count}-{width_px}"
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = [f"{number}.jpg" for number in range(count)]
    for name in names:
        noise = cv2.GaussianBlur(rng.normal(size=(height_px, width_px, 3)), (0, 0), 2.0)
        picture = np.clip(127.5 + 40.0 * noise / noise.std(), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / name), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return ImageFiles(folder, names)


def _rates(model: Path, images: ImageFiles) -> list[object]:
    """Images a second of both ways, which take turns, and their ratio; medians."""
    extractor = NetVLADExtractor(model)
    forward = open_chosen(model, extractor.config)[0].forward
    batches = _batches(images, extractor.size_px or (480, 320))
    bare_s, folder_s = [], []
    for turn in range(REPEATS + 1):
        start_s = time.perf_counter()
        for batch in batches:
            forward(batch)
        between_s = time.perf_counter()
        with tempfile.TemporaryDirectory() as cache:
            all_descriptors(images, extractor, Path(cache), Extraction())
        if turn:  # the first compiles
            bare_s.append(between_s - start_s)
            folder_s.append(time.perf_counter() - between_s)
    count, share = len(images.names), median(bare_s) / median(folder_s)
    return [count / median(bare_s), count / median(folder_s), f"{share:.0%}"]


def _batches(images: ImageFiles, size_px: tuple[int, int]) -> Sequence[np.ndarray]:
    resized = [cv2.resize(read_image(images.file(i)), size_px) for i in range(len(images.names))]
    return [np.stack(resized[i : i + BATCH]) for i in range(0, len(resized), BATCH)]


if __name__ == "__main__":
    measure(argparse.Namespace())
