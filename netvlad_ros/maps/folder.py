# SPDX-License-Identifier: MIT
"""A map as a folder of files that other programs read: .npy, .csv, .json, TUM poses and pictures."""

import contextlib
import csv
import json
import re
import shutil
import tempfile
import uuid
import zipfile
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.errors import DatabaseError
from netvlad_ros.image_data import CameraModel, CorrectedPose, ImageData, LocalFeatures, Pose
from netvlad_ros.keyframe import Keyframe, Session, Stream
from netvlad_ros.maps.alignment import is_pose
from netvlad_ros.maps.files import (
    Progress,
    known_of,
    no_progress,
    open_map,
    refuse_existing,
    told,
    write_map,
)
from netvlad_ros.retrieval.database import check_descriptors
from netvlad_ros.store.keyframe_data import CAMERA_MODEL, LOCAL_FEATURES, ODOMETRY, Table
from netvlad_ros.store.keyframe_store import StoredKeyframes, StoreHeader
from netvlad_ros.store.sqlite_store import SqliteStore

T = TypeVar("T")
Name = tuple[str, int]
FORMAT, VERSION = "netvlad_ros map", 1
COLUMNS = ("session", "number", "stamp_ns", "external_id", "robot", "camera", "map", "camera_model")
# A stamp that another program wrote with six digits is still that of its keyframe.
STAMP_TOLERANCE_NS = 1_000_000
ROWS_AT_ONCE = 64
# What reading a file raises that is damaged, empty or of another kind.
_UNFIT = (
    ValueError,
    TypeError,
    AttributeError,
    EOFError,
    RuntimeError,  # nested too deep, encrypted
    csv.Error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class _Frames:
    """What the poses of a session are of, and in which frame."""

    frame_id: str
    child_frame_id: str
    graph: str = ""


# --- Export -------------------------------------------------------------------------------------------


def export_map(path: Path, folder: Path, progress: Progress = no_progress) -> int:
    """Writes all of a map but covariances into a new folder, or nothing. Raises DatabaseError.

    Returns how many poses it leaves out, as they are no numbers.
    """
    header, blocks = open_map(path)
    count = SqliteStore(path, read_only=True).count()
    with _new_folder(folder) as aside:
        return _Writer(aside, header, count).write(told(blocks, progress))


class _Writer:
    def __init__(self, folder: Path, header: StoreHeader, count: int) -> None:
        self._folder, self._header, self._count = folder, header, count
        self._cameras: list[dict[str, Any]] = []
        self._frames: dict[str, dict[str, _Frames]] = {"odometry": {}, "corrected": {}}
        self._left_out = 0
        for name in ("odometry", "corrected", "thumbnails", "features"):
            (folder / name).mkdir()

    def write(self, blocks: Iterator[StoredKeyframes]) -> int:
        """See export_map."""
        shape = (self._count, self._header.dims)
        vectors = np.lib.format.open_memmap(
            self._folder / "descriptors.npy", "w+", np.dtype("<f4"), shape
        )
        row = 0
        with (self._folder / "keyframes.csv").open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(COLUMNS)
            for block in blocks:
                vectors[row : row + len(block.keyframes)] = block.descriptors
                known = known_of(block)
                for keyframe in block.keyframes:
                    lines.writerow(self._line(row, keyframe, known[keyframe.name]))
                    row += 1
        vectors.flush()
        document = {
            "format": FORMAT,
            "version": VERSION,
            "fingerprint": self._header.fingerprint,
            "dims": self._header.dims,
            "keyframes": self._count,
            "camera_models": self._cameras,
            **{
                kind: {uuid: asdict(frames) for uuid, frames in found.items()}
                for kind, found in self._frames.items()
            },
        }
        (self._folder / "map.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
        return self._left_out

    def _line(self, row: int, keyframe: Keyframe, data: ImageData) -> tuple[Any, ...]:
        """Writes what is known of a keyframe; returns its line."""
        if data.odometry is not None:
            self._add_pose("odometry", keyframe, data.odometry)
        if data.map_pose is not None:
            self._add_pose("corrected", keyframe, data.map_pose.pose, data.map_pose.graph)
        if data.thumbnail is not None:
            (self._folder / "thumbnails" / f"{row:06}.jpg").write_bytes(data.thumbnail)
        if data.features is not None:
            _save_features(self._folder / "features" / f"{row:06}.npz", data.features)
        session = keyframe.session
        return (
            session.uuid,
            keyframe.number,
            keyframe.stamp_ns,
            keyframe.external_id,
            session.stream.robot,
            session.stream.camera,
            session.map,
            "" if data.camera is None else self._camera_number(data.camera),
        )

    def _add_pose(self, kind: str, keyframe: Keyframe, pose: Pose, graph: str = "") -> None:
        if not is_pose(pose):
            self._left_out += 1
            return
        session = keyframe.session.uuid
        frames = _Frames(pose.frame_id, pose.child_frame_id, graph)
        self._frames[kind].setdefault(session, frames)
        numbers = " ".join(f"{each:.9g}" for each in (*pose.position_m, *pose.orientation_xyzw))
        with (self._folder / kind / f"{session}.tum").open("a", encoding="ascii") as file:
            seconds, rest_ns = divmod(keyframe.stamp_ns, NANOSECONDS)
            file.write(f"{seconds}.{rest_ns:09} {numbers}\n")

    def _camera_number(self, camera: CameraModel) -> int:
        values = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(camera).items()
        }
        if values not in self._cameras:
            self._cameras.append(values)
        return self._cameras.index(values)


def _save_features(path: Path, features: LocalFeatures) -> None:
    arrays: dict[str, Any] = {
        "keypoints_px": features.keypoints_px,
        "descriptors": features.descriptors,
    }
    if features.points_m is not None:
        arrays["points_m"] = features.points_m
    words = np.array([features.method, features.points_from])
    np.savez(path, method_and_points_from=words, **arrays)


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside it, which takes its name once it is complete."""
    refuse_existing(folder)
    try:
        aside = Path(tempfile.mkdtemp(".partial", f"{folder.name}.", folder.parent))
        try:
            aside.chmod(0o755)
            yield aside
            refuse_existing(folder)
            aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise DatabaseError(
            f"{folder}: can't write the folder ({error.strerror}); make room, or choose another place."
        ) from None


# --- Import -------------------------------------------------------------------------------------------


def import_map(folder: Path, out: Path, progress: Progress = no_progress) -> int:
    """Writes a map from such a folder, or nothing; returns how many keyframes it has.

    Raises DatabaseError for anything that is missing or does not fit.
    """
    reader = _Reader(folder)
    write_map(out, reader.header, told(reader.blocks(), progress))
    return len(reader.keyframes)


class _Reader:
    """Everything but descriptors, thumbnails and features is read at once.

    keyframes: in the order of the lines.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with self._reading("map.json"):
            self._document = _document(folder / "map.json")
            fingerprint = str(self._document["fingerprint"])
            self._cameras = [_camera(each) for each in self._document["camera_models"]]
        with self._reading("descriptors.npy"):
            self._vectors = np.load(folder / "descriptors.npy", "r", allow_pickle=False)
            if self._vectors.ndim != 2 or self._vectors.dtype.kind != "f":
                shape = self._vectors.shape
                raise ValueError(
                    f"expected floats of (n, dims), got {self._vectors.dtype} of {shape}"
                )
        with self._reading("keyframes.csv"):
            lines = _lines(folder / "keyframes.csv", len(self._vectors))
            self.keyframes = _keyframes(lines)
            self._models = [_model(line, self._cameras) for line in lines]
        self._poses = {kind: self._all_poses(kind) for kind in ("odometry", "corrected")}
        self.header = StoreHeader(uuid.uuid4().hex, fingerprint, self._vectors.shape[1])

    def blocks(self) -> Iterator[StoredKeyframes]:
        """Raises DatabaseError."""
        for start in range(0, len(self.keyframes), ROWS_AT_ONCE):
            rows = range(start, min(start + ROWS_AT_ONCE, len(self.keyframes)))
            # Whatever its byte order, .npy says it.
            vectors = np.asarray(self._vectors[rows.start : rows.stop]).astype(np.float32)
            check_descriptors(vectors, self._folder / "descriptors.npy")
            keyframes = [self.keyframes[row] for row in rows]
            yield StoredKeyframes(keyframes, vectors, [self._data(row) for row in rows])

    def _data(self, row: int) -> tuple[Name, ImageData]:
        name, model = self.keyframes[row].name, self._models[row]
        corrected = self._poses["corrected"].get(name)
        return name, ImageData(
            self._features(f"features/{row:06}.npz"),
            model,
            self._poses["odometry"].get(name, (None,))[0],
            None if corrected is None else CorrectedPose(*corrected, 0),
            self._thumbnail(f"thumbnails/{row:06}.jpg"),
        )

    def _thumbnail(self, name: str) -> bytes | None:
        if not (self._folder / name).is_file():
            return None
        with self._reading(name):
            return (self._folder / name).read_bytes()

    def _features(self, name: str) -> LocalFeatures | None:
        if not (self._folder / name).is_file():
            return None
        with self._reading(name), np.load(self._folder / name, allow_pickle=False) as stored:
            method, points_from = stored["method_and_points_from"].tolist()
            features = LocalFeatures(
                method,
                stored["keypoints_px"],
                stored["descriptors"],
                stored.get("points_m"),
                points_from,
            )
            return _storable(LOCAL_FEATURES, features)

    def _all_poses(self, kind: str) -> dict[Name, tuple[Pose, str]]:
        """With the names of their graphs, by the names of keyframes."""
        by_session: defaultdict[str, list[Keyframe]] = defaultdict(list)
        for keyframe in self.keyframes:
            by_session[keyframe.session.uuid].append(keyframe)
        poses: dict[Name, tuple[Pose, str]] = {}
        for session, keyframes in by_session.items():
            file = f"{kind}/{session}.tum"
            if (self._folder / file).is_file():
                with self._reading(file):
                    frames = self._document[kind][session]
                    for name, values in _tum(self._folder / file, keyframes):
                        pose = Pose(
                            frames["frame_id"], frames["child_frame_id"], values[:3], values[3:]
                        )
                        poses[name] = _storable(ODOMETRY, pose), str(frames["graph"])
        return poses

    @contextlib.contextmanager
    def _reading(self, file: str) -> Iterator[None]:
        """What is wrong with a file becomes a DatabaseError that names it."""
        try:
            yield
        except OSError as error:
            reason = f"can't be read ({error.strerror or error})"
        except KeyError as error:
            reason = f"has no {error.args[0]}"
        except _UNFIT as error:
            reason = str(error) or "can't be read"
        else:
            return
        raise DatabaseError(f"{self._folder / file}: {reason}; docs/maps.md describes this folder.")


def _document(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_text(encoding="utf-8"))
    found = document["format"], document["version"]
    if found != (FORMAT, VERSION):
        raise ValueError(f"is {found[0]}, version {found[1]}; expected {FORMAT}, version {VERSION}")
    return dict(document)


def _camera(values: Mapping[str, Any]) -> CameraModel:
    arrays = {
        name: None if values[name] is None else np.array(values[name], np.float64)
        for name in ("k", "d", "base_from_camera")
    }
    camera = CameraModel(**{**values, **arrays})
    if not (np.isfinite(camera.k).all() and np.isfinite(camera.d).all()):
        raise ValueError("camera_models: expected numbers, got NaN or infinity")
    return _storable(CAMERA_MODEL, camera)


def _storable(table: Table[T], value: T) -> T:
    """The same. Raises ValueError if a database would take it for damaged."""
    row = zip(table.columns.items(), table.to_row(value), strict=True)
    for (name, types), stored in row:
        if not isinstance(stored, types):
            raise ValueError(f"{name} can't be {stored!r}")
    return value


def _lines(path: Path, count: int) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    if len(lines) != count:
        raise ValueError(f"expected a line for each of {count} descriptors, got {len(lines)}")
    return lines


def _keyframes(lines: Sequence[Mapping[str, str]]) -> list[Keyframe]:
    sessions: dict[str, Session] = {}
    keyframes = []
    for number, line in enumerate(lines, 2):
        if None in line.values():
            raise ValueError(f"line {number}: has fewer columns than the first line")
        uuid = line["session"]
        if not re.fullmatch("[0-9a-f]{32}", uuid):
            raise ValueError(f"session {uuid}: expected 32 hexadecimal digits")
        stream = Stream(line["robot"], line["camera"])
        session = sessions.setdefault(uuid, Session(uuid, stream, line["map"]))
        numbers = (int(line[name]) for name in ("number", "stamp_ns", "external_id"))
        keyframes.append(Keyframe(session, *numbers))
    if len({each.name for each in keyframes}) < len(keyframes):
        raise ValueError("a session and number stand there twice; each names one keyframe")
    return keyframes


def _model(line: Mapping[str, str], cameras: Sequence[CameraModel]) -> CameraModel | None:
    text = line["camera_model"]
    if text and not (text.isdecimal() and int(text) < len(cameras)):
        raise ValueError(f"camera_model {text}: map.json has {len(cameras)}")
    return cameras[int(text)] if text else None


def _tum(path: Path, keyframes: Sequence[Keyframe]) -> Iterator[tuple[Name, np.ndarray]]:
    """The seven numbers of each pose, by the name of the keyframe with its stamp."""
    ordered = sorted(keyframes, key=lambda each: each.stamp_ns)
    stamps_ns = [each.stamp_ns for each in ordered]
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        values = np.array(words[1:], np.float64)
        is_stamp = re.fullmatch(r"-?\d+(\.\d*)?", words[0])
        is_unit = len(values) == 7 and abs(np.linalg.norm(values[3:]) - 1) < 1e-3
        if not (is_stamp and is_unit and np.isfinite(values).all()):
            raise ValueError(f"line {number}: expected `stamp x y z qx qy qz qw`, got {line[:80]}")
        stamp_ns = round(Decimal(words[0]) * NANOSECONDS)
        at = bisect_left(stamps_ns, stamp_ns - STAMP_TOLERANCE_NS)
        if at == len(ordered) or stamps_ns[at] > stamp_ns + STAMP_TOLERANCE_NS:
            raise ValueError(f"line {number}: no keyframe of this session has the stamp {words[0]}")
        yield ordered[at].name, values
