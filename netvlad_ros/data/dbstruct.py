# SPDX-License-Identifier: MIT
"""Sets of places in the format of the NetVLAD authors: Pittsburgh 250k and 30k, Tokyo Time Machine and 24/7.

A .mat file holds a struct `dbStruct` with names and UTM coordinates (Relja/netvlad, datasets/dbBase.m).
Fields are found by their names: those of Tokyo have another order and two more of them, the time stamps.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.data.image_sources import ImageFiles, ImageSource, MissingImages
from netvlad_ros.data.mat_file import read_mat
from netvlad_ros.data.mat_values import Limits
from netvlad_ros.data.places import (
    NONTRIVIAL_RADIUS_M,
    POSITIVE_RADIUS_M,
    PlaceDataset,
    PlaceImages,
)
from netvlad_ros.errors import DatasetError

# Names compress well; Pittsburgh 250k holds 99,300 of them, which take about 100 bytes each.
LIMITS = Limits(floor_bytes=256 << 20, arrays=1_000_000, error=DatasetError)
# Where the authors of Pittsburgh, of Tokyo and those of pytorch-NetVlad keep the images, beside or above the
# file.
DATABASE_FOLDERS = ("", "images", "database")
QUERY_FOLDERS = ("queries_real", "queries", "query", "images", "")
# Tokyo 24/7 names its database .jpg and distributes .png.
SUFFIXES = ("", ".png", ".jpg")
NAMES_TRIED = 5
# In Tokyo Time Machine queries come out of the database, and so does the very panorama they are part of:
# positives of training lie more than 1 m away and are of another time (dbTokyoTimeMachine.m).
SAME_PANORAMA_M = 1.0


def read_dbstruct(
    path: Path, database_root: Path | None = None, query_root: Path | None = None
) -> PlaceDataset:
    """The set in a .mat file.

    *_root: folders that the names are relative to; None looks for them beside the file and above it.
    Raises DatasetError.
    """
    fields = _fields(path)
    names, query_names = (_names(path, fields, name) for name in ("dbImageFns", "qImageFns"))
    times, query_times = (_stamps_ns(fields.get(name)) for name in ("dbTimeStamp", "qTimeStamp"))
    radius_m, nontrivial_m, notes = _radii(fields)
    database = PlaceImages(
        _images(path, names, database_root, DATABASE_FOLDERS),
        _positions(path, fields, "utmDb", len(names)),
        stamps_ns=times,
    )
    queries = PlaceImages(
        _images(path, query_names, query_root, QUERY_FOLDERS),
        _positions(path, fields, "utmQ", len(query_names)),
        stamps_ns=query_times,
    )
    has_times = times is not None and query_times is not None
    return PlaceDataset(
        path.stem,
        database,
        queries,
        radius_m,
        nontrivial_m,
        trivial_radius_m=SAME_PANORAMA_M if has_times else -1.0,
        other_time_only=has_times,
        notes=notes,
    )


def _fields(path: Path) -> dict[str, Any]:
    variables = read_mat(path, limits=LIMITS)
    fields = variables.get("dbStruct", variables)
    if not isinstance(fields, dict):
        fields = {}
    missing = [name for name in ("dbImageFns", "utmDb", "qImageFns", "utmQ") if name not in fields]
    if missing:
        listed = ", ".join(sorted(fields or variables)[:8]) or "nothing"
        raise DatasetError(
            f"{path}: expected a struct dbStruct with dbImageFns, utmDb, qImageFns and utmQ, got {listed}; "
            "is it a dataset specification of NetVLAD?"
        )
    return fields


def _names(path: Path, fields: dict[str, Any], field: str) -> list[str]:
    """File names out of a cell array, however its cells were squeezed."""
    value = fields[field]
    cells = [value] if isinstance(value, str) else value
    if not isinstance(cells, list):
        cells = [None]
    names = [cell[0] if isinstance(cell, list) and len(cell) == 1 else cell for cell in cells]
    wrong = next((i for i, name in enumerate(names) if not isinstance(name, str) or not name), None)
    if wrong is not None:
        raise DatasetError(
            f"{path}: expected {field} to be a cell array of file names, got {type(names[wrong]).__name__} "
            f"as number {wrong + 1}."
        )
    return [name.strip().replace("\\", "/") for name in names]


def _positions(path: Path, fields: dict[str, Any], field: str, count: int) -> np.ndarray:
    """(count, 2), from Matlab's (2, count), or from what was transposed or squeezed since."""
    array = fields[field]
    is_array = isinstance(array, np.ndarray) and array.size == 2 * count and array.ndim == 2
    if not is_array or not np.isfinite(array).all():
        got = f"shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise DatasetError(
            f"{path}: expected {field} of shape (2, {count}), finite, for {count} images, got {got}."
        )
    if count == 1:
        return array.reshape(1, 2).astype(np.float64)
    return np.ascontiguousarray(array.T if array.shape[0] == 2 else array, np.float64)


def _radii(fields: dict[str, Any]) -> tuple[float, float, tuple[str, ...]]:
    """Radius of positives and of non-trivial positives, in metres, and what had to be assumed."""
    notes = []
    radius_m, squared = (
        _number(fields.get("posDistThr")),
        _number(fields.get("nonTrivPosDistSqThr")),
    )
    if radius_m is None:
        notes.append(f"posDistThr is missing; {POSITIVE_RADIUS_M:g} m is taken.")
    if squared is None:
        notes.append(f"nonTrivPosDistSqThr is missing; {NONTRIVIAL_RADIUS_M:g} m is taken.")
    radius_m = POSITIVE_RADIUS_M if radius_m is None else radius_m
    nontrivial_m = NONTRIVIAL_RADIUS_M if squared is None else squared**0.5
    return radius_m, min(nontrivial_m, radius_m), tuple(notes)


def _number(value: Any) -> float | None:
    if not isinstance(value, np.ndarray) or value.size != 1 or not value.reshape(-1)[0] > 0:
        return None
    return float(value.reshape(-1)[0])


def _stamps_ns(value: Any) -> np.ndarray | None:
    """The first moment of months such as 200907; None where there are none."""
    if not isinstance(value, np.ndarray) or not value.size:
        return None
    months = value.reshape(-1).astype(np.int64)
    since_1970 = (months // 100 - 1970) * 12 + months % 100 - 1
    seconds = since_1970.astype("datetime64[M]").astype("datetime64[s]").astype(np.int64)
    return seconds * NANOSECONDS


def _images(
    path: Path, names: Sequence[str], root: Path | None, folders: Sequence[str]
) -> ImageSource:
    """The files, where the first of them are found."""
    above = [path.parent, *list(path.resolve().parents)[1:3]]
    roots = [root] if root else [base / folder for base in above for folder in folders]
    for candidate in roots:
        for suffix in SUFFIXES:
            renamed = [_with_suffix(name, suffix) for name in names[:NAMES_TRIED]]
            if any((candidate / name).is_file() for name in renamed):
                return ImageFiles(candidate, [_with_suffix(name, suffix) for name in names])
    where = f"in {root}" if root else f"beside {path} or above it"
    problem = f"its image is not {where}; say where the images are (--images, --query-images)."
    return MissingImages(root or path.parent, names, problem)


def _with_suffix(name: str, suffix: str) -> str:
    return str(Path(name).with_suffix(suffix)) if suffix else name
