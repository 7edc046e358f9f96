# SPDX-License-Identifier: MIT
"""MAT-files of version 7.3, which are HDF5: the same values as those of the older versions."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_ros.data.mat_values import DamagedMatError, Foreign, Limits

NUMERIC = (
    "double",
    "single",
    "logical",
    *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)),
)


def read_hdf5_mat(path: Path, skipped: frozenset[str], limits: Limits) -> dict[str, Any]:
    """The variables by name, without struct fields that are called as in `skipped`.

    Raises DamagedMatError, or OSError or ValueError where the file does.
    """
    import h5py

    with h5py.File(path, "r") as file:
        values = _Values(file, path.stat().st_size, skipped, limits)
        try:
            return {name: values.value(item, 0) for name, item in file.items() if name[0] != "#"}
        except (AttributeError, KeyError, RuntimeError, TypeError) as error:  # as h5py raises them
            raise DamagedMatError(str(error).splitlines()[0] if str(error) else "h5py") from None


class _Values:
    """Reads what is inside of one file, at most so many bytes of numbers."""

    def __init__(self, file: Any, file_bytes: int, skipped: frozenset[str], limits: Limits) -> None:
        self.file = file
        self.allowed = self.left = limits.allowed_bytes(file_bytes)
        self.arrays, self.nesting = limits.arrays, limits.nesting
        self.skipped = skipped

    def value(self, item: Any, nesting: int) -> Any:
        self.arrays -= 1
        if self.arrays < 0 or nesting > self.nesting:
            raise DamagedMatError("it holds too many arrays, or arrays nested too deep")
        kind = _text(item.attrs.get("MATLAB_class", b"struct"))
        if "MATLAB_object_decode" in item.attrs or "MATLAB_function_handle" in kind:
            return Foreign(kind)
        if not hasattr(item, "dtype"):
            fields = (name for name in item if name not in self.skipped)
            return {name: self.value(item[name], nesting + 1) for name in fields}
        if "MATLAB_empty" in item.attrs:
            return [] if kind == "cell" else "" if kind == "char" else np.zeros((0, 0))
        return self._dataset(item, kind, nesting)

    def _dataset(self, item: Any, kind: str, nesting: int) -> Any:
        size = math.prod(item.shape) * item.dtype.itemsize
        self.left -= size
        if self.left < 0:
            raise DamagedMatError(f"it holds more than {self.allowed} bytes; what is it?")
        if kind == "cell":  # axes are in reverse, so that this is column by column
            return [self.value(self.file[each], nesting + 1) for each in item[()].reshape(-1)]
        if kind == "char":
            return _lines(item[()].astype("<u2"))
        return item[()].T if kind in NUMERIC else Foreign(kind)


def _lines(codes: np.ndarray) -> str | list[str]:
    """The text of a char array, whose axes are in reverse; several rows have blanks at their ends."""
    text = codes.tobytes().decode("utf-16-le", "replace")
    rows = codes.shape[-1] if codes.ndim > 1 else 1
    if rows < 2 or len(text) != codes.size:
        return text
    return [text[row::rows].rstrip() for row in range(rows)]


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
