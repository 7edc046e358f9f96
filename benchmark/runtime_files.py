# SPDX-License-Identifier: MIT
"""Makes one file for benchmark.runtimes, in a process of its own: see main()."""

import sys
from pathlib import Path

from netvlad_ros.commands.export import read_images
from netvlad_ros.errors import ModelError
from netvlad_ros.export.exporter import export_network, made_up_images
from netvlad_ros.export.formats import format_of
from netvlad_ros.model import load_model


def main() -> None:
    """JOB MODEL OUTPUT, then for the job export: PRECISION WIDTH HEIGHT IMAGES."""
    job, model, output, *words = sys.argv[1:]
    if job == "checkpoint":
        from benchmark.netvlad_tf_graph import write_checkpoint

        write_checkpoint(load_model(model), Path(output))
    else:
        _export(Path(model), Path(output), *words)


def _export(
    model: Path, output: Path, precision: str, width: str, height: str, folder: str
) -> None:
    size_px = (int(width), int(height))
    images = read_images(folder, size_px) if folder else made_up_images(size_px)
    try:
        export_network(
            load_model(model), output, format_of(output, None), precision, size_px, images
        )
    except ModelError as error:
        raise SystemExit(f"benchmark: {error}") from None


if __name__ == "__main__":
    main()
