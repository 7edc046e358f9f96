# SPDX-License-Identifier: MIT
"""How long training waits for its images: python -m benchmark.idle worlds|files [CACHE].

Prints as JSON the milliseconds of a step and the share of them in which the network waits, over the steps of
config/compact_training.yaml after the first two, which compile.
"""

import csv
import json
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

RECIPE = Path(__file__).resolve().parents[1] / "config" / "compact_training.yaml"
STEPS, FIRST_STEPS = 20, 2
WORLDS = 24
# Files as a camera writes them, four of each place.
FILE_WIDTH_PX, FILE_HEIGHT_PX, PLACES, VISITS = 640, 480, 60, 4


class Quiet:
    """A Listener."""

    def said(self, sentence: str) -> None:
        """Nothing."""

    def stepped(self, step: int, last_step: int, loss: float) -> None:
        """Nothing."""

    def wants_to_stop(self) -> bool:
        return False


def main() -> None:
    """Trains for some steps in a folder that is deleted again."""
    from netvlad_ros.commands.train import render_worlds
    from netvlad_ros.training.config import load_training_config
    from netvlad_ros.training.trainer import train

    source, cache = (*sys.argv[1:], "")[:2]
    with tempfile.TemporaryDirectory() as folder:
        settings = _of_files(Path(folder)) if source == "files" else _of_worlds(cache)
        config = load_training_config(RECIPE, [*_SHORT, *settings])
        train(config, Path(folder) / "run", Quiet(), render_worlds)
        tuples = config.tuples
        images = tuples.tuples_per_batch * (1 + tuples.positives + tuples.negatives)
        print(json.dumps(_times(Path(folder) / "run" / "log.csv", images)))


# What comes before the first step and after the last one has no part in it.
_SHORT = [
    "data.validation=",
    "clusters.initialise=never",
    "initial.whitening=identity",
    "run.epochs=1",
    f"run.steps_per_epoch={STEPS}",
    "run.whitening_dims=0",
]


def _of_worlds(cache: str) -> list[str]:
    return [f"data.worlds={WORLDS}", f"data.cache_folder={cache}"]


def _of_files(folder: Path) -> list[str]:
    rng = np.random.default_rng(0)
    lines = ["image,x_m,y_m"]
    for place in range(PLACES):
        coarse = rng.integers(0, 256, (FILE_HEIGHT_PX // 8, FILE_WIDTH_PX // 8, 3), np.uint8)
        picture = cv2.resize(coarse, (FILE_WIDTH_PX, FILE_HEIGHT_PX))
        for visit in range(VISITS):
            cv2.imwrite(str(folder / f"{place}-{visit}.jpg"), np.roll(picture, 8 * visit, axis=1))
            lines.append(f"{place}-{visit}.jpg,{1000 * place},{visit}")
    (folder / "places.csv").write_text("\n".join(lines) + "\n")
    return [f"data.source={folder / 'places.csv'}", f"data.cache_folder={folder}"]


def _times(log: Path, images: int) -> dict[str, float]:
    with log.open() as file:
        rows = list(csv.DictReader(file))[FIRST_STEPS:]
    steps_s = np.array([images / float(row["images_per_s"]) for row in rows])
    waited_s = steps_s * np.array([float(row["idle_share"]) for row in rows])
    return {
        "step_ms": 1e3 * float(np.median(steps_s)),
        "idle_share": float(waited_s.sum() / steps_s.sum()),
    }


if __name__ == "__main__":
    main()
