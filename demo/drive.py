# SPDX-License-Identifier: MIT
"""A drive through a rendered town as a rosbag2 bag: the same round twice, by day and by night."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from netvlad_ros import worlds
from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.errors import WorldError
from netvlad_ros.worlds.camera import Camera
from netvlad_ros.worlds.odometry import Drift
from netvlad_ros.worlds.sensors import MILLIMETRES, ONE_CAMERA, Sensors
from netvlad_ros.worlds.walks import START_NS, Shot, walk
from netvlad_ros.worlds.world import World
from netvlad_ros.worlds.writers import SETTINGS, write_bag

LAPS = ("day", "night")
# An RGB-D camera, and wheels whose odometry errs by 1 % of the way.
RGBD_CAMERA = Camera(640, 480)
RGBD_SENSORS = Sensors(depth=MILLIMETRES, drift=Drift.of_share(0.01))


@dataclass(frozen=True)
class Town:
    """Which town, how far its pictures are apart, and what the robot has.

    has_depth: a larger picture, depth and odometry that drifts; or else one small picture and true poses.
    """

    seed: int
    step_m: float
    speed_m_s: float = 7.5
    has_depth: bool = False

    @property
    def camera(self) -> Camera:
        return RGBD_CAMERA if self.has_depth else Camera()

    @property
    def sensors(self) -> Sensors:
        return RGBD_SENSORS if self.has_depth else ONE_CAMERA


def images_of_laps(bag: Path) -> list[int]:
    """How many images each lap of a rendered bag has."""
    return json.loads((bag / SETTINGS).read_text())["images_of_laps"]


def make_drive(town: Town, folder: Path) -> Path:
    """The bag in this folder; rendered only if it is not there. Raises WorldError."""
    bag = folder / f"town-{town.seed}-{town.step_m:g}m{'-rgbd' * town.has_depth}-{_version()}"
    if bag.exists():
        print(f"the drive of an earlier run is taken: {bag.name}", flush=True)
        return bag
    with World(town.seed, "town", town.camera) as world:
        shots = _without_pause(walk(world, "loop", len(LAPS), LAPS, town.step_m), town)
        if {shot.lap for shot in shots} != set(range(len(LAPS))):
            raise WorldError(f"a step of {town.step_m:g} m leaves a lap without an image.")
        _render(world, shots, bag, town)
    return bag


def _render(world: World, shots: Sequence[Shot], bag: Path, town: Town) -> None:
    from rich.progress import Progress

    laps = [sum(shot.lap == lap for shot in shots) for lap in range(len(LAPS))]
    told = " and ".join(f"{count} by {name}" for count, name in zip(laps, LAPS, strict=True))
    print(f"rendering a town, {told}", flush=True)
    settings = dataclasses.asdict(town) | {"images_of_laps": laps}
    with Progress(transient=True) as progress:
        task = progress.add_task(world.name, total=len(shots))
        for _ in write_bag(world, shots, bag, settings, compressed=True, sensors=town.sensors):
            progress.advance(task)


def _without_pause(shots: Sequence[Shot], town: Town) -> list[Shot]:
    """At one speed; the second lap follows the first at once: nobody wants to wait for the night."""
    period_ns = round(NANOSECONDS * town.step_m / town.speed_m_s)
    return [
        dataclasses.replace(shot, stamp_ns=START_NS + number * period_ns)
        for number, shot in enumerate(shots)
    ]


def _version() -> str:
    """Of what renders: a drive is not taken any more when this has changed."""
    digest = hashlib.sha256()
    for file in (*sorted(Path(worlds.__path__[0]).glob("*.py")), Path(__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:8]
