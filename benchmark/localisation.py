# SPDX-License-Identifier: MIT
"""Put down in a rendered town that was mapped by day: how often, how soon and how well it is known where."""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.tables import console, print_table
from netvlad_ros.config import LOCALISATION, Config
from netvlad_ros.config.files import from_values
from netvlad_ros.extraction.protocol import Extractor
from netvlad_ros.image_data import CameraModel, CorrectedPose, ImageData, Pose
from netvlad_ros.keyframe import ONLY_STREAM, Keyframe, Session, Stream
from netvlad_ros.quiet import quiet_start_up
from netvlad_ros.retrieval.closures import ClosureSelector
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.retrieval.keyframe_selector import Choice
from netvlad_ros.retrieval.localiser import Localisation, Localiser
from netvlad_ros.retrieval.query import Query
from netvlad_ros.shipped import model_path
from netvlad_ros.store.keyframe_store import StoredKeyframes
from netvlad_ros.store.sqlite_store import SqliteStore
from netvlad_ros.verification.geometry import BASE
from netvlad_ros.verification.image_data_maker import ImageDataMaker
from netvlad_ros.verification.rigid import inverse, log, quaternion_of
from netvlad_ros.verification.sensors import Sensors
from netvlad_ros.worlds.camera import Camera
from netvlad_ros.worlds.odometry import Drift, base_from_camera, drifted
from netvlad_ros.worlds.walks import Shot, walk
from netvlad_ros.worlds.world import World

with quiet_start_up():
    from netvlad_ros.extraction.extractor import NetVLADExtractor

STEP_M, DRIFT = 1.5, 0.01
PLACES, DRIVEN = 100, 10
RIGHT_M, RIGHT_DEG, WRONG_M = 1.0, 5.0, 5.0
LIGHTS = ("day", "night")
CHI2_95_OF_6 = 12.59
LARGE, WITH_FEATURES = 100_000, 500


@dataclass(frozen=True, eq=False)
class _Image:
    """With depth only where the map is made."""

    stamp_ns: int
    shot: Shot
    image: np.ndarray
    descriptor: np.ndarray
    depth_m: np.ndarray | None = None

    @property
    def base(self) -> np.ndarray:
        """(4, 4) where it truly is."""
        return np.asarray(self.shot.pose.matrix() @ inverse(base_from_camera()))


@dataclass
class _Judged:
    """Of all places of one town, or several.

    after: of each place, how many keyframes were driven when a right pose came first; 0 if none did.
    """

    after: list[int] = field(default_factory=list)
    poses: int = 0
    wrong_m: list[float] = field(default_factory=list)
    errors_m: list[float] = field(default_factory=list)
    errors_deg: list[float] = field(default_factory=list)
    nees: list[float] = field(default_factory=list)

    def add(self, other: "_Judged") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def share(self, driven: int) -> float:
        """Of places that were known after so many keyframes."""
        return float(np.mean([0 < each <= driven for each in self.after]))

    def row(self, name: str) -> list[Any]:
        nees = np.array(self.nees or [np.nan])
        return [
            name,
            *(f"{self.share(driven):.0%}" for driven in (1, 2, 3, 5, DRIVEN)),
            self.poses,
            len(self.wrong_m),
            f"{np.median(self.errors_m or [np.nan]):.3f} m, {np.median(self.errors_deg or [np.nan]):.2f} deg",
            f"{(nees < CHI2_95_OF_6).mean():.0%}",
        ]


def measure(arguments: argparse.Namespace) -> None:
    """Of --towns, which takes some minutes each, and of a map of 100,000 keyframes."""
    extractor = NetVLADExtractor(model_path(arguments.model))
    sums = {light: _Judged() for light in LIGHTS}
    rows = []
    for town in arguments.towns:
        lap, drives = rendered(town, extractor)
        console.print(f"town {town}: map of {len(lap)} images")
        judged = judge_town(town, lap, drives, extractor, from_values({}))
        for light, each in judged.items():
            sums[light].add(each)
            rows.append(each.row(f"{town} {light}"))
    rows += [each.row(f"all {light}") for light, each in sums.items()]
    print_table(
        f"Put down at {PLACES} places of a map made by day with depth, one camera and odometry; share "
        f"known to {RIGHT_M:g} m and {RIGHT_DEG:g} deg after so many keyframes; wrong: > {WRONG_M:g} m",
        ["town", "1", "2", "3", "5", "10", "poses", "wrong", "error", "in 95 %"],
        rows,
    )
    _print_start(extractor, arguments.scratch)


def rendered(town: int, extractor: Extractor) -> tuple[list[_Image], dict[str, list[_Image]]]:
    """The lap by day that the map is made of, with depth, and another lap in each light."""
    with World(town, "town", Camera(640, 480)) as world:
        shots = walk(world, "loop", 1 + len(LIGHTS), ["day", *LIGHTS], step_m=STEP_M)
        images = [_rendered(world, shot, extractor) for shot in shots]
    laps = {
        lap: [each for each in images if each.shot.lap == lap] for lap in range(1 + len(LIGHTS))
    }
    return laps[0], {light: laps[lap] for lap, light in enumerate(LIGHTS, start=1)}


def _rendered(world: World, shot: Shot, extractor: Extractor) -> _Image:
    image = world.render(shot.pose, shot.conditions, shot.number)
    depth_m = None if shot.lap else world.depth_m(shot.pose, shot.conditions)
    return _Image(shot.stamp_ns, shot, image, extractor.extract(image), depth_m)


def judge_town(
    town: int,
    lap: Sequence[_Image],
    drives: dict[str, list[_Image]],
    extractor: Extractor,
    config: Config,
) -> dict[str, _Judged]:
    """By the light of the drives."""
    database = _mapped(lap, extractor, config)
    localising = replace(config, database=replace(config.database, mode=LOCALISATION))
    database.configure(localising)
    result = {}
    for light, images in drives.items():
        judged = result[light] = _Judged()
        starts = np.linspace(0, len(images) - DRIVEN, PLACES).astype(int)
        for start in starts.tolist():
            driven = images[start : start + DRIVEN]
            _judge(judged, driven, _localised(driven, start, database, extractor, localising))
    return result


def _mapped(lap: Sequence[_Image], extractor: Extractor, config: Config) -> KeyframeDatabase:
    """With odometry, and true poses as a good pose graph would have them."""
    database, maker = KeyframeDatabase(config), ImageDataMaker(config.verification)
    odometry = drifted([each.shot.pose for each in lap], Drift.of_share(DRIFT), 0)
    for each, reported in zip(lap, odometry, strict=True):
        data = maker.make(each.image, Sensors(_camera(), each.depth_m, odometry=reported))
        pose = Pose("map", "base_link", each.base[:3, 3], quaternion_of(each.base[:3, :3]))
        data = replace(data, map_pose=CorrectedPose(pose, "truth", each.stamp_ns))
        _observed(database, each, data, extractor)
    return database


def _localised(
    driven: Sequence[_Image],
    seed: int,
    database: KeyframeDatabase,
    extractor: Extractor,
    config: Config,
) -> Iterator[Localisation]:
    """Of a robot that was just started."""
    maker, closures = ImageDataMaker(config.verification), ClosureSelector(config)
    localiser = Localiser(config, closures.motion)
    odometry = drifted([each.shot.pose for each in driven], Drift.of_share(DRIFT), seed)
    stream = Stream(f"robot {seed}")
    for each, pose in zip(driven, odometry, strict=True):
        data = maker.make(each.image, Sensors(_camera(), odometry=pose))
        query = _observed(database, each, data, extractor, stream)
        yield localiser.localise(query, closures.select(query))


def _observed(
    database: KeyframeDatabase,
    image: _Image,
    data: ImageData,
    extractor: Extractor,
    stream: Stream = ONLY_STREAM,
) -> Query:
    query = database.observe(
        image.descriptor,
        image.stamp_ns,
        extractor.fingerprint,
        stream,
        calibration=extractor.calibration,
        choice=Choice.KEYFRAME,
        data=lambda: data,
    )
    assert query is not None
    return query


def _camera() -> CameraModel:
    k = Camera(640, 480).matrix()
    return CameraModel(640, 480, "plumb_bob", k, np.zeros(5), None, "camera", base_from_camera())


def _judge(judged: _Judged, driven: Sequence[_Image], found: Iterator[Localisation]) -> None:
    after = 0
    for number, (image, localisation) in enumerate(zip(driven, found, strict=True), start=1):
        if localisation.pose is None:
            continue
        assert localisation.of == BASE
        away = log(inverse(image.base) @ localisation.pose.matrix)
        error_m = float(np.linalg.norm(away[:3]))
        error_deg = float(np.degrees(np.linalg.norm(away[3:])))
        judged.poses += 1
        judged.errors_m.append(error_m)
        judged.errors_deg.append(error_deg)
        judged.nees.append(float(away @ np.linalg.solve(localisation.pose.covariance, away)))
        if error_m > WRONG_M:
            judged.wrong_m.append(error_m)
        if not after and error_m <= RIGHT_M and error_deg <= RIGHT_DEG:
            after = number
    judged.after.append(after)


def _print_start(extractor: Extractor, scratch: str | None) -> None:
    """From a start with a large map to the first answer, but for loading the model."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path = Path(folder) / "map.db"
        image, data = _save_large(path, extractor)
        began_s = time.perf_counter()
        config = from_values({"database.mode": LOCALISATION})
        database = KeyframeDatabase.load(SqliteStore(path, read_only=True), config)
        loaded_s = time.perf_counter()
        descriptor = extractor.extract(image)
        query = database.observe(descriptor, 0, extractor.fingerprint, data=lambda: data)
        assert query is not None
        closures = ClosureSelector(config)
        Localiser(config, closures.motion).localise(query, closures.select(query))
        answered_s = time.perf_counter()
    print_table(
        f"First answer in a map of {LARGE} keyframes, s",
        ["load the map", "answer", "both"],
        [[loaded_s - began_s, answered_s - loaded_s, answered_s - began_s]],
    )


def _save_large(path: Path, extractor: Extractor) -> tuple[np.ndarray, ImageData]:
    """Random keyframes, some with features. Returns an image and its data, which is like theirs."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (480, 640, 3), np.uint8)
    data = ImageDataMaker(Config().verification).make(
        image, Sensors(_camera(), np.full((480, 640), 5.0, np.float32))
    )
    pose = Pose("map", "base_link", np.zeros(3), np.array([0.0, 0, 0, 1]))
    data = replace(data, odometry=pose)
    vectors = rng.normal(size=(LARGE, extractor.dims)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[-1] = extractor.extract(image)  # the place that is found
    keyframes = [Keyframe(Session("5e" * 16), number, number) for number in range(LARGE)]
    known = [(each.name, data) for each in keyframes[-WITH_FEATURES:]]
    database = KeyframeDatabase()
    database.fingerprint = extractor.fingerprint
    database.add(StoredKeyframes(keyframes, vectors, known))
    database.save(SqliteStore(path))
    return image, data
