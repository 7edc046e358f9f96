# SPDX-License-Identifier: MIT
"""What a run tells while it goes on: a line in log.csv for each step, curves and pictures for TensorBoard."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from netvlad_ros.training.batches import TrainingBatch
from netvlad_ros.training.summaries import Summaries
from netvlad_ros.training.tensorboard_images import assignment_picture, tuple_picture

STEPS, RECALLS = "log.csv", "validation.csv"


class Monitor:
    """Tells of one run; goes on with its files where the run is resumed."""

    def __init__(self, folder: Path, first_step: int) -> None:
        self._steps = _Table(folder / STEPS, first_step)
        self._recalls = _Table(folder / RECALLS, first_step + 1)
        self._summaries = Summaries(folder / "tensorboard")

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of one step by name."""
        self._steps.add(step, figures)
        self._scalars("train", step, figures)

    def recalls(self, step: int, recalls: Mapping[int, float]) -> None:
        """Recall@n by n, after so many steps."""
        figures = {f"recall_at_{n}": value for n, value in recalls.items()}
        self._recalls.add(step, figures)
        self._scalars("validation", step, figures)

    def pictures(self, step: int, batch: TrainingBatch, model: Any) -> None:
        """The tuples of a batch, and which clusters its queries are assigned to."""
        self._summaries.image("tuples", tuple_picture(batch), step)
        if model.network.pooling == "netvlad":
            picture = assignment_picture(model, batch.images[:, 0])
            self._summaries.image("assignments", picture, step)

    def close(self) -> None:
        """Writes what is left."""
        self._summaries.close()
        self._steps.close()
        self._recalls.close()

    def _scalars(self, group: str, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._summaries.scalar(f"{group}/{name}", value, step)


class Silence:
    """A Monitor that tells nothing, of a process that others speak for."""

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """Nothing."""

    def recalls(self, step: int, recalls: Mapping[int, float]) -> None:
        """Nothing."""

    def pictures(self, step: int, batch: TrainingBatch, model: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class _Table:
    """A CSV file, a line for each step, that never has two lines of one step."""

    def __init__(self, path: Path, first_step: int) -> None:
        kept = _lines_before(path, first_step)
        self._file: TextIO = path.open("w", newline="", encoding="utf-8")
        self._file.writelines(kept)
        self._file.flush()
        self._writer: csv.DictWriter | None = None
        self._has_header = bool(kept)

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        row = {"step": step} | {name: f"{value:.9g}" for name, value in figures.items()}
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, list(row), lineterminator="\n")
            if not self._has_header:
                self._writer.writeheader()
        self._writer.writerow(row)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _lines_before(path: Path, step: int) -> list[str]:
    """The header and the whole lines of earlier steps; the last line may have been cut off."""
    if not path.is_file():
        return []
    header, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
    if not header.endswith("\n"):
        return []
    whole = [line for line in lines if line.endswith("\n")]
    return [header, *(line for line in whole if int(line.partition(",")[0]) < step)]
