# SPDX-License-Identifier: MIT
"""A walk through a world in files: a folder with a CSV of poses, a KITTI sequence, or a rosbag2 bag."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from netvlad_ros.errors import WorldError
from netvlad_ros.worlds.bag_messages import LATCHED, TOPICS, Messages, encoded
from netvlad_ros.worlds.depth import sixteen_bits
from netvlad_ros.worlds.odometry import cameras_of
from netvlad_ros.worlds.sensors import ONE_CAMERA, Sensors
from netvlad_ros.worlds.walks import Shot
from netvlad_ros.worlds.world import World

POSES_CSV = (
    *("image", "x_m", "y_m", "z_m", "heading_rad", "pitch_rad", "roll_rad", "stamp_ns"),
    *("lap", "conditions", "world"),
)
SETTINGS = "render.json"
DEPTH_UNIT_M = (
    1 / 256
)  # of the pictures of depth in a sequence, as KITTI's depth benchmark has them

Settings = dict[str, Any]
Pictures = dict[Path, Callable[[Shot], np.ndarray]]  # by the folder that they are written to


def write_folder(
    world: World, shots: Sequence[Shot], folder: Path, settings: Settings
) -> Iterator[int]:
    """images/000000.jpg ... and poses.csv; yields the number of each picture as it is there.

    A folder that was begun with the same settings is completed. Raises WorldError if they differ.
    """
    _begin(folder, settings)
    with (folder / "poses.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(POSES_CSV)
        rows.writerows(_csv_row(world, shot) for shot in shots)
    yield from _write_images(shots, {folder / "images": partial(_left, world)}, ".jpg")


def write_kitti(
    world: World,
    shots: Sequence[Shot],
    folder: Path,
    settings: Settings,
    sensors: Sensors = ONE_CAMERA,
) -> Iterator[int]:
    """image_0/000000.png (in colour), times.txt, poses.txt and calib.txt; yields as write_folder().

    Poses are of the camera (x right, y down, z ahead) in the frame of the first picture. What sensors ask
    for: the right pictures in image_1, with P1; depth_0/000000.png, 16 bits in DEPTH_UNIT_M, 0 where there
    is none; odometry.txt, the poses as drifting odometry has them.
    """
    _begin(folder, settings)
    first = np.linalg.inv(shots[0].pose.matrix())
    matrices = [first @ shot.pose.matrix() for shot in shots]
    times = [[(shot.stamp_ns - shots[0].stamp_ns) / 1e9] for shot in shots]
    _write_numbers(folder / "poses.txt", [matrix[:3].ravel() for matrix in matrices])
    _write_numbers(folder / "times.txt", times)
    baselines_m = [0.0, *([sensors.baseline_m] if sensors.baseline_m else [])]
    (folder / "calib.txt").write_text(
        "".join(
            f"P{number}: " + " ".join(f"{value:.9e}" for value in projection.ravel()) + "\n"
            for number, projection in enumerate(map(world.camera.projection, baselines_m))
        )
    )
    if sensors.drift is not None:
        reports = sensors.odometry(world, shots)
        rows = cameras_of(reports)
        _write_numbers(folder / "odometry.txt", [matrix[:3].ravel() for matrix in rows])
    pictures: Pictures = {folder / "image_0": partial(_left, world)}
    if sensors.baseline_m:
        pictures[folder / "image_1"] = lambda shot: world.render_right(
            shot.pose, shot.conditions, sensors.baseline_m, shot.number
        )
    if sensors.depth:
        pictures[folder / "depth_0"] = lambda shot: sixteen_bits(
            world.depth_m(shot.pose, shot.conditions), DEPTH_UNIT_M
        )
    yield from _write_images(shots, pictures, ".png")


def write_bag(
    world: World,
    shots: Sequence[Shot],
    folder: Path,
    settings: Settings,
    compressed: bool = False,
    sensors: Sensors = ONE_CAMERA,
) -> Iterator[int]:
    """A rosbag2 folder with what bag_messages.TOPICS says; yields as write_folder().

    compressed: CompressedImage (JPEG) instead of Image. Until the bag is complete it lies in
    FOLDER.unfinished, which is no bag. One of the same settings stays as it is. Raises WorldError if there
    is something else.
    """
    if folder.exists():
        _begin(folder, settings)
        return
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    bag = unfinished / f"{folder.name}_0"  # which names the file inside, as rosbag2 does
    messages = Messages(world, compressed, sensors)
    with Writer(bag, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connections: dict[str, Any] = {}
        for shot, found in messages.of(shots):
            for topic, message in found:
                kind = message.__msgtype__
                if topic not in connections:
                    connections[topic] = writer.add_connection(
                        topic,
                        kind,
                        typestore=messages.store,
                        offered_qos_profiles=LATCHED if topic == TOPICS["static"] else (),
                    )
                data = messages.store.serialize_cdr(message, kind)
                writer.write(connections[topic], shot.stamp_ns, data)
            yield shot.number
    (bag / SETTINGS).write_text(json.dumps(settings, indent=2))
    bag.rename(folder)
    unfinished.rmdir()


def _begin(folder: Path, settings: Settings) -> None:
    """Makes the folder, or checks that it was begun with these settings."""
    file = folder / SETTINGS
    if not folder.exists() or not any(folder.iterdir()):
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings, indent=2))
        return
    try:
        before = json.loads(file.read_text())
    except (OSError, ValueError):
        raise WorldError(
            f"{folder}: expected a new folder, or one that was rendered before, got one with other files."
        ) from None
    if before != json.loads(json.dumps(settings)):
        changed = sorted(key for key in settings if before.get(key) != settings[key])
        raise WorldError(
            f"{folder}: was rendered with another {', '.join(changed) or 'version'}; choose another folder."
        )


def _csv_row(world: World, shot: Shot) -> list[object]:
    pose = shot.pose
    numbers = (pose.x_m, pose.y_m, pose.z_m, pose.yaw_rad, pose.pitch_rad, pose.roll_rad)
    place = [f"images/{shot.number:06d}.jpg", *(f"{number:.6f}" for number in numbers)]
    return [*place, shot.stamp_ns, shot.lap, shot.conditions_name, world.name]


def _left(world: World, shot: Shot) -> np.ndarray:
    return world.render(shot.pose, shot.conditions, shot.number)


def _write_images(shots: Sequence[Shot], pictures: Pictures, suffix: str) -> Iterator[int]:
    for folder in pictures:
        folder.mkdir(exist_ok=True)
    for shot in shots:
        for folder, taken in pictures.items():
            file = folder / f"{shot.number:06d}{suffix}"
            if not file.exists():
                unfinished = file.with_name(f".{file.name}")
                unfinished.write_bytes(encoded(taken(shot), suffix))
                unfinished.rename(file)
        yield shot.number


def _write_numbers(file: Path, rows: Sequence[Sequence[float] | np.ndarray]) -> None:
    lines = (" ".join(f"{value:.9e}" for value in row) for row in rows)
    file.write_text("\n".join(lines) + "\n")
