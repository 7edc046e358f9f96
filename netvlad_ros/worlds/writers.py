# SPDX-License-Identifier: MIT
"""A walk through a world in files: a folder with a CSV of poses, a KITTI sequence, or a rosbag2 bag."""

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from netvlad_ros.errors import WorldError
from netvlad_ros.worlds.walks import Shot
from netvlad_ros.worlds.world import World

POSES_CSV = (
    *("image", "x_m", "y_m", "z_m", "heading_rad", "pitch_rad", "roll_rad", "stamp_ns"),
    *("lap", "conditions", "world"),
)
JPEG_QUALITY = 95
SETTINGS = "render.json"
TOPICS = {"image": "/camera/image_raw", "info": "/camera/camera_info", "odometry": "/odom"}

Settings = dict[str, Any]


def write_folder(
    world: World, shots: Sequence[Shot], folder: Path, settings: Settings
) -> Iterator[int]:
    """images/000000.jpg ... and poses.csv; yields the number of each picture as it is there.

    A folder that was begun with the same settings is completed. Raises WorldError if they differ.
    """
    _begin(folder, settings)
    (folder / "images").mkdir(exist_ok=True)
    with (folder / "poses.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(POSES_CSV)
        rows.writerows(_csv_row(world, shot) for shot in shots)
    yield from _write_images(world, shots, folder / "images", ".jpg")


def write_kitti(
    world: World, shots: Sequence[Shot], folder: Path, settings: Settings
) -> Iterator[int]:
    """image_0/000000.png (in colour), times.txt, poses.txt and calib.txt; yields as write_folder().

    Poses are of the camera (x right, y down, z ahead) in the frame of the first picture.
    """
    _begin(folder, settings)
    (folder / "image_0").mkdir(exist_ok=True)
    first = np.linalg.inv(shots[0].pose.matrix())
    matrices = [(first @ shot.pose.matrix())[:3].ravel() for shot in shots]
    times = [[(shot.stamp_ns - shots[0].stamp_ns) / 1e9] for shot in shots]
    projection = np.hstack([world.camera.matrix(), np.zeros((3, 1))]).ravel()
    _write_numbers(folder / "poses.txt", matrices)
    _write_numbers(folder / "times.txt", times)
    (folder / "calib.txt").write_text(
        "P0: " + " ".join(f"{value:.9e}" for value in projection) + "\n"
    )
    yield from _write_images(world, shots, folder / "image_0", ".png")


def write_bag(
    world: World, shots: Sequence[Shot], folder: Path, settings: Settings, compressed: bool = False
) -> Iterator[int]:
    """A rosbag2 folder with images, camera info and odometry; yields as write_folder().

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
    messages = _Messages(world, compressed)
    with Writer(bag, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connections: dict[str, Any] = {}
        for shot in shots:
            for topic, message in messages.of(shot):
                kind = message.__msgtype__
                if topic not in connections:
                    connections[topic] = writer.add_connection(
                        topic, kind, typestore=messages.store
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


def _write_images(world: World, shots: Sequence[Shot], folder: Path, suffix: str) -> Iterator[int]:
    for shot in shots:
        file = folder / f"{shot.number:06d}{suffix}"
        if not file.exists():
            image = world.render(shot.pose, shot.conditions, shot.number)
            unfinished = file.with_name(f".{file.name}")
            unfinished.write_bytes(_encoded(image, suffix))
            unfinished.rename(file)
        yield shot.number


def _encoded(image: np.ndarray, suffix: str) -> bytes:
    done, data = cv2.imencode(
        suffix,
        image[..., ::-1],
        [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix == ".jpg" else [],
    )
    if not done:
        raise WorldError(f"OpenCV can't write {suffix} images; another build of it can.")
    return data.tobytes()


def _write_numbers(file: Path, rows: Sequence[Sequence[float] | np.ndarray]) -> None:
    lines = (" ".join(f"{value:.9e}" for value in row) for row in rows)
    file.write_text("\n".join(lines) + "\n")


class _Messages:
    """The messages of each picture."""

    def __init__(self, world: World, compressed: bool) -> None:
        self.world, self.compressed = world, compressed
        self.store = get_typestore(Stores.LATEST)

    def of(self, shot: Shot) -> Iterator[tuple[str, Any]]:
        """Topic and message, odometry first, so that the pose is there when the image comes."""
        yield TOPICS["odometry"], self._odometry(shot)
        yield TOPICS["info"], self._info(shot)
        image = self.world.render(shot.pose, shot.conditions, shot.number)
        if self.compressed:
            data = np.frombuffer(_encoded(image, ".jpg"), np.uint8)
            message = self._type("sensor_msgs/msg/CompressedImage")(
                self._header(shot), "jpeg", data
            )
            yield f"{TOPICS['image']}/compressed", message
        else:
            height, width = image.shape[:2]
            yield (
                TOPICS["image"],
                self._type("sensor_msgs/msg/Image")(
                    self._header(shot), height, width, "rgb8", 0, 3 * width, image.reshape(-1)
                ),
            )

    def _type(self, name: str) -> Any:
        return self.store.types[name]

    def _header(self, shot: Shot, frame: str = "camera_optical_frame") -> Any:
        stamp = self._type("builtin_interfaces/msg/Time")(*divmod(shot.stamp_ns, 1_000_000_000))
        return self._type("std_msgs/msg/Header")(stamp, frame)

    def _info(self, shot: Shot) -> Any:
        camera = self.world.camera
        region = self._type("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False)
        matrix = camera.matrix()
        projection = np.hstack([matrix, np.zeros((3, 1))])
        distortion = np.array([camera.k1, camera.k2, 0, 0, 0], np.float64)
        return self._type("sensor_msgs/msg/CameraInfo")(
            self._header(shot),
            camera.height_px,
            camera.width_px,
            "plumb_bob",
            distortion,
            matrix.ravel(),
            np.eye(3).ravel(),
            projection.ravel(),
            0,
            0,
            region,
        )

    def _odometry(self, shot: Shot) -> Any:
        """Of the camera's body (x ahead, y left, z up) in the world; standing still, as it is rendered."""
        vector = self._type("geometry_msgs/msg/Vector3")
        position = self._type("geometry_msgs/msg/Point")(*map(float, shot.pose.position_m))
        rotation = self._type("geometry_msgs/msg/Quaternion")(*map(float, shot.pose.quaternion()))
        pose = self._type("geometry_msgs/msg/Pose")(position, rotation)
        twist = self._type("geometry_msgs/msg/Twist")(vector(0, 0, 0), vector(0, 0, 0))
        zeros = np.zeros(36)
        return self._type("nav_msgs/msg/Odometry")(
            self._header(shot, "map"),
            "camera_link",
            self._type("geometry_msgs/msg/PoseWithCovariance")(pose, zeros),
            self._type("geometry_msgs/msg/TwistWithCovariance")(twist, zeros),
        )
