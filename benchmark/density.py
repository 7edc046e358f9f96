# SPDX-License-Identifier: MIT
"""How a map grows that is driven again and again in three kinds of light, and what it still recognises."""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from benchmark.tables import console, print_table
from netvlad_ros.config import LOCALISATION
from netvlad_ros.config.files import from_values
from netvlad_ros.extraction.protocol import Extractor
from netvlad_ros.image_data import CameraModel, ImageData
from netvlad_ros.quiet import quiet_start_up
from netvlad_ros.retrieval.loop_detector import LoopDetector
from netvlad_ros.retrieval.query import Query
from netvlad_ros.shipped import model_path
from netvlad_ros.verification.image_data_maker import ImageDataMaker
from netvlad_ros.verification.rigid import inverse
from netvlad_ros.verification.sensors import Sensors
from netvlad_ros.worlds.camera import Camera
from netvlad_ros.worlds.odometry import Drift, base_from_camera
from netvlad_ros.worlds.sensors import Sensors as WorldSensors
from netvlad_ros.worlds.walks import Shot, walk
from netvlad_ros.worlds.world import World

with quiet_start_up():
    from netvlad_ros.extraction.extractor import NetVLADExtractor

LIGHTS = ("day", "night", "rain")
LAPS, LAPS_LOOKED_UP, STEP_M = 10, 3, 2.5
WIDTH_PX, HEIGHT_PX, DRIFT = 320, 240, 0.01
ALIKE = (0, 1, 2)  # values of database.max_alike
# A first match is right if it was taken from so near, in this direction.
NEAR_M, NEAR_DEG = 6.0, 30.0


@dataclass
class _Map:
    """One that is driven with a value of database.max_alike.

    sizes: after each lap.
    right: of each light, for each keyframe that was looked up in the end, whether its first match is.
    """

    detector: LoopDetector
    poses: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    right: defaultdict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))

    @property
    def recall(self) -> float:
        return float(np.mean([each for light in self.right.values() for each in light]))

    def take(self, shot: Shot, descriptor: np.ndarray, data: ImageData) -> None:
        detection = self.detector.process_descriptor(descriptor, shot.stamp_ns, data=lambda: data)
        if detection.query is None:
            return
        if shot.lap < LAPS:
            self.poses[detection.query.keyframe.name] = shot.pose.matrix()
        else:
            self.right[shot.conditions_name].append(self._is_right(detection.query, shot))

    def ends_lap(self, lap: int) -> None:
        """After the last one nothing is added any more."""
        database = self.detector.database
        if lap < LAPS:
            if lap == LAPS - 1:
                database.settle()
                config = replace(database.config.database, mode=LOCALISATION)
                database.configure(replace(database.config, database=config))
            self.sizes.append(len(database))

    def _is_right(self, query: Query, shot: Shot) -> bool:
        moved = inverse(self.poses[query.matches[0].keyframe.name]) @ shot.pose.matrix()
        turned_deg = np.degrees(np.arccos(np.clip(moved[2, 2], -1, 1)))
        return bool(np.linalg.norm(moved[:3, 3]) < NEAR_M and turned_deg < NEAR_DEG)


def measure(arguments: argparse.Namespace) -> None:
    """Of --towns; each takes some minutes."""
    extractor = NetVLADExtractor(model_path(arguments.model))
    for town in arguments.towns:
        maps = {
            alike: _Map(LoopDetector(extractor, from_values({"database.max_alike": alike})))
            for alike in ALIKE
        }
        lap = 0
        for shot, descriptor, data in _shots(town, extractor):
            if shot.lap > lap:
                _end_lap(maps, lap)
                lap = shot.lap
            for each in maps.values():
                each.take(shot, descriptor, data)
        _print(town, maps)


def _end_lap(maps: dict[int, _Map], lap: int) -> None:
    for each in maps.values():
        each.ends_lap(lap)
    sizes = ", ".join(str(each.sizes[-1]) for each in maps.values())
    console.print(f"lap {lap + 1}: {sizes}", style="dim")


def _shots(town: int, extractor: Extractor) -> Iterator[tuple[Shot, np.ndarray, ImageData]]:
    with World(town, "town", Camera(WIDTH_PX, HEIGHT_PX)) as world:
        shots = walk(world, "loop", LAPS + LAPS_LOOKED_UP, LIGHTS, step_m=STEP_M)
        odometry = WorldSensors(drift=Drift.of_share(DRIFT)).odometry(world, shots)
        k, mount = world.camera.matrix(), base_from_camera()
        camera = partial(CameraModel, WIDTH_PX, HEIGHT_PX, "plumb_bob", k, np.zeros(5))
        model = camera(None, "camera", mount)
        maker = ImageDataMaker(from_values({}).verification)
        for shot, pose in zip(shots, odometry, strict=True):
            image = world.render(shot.pose, shot.conditions, shot.number)
            depth_m = world.depth_m(shot.pose, shot.conditions)
            data = maker.make(image, Sensors(model, depth_m, odometry=pose))
            yield shot, extractor.extract(image), data


def _print(town: int, maps: dict[int, _Map]) -> None:
    names = ["all" if not alike else f"max_alike {alike}" for alike in maps]
    rows = [
        [f"{lap + 1} {LIGHTS[lap % len(LIGHTS)]}", *(each.sizes[lap] for each in maps.values())]
        for lap in range(LAPS)
    ]
    print_table(f"Town {town}: keyframes of the map after each lap", ["lap", *names], rows)
    rows = [
        [light, *(f"{np.mean(each.right[light]):.1%}" for each in maps.values())]
        for light in LIGHTS
    ]
    rows.append(["together", *(f"{each.recall:.1%}" for each in maps.values())])
    count = sum(map(len, maps[0].right.values()))
    title = f"Keyframes of {LAPS_LOOKED_UP} more laps ({count}) whose first match is right"
    print_table(title, ["light", *names], rows)
