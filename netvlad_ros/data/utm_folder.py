# SPDX-License-Identifier: MIT
"""Folders of images that carry their position in their names: `@utm_east@utm_north@...@.jpg`.

The format of VPR-datasets-downloader. Of the fields between the signs, the first two are metres; the ninth is
the heading in degrees, clockwise from north, and the thirteenth the time, where they are filled in:
@ UTM east @ UTM north @ UTM zone @ zone letter @ latitude @ longitude @ panorama @ tile @ heading @ pitch
@ roll @ height @ time stamp @ note @ suffix
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from netvlad_ros.data.image_files import image_paths
from netvlad_ros.data.image_sources import ImageFiles
from netvlad_ros.data.places import PlaceDataset, PlaceImages
from netvlad_ros.errors import DatasetError, ImageError

DATABASE_FOLDERS = ("database", "gallery", "reference")
QUERY_FOLDERS = ("queries", "query")
# Where the numbers are, counted from the first sign.
_EAST, _NORTH, _HEADING = 1, 2, 9


def has_utm_names(folder: Path) -> bool:
    """Whether a folder, or its folder for the database, holds such images, in whatever depth."""
    split = _split(folder)
    return any(any(each.rglob("@*@*")) for each in (split or (folder,)))


def read_utm_folder(folder: Path) -> PlaceDataset:
    """A folder with a folder for the database and one for the queries, or a sequence.

    Raises DatasetError.
    """
    split = _split(folder)
    if split is None:
        images, notes = _read(folder)
        return PlaceDataset(folder.resolve().name, images, images, notes=notes)
    (database, notes), (queries, more_notes) = map(_read, split)
    name = folder.resolve().name
    return PlaceDataset(name, database, queries, notes=(*notes, *more_notes))


def _split(folder: Path) -> tuple[Path, Path] | None:
    """The folders of database and queries, where there are both."""
    database = next((folder / name for name in DATABASE_FOLDERS if (folder / name).is_dir()), None)
    queries = next((folder / name for name in QUERY_FOLDERS if (folder / name).is_dir()), None)
    return (database, queries) if database and queries else None


def _read(folder: Path) -> tuple[PlaceImages, tuple[str, ...]]:
    try:
        names = [path.relative_to(folder).as_posix() for path in image_paths(folder)]
    except ImageError as error:
        raise DatasetError(str(error)) from None
    positions = [_position(name) for name in names]
    known = [i for i, position in enumerate(positions) if position is not None]
    if not known:
        raise DatasetError(
            f"{folder}: expected images named @UTM_EAST@UTM_NORTH@..., got names such as {names[0][:80]!r}."
        )
    kept = [names[i] for i in known]
    left_out = len(names) - len(known)
    notes = (f"{folder}: {left_out} of {len(names)} images have no position in their name.",)
    images = PlaceImages(
        ImageFiles(folder, kept),
        np.array([positions[i] for i in known], np.float64),
        headings_rad=_headings(kept),
    )
    return images, notes if left_out else ()


def _position(name: str) -> tuple[float, float] | None:
    fields = Path(name).name.split("@")
    try:
        east_m, north_m = float(fields[_EAST]), float(fields[_NORTH])
    except (ValueError, IndexError):
        return None
    return (east_m, north_m) if math.isfinite(east_m) and math.isfinite(north_m) else None


def _headings(names: Sequence[str]) -> np.ndarray | None:
    """(N,) from the x axis, which is east, counter-clockwise; None unless all names have one."""
    fields = [Path(name).name.split("@") for name in names]
    try:
        degrees = np.array([float(field[_HEADING]) for field in fields])
    except (ValueError, IndexError):
        return None
    return np.radians(90.0 - degrees) if np.isfinite(degrees).all() else None
