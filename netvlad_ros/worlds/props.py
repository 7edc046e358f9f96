# SPDX-License-Identifier: MIT
"""What stands in streets: trees, lamps, benches, signs, fences, cars, people."""

import functools

import cv2
import numpy as np

from netvlad_ros.worlds import cutouts, noise, posters, textures
from netvlad_ros.worlds.mesh import Mesh
from netvlad_ros.worlds.scene import Block, Lamp, Scene

_WARM = (1.0, 0.82, 0.52)
_COLD = (0.8, 0.9, 1.0)
_ROUND = (0.0, 0.0, 0.6)  # leaves look everywhere, so that all cards of a tree are equally bright


class Props:
    """Puts things into a scene, out of a small stock of materials that the world's seed has made."""

    def __init__(self, rng: np.random.Generator, scene: Scene) -> None:
        self.rng, self.scene, self.mesh = rng, scene, scene.mesh
        for number in range(4):
            self.mesh.material(f"crown{number}", cutouts.crown(rng), reacts="leaves")
        self.mesh.material("fir", cutouts.fir(rng), reacts="ground")
        self.mesh.material("bark", textures.wood(rng).image)
        self.mesh.material("post", textures.metal(rng).image)
        self.mesh.material("plank", textures.boards(rng).image, reacts="ground")
        self.mesh.material("stone", textures.choose(rng, textures.WALLS).image, reacts="ground")
        self.mesh.material("hedge", _hedge(rng), reacts="leaves")
        self.mesh.material("lamp", np.full((4, 4, 3), 250, np.uint8))
        self.mesh.material("blob", round_shadow(), layer=3)
        self.lamp_colour = _WARM if rng.random() < 0.7 else _COLD
        self.signs = 0

    def tree(self, x: float, y: float) -> None:
        rng, mesh = self.rng, self.mesh
        height, yaw = rng.uniform(3.5, 9.0), rng.uniform(0, np.pi)
        self._shadow(x, y, height * 0.5)
        if rng.random() < 0.15:
            for turn in range(3):
                mesh.card(
                    "fir", (x, y, 0.2), height * 0.55, height, yaw + turn * np.pi / 3, normal=_ROUND
                )
            return
        trunk, width = height * rng.uniform(0.3, 0.45), rng.uniform(0.15, 0.35)
        mesh.box("bark", (x, y, 0), (width, width, trunk + height * 0.15), yaw)
        crown = f"crown{rng.integers(4)}"
        tint = rng.uniform(0.75, 1.1, 3) * (1, 1, 0.9)
        for turn in range(3):
            spread = (height - trunk) * rng.uniform(0.9, 1.25)
            foot = (x + rng.normal(0, 0.2), y + rng.normal(0, 0.2), trunk)
            mesh.card(crown, foot, spread, height - trunk, yaw + turn * np.pi / 3, tint, _ROUND)
        self.scene.blocks.append(Block((x, y), (1.6, 1.6, height), yaw))

    def lamp_post(self, x: float, y: float, yaw_rad: float) -> None:
        height = 4.5
        self.mesh.box("post", (x, y, 0), (0.12, 0.12, height), yaw_rad)
        reach = (x + np.cos(yaw_rad), y + np.sin(yaw_rad))
        middle = ((x + reach[0]) / 2, (y + reach[1]) / 2, height - 0.05)
        self.mesh.box("post", middle, (1.0, 0.08, 0.08), yaw_rad)
        self.mesh.box("lamp", (*reach, height - 0.2), (0.45, 0.25, 0.18), yaw_rad, glow=1.0)
        self.scene.lamps.append(Lamp((*reach, height - 0.3), self.lamp_colour, 5.0))

    def bench(self, x: float, y: float, yaw_rad: float) -> None:
        for z, size in ((0.4, (1.6, 0.45, 0.08)), (0.45, (1.6, 0.06, 0.45))):
            shift = 0.2 if size[1] < 0.1 else 0.0
            centre = (x - shift * np.sin(yaw_rad), y + shift * np.cos(yaw_rad), z)
            self.mesh.box("plank", centre, size, yaw_rad)
        for side in (-0.6, 0.6):
            foot = (x + side * np.cos(yaw_rad), y + side * np.sin(yaw_rad), 0.0)
            self.mesh.box("post", foot, (0.08, 0.4, 0.4), yaw_rad)

    def bin(self, x: float, y: float) -> None:
        tint = textures.any_colour(self.rng) / 255
        self.mesh.box("post", (x, y, 0), (0.4, 0.4, 0.9), self.rng.uniform(0, 3), tint * 1.2)

    def hedge(self, start: np.ndarray, end: np.ndarray, height_m: float) -> None:
        centre, length = (start + end) / 2, float(np.linalg.norm(end - start))
        yaw = float(np.arctan2(*(end - start)[::-1]))
        self.mesh.box("hedge", (*centre, 0), (length, 0.7, height_m), yaw, repeat_m=1.5, cell_m=3)

    def wall(self, start: np.ndarray, end: np.ndarray, height_m: float) -> None:
        centre, length = (start + end) / 2, float(np.linalg.norm(end - start))
        yaw = float(np.arctan2(*(end - start)[::-1]))
        self.mesh.box("stone", (*centre, 0), (length, 0.3, height_m), yaw, repeat_m=2.0, cell_m=3)

    def fence(self, start: np.ndarray, end: np.ndarray, height_m: float) -> None:
        name = f"fence{self.signs}"
        self.signs += 1
        self.mesh.material(name, cutouts.railing(self.rng))
        along = np.array([*(end - start), 0.0])
        count = float(np.linalg.norm(along)) / (2 * height_m)
        origin = np.array([*start, 0.0])
        for base, way in ((origin, along), (origin + along, -along)):
            self.mesh.patch(name, base, way, (0, 0, height_m), (0, 0, count, 1), 6.0)

    def board(self, x: float, y: float, yaw_rad: float) -> None:
        """A traffic sign, a street's name or an advertisement on a post."""
        rng, mesh = self.rng, self.mesh
        name, kind = f"board{self.signs}", rng.choice(["round", "name", "large"])
        self.signs += 1
        width, height, base = {
            "round": (0.6, 0.6, 1.9),
            "name": (1.0, 0.35, 2.2),
            "large": (1.4, 2.0, 0.5),
        }[kind]
        if kind == "round":
            image = _traffic_sign(rng)
        elif kind == "name":
            image = posters.sign(rng, 128, 32)
        else:
            image = posters.painting(rng, 128, 128)
        mesh.material(name, image)
        mesh.box("post", (x, y, 0), (0.08, 0.08, base + height * 0.9), yaw_rad)
        out = 0.06 * np.array([-np.sin(yaw_rad), np.cos(yaw_rad), 0])
        mesh.card(name, np.array([x, y, base]) - out, width, height, yaw_rad)

    def kiosk(self, x: float, y: float, yaw_rad: float) -> None:
        name = f"kiosk{self.signs}"
        self.signs += 1
        self.mesh.material(name, posters.notice_board(self.rng, 128, 128))
        size = (self.rng.uniform(1, 2.5), self.rng.uniform(1, 2), 2.4)
        self.mesh.box(name, (x, y, 0), size, yaw_rad)
        self.mesh.box("plank", (x, y, 2.4), (size[0] + 0.5, size[1] + 0.5, 0.15), yaw_rad)
        self.scene.blocks.append(Block((x, y), size, yaw_rad))

    def _shadow(self, x: float, y: float, width_m: float) -> None:
        shadow(self.mesh, x, y, width_m, width_m, 0.0)


def shadow(mesh: Mesh, x: float, y: float, length_m: float, width_m: float, yaw_rad: float) -> None:
    """The dark place on the ground below something."""
    a = length_m * np.array([np.cos(yaw_rad), np.sin(yaw_rad), 0])
    b = width_m * np.array([-np.sin(yaw_rad), np.cos(yaw_rad), 0])
    mesh.patch("blob", np.array([x, y, 0.02]) - (a + b) / 2, a, b)


# --- What comes and goes ------------------------------------------------------------------------------


def car(rng: np.random.Generator, mesh: Mesh, x: float, y: float, yaw_rad: float) -> None:
    """A car or a van with its painted sides."""
    name = f"car{len(mesh.materials)}"
    paint = textures.any_colour(rng)
    long, wide = rng.uniform(3.7, 5.0), rng.uniform(1.65, 1.9)
    van = rng.random() < 0.2
    high = rng.uniform(1.9, 2.4) if van else rng.uniform(1.35, 1.7)
    mesh.material(f"{name}side", _car_side(rng, paint, van))
    mesh.material(f"{name}end", _car_end(rng, paint))
    mesh.material(f"{name}top", np.full((4, 4, 3), paint, np.uint8), reacts="roof")
    mesh.material("blob", round_shadow(), layer=3)
    shadow(mesh, x, y, long * 1.15, wide * 1.3, yaw_rad)
    ahead = np.array([np.cos(yaw_rad), np.sin(yaw_rad), 0.0])
    left = np.array([-ahead[1], ahead[0], 0.0])
    middle, up = np.array([x, y, 0.0]), np.array([0, 0, high])
    a, b = ahead * long, left * wide
    slant = 0.0 if van else 0.22
    for side in (-1, 1):
        origin = middle - side * a / 2 - side * b / 2
        mesh.patch(f"{name}side", origin, side * a, up - side * slant * -b * 0.3)
    for end in (-1, 1):
        hood = 0.55 if not van else 1.0
        origin = middle + end * a / 2 - end * b / 2
        mesh.patch(f"{name}end", origin, end * b, up * hood, (0, 0, 1, 0.55 if not van else 1))
        if not van:
            base = middle + end * (a / 2) - end * b / 2 + 0.55 * up
            mesh.patch(f"{name}top", base, end * b, -end * a * 0.2 + 0.05 * up)
            glass = base - end * a * 0.2 + 0.05 * up
            mesh.patch(f"{name}end", glass, end * b, -end * a * 0.1 + 0.4 * up, (0, 0.6, 1, 1))
    size = long * (0.4 if not van else 1.0)
    roof = middle + up * 0.99 - ahead * size / 2 - b / 2
    mesh.patch(f"{name}top", roof, ahead * size, b)


def person(rng: np.random.Generator, mesh: Mesh, x: float, y: float) -> None:
    """Somebody who stands there, as crossed pictures."""
    name, height = f"person{len(mesh.materials)}", rng.uniform(1.5, 1.95)
    mesh.material(name, cutouts.person(rng))
    mesh.material("blob", round_shadow(), layer=3)
    shadow(mesh, x, y, 0.7, 0.7, 0.0)
    yaw = rng.uniform(0, np.pi)
    for turn in (0.0, np.pi / 2):
        mesh.card(name, (x, y, 0.02), height / 2, height, yaw + turn)


def _car_side(rng: np.random.Generator, paint: np.ndarray, van: bool) -> np.ndarray:
    image = np.zeros((64, 128, 4), np.uint8)
    body, glass = (*paint.tolist(), 255), (45, 55, 65, 255)
    if van:
        cv2.rectangle(image, (2, 2), (125, 52), body, -1)
        cv2.rectangle(image, (92, 8), (122, 26), glass, -1)
        image[10:40, 8:88, :3] = posters.sign(rng, 80, 30)
    else:
        cabin = np.array([[20, 30], [38, 3], [84, 3], [104, 30]])
        cv2.fillPoly(image, [cabin], body)
        cv2.fillPoly(image, [np.array([[30, 28], [42, 7], [59, 7], [59, 28]])], glass)
        cv2.fillPoly(image, [np.array([[63, 28], [63, 7], [81, 7], [96, 28]])], glass)
        cv2.rectangle(image, (2, 29), (126, 53), body, -1)
    dark = (*(paint * 0.55).tolist(), 255)
    cv2.line(image, (61, 30), (61, 52), dark, 1)
    cv2.rectangle(image, (2, 48), (126, 53), dark, -1)
    for x in (26, 102):
        cv2.circle(image, (x, 52), 11, (22, 22, 24, 255), -1)
        cv2.circle(image, (x, 52), 5, (150, 150, 155, 255), -1)
    return image


def _car_end(rng: np.random.Generator, paint: np.ndarray) -> np.ndarray:
    """Above, the window; below, lights, number plate and bumper."""
    image = np.empty((64, 64, 3), np.uint8)
    image[:] = paint
    cv2.rectangle(image, (4, 2), (59, 24), (45, 55, 65), -1)
    lights = (235, 235, 220) if rng.random() < 0.5 else (200, 30, 30)
    for x in (4, 48):
        cv2.rectangle(image, (x, 34), (x + 12, 42), lights, -1)
    cv2.rectangle(image, (22, 46), (42, 52), (240, 240, 240), -1)
    cv2.rectangle(image, (0, 55), (63, 63), (30, 30, 32), -1)
    return image


def _traffic_sign(rng: np.random.Generator) -> np.ndarray:
    image = np.zeros((64, 64, 4), np.uint8)
    rim = textures.colour(
        rng, tuple(rng.choice([(0.97, 1.0), (0.58, 0.62)])), (0.7, 0.9), (0.6, 0.9)
    )
    outline = (*rim.tolist(), 255)
    if rng.random() < 0.5:
        cv2.circle(image, (32, 32), 30, outline, -1)
        cv2.circle(image, (32, 32), 23, (240, 240, 240, 255), -1)
    else:
        cv2.fillPoly(image, [np.array([[32, 2], [62, 60], [2, 60]])], outline)
        cv2.fillPoly(image, [np.array([[32, 16], [52, 54], [12, 54]])], (240, 240, 240, 255))
    cv2.putText(image, str(rng.integers(1, 99)), (15, 46), 1, 1.8, (20, 20, 20, 255), 3)
    return image


def _hedge(rng: np.random.Generator) -> np.ndarray:
    base = textures.colour(rng, (0.22, 0.36), (0.35, 0.7), (0.25, 0.5))
    light = 1 + 0.45 * noise.octaves(rng, 128, 8, 0.85) + 0.25 * noise.grain(rng, 128)
    return textures.shaded(base, light)


@functools.cache
def round_shadow() -> np.ndarray:
    """A round shadow, dithered, for a renderer that knows only holes and no veils."""
    image = np.zeros((64, 64, 4), np.uint8)
    image[..., :3] = 38
    y, x = np.mgrid[:64, :64] / 31.5 - 1
    threshold = np.random.default_rng(5).random((64, 64))
    image[..., 3] = np.where(0.9 * (1 - x**4 - y**4).clip(0, 1) > threshold, 255, 0)
    return image
