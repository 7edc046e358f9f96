# SPDX-License-Identifier: MIT
"""Houses: painted walls, roofs, balconies, awnings, chimneys, lit windows."""

from dataclasses import replace

import numpy as np

from netvlad_ros.worlds import cutouts, facades, posters, textures
from netvlad_ros.worlds.facades import Facade
from netvlad_ros.worlds.scene import Block, Lamp, Scene

_WALL_CELL_M = 3.5


class Builder:
    """Puts houses into a scene, each with walls of its own."""

    def __init__(self, rng: np.random.Generator, scene: Scene, max_storeys: int) -> None:
        self.rng, self.scene, self.mesh, self.max_storeys = rng, scene, scene.mesh, max_storeys
        self.count = 0
        self.roofs = [textures.roof_tiles(rng) for _ in range(3)]
        for number, roof in enumerate(self.roofs):
            self.mesh.material(f"roof{number}", roof.image, reacts="roof")
        self.mesh.material("flat", textures.gravel(rng).image, reacts="roof")
        self.mesh.material("railing", cutouts.railing(rng))
        self.mesh.material("slab", textures.concrete(rng).image)
        self.mesh.material("lit", _lit_window(rng), layer=2, is_lit_window=True)

    def house(self, x: float, y: float, yaw_rad: float, width_m: float, depth_m: float) -> None:
        """A house whose front looks along yaw_rad; x, y: the middle of its ground plan."""
        rng = self.rng
        style = facades.random_style(rng, self.max_storeys)
        front = facades.paint(rng, style, width_m)
        back = (
            facades.paint(rng, replace(style, shop=False), width_m) if rng.random() < 0.5 else front
        )
        side = facades.paint(rng, style, depth_m, front=False)
        name, self.count = f"house{self.count}", self.count + 1
        for part, facade in (("front", front), ("back", back), ("side", side)):
            self.mesh.material(f"{name}{part}", facade.image)
        out = np.array([np.cos(yaw_rad), np.sin(yaw_rad), 0.0])
        right = np.array([-out[1], out[0], 0.0])  # as seen by someone who looks at the front
        middle = np.array([x, y, 0.0])
        walls = (
            ("front", front, out * depth_m / 2, right, width_m),
            ("back", back, -out * depth_m / 2, -right, width_m),
            ("side", side, right * width_m / 2, -out, depth_m),
            ("side", side, -right * width_m / 2, out, depth_m),
        )
        for part, facade, offset, along, length in walls:
            origin = middle + offset - along * length / 2
            up = (0, 0, facade.height_m)
            self.mesh.patch(f"{name}{part}", origin, along * length, up, cell_m=_WALL_CELL_M)
            self._light_windows(facade, origin, along)
        self._fittings(front, middle + out * depth_m / 2 - right * width_m / 2, right, out)
        self._roof(middle, out, right, width_m, depth_m, style.height_m, style.trim / 255)
        self.scene.blocks.append(Block((x, y), (depth_m, width_m, style.height_m), yaw_rad))

    def _light_windows(self, facade: Facade, origin: np.ndarray, along: np.ndarray) -> None:
        share = self.rng.uniform(0.1, 0.6)
        outward = np.cross(along, (0, 0, 1)) * 0.03
        for left, bottom, w, h in facade.windows:
            if self.rng.random() < share:
                corner = origin + along * left + np.array([0, 0, bottom]) + outward
                tint = np.array([1.0, self.rng.uniform(0.7, 0.95), self.rng.uniform(0.35, 0.8)])
                self.mesh.patch(
                    "lit", corner, along * w, (0, 0, h), tint=tint, glow=self.rng.uniform(0.6, 1)
                )

    def _fittings(
        self, front: Facade, corner: np.ndarray, right: np.ndarray, out: np.ndarray
    ) -> None:
        """What sticks out of the front: balconies, an awning, a sign, a ledge."""
        rng, mesh = self.rng, self.mesh
        yaw = float(np.arctan2(right[1], right[0]))
        for left, bottom, w, _ in front.balconies:
            centre = corner + right * (left + w / 2) + out * 0.5 + np.array([0, 0, bottom - 0.2])
            mesh.box("slab", centre, (w + 0.7, 1.0, 0.15), yaw, repeat_m=1.5)
            base = centre - right * (w + 0.7) / 2 + out * 0.5 + np.array([0, 0, 0.15])
            for start, way in (
                (base, right * (w + 0.7)),
                (base + right * (w + 0.7), -right * (w + 0.7)),
                (base, -out),
                (base + right * (w + 0.7) - out, out),
            ):
                mesh.patch("railing", start, way, (0, 0, 0.9))
        for left, bottom, w, h in front.shops:
            if rng.random() < 0.5:
                name = f"awning{self.count}"
                mesh.material(name, textures.pattern(rng), reacts="roof")
                start = corner + right * left + out * 1.3 + np.array([0, 0, bottom - 0.35])
                slope = -out * 1.3 + np.array([0, 0, 0.6])
                mesh.patch(name, start, right * w, slope, (0, 0, w / 2, 1), 3.0)
                mesh.patch(name, start + right * w, -right * w, slope, (0, 0, w / 2, 1), 3.0)
            self.scene.lamps.append(
                Lamp(
                    tuple(corner + right * (left + w / 2) + out * 1.2 + np.array([0, 0, bottom])),
                    (0.8, 0.7, 0.5),
                    3.0,
                )
            )
            self._blade_sign(corner + right * (left + w * rng.uniform(0.1, 0.9)), out, bottom + h)
        width = front.width_m
        top = corner + right * width / 2 + out * 0.12 + np.array([0, 0, front.height_m - 0.25])
        mesh.box("slab", top, (width, 0.3, 0.25), yaw, repeat_m=2, cell_m=4)

    def _blade_sign(self, foot: np.ndarray, out: np.ndarray, height_m: float) -> None:
        if self.rng.random() < 0.5:
            name = f"blade{self.count}"
            self.mesh.material(name, posters.sign(self.rng, 128, 64))
            middle = foot + out * 0.6 + np.array([0, 0, height_m])
            self.mesh.card(name, middle, 1.0, 0.5, float(np.arctan2(out[1], out[0])))

    def _roof(
        self,
        middle: np.ndarray,
        out: np.ndarray,
        right: np.ndarray,
        width_m: float,
        depth_m: float,
        height_m: float,
        tint: np.ndarray,
    ) -> None:
        rng, mesh = self.rng, self.mesh
        base = middle + np.array([0, 0, height_m])
        if rng.random() < 0.3:
            origin = base - out * depth_m / 2 - right * width_m / 2
            mesh.tiled("flat", origin, out * depth_m, right * width_m, 3.0, 5.0)
            return
        number = int(rng.integers(3))
        roof, size_m = f"roof{number}", self.roofs[number].size_m
        rise, eaves = depth_m * rng.uniform(0.25, 0.55), 0.35
        ridge = np.array([0, 0, rise])
        for side in (1, -1):
            start = base + side * (out * (depth_m / 2 + eaves) - right * (width_m / 2 + eaves))
            start = start - ridge * eaves / (depth_m / 2)
            slope = -side * out * (depth_m / 2 + eaves) + ridge * (1 + eaves / (depth_m / 2))
            mesh.tiled(roof, start, side * right * (width_m + 2 * eaves), slope, size_m, 5.0)
        self._gables(base, out, right, width_m, depth_m, rise, tint)
        for _ in range(rng.integers(0, 3)):
            at = (
                base
                + right * rng.uniform(-0.4, 0.4) * width_m
                + out * rng.uniform(-0.2, 0.2) * depth_m
            )
            mesh.box("slab", at, (0.6, 0.6, rise + 0.9), float(np.arctan2(out[1], out[0])), tint)

    def _gables(
        self,
        base: np.ndarray,
        out: np.ndarray,
        right: np.ndarray,
        width_m: float,
        depth_m: float,
        rise_m: float,
        tint: np.ndarray,
    ) -> None:
        """The triangles below the ridge."""
        for side in (1, -1):
            low = base + side * (right * width_m / 2 + out * depth_m / 2)
            up = (0, 0, rise_m)
            self.mesh.tiled("slab", low, -side * out * depth_m, up, 3.0, 9.0, tint, taper=0.0)


def _lit_window(rng: np.random.Generator) -> np.ndarray:
    image = textures.shaded(np.array([255.0, 250, 240]), np.ones((64, 32), np.float32))
    for x in (0, 16, 31):
        image[:, x] = 60
    for y in (0, 32, 63):
        image[y] = 60
    image[5:40, 2:7] = image[5:40, 25:30] = 170
    return image
