# SPDX-License-Identifier: MIT
"""What stands in rooms and corridors, each piece with colours and proportions of its own."""

import numpy as np

from netvlad_ros.worlds import cutouts, posters, props, textures
from netvlad_ros.worlds.mesh import Mesh, Vector


class Furniture:
    """Puts furniture into a mesh; x, y, yaw_rad: the middle of its footprint, and where its front looks."""

    def __init__(self, rng: np.random.Generator, mesh: Mesh) -> None:
        self.rng, self.mesh, self.count = rng, mesh, 0
        for number in range(3):
            mesh.material(f"timber{number}", textures.wood(rng).image)
            mesh.material(
                f"cloth{number}", textures.choose(rng, (textures.fabric, textures.carpet)).image
            )
        mesh.material("iron", textures.metal(rng).image)
        mesh.material("plant", cutouts.plant(rng))
        mesh.material("blob", props.round_shadow(), layer=3)

    def against_wall(self, x: float, y: float, yaw_rad: float, room_m: float) -> float:
        """Something that stands at a wall, at most room_m wide; x, y: on the wall. Returns its width."""
        kinds = [self.plant, self.cabinet, self.boxes]
        if room_m > 1.0:
            kinds += [self.shelf, self.shelf, self.desk, self.bench, self.machine]
        if room_m > 2.0:
            kinds += [self.sofa, self.bed]
        return kinds[self.rng.integers(len(kinds))](x, y, yaw_rad, room_m)

    def shelf(self, x: float, y: float, yaw_rad: float, room_m: float) -> float:
        width, height = min(room_m, self.rng.uniform(0.8, 2.2)), self.rng.uniform(1.0, 2.2)
        name = self._own(posters.books(self.rng, 128, 128, int(self.rng.integers(3, 7))))
        self._box(self._timber(), x, y, yaw_rad, 0.36, width, height, front=name)
        return width

    def cabinet(self, x: float, y: float, yaw_rad: float, room_m: float) -> float:
        width, height = min(room_m, self.rng.uniform(0.5, 1.4)), self.rng.uniform(0.7, 2.0)
        name = self._own(_doors(self.rng))
        depth = self.rng.uniform(0.35, 0.55)
        self._box(self._timber(), x, y, yaw_rad, depth, width, height, front=name)
        if height < 1.2 and self.rng.random() < 0.6:
            self._leaves(*self._ahead(x, y, yaw_rad, 0.2), height, 0.5)
        return width

    def machine(self, x: float, y: float, yaw_rad: float, room_m: float) -> float:
        """A vending machine, a copier or a rack with a bright front."""
        width, height = min(room_m, self.rng.uniform(0.7, 1.1)), self.rng.uniform(1.0, 1.9)
        name = self._own(posters.notice_board(self.rng, 64, 128))
        tint = textures.any_colour(self.rng) / 255
        self._box("iron", x, y, yaw_rad, 0.6, width, height, front=name, tint=tint)
        return width

    def boxes(self, x: float, y: float, yaw_rad: float, room_m: float) -> float:
        size, z = min(room_m, self.rng.uniform(0.3, 0.6)), 0.0
        for _ in range(self.rng.integers(1, 4)):
            name = self._own(posters.sign(self.rng, 64, 64))
            turn = yaw_rad + self.rng.normal(0, 0.15)
            centre = self._ahead(x, y, yaw_rad, 0.35)
            self.mesh.box(name, (*centre, z), (size, size, size * 0.8), turn)
            z += size * 0.8
        return size

    def bench(self, x: float, y: float, yaw_rad: float, room_m: float) -> float:
        width = min(room_m, self.rng.uniform(1.0, 1.8))
        middle = self._ahead(x, y, yaw_rad, 0.3)
        self.mesh.box(self._timber(), (*middle, 0.4), (0.4, width, 0.06), yaw_rad, self._tint())
        self._legs(*middle, yaw_rad, 0.35, width - 0.1, 0.4)
        return width

    def desk(self, x: float, y: float, yaw_rad: float, room_m: float) -> float:
        width = min(room_m, self.rng.uniform(1.0, 1.8))
        middle = self._ahead(x, y, yaw_rad, 0.4)
        self.mesh.box(self._timber(), (*middle, 0.72), (0.75, width, 0.04), yaw_rad, self._tint())
        self._legs(*middle, yaw_rad, 0.65, width - 0.1, 0.72)
        screen = self._own(posters.painting(self.rng, 64, 64))
        place = self._ahead(x, y, yaw_rad, 0.25)
        self.mesh.box("iron", (*place, 0.8), (0.05, 0.55, 0.38), yaw_rad, (0.3, 0.3, 0.3))
        self._front(screen, *self._ahead(*place, yaw_rad, 0.03), yaw_rad, 0.5, 0.34, 0.82)
        self.chair(*self._ahead(x, y, yaw_rad, 1.0), yaw_rad + np.pi)
        return width

    def sofa(self, x: float, y: float, yaw_rad: float, room_m: float) -> float:
        width, cloth, tint = min(room_m, self.rng.uniform(1.5, 2.4)), self._cloth(), self._tint()
        middle = self._ahead(x, y, yaw_rad, 0.5)
        box = self.mesh.box
        box(cloth, (*middle, 0), (0.85, width, 0.42), yaw_rad, tint, repeat_m=0.8)
        box(
            cloth,
            (*self._ahead(x, y, yaw_rad, 0.2), 0.4),
            (0.25, width, 0.45),
            yaw_rad,
            tint,
            repeat_m=0.8,
        )
        for side in (-1, 1):
            arm = self._aside(*middle, yaw_rad, side * (width / 2 - 0.1))
            box(cloth, (*arm, 0.4), (0.85, 0.2, 0.2), yaw_rad, tint, repeat_m=0.8)
            pillow = self._aside(*self._ahead(x, y, yaw_rad, 0.42), yaw_rad, side * width * 0.25)
            box(self._cloth(), (*pillow, 0.42), (0.15, 0.45, 0.4), yaw_rad, self._tint())
        return width

    def bed(self, x: float, y: float, yaw_rad: float, room_m: float) -> float:
        width = min(room_m, self.rng.uniform(0.9, 1.8))
        middle = self._ahead(x, y, yaw_rad, 1.05)
        self.mesh.box(self._timber(), (*middle, 0), (2.0, width, 0.3), yaw_rad, self._tint())
        self.mesh.box(
            self._cloth(), (*middle, 0.3), (1.95, width, 0.25), yaw_rad, self._tint(), repeat_m=1
        )
        head = self._ahead(x, y, yaw_rad, 0.05)
        self.mesh.box(self._timber(), (*head, 0), (0.08, width + 0.1, 0.95), yaw_rad)
        pillow = self._ahead(x, y, yaw_rad, 0.4)
        self.mesh.box(
            self._cloth(), (*pillow, 0.55), (0.4, width * 0.8, 0.12), yaw_rad, (1.3, 1.3, 1.3)
        )
        return width

    def plant(self, x: float, y: float, yaw_rad: float, room_m: float) -> float:
        place = self._ahead(x, y, yaw_rad, 0.35)
        pot = self.rng.uniform(0.25, 0.45)
        self.mesh.box("iron", (*place, 0), (pot, pot, pot), self.rng.uniform(0, 1.5), self._tint())
        self._leaves(*place, pot, self.rng.uniform(0.6, 1.4))
        return 0.5

    def table(self, x: float, y: float, yaw_rad: float) -> None:
        """A table with chairs, on a rug perhaps."""
        long, wide = self.rng.uniform(0.8, 2.2), self.rng.uniform(0.7, 1.1)
        if self.rng.random() < 0.6:
            rug = self._own(textures.pattern(self.rng), layer=2)
            a = np.array([np.cos(yaw_rad), np.sin(yaw_rad), 0]) * (long + 1.5)
            b = np.array([-np.sin(yaw_rad), np.cos(yaw_rad), 0]) * (wide + 1.3)
            origin = np.array([x, y, 0.01]) - (a + b) / 2
            self.mesh.patch(rug, origin, a, b, cell_m=1.5)
        top = self._timber()
        self.mesh.box(top, (x, y, 0.72), (long, wide, 0.04), yaw_rad, self._tint())
        self._legs(x, y, yaw_rad, long - 0.15, wide - 0.15, 0.72)
        for turn in np.arange(4) * np.pi / 2 + yaw_rad:
            if self.rng.random() < 0.7:
                reach = (long if np.isclose(np.cos(turn - yaw_rad) ** 2, 1) else wide) / 2 + 0.25
                self.chair(*self._ahead(x, y, turn, reach), turn + np.pi + self.rng.normal(0, 0.2))
        for _ in range(self.rng.integers(0, 4)):
            place = (x + self.rng.uniform(-0.3, 0.3), y + self.rng.uniform(-0.25, 0.25), 0.76)
            size = self.rng.uniform(0.08, 0.3, 3)
            self.mesh.box(self._cloth(), place, size, self.rng.uniform(0, 3), self._tint())

    def chair(self, x: float, y: float, yaw_rad: float) -> None:
        seat, tint = (self._timber() if self.rng.random() < 0.5 else self._cloth()), self._tint()
        self.mesh.patch("blob", (x - 0.35, y - 0.35, 0.012), (0.7, 0, 0), (0, 0.7, 0))
        self.mesh.box(seat, (x, y, 0.42), (0.42, 0.42, 0.05), yaw_rad, tint)
        back = self._ahead(x, y, yaw_rad, -0.19)
        self.mesh.box(seat, (*back, 0.55), (0.04, 0.42, 0.4), yaw_rad, tint)
        self._legs(x, y, yaw_rad, 0.36, 0.36, 0.42)

    # --- Parts ----------------------------------------------------------------------------------------

    def _box(
        self,
        material: str,
        x: float,
        y: float,
        yaw_rad: float,
        depth_m: float,
        width_m: float,
        height_m: float,
        front: str,
        tint: Vector | None = None,
    ) -> None:
        """A box at the wall with a front of its own."""
        middle = self._ahead(x, y, yaw_rad, depth_m / 2)
        size = (depth_m, width_m, height_m)
        self.mesh.box(material, (*middle, 0), size, yaw_rad, self._tint() if tint is None else tint)
        self._front(
            front, *self._ahead(x, y, yaw_rad, depth_m + 0.01), yaw_rad, width_m, height_m, 0.0
        )

    def _front(
        self,
        image: str,
        x: float,
        y: float,
        yaw_rad: float,
        width_m: float,
        height_m: float,
        z: float,
    ) -> None:
        right = np.array([-np.sin(yaw_rad), np.cos(yaw_rad), 0.0])
        origin = np.array([x, y, z]) - right * width_m / 2
        self.mesh.patch(image, origin, right * width_m, (0, 0, height_m), cell_m=1.5)

    def _legs(
        self, x: float, y: float, yaw_rad: float, long: float, wide: float, height: float
    ) -> None:
        for a in (-long / 2, long / 2):
            for b in (-wide / 2, wide / 2):
                place = self._aside(*self._ahead(x, y, yaw_rad, a), yaw_rad, b)
                self.mesh.box("iron", (*place, 0), (0.05, 0.05, height), yaw_rad, (0.6, 0.55, 0.5))

    def _leaves(self, x: float, y: float, z: float, size_m: float) -> None:
        turn, tint = self.rng.uniform(0, 3), self.rng.uniform(0.7, 1.2, 3)
        for step in range(3):
            yaw = turn + step * np.pi / 3
            self.mesh.card("plant", (x, y, z), size_m, size_m, yaw, tint, (0.0, 0.0, 0.6))

    def _own(self, image: np.ndarray, layer: int = 1) -> str:
        self.count += 1
        return self.mesh.material(f"piece{self.count}", image, layer=layer)

    def _timber(self) -> str:
        return f"timber{self.rng.integers(3)}"

    def _cloth(self) -> str:
        return f"cloth{self.rng.integers(3)}"

    def _tint(self) -> np.ndarray:
        return self.rng.uniform(0.6, 1.3) * self.rng.uniform(0.8, 1.1, 3)

    @staticmethod
    def _ahead(x: float, y: float, yaw_rad: float, by_m: float) -> tuple[float, float]:
        return float(x + by_m * np.cos(yaw_rad)), float(y + by_m * np.sin(yaw_rad))

    @staticmethod
    def _aside(x: float, y: float, yaw_rad: float, by_m: float) -> tuple[float, float]:
        return float(x - by_m * np.sin(yaw_rad)), float(y + by_m * np.cos(yaw_rad))


def _doors(rng: np.random.Generator) -> np.ndarray:
    """The front of a cabinet: doors or drawers with handles, uint8 RGB (128, 128, 3)."""
    tile = textures.choose(rng, (textures.wood, textures.metal, textures.fabric))
    image = tile.image[:128, :128].copy()
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    w, h = 128 // columns, 128 // rows
    for i in range(columns):
        for j in range(rows):
            part = image[j * h : (j + 1) * h, i * w : (i + 1) * w]
            part[:2] = part[-2:] = 30
            part[:, :2] = part[:, -2:] = 30
            y, x = h // 2, int(w * rng.choice([0.5, 0.85]))
            part[y - 2 : y + 3, x - 6 : x + 3] = (200, 195, 180)
    return image
