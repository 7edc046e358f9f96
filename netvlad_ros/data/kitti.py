# SPDX-License-Identifier: MIT
"""Sequences of the KITTI odometry benchmark: poses/00.txt with sequences/00/times.txt and image_0/.

A line of poses holds the upper three rows of a matrix from the left camera to that of the first image
(x right, y down, z forward). Positions here are (forward, left, up) of the first image, headings where the
camera looks.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.data.image_files import SUFFIXES
from netvlad_ros.data.image_sources import ImageFiles, ImageSource, MissingImages
from netvlad_ros.data.places import PlaceDataset, PlaceImages
from netvlad_ros.errors import DatasetError

# The first is what netvlad_tf_open evaluates with; the others may have been downloaded instead.
IMAGE_FOLDERS = ("image_0", "image_2", "image_1", "image_3", "images")
NUMBERS = 12


def is_kitti(path: Path) -> bool:
    """Whether this is a file of such poses, or the folder of a sequence."""
    if path.is_dir():
        return (path / "times.txt").is_file() or _pose_file(path) is not None
    try:
        with path.open("rb") as file:
            words = file.readline(4096).split()
        return len(words) == NUMBERS and all(np.isfinite([float(word) for word in words]))
    except (OSError, ValueError):
        return False


def read_kitti(path: Path, images_root: Path | None = None) -> PlaceDataset:
    """A sequence, from its file of poses or from its folder. Raises DatasetError.

    images_root: the folder with the images; None looks where KITTI has it.
    """
    poses_file = _pose_file(path) if path.is_dir() else path
    if poses_file is None:
        raise DatasetError(
            f"{path}: expected poses for this sequence in {path / 'poses.txt'} or in "
            f"{path.resolve().parent.parent / 'poses' / (path.resolve().name + '.txt')}, found none."
        )
    poses = _numbers(poses_file, NUMBERS).reshape(-1, 3, 4)
    places = list(_sequence_folders(path, poses_file))
    times_s = _times(poses_file, places, len(poses))
    source, numbers = _images(poses_file, places, images_root, len(poses))
    x, y, z = poses[:, :, 3].T
    forward = poses[:, :, 2]
    images = PlaceImages(
        source,
        np.stack([z, -x, -y], axis=1)[numbers],
        np.arctan2(-forward[:, 0], forward[:, 2])[numbers],
        None if times_s is None else np.round(times_s[numbers] * NANOSECONDS).astype(np.int64),
    )
    left_out = len(poses) - len(numbers)
    notes = (f"{left_out} of {len(poses)} poses have no image.",) if left_out else ()
    return PlaceDataset(f"KITTI {poses_file.stem}", images, images, notes=notes)


def _pose_file(folder: Path) -> Path | None:
    real = folder.resolve()
    candidates = [folder / "poses.txt", real.parent.parent / "poses" / f"{real.name}.txt"]
    return next((file for file in candidates if file.is_file()), None)


def _sequence_folders(path: Path, poses_file: Path) -> Iterator[Path]:
    """Where the images and times of the sequence may be."""
    if path.is_dir():
        yield path
    beside, name = poses_file.resolve().parent, poses_file.stem
    yield from (beside / name, beside / "sequences" / name, beside.parent / "sequences" / name)
    if name == "poses":
        yield beside


def _times(poses_file: Path, places: list[Path], count: int) -> np.ndarray | None:
    beside = poses_file.with_name(f"{poses_file.stem}_times.txt")
    files = [beside, *(place / "times.txt" for place in places)]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return None
    times_s = _numbers(file, 1)[:, 0]
    if len(times_s) != count:
        raise DatasetError(
            f"{file}: expected {count} times, one for each pose in {poses_file.name}, got {len(times_s)}; "
            "are they of the same sequence?"
        )
    return times_s


def _images(
    poses_file: Path, places: list[Path], root: Path | None, count: int
) -> tuple[ImageSource, np.ndarray]:
    """The images, and the number of the pose of each."""
    folders = [root] if root else [place / name for place in places for name in IMAGE_FOLDERS]
    for folder in folders:
        files = {int(file.stem): file.name for file in _numbered(folder)}
        numbers = np.array(sorted(number for number in files if number < count), np.int64)
        if len(numbers):
            return ImageFiles(folder, [files[number] for number in numbers.tolist()]), numbers
    if root:
        raise DatasetError(f"{root}: expected images such as 000000.png in this folder, got none.")
    names = [f"{number:06d}.png" for number in range(count)]
    problem = (
        f"the images of the sequence are not where KITTI has them, in sequences/{poses_file.stem}/image_0; "
        "say where they are (--images)."
    )
    return MissingImages(poses_file.parent, names, problem), np.arange(count)


def _numbered(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        for file in folder.iterdir():
            if file.suffix.lower() in SUFFIXES and file.stem.isdecimal():
                yield file


def _numbers(file: Path, columns: int) -> np.ndarray:
    """(N, columns) float64, finite."""
    try:
        with file.open(encoding="utf-8") as lines:
            rows = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    except OSError as error:
        raise DatasetError(f"{file}: can't be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise DatasetError(
            f"{file}: expected a text file of numbers, got something else."
        ) from None
    values = np.empty((len(rows), columns))
    for place, (number, words) in enumerate(rows):
        try:
            values[place] = [float(word) for word in words]
        except ValueError:
            values[place] = np.nan
        if len(words) != columns or not np.isfinite(values[place]).all():
            raise DatasetError(
                f"{file}: line {number}: expected {columns} numbers, got {' '.join(words)[:60]!r}."
            )
    if not rows:
        raise DatasetError(f"{file}: expected lines of {columns} numbers, got an empty file.")
    return values
