# SPDX-License-Identifier: MIT
"""The columns in which is stored what is known of a keyframe beside its descriptor."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from netvlad_ros.image_data import CameraModel, CorrectedPose, ImageData, LocalFeatures, Pose

T = TypeVar("T")


@dataclass(frozen=True)
class Table(Generic[T]):
    """How one kind of data is stored: at most one row for a keyframe.

    columns: name -> type in Python, None for a value that may be missing.
    to_row:   the values of the columns; raises ValueError for arrays of the wrong shape.
    from_row: back again; raises ValueError too.
    """

    name: str
    columns: dict[str, tuple[type, ...]]
    to_row: Callable[[T], tuple[Any, ...]]
    from_row: Callable[[Sequence[Any]], T]


def _bytes(values: ArrayLike | None, dtype: DTypeLike, *shape: int) -> bytes | None:
    return None if values is None else np.asarray(values, dtype).reshape(shape).tobytes()


def _array(content: bytes, dtype: DTypeLike, *shape: int) -> np.ndarray:
    stored = np.frombuffer(content, dtype).reshape(shape)
    return stored.astype(stored.dtype.newbyteorder("="))


def _optional_array(content: bytes | None, dtype: DTypeLike, *shape: int) -> np.ndarray | None:
    return None if content is None else _array(content, dtype, *shape)


def _pose_row(pose: Pose) -> tuple[Any, ...]:
    return (
        pose.frame_id,
        pose.child_frame_id,
        _bytes(pose.position_m, "<f8", 3),
        _bytes(pose.orientation_xyzw, "<f8", 4),
        _bytes(pose.covariance, "<f8", 6, 6),
    )


def _pose(row: Sequence[Any]) -> Pose:
    frame_id, child_frame_id, position_m, orientation_xyzw, covariance = row
    return Pose(
        frame_id,
        child_frame_id,
        _array(position_m, "<f8", 3),
        _array(orientation_xyzw, "<f8", 4),
        _optional_array(covariance, "<f8", 6, 6),
    )


def _camera_row(camera: CameraModel) -> tuple[Any, ...]:
    return (
        int(camera.width_px),
        int(camera.height_px),
        camera.distortion_model,
        _bytes(camera.k, "<f8", 3, 3),
        _bytes(camera.d, "<f8", -1),
        None if camera.baseline_m is None else float(camera.baseline_m),
        camera.frame_id,
        _bytes(camera.base_from_camera, "<f8", 4, 4),
    )


def _camera(row: Sequence[Any]) -> CameraModel:
    width_px, height_px, distortion_model, k, d, baseline_m, frame_id, base_from_camera = row
    return CameraModel(
        width_px,
        height_px,
        distortion_model,
        _array(k, "<f8", 3, 3),
        _array(d, "<f8", -1),
        baseline_m,
        frame_id,
        _optional_array(base_from_camera, "<f8", 4, 4),
    )


_DESCRIPTOR_TYPES = {"uint8": "u1", "float32": "<f4"}


def _features_row(features: LocalFeatures) -> tuple[Any, ...]:
    count, length = features.descriptors.shape
    name = features.descriptors.dtype.name
    if name not in _DESCRIPTOR_TYPES:
        raise ValueError(f"descriptors of uint8 or float32 are expected, got {name}")
    return (
        features.method,
        _bytes(features.keypoints_px, "<f4", count, 2),
        name,
        length,
        _bytes(features.descriptors, _DESCRIPTOR_TYPES[name], count, length),
        _bytes(features.points_m, "<f4", count, 3),
        features.points_from,
    )


def _features(row: Sequence[Any]) -> LocalFeatures:
    method, keypoints_px, name, length, descriptors, points_m, points_from = row
    if name not in _DESCRIPTOR_TYPES or length < 0:
        raise ValueError(f"{length} of {name}")
    count = len(keypoints_px) // 8
    return LocalFeatures(
        method,
        _array(keypoints_px, "<f4", count, 2),
        _array(descriptors, _DESCRIPTOR_TYPES[name], count, length),
        _optional_array(points_m, "<f4", count, 3),
        points_from,
    )


_POSE_COLUMNS: dict[str, tuple[type, ...]] = {
    "frame_id": (str,),
    "child_frame_id": (str,),
    "position_m": (bytes,),
    "orientation_xyzw": (bytes,),
    "covariance": (bytes, type(None)),
}
# As it came, at the keyframe's stamp.
ODOMETRY = Table("odometry", _POSE_COLUMNS, _pose_row, _pose)
CORRECTED_POSE = Table(
    "corrected_pose",
    _POSE_COLUMNS | {"graph": (str,), "solved_ns": (int,)},
    lambda each: (*_pose_row(each.pose), each.graph, int(each.solved_ns)),
    lambda row: CorrectedPose(_pose(row[:-2]), *row[-2:]),
)
CAMERA_MODEL = Table(
    "camera_model",
    {
        "width_px": (int,),
        "height_px": (int,),
        "distortion_model": (str,),
        "k": (bytes,),
        "d": (bytes,),
        "baseline_m": (float, type(None)),
        "frame_id": (str,),
        "base_from_camera": (bytes, type(None)),
    },
    _camera_row,
    _camera,
)
LOCAL_FEATURES = Table(
    "local_features",
    {
        "method": (str,),
        "keypoints_px": (bytes,),
        "descriptor_type": (str,),
        "descriptor_length": (int,),
        "descriptors": (bytes,),
        "points_m": (bytes, type(None)),
        "points_from": (str,),
    },
    _features_row,
    _features,
)
# A small picture of the keyframe, as the bytes of a JPEG file.
THUMBNAIL: Table[bytes] = Table(
    "thumbnail", {"jpeg": (bytes,)}, lambda jpeg: (jpeg,), lambda row: row[0]
)
# Field of ImageData -> where it is stored.
PARTS: dict[str, Table[Any]] = {
    "features": LOCAL_FEATURES,
    "camera": CAMERA_MODEL,
    "odometry": ODOMETRY,
    "map_pose": CORRECTED_POSE,
    "thumbnail": THUMBNAIL,
}


def parts_of(data: ImageData) -> Iterator[tuple[Table[Any], Any]]:
    """What is known, with the table of each."""
    for name, table in PARTS.items():
        if (value := getattr(data, name)) is not None:
            yield table, value
