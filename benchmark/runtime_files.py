# SPDX-License-Identifier: MIT
"""Makes one file for benchmark.runtimes, in a process of its own: see main()."""

import sys
from pathlib import Path

import numpy as np

from benchmark.models import vgg16_netvlad_pca
from benchmark.netvlad_tf_graph import write_checkpoint
from netvlad_ros.commands.export import read_images
from netvlad_ros.errors import ModelError
from netvlad_ros.export.exporter import export_network, made_up_images
from netvlad_ros.export.formats import format_of
from netvlad_ros.model import load_model


def main() -> None:
    """JOB FILE and more words: a job is vgg16, checkpoint, image or export."""
    job, file, *words = sys.argv[1:]
    match job:
        case "vgg16":
            vgg16_netvlad_pca(Path(file))
        case "checkpoint":
            write_checkpoint(load_model(file), Path(words[0]))
        case "image":
            np.save(file, _images(*words)[1])
        case "export":
            _export(file, Path(words[0]), _images(*words[1:4]), words[4])


def _images(width: str, height: str, folder: str) -> np.ndarray:
    size_px = (int(width), int(height))
    return read_images(folder, size_px) if folder else made_up_images(size_px)


def _export(model: str, output: Path, images: np.ndarray, precision: str) -> None:
    height, width = images.shape[1:3]
    format = format_of(output, None)
    try:
        export_network(load_model(model), output, format, precision, (width, height), images)
    except ModelError as error:
        raise SystemExit(f"benchmark: {error}") from None


if __name__ == "__main__":
    main()
