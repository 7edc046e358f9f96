# SPDX-License-Identifier: MIT
"""Images and their poses from a CSV file.

    image,x_m,y_m,heading_deg,time_s,role
    images/0001.jpg,12.5,3.0,90,0.0,database

The first line names the columns, of which any may follow in any order. Latitude and longitude may stand
for x and y, a quaternion for the heading. Without a role (database or query) the images are one sequence.
Rows whose position is empty, NaN or infinite are left out, and counted in a note.
"""

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.data.geodesy import headings_rad, local_metres
from netvlad_ros.data.image_sources import ImageFiles, ImageSource, MissingImages
from netvlad_ros.data.places import PlaceDataset, PlaceImages
from netvlad_ros.errors import DatasetError

# Column -> what it may be called.
COLUMNS = {
    "image": ("image", "file", "filename", "image_path", "path", "name"),
    "role": ("role", "split", "set"),
    "x": ("x_m", "x", "tx", "east_m", "utm_east", "easting"),
    "y": ("y_m", "y", "ty", "north_m", "utm_north", "northing"),
    "z": ("z_m", "z", "tz", "up_m"),
    "latitude": ("latitude", "lat"),
    "longitude": ("longitude", "lon", "lng"),
    "altitude": ("altitude", "altitude_m", "alt"),
    "heading_rad": ("heading_rad", "yaw_rad", "theta_rad"),
    "heading_deg": ("heading_deg", "yaw_deg", "theta_deg"),
    "qx": ("qx",),
    "qy": ("qy",),
    "qz": ("qz",),
    "qw": ("qw",),
    "stamp_ns": ("stamp_ns", "timestamp_ns", "time_ns"),
    "time_s": ("time_s", "timestamp_s", "stamp_s", "dt_s"),
}
TEXT = ("image", "role")
ROLES = {
    "database": "database",
    "db": "database",
    "query": "query",
    "queries": "query",
    "q": "query",
}
IMAGE_FOLDERS = ("", "images", "image", "data")

POSITION = ("x", "y", "z", "latitude", "longitude", "altitude")
ROW = "row"  # of the file, the first being 1

Table = dict[str, list[str]]


def read_pose_csv(path: Path, images_root: Path | None = None) -> PlaceDataset:
    """The images that the file names. Raises DatasetError, with the line where it is one.

    images_root: the folder that names are relative to; None looks beside the file.
    """
    table, notes = _with_positions(path, _table(path))
    everything = np.ones(len(table["image"]), bool)
    if "role" not in table:
        images = _places(path, table, everything, images_root)
        return PlaceDataset(path.stem, images, images, notes=notes)
    roles = np.array(_roles(path, table))
    database, queries = (
        _places(path, table, roles == role, images_root) for role in ("database", "query")
    )
    return PlaceDataset(path.stem, database, queries, notes=notes)


def _with_positions(path: Path, table: Table) -> tuple[Table, tuple[str, ...]]:
    """The rows with a position, and a note on the others."""
    used = ("x", "y", "z") if {"x", "y"} <= table.keys() else POSITION[3:]
    columns = [table[name] for name in used if name in table]
    lost = [i for i, cells in enumerate(zip(*columns, strict=True)) if any(map(_is_empty, cells))]
    if not lost:
        return table, ()
    count = len(table[ROW])
    if len(lost) == count:
        raise DatasetError(
            f"{path}: expected positions, got only rows where they are empty or NaN."
        )
    note = f"{path}: {len(lost)} of {count} rows have no position (the first: row {table[ROW][lost[0]]})."
    kept = sorted(set(range(count)) - set(lost))
    return {name: [cells[i] for i in kept] for name, cells in table.items()}, (note,)


def _is_empty(cell: str) -> bool:
    try:
        return not cell or not math.isfinite(float(cell))
    except ValueError:  # text is no missing number; it's refused where numbers are made
        return False


def _places(path: Path, table: Table, kept: np.ndarray, images_root: Path | None) -> PlaceImages:
    """The images of some rows, by a mask."""
    headings, stamps = _headings(path, table), _stamps_ns(path, table)
    names = [table["image"][row] for row in np.flatnonzero(kept).tolist()]
    return PlaceImages(
        _images(path, names, images_root),
        _positions(path, table)[kept],
        None if headings is None else headings[kept],
        None if stamps is None else stamps[kept],
    )


def _table(path: Path) -> Table:
    """Our name of each column -> its cells."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file, skipinitialspace=True) if any(row)]
    except OSError as error:
        raise DatasetError(f"{path}: can't read the poses ({error.strerror}).") from None
    except (UnicodeDecodeError, csv.Error):
        raise DatasetError(f"{path}: expected a CSV file of poses, got something else.") from None
    found = _columns(path, rows[0] if rows else [])
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(rows[0]):
            raise DatasetError(
                f"{path}: row {line}: expected {len(rows[0])} values, as in the first line, got {len(row)}."
            )
    if len(rows) < 2:
        raise DatasetError(f"{path}: expected at least one image with its pose, got none.")
    table = {name: [row[place].strip() for row in rows[1:]] for name, place in found.items()}
    return {**table, ROW: [str(row) for row in range(2, len(rows) + 1)]}


def _columns(path: Path, header: Sequence[str]) -> dict[str, int]:
    written = [name.strip().lstrip("#").strip().lower() for name in header]
    found = {}
    for name, aliases in COLUMNS.items():
        places = [written.index(alias) for alias in aliases if alias in written]
        if places:
            found[name] = places[0]
    has_position = {"x", "y"} <= found.keys() or {"latitude", "longitude"} <= found.keys()
    if "image" not in found or not has_position:
        raise DatasetError(
            f"{path}: expected a first line with the columns image, x_m and y_m (or latitude and longitude), "
            f"got {','.join(header)[:80]!r}."
        )
    return found


def _positions(path: Path, table: Table) -> np.ndarray:
    if "x" in table and "y" in table:
        names = ("x", "y", "z") if "z" in table else ("x", "y")
        return np.stack([_numbers(path, table, name) for name in names], axis=1)
    latitudes, longitudes = (_numbers(path, table, name) for name in ("latitude", "longitude"))
    has_altitude = "altitude" in table
    altitudes = _numbers(path, table, "altitude") if has_altitude else np.zeros(len(latitudes))
    return local_metres(latitudes, longitudes, altitudes)[:, : 3 if has_altitude else 2]


def _headings(path: Path, table: Table) -> np.ndarray | None:
    if "heading_rad" in table:
        return _numbers(path, table, "heading_rad")
    if "heading_deg" in table:
        return np.radians(_numbers(path, table, "heading_deg"))
    quaternion = ("qx", "qy", "qz", "qw")
    if all(name in table for name in quaternion):
        return headings_rad(np.stack([_numbers(path, table, each) for each in quaternion], axis=1))
    return None


def _stamps_ns(path: Path, table: Table) -> np.ndarray | None:
    if "stamp_ns" in table:
        return np.array(_cells(path, table, "stamp_ns", int), np.int64)
    if "time_s" in table:
        return np.round(_numbers(path, table, "time_s") * NANOSECONDS).astype(np.int64)
    return None


def _numbers(path: Path, table: Table, name: str) -> np.ndarray:
    return np.array(_cells(path, table, name, float), np.float64)


def _cells(path: Path, table: Table, name: str, convert: Callable[[str], float]) -> list[float]:
    values = []
    for line, cell in zip(table[ROW], table[name], strict=True):
        try:
            value = convert(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DatasetError(
                f"{path}: row {line}: expected a number as {name}, got {cell[:40]!r}."
            )
        values.append(value)
    return values


def _roles(path: Path, table: Table) -> list[str]:
    for line, cell in zip(table[ROW], table["role"], strict=True):
        if cell.lower() not in ROLES:
            raise DatasetError(
                f"{path}: row {line}: expected database or query as the role, got {cell[:40]!r}."
            )
    return [ROLES[cell.lower()] for cell in table["role"]]


def _images(path: Path, names: Sequence[str], root: Path | None) -> ImageSource:
    roots = [root] if root else [path.parent / folder for folder in IMAGE_FOLDERS]
    for candidate in roots:
        if any((candidate / name).is_file() for name in names[:5]):
            return ImageFiles(candidate, names)
    where = f"in {root}" if root else f"beside {path}"
    problem = f"its image is not {where}; say where the images are (--images)."
    return MissingImages(root or path.parent, names, problem)
