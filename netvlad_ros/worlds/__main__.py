# SPDX-License-Identifier: MIT
"""`python -m netvlad_ros.worlds SHEET.jpg`: a picture sheet of worlds, times and weathers."""

import sys

import cv2
import numpy as np

from netvlad_ros.worlds.camera import Camera
from netvlad_ros.worlds.conditions import named
from netvlad_ros.worlds.world import World

ROWS = (
    ("town", 100, ("day", "evening", "night", "fog")),
    ("town", 11, ("morning", "cloudy", "snow", "dusk")),
    ("street", 7, ("day", "rain", "autumn", "night")),
    ("street", 21, ("winter", "snowfall", "evening", "day")),
    ("corridor", 1, ("day", "night", "day", "night")),
    ("room", 0, ("day", "morning", "night", "day")),
)
CAMERA = Camera(240, 180)
JPEG_QUALITY = 85


def row(kind: str, seed: int, names: tuple[str, ...]) -> np.ndarray:
    """uint8 RGB: the same way through one world, under one condition after another."""
    with World(seed, kind, CAMERA) as world:
        way = world.trajectory("loop", laps=1)[0]
        poses = [
            way[len(way) * (2 * number + 1) // (2 * len(names))] for number in range(len(names))
        ]
        images = [
            world.render(pose, named(name), number)
            for number, (pose, name) in enumerate(zip(poses, names, strict=True))
        ]
    return np.hstack(images)


def main(path: str) -> None:
    """Writes the sheet."""
    sheet = np.vstack([row(*each) for each in ROWS])
    cv2.imwrite(path, sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


if __name__ == "__main__":
    main(sys.argv[1])
