# SPDX-License-Identifier: MIT
"""Loop closures in rendered towns: how many places are closed, how wrong, how certain, and how fast."""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import cv2
import numpy as np

from benchmark.tables import console, print_table
from netvlad_ros.config import Config, VerificationConfig
from netvlad_ros.config.files import from_values
from netvlad_ros.extraction.protocol import Extractor
from netvlad_ros.image_data import CameraModel, ImageData
from netvlad_ros.quiet import quiet_start_up
from netvlad_ros.retrieval.closures import Closure
from netvlad_ros.retrieval.loop_detector import LoopDetector
from netvlad_ros.shipped import model_path
from netvlad_ros.verification import matching, points
from netvlad_ros.verification.features import feature_extractor
from netvlad_ros.verification.geometry import BASE
from netvlad_ros.verification.rigid import inverse, log
from netvlad_ros.verification.sensors import Sensors, StereoRig
from netvlad_ros.verification.verifier import verify
from netvlad_ros.worlds.camera import Camera
from netvlad_ros.worlds.odometry import Drift, base_from_camera
from netvlad_ros.worlds.sensors import Sensors as WorldSensors
from netvlad_ros.worlds.walks import walk
from netvlad_ros.worlds.world import World

with quiet_start_up():
    from netvlad_ros.extraction.extractor import NetVLADExtractor

BASELINE_M, DRIFT, STEP_M = 0.12, 0.01, 2.5
# A place is one that was seen before from so near, in this direction, longer ago than exclude_recent_s.
NEAR_M, NEAR_DEG = 6.0, 30.0
WRONG_M, WRONG_DEG, WRONG_SHARE = 0.5, 5.0, 0.1
CHI2_95_OF_6 = 12.59
SOURCES = ("depth", "stereo", "motion")


@dataclass(eq=False)
class _Shot:
    stamp_ns: int
    image: np.ndarray
    descriptor: np.ndarray
    camera_pose: np.ndarray
    sensors: dict[str, Sensors]


@dataclass
class _Judged:
    """Of one town, or several, with one source of depth."""

    places: int = 0
    closed: int = 0
    edges: int = 0
    wrong: list[float] = field(default_factory=list)
    errors_m: list[float] = field(default_factory=list)
    errors_deg: list[float] = field(default_factory=list)
    nees: list[float] = field(default_factory=list)
    select_ms: list[float] = field(default_factory=list)

    def add(self, other: "_Judged") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def row(self, name: str) -> list[Any]:
        nees = np.array(self.nees or [np.nan])
        return [
            name,
            self.places,
            f"{self.closed} ({self.closed / max(1, self.places):.0%})",
            self.edges,
            len(self.wrong),
            f"{np.median(self.errors_m or [np.nan]):.3f} m, {np.median(self.errors_deg or [np.nan]):.2f} deg",
            float(np.median(nees)),
            f"{(nees < CHI2_95_OF_6).mean():.0%}",
            statistics.median(self.select_ms),
        ]


def measure(arguments: argparse.Namespace) -> None:
    """Of --towns; depth and right images are rendered too, so that each takes some minutes."""
    extractor = NetVLADExtractor(model_path(arguments.model))
    sums: dict[str, _Judged] = defaultdict(_Judged)
    rows, timed = [], []
    for town in arguments.towns:
        shots = list(_shots(town, extractor))
        console.print(f"town {town}: {len(shots)} images")
        for source in SOURCES:
            judged = _judged(shots, source, extractor)
            sums[source].add(judged)
            rows.append(judged.row(f"{town} {source}"))
        timed.append(shots[:: max(1, len(shots) // 40)])
    rows += [judged.row(f"all {source}") for source, judged in sums.items()]
    print_table(
        f"Closures at the defaults; wrong: {WRONG_M} m or {WRONG_DEG:g} deg off, or of motion "
        f"{WRONG_SHARE:.0%} of the way",
        ["town", "places", "closed", "edges", "wrong", "error", "NEES", "in 95 %", "select ms"],
        rows,
    )
    _print_stages([shot for shots in timed for shot in shots])


def _shots(town: int, extractor: Extractor) -> Iterator[_Shot]:
    """Two laps of a town by day."""
    with World(town, "town", Camera(640, 480)) as world:
        shots = walk(world, "loop", 2, ["day"], step_m=STEP_M)
        odometry = WorldSensors(drift=Drift.of_share(DRIFT)).odometry(world, shots)
        k = world.camera.matrix()
        camera = CameraModel(
            640, 480, "plumb_bob", k, np.zeros(5), None, "camera", base_from_camera()
        )
        left = np.column_stack([k, np.zeros(3)])
        right = left.copy()
        right[0, 3] = -k[0, 0] * BASELINE_M
        rig = StereoRig(np.eye(3), left, camera, np.eye(3), right)
        for shot, pose in zip(shots, odometry, strict=True):
            image = world.render(shot.pose, shot.conditions, shot.number)
            beside = world.render_right(shot.pose, shot.conditions, BASELINE_M, shot.number)
            depth_m = world.depth_m(shot.pose, shot.conditions)
            sensors = {
                "depth": Sensors(camera, depth_m, odometry=pose),
                "stereo": Sensors(camera, right=beside, rig=rig, odometry=pose),
                "motion": Sensors(camera, odometry=pose),
            }
            descriptor = extractor.extract(image)
            yield _Shot(shot.stamp_ns, image, descriptor, shot.pose.matrix(), sensors)


def _judged(shots: Sequence[_Shot], source: str, extractor: Extractor) -> _Judged:
    detector = LoopDetector(extractor, from_values({}))
    judged = _Judged()
    seen: dict[tuple[str, int], _Shot] = {}
    places: set[tuple[str, int]] = set()
    closed: set[tuple[str, int]] = set()
    for shot in shots:
        began_s = time.perf_counter()
        data = partial(detector.data_of, shot.image, shot.sensors[source])
        detection = detector.process_descriptor(shot.descriptor, shot.stamp_ns, data=data)
        if detection.query is None or detection.closures is None:
            continue
        judged.select_ms.append(1e3 * (time.perf_counter() - began_s))
        if any(_shows_the_place(shot, other) for other in seen.values()):
            places.add(detection.query.keyframe.name)
        seen[detection.query.keyframe.name] = shot
        for closure in detection.closures.closures:  # also of keyframes before, which had to wait
            match, query = seen[closure.match.keyframe.name], seen[closure.query.name]
            if _judge(judged, closure, match, query, source):
                closed.add(closure.query.name)
    judged.places, judged.closed = len(places), len(places & closed)
    return judged


def _shows_the_place(shot: _Shot, before: _Shot) -> bool:
    old = shot.stamp_ns - before.stamp_ns > Config().database.exclude_recent_s * 1e9
    moved = inverse(before.camera_pose) @ shot.camera_pose
    turned = np.degrees(np.arccos(np.clip(moved[2, 2], -1, 1)))
    return bool(old and np.linalg.norm(moved[:3, 3]) < NEAR_M and turned < NEAR_DEG)


def _judge(judged: _Judged, closure: Closure, match: _Shot, query: _Shot, source: str) -> bool:
    """Whether it is right."""
    judged.edges += 1
    moved = inverse(match.camera_pose) @ query.camera_pose
    found = closure.geometry.metric
    if found is None:
        judged.wrong.append(float("nan"))
        return False
    if closure.geometry.frame == BASE:
        moved = base_from_camera() @ moved @ inverse(base_from_camera())
    away = log(inverse(moved) @ found.matrix)
    error_m, error_deg = (
        float(np.linalg.norm(away[:3])),
        float(np.degrees(np.linalg.norm(away[3:]))),
    )
    limit_m = WRONG_M
    if source == "motion":
        limit_m = max(limit_m, WRONG_SHARE * float(np.linalg.norm(moved[:3, 3])))
    judged.errors_m.append(error_m)
    judged.errors_deg.append(error_deg)
    judged.nees.append(float(away @ np.linalg.solve(found.covariance, away)))
    if error_m <= limit_m and error_deg <= WRONG_DEG:
        return True
    judged.wrong.append(error_m)
    return False


def _print_stages(shots: Sequence[_Shot]) -> None:
    """Of one image or one pair, on one core."""
    cv2.setNumThreads(1)
    rows = [_stages(shots, *each) for each in (("orb", 1000), ("orb", 2000), ("rootsift", 1000))]
    print_table(
        "Time by stage, ms; the first verified match takes all but the other sources of depth",
        ["features", "extract", "depth", "stereo", "match", "PnP both ways", "verify", "inliers"],
        rows,
    )


def _stages(shots: Sequence[_Shot], method: str, count: int) -> list[Any]:
    config = VerificationConfig(features=method, max_features=count)
    extractor = feature_extractor(config)
    assert extractor is not None
    times: dict[str, list[float]] = defaultdict(list)
    inliers = []

    def timed(name: str, call: Any, *arguments: Any) -> Any:
        began_s = time.perf_counter()
        result = call(*arguments)
        times[name].append(1e3 * (time.perf_counter() - began_s))
        return result

    before: ImageData | None = None
    for shot in shots:
        camera = shot.sensors["depth"].camera
        rig, right = shot.sensors["stereo"].rig, shot.sensors["stereo"].right
        features = timed("extract", extractor.extract, shot.image)
        pixels = features.keypoints_px
        timed(
            "stereo", points.from_stereo, pixels, camera, shot.image, right, rig, config.max_depth_m
        )
        depth_m = shot.sensors["depth"].depth_m
        points_m = timed("depth", points.from_depth, pixels, camera, depth_m, config.max_depth_m)
        now = ImageData(replace(features, points_m=points_m, points_from="depth"), camera)
        other = before or now
        assert other.features is not None
        assert now.features is not None
        timed("match", matching.match, now.features, other.features, config.max_ratio)
        inliers.append(timed("verify", verify, now, other, config).inliers)
        before = now
    medians = {name: statistics.median(each) for name, each in times.items()}
    return [
        f"{method} {count}",
        *(medians[name] for name in ("extract", "depth", "stereo", "match")),
        medians["verify"] - medians["match"],
        medians["verify"],
        int(statistics.median(inliers)),
    ]
