# SPDX-License-Identifier: MIT
"""Descriptors of many images in a memory-mapped file: as many as the disk holds, whatever the memory."""

import os
from pathlib import Path

import numpy as np

from netvlad_ros.errors import TrainingError

_MISSING, _THERE, _BROKEN = 0, 1, 2


class DescriptorStore:
    """Descriptors of images by their number, and which images can't be used.

    Kept as float16, which moves distances between descriptors of unit length by less than 0.001, in half of
    the space. A row counts as there only after it has been written to the disk: what a killed process has
    computed is found again, whole.
    """

    def __init__(self, folder: Path, name: str, count: int, dims: int) -> None:
        """Opens NAME.npy and NAME.state.npy in a folder, or makes them. Raises TrainingError."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            rows, state = folder / f"{name}.npy", folder / f"{name}.state.npy"
            if _fitting(rows, np.dtype(np.float16), (count, dims)) is None:
                state.unlink(missing_ok=True)  # of other rows
            self._rows = _opened(rows, np.dtype(np.float16), (count, dims))
            self._state = _opened(state, np.dtype(np.uint8), (count,))
        except OSError as error:
            raise TrainingError(
                f"{folder}: can't keep {count} descriptors of {dims} dimensions ({error.strerror or error}); "
                f"they need {2 * count * dims / 1e9:.2f} GB."
            ) from None

    @staticmethod
    def dims_in(folder: Path, name: str) -> int | None:
        """Of the descriptors that are there; None if there are none."""
        try:
            return int(np.load(folder / f"{name}.npy", mmap_mode="r").shape[1])
        except (OSError, ValueError):
            return None

    def missing(self, indices: np.ndarray) -> np.ndarray:
        """Those of these images that were not computed yet, nor found to be broken."""
        return indices[self._state[indices] == _MISSING]

    def is_there(self, indices: np.ndarray) -> np.ndarray:
        """(n,) bool."""
        return np.asarray(self._state[indices] == _THERE)

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """(n, dims) float32."""
        return np.asarray(self._rows[indices], np.float32)

    def write(self, indices: np.ndarray, descriptors: np.ndarray) -> None:
        """descriptors: (n, dims) of unit length."""
        self._rows[indices] = descriptors
        self._rows.flush()
        self._state[indices] = _THERE
        self._state.flush()

    def mark_broken(self, indices: np.ndarray) -> None:
        """Images that can't be used."""
        self._state[indices] = _BROKEN
        self._state.flush()


def _opened(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """The file as it is if it fits, or a new one of zeros. Raises OSError if the disk is full."""
    found = _fitting(path, dtype, shape)
    if found is not None:
        return found
    part = path.with_name(f".{path.name}.part")
    np.lib.format.open_memmap(part, mode="w+", dtype=dtype, shape=shape).flush()
    with part.open("r+b") as file:
        # Writing to a mapped file on a full disk would end the process.
        os.posix_fallocate(file.fileno(), 0, max(1, part.stat().st_size))
    part.replace(path)
    return np.lib.format.open_memmap(path, mode="r+")


def _fitting(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap | None:
    """None if there is no such file, or one of something else."""
    try:
        found = np.lib.format.open_memmap(path, mode="r+")
    except (OSError, ValueError):
        return None
    return found if found.shape == shape and found.dtype == dtype else None
