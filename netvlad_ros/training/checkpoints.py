# SPDX-License-Identifier: MIT
"""The state of a training run on disk: complete or as it was before, whenever the process ends.

A checkpoint is an .npz file: the variables of the network and of the optimiser in their order, what the
source of batches has to remember, and how far the run has come.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_ros.errors import TrainingError

_NETWORK, _OPTIMISER, _SOURCE, _PROGRESS = "network", "optimiser", "source", "progress"


@dataclass
class Progress:
    """How far a run has come.

    step:         steps that are done, and the next one's number.
    best_recall:  the best Recall@5 so far; below 0 before the first.
    best_step:    after how many steps it was measured.
    worse_epochs: epochs since.
    plateaus:     how often the learning rate has fallen for that.
    finished:     whether nothing is left to do.
    """

    step: int = 0
    best_recall: float = -1.0
    best_step: int = 0
    worse_epochs: int = 0
    plateaus: int = 0
    finished: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds."""

    path: Path
    network: list[np.ndarray]
    optimiser: list[np.ndarray]
    source: dict[str, np.ndarray] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)

    def restore(self, model: Any, optimiser: Any) -> None:
        """Puts all numbers back. Raises TrainingError if they are another network's."""
        self.restore_network(model)
        _assign(self.path, _OPTIMISER, optimiser.variables, self.optimiser)

    def restore_network(self, model: Any) -> None:
        """Puts back what the model file would hold. Raises TrainingError."""
        _assign(self.path, _NETWORK, model.weights, self.network)


def write_checkpoint(
    path: Path,
    model: Any,
    optimiser: Any,
    progress: Progress,
    source: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes beside the old file and then puts it in its place. Raises TrainingError."""
    arrays = {f"{_NETWORK}/{i}": _array(v) for i, v in enumerate(model.weights)}
    arrays |= {f"{_OPTIMISER}/{i}": _array(v) for i, v in enumerate(optimiser.variables)}
    arrays |= {f"{_SOURCE}/{name}": value for name, value in (source or {}).items()}
    arrays[_PROGRESS] = np.array(json.dumps(dataclasses.asdict(progress)))
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise TrainingError(
            f"{path}: can't write the checkpoint ({error.strerror or error}); the one before is still there."
        ) from None


def read_checkpoint(path: Path) -> Checkpoint:
    """Raises TrainingError."""
    if not path.is_file():
        raise TrainingError(f"{path}: there is no such checkpoint; start the run without --resume.")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        progress = Progress(**json.loads(str(arrays.pop(_PROGRESS))))
    except Exception as error:  # NumPy, zipfile and json have many kinds for one cause
        raise TrainingError(
            f"{path}: this checkpoint is damaged or another kind of file ({error}); start again, or from "
            "the best one."
        ) from None
    return Checkpoint(
        path,
        _in_order(arrays, _NETWORK),
        _in_order(arrays, _OPTIMISER),
        _named(arrays, _SOURCE),
        progress,
    )


def _array(variable: Any) -> np.ndarray:
    return np.asarray(variable.numpy())


def _assign(path: Path, what: str, variables: Sequence[Any], values: list[np.ndarray]) -> None:
    expected = [tuple(variable.shape) for variable in variables]
    if expected != [value.shape for value in values]:
        raise TrainingError(
            f"{path}: its variables of the {what} have other shapes than those of the configuration; was "
            "config.yaml changed?"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _named(arrays: Mapping[str, np.ndarray], group: str) -> dict[str, np.ndarray]:
    start = f"{group}/"
    return {
        name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)
    }


def _in_order(arrays: Mapping[str, np.ndarray], group: str) -> list[np.ndarray]:
    found = _named(arrays, group)
    return [found[str(i)] for i in range(len(found))]


def _sync_folder(folder: Path) -> None:
    """The new name survives a power cut only once the folder is on disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
