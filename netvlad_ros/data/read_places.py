# SPDX-License-Identifier: MIT
"""A set of places from a path: what lies there tells the reader."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netvlad_ros.config import DEFAULT_CAMERA, CameraConfig
from netvlad_ros.data.bag_places import has_positions, read_bag, read_bag_images
from netvlad_ros.data.bags import is_bag
from netvlad_ros.data.dbstruct import read_dbstruct
from netvlad_ros.data.image_files import image_paths
from netvlad_ros.data.image_sources import BagImages, ImageFiles
from netvlad_ros.data.kitti import is_kitti, read_kitti
from netvlad_ros.data.places import PlaceDataset, PlaceImages
from netvlad_ros.data.pose_csv import read_pose_csv
from netvlad_ros.data.position_units import doubts, in_metres
from netvlad_ros.data.utm_folder import has_utm_names, read_utm_folder
from netvlad_ros.errors import DatasetError, ImageError

POSE_FILES = ("poses.csv", "places.csv", "ground_truth.csv")
POSITIONS = ("metres", "lat-lon", "lon-lat")
KINDS = (
    "a .mat file of the NetVLAD authors, a folder of images named @UTM_EAST@UTM_NORTH@..., a CSV file of "
    "poses, a KITTI sequence or its file of poses, or a bag with odometry or GPS"
)


@dataclass(frozen=True)
class PlaceOptions:
    """What a path does not say by itself.

    images, query_images: folders that names in a file are relative to; None looks beside the file.
    topic, pose_topic:    of a bag; empty where it has one only.
    camera:               what is taken for a picture, and how many pixels it may have.
    positions:            what positions are, one of POSITIONS.
    """

    images: Path | None = None
    query_images: Path | None = None
    topic: str = ""
    pose_topic: str = ""
    camera: CameraConfig = DEFAULT_CAMERA
    positions: str = "metres"


def read_places(
    path: str | Path, options: PlaceOptions | None = None, queries: str | Path | None = None
) -> PlaceDataset:
    """The set of places at a path, whatever its format.

    queries: another set in the same frame, whose images are looked up in the first.
    Raises DatasetError, or BagError for a bag, in one sentence that names the path.
    """
    options = options or PlaceOptions()
    dataset = _read(Path(path), options)
    if queries is not None:
        dataset = join_places(dataset, _read(Path(queries), options))
    if options.positions != "metres":
        dataset = in_metres(dataset, latitude_first=options.positions == "lat-lon")
    places = _seen_by(options.camera, dataset.database)
    looked_up = places if dataset.is_sequence else _seen_by(options.camera, dataset.queries)
    notes = (*dataset.notes, doubts(dataset))
    return dataclasses.replace(
        dataset, database=places, queries=looked_up, notes=tuple(filter(None, notes))
    )


def _read(path: Path, options: PlaceOptions) -> PlaceDataset:
    if not path.exists():
        raise DatasetError(f"{path}: there is no such file or folder; expected {KINDS}.")
    if path.is_dir():
        return _read_folder(path, options)
    if path.suffix == ".mat":
        return read_dbstruct(path, options.images, options.query_images)
    if path.suffix == ".csv":
        return read_pose_csv(path, options.images)
    if is_bag(path):
        return read_bag(path, options.topic, options.pose_topic)
    if is_kitti(path):
        return read_kitti(path, options.images)
    raise DatasetError(f"{path}: expected {KINDS}, got another kind of file.")


def _read_folder(path: Path, options: PlaceOptions) -> PlaceDataset:
    poses = next((path / name for name in POSE_FILES if (path / name).is_file()), None)
    if poses is not None:
        return read_pose_csv(poses, options.images)
    if is_bag(path):
        return read_bag(path, options.topic, options.pose_topic)
    if has_utm_names(path):
        return read_utm_folder(path)
    if is_kitti(path):
        return read_kitti(path, options.images)
    specifications = sorted(path.glob("*.mat"))
    if len(specifications) == 1:
        return read_dbstruct(specifications[0], options.images, options.query_images)
    if specifications:
        names = ", ".join(file.name for file in specifications[:8])
        raise DatasetError(f"{path}: holds several .mat files; choose one of {names}.")
    raise DatasetError(f"{path}: expected {KINDS}, found nothing of these in this folder.")


def read_sequence(path: str | Path, options: PlaceOptions | None = None) -> PlaceImages:
    """One sequence of images, with positions where there are any: a set of places, or images alone.

    Raises DatasetError, or BagError for a bag.
    """
    path, options = Path(path), options or PlaceOptions()
    if is_bag(path) and not options.pose_topic and not has_positions(path):
        return _seen_by(options.camera, read_bag_images(path, options.topic))
    if path.is_dir() and not _knows_positions(path):
        try:
            names = [file.relative_to(path).as_posix() for file in image_paths(path)]
        except ImageError as error:
            raise DatasetError(str(error)) from None
        images = ImageFiles(path, names, options.camera)
        return PlaceImages(images, np.full((len(names), 2), np.nan))
    dataset = read_places(path, options)
    if not dataset.is_sequence:
        raise DatasetError(
            f"{path}: expected one sequence of images, got a database and queries; use `netvlad evaluate`."
        )
    return dataset.database


def _seen_by(camera: CameraConfig, places: PlaceImages) -> PlaceImages:
    if not isinstance(places.images, ImageFiles | BagImages):
        return places
    images = dataclasses.replace(places.images, camera=camera)
    return dataclasses.replace(places, images=images)


def join_places(database: PlaceDataset, queries: PlaceDataset) -> PlaceDataset:
    """The images of one set looked up in those of another; both are in the same frame.

    Raises DatasetError where their positions can't be compared.
    """
    places, looked_up = database.database, queries.queries
    width = min(places.positions_m.shape[1], looked_up.positions_m.shape[1])
    places, looked_up = (
        PlaceImages(one.images, one.positions_m[:, :width], one.headings_rad, one.stamps_ns)
        for one in (places, looked_up)
    )
    name = f"{queries.name} in {database.name}"
    return PlaceDataset(name, places, looked_up, notes=(*database.notes, *queries.notes))


def _knows_positions(folder: Path) -> bool:
    has_file = any((folder / name).is_file() for name in POSE_FILES) or any(folder.glob("*.mat"))
    return has_file or is_bag(folder) or has_utm_names(folder) or is_kitti(folder)
