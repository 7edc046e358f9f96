# SPDX-License-Identifier: MIT
"""Corridors and rooms: walls with doors, windows and pictures, floors, ceilings, lamps, furniture."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from netvlad_ros.worlds import posters, props, textures
from netvlad_ros.worlds.furniture import Furniture
from netvlad_ros.worlds.mesh import Mesh
from netvlad_ros.worlds.scene import Block, Lamp, Paths, Scene

_CELL_M = 1.2  # of the light on walls and floors
_DAYLIGHT = (0.8, 0.85, 0.95)
_WARM, _COLD = (1.0, 0.85, 0.62), (0.9, 0.97, 1.0)
_SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0))  # steps to the four neighbours of a cell


def corridor(rng: np.random.Generator) -> Scene:
    """The corridors of one floor: bends, branches, halls, doors to both sides."""
    plan = _Plan(rng.uniform(0.9, 1.2), 80)
    node = plan.node(40, 40)
    wide = int(rng.integers(2, 4))
    heading = int(rng.integers(4))
    for number in range(int(rng.integers(4, 8))):
        length = int(rng.integers(8, 18))
        node = plan.carve(node, heading, length, wide, region=0)
        if rng.random() < 0.3:
            plan.hall(node, int(rng.integers(5, 9)), int(rng.integers(4, 8)), region=1 + number)
        heading = (heading + int(rng.choice([1, 3]))) % 4
        if rng.random() < 0.3:
            plan.carve(node, (heading + 2) % 4, int(rng.integers(5, 12)), wide, region=0)
    return _furnished(rng, plan, rng.uniform(2.4, 3.4), 0.8 * wide)


def room(rng: np.random.Generator) -> Scene:
    """One large room, or several with open doorways."""
    plan = _Plan(1.0, 64)
    centre = (32, 32)
    for number in range(int(rng.integers(1, 5))):
        wide, deep = (int(side) for side in rng.integers(6, 13, 2))
        plan.suite(rng, centre, wide, deep, region=number)
        step = [(wide + 1, 0), (0, deep + 1), (-wide - 1, 0)][int(rng.integers(3))]
        centre = (
            int(np.clip(centre[0] + step[0], 16, 48)),
            int(np.clip(centre[1] + step[1], 16, 48)),
        )
    return _furnished(rng, plan, rng.uniform(2.4, 4.0), 2.0)


def _furnished(rng: np.random.Generator, plan: "_Plan", height_m: float, width_m: float) -> Scene:
    scene = Scene(plan.paths(width_m), is_indoor=True, eye_m=rng.uniform(0.7, 1.6), view_m=90.0)
    floor = _Floor(rng, scene, plan, height_m)
    floor.floors_and_ceilings()
    floor.walls()
    floor.middles()
    floor.visitors()
    return scene


class _Plan:
    """Which cells of a square grid are free, and of which region (with its own materials) they are."""

    def __init__(self, cell_m: float, side: int) -> None:
        self.cell_m = cell_m
        self.region = np.full((side, side), -1)
        self.nodes: list[tuple[int, int]] = []
        self.edges: list[tuple[int, int]] = []

    def node(self, x: int, y: int) -> int:
        """The number of the node in this cell, a new one if there is none."""
        margin = 8  # a hall around the node still has its walls on the plan
        limit = len(self.region) - margin
        cell = (int(np.clip(x, margin, limit)), int(np.clip(y, margin, limit)))
        if cell not in self.nodes:
            self.nodes.append(cell)
        return self.nodes.index(cell)

    def join(self, a: int, b: int) -> None:
        edge = (min(a, b), max(a, b))
        if a != b and edge not in self.edges:
            self.edges.append(edge)

    def fill(self, x0: int, y0: int, x1: int, y1: int, region: int) -> None:
        part = self.region[y0 : y1 + 1, x0 : x1 + 1]
        part[part < 0] = region

    def carve(self, start: int, heading: int, length: int, wide: int, region: int) -> int:
        """A corridor from a node; returns the node at its other end."""
        x, y = self.nodes[start]
        dx, dy = ((1, 0), (0, 1), (-1, 0), (0, -1))[heading]
        end = self.node(x + dx * length, y + dy * length)
        x1, y1 = self.nodes[end]
        self.join(start, end)
        self.fill(min(x, x1), min(y, y1), max(x, x1) + wide - 1, max(y, y1) + wide - 1, region)
        return end

    def hall(self, node: int, wide: int, deep: int, region: int) -> None:
        x, y = self.nodes[node]
        part = self.region[y - deep // 2 : y + deep // 2 + 2, x - wide // 2 : x + wide // 2 + 2]
        part[part < 0] = region

    def suite(
        self, rng: np.random.Generator, centre: tuple[int, int], wide: int, deep: int, region: int
    ) -> None:
        """A room around a cell, with a ring to walk on, joined to the node that is nearest."""
        (x, y), before = centre, list(range(len(self.nodes)))
        x0, y0, x1, y1 = x - wide // 2, y - deep // 2, x + wide // 2, y + deep // 2
        self.fill(x0, y0, x1, y1, region)
        inset = 2
        corners = (
            (x0 + inset, y0 + inset),
            (x1 - inset, y0 + inset),
            (x1 - inset, y1 - inset),
            (x0 + inset, y1 - inset),
        )
        ring = [self.node(*corner) for corner in corners]
        for a, b in zip(ring, [*ring[1:], ring[0]], strict=True):
            self.join(a, b)
        others = [each for each in before if each not in ring]
        if others:
            self._doorway(others, ring)

    def _doorway(self, others: list[int], ring: list[int]) -> None:
        pairs = [(a, b) for a in others for b in ring]
        gaps = [np.abs(np.subtract(self.nodes[a], self.nodes[b])).sum() for a, b in pairs]
        a, b = pairs[int(np.argmin(gaps))]
        (xa, ya), (xb, yb) = self.nodes[a], self.nodes[b]
        corner = self.node(xb, ya)
        self.join(a, corner)
        self.join(corner, b)
        region = int(max(self.region[ya, xa], 0))
        for (p, q), (r, s) in (((xa, ya), (xb, ya)), ((xb, ya), (xb, yb))):
            self.fill(min(p, r), min(q, s), max(p, r) + 1, max(q, s) + 1, region)

    def paths(self, width_m: float) -> Paths:
        """Through the middle of the two cells that each node stands for."""
        nodes = (np.array(self.nodes, np.float64) + 1.0) * self.cell_m
        return Paths(nodes, np.array(self.edges), width_m)

    def runs(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Each straight wall: region, its left end seen from inside, its vector to the right; in metres."""
        for dx, dy in _SIDES:
            across = dy != 0
            grid = self.region if across else self.region.T
            for line in range(1, len(grid) - 1):
                beyond = grid[line + (dy if across else dx)]
                here = np.where(beyond < 0, grid[line], -1)
                for first, last in _stretches(here):
                    span = last - first
                    if across:
                        left = (first if dy > 0 else last, line + (dy > 0))
                        way = (span if dy > 0 else -span, 0)
                    else:
                        left = (line + (dx > 0), last if dx > 0 else first)
                        way = (0, -span if dx > 0 else span)
                    yield (
                        int(here[first]),
                        np.array(left) * self.cell_m,
                        np.array(way) * self.cell_m,
                    )


def _stretches(values: np.ndarray) -> Iterator[tuple[int, int]]:
    """First and one past the last of each run of equal values that are not negative."""
    ends = np.flatnonzero(np.diff(values)) + 1
    for first, last in zip(np.r_[0, ends], np.r_[ends, len(values)], strict=True):
        if values[first] >= 0:
            yield int(first), int(last)


class _Floor:
    """Builds one floor of a house from its plan."""

    def __init__(
        self, rng: np.random.Generator, scene: Scene, plan: _Plan, height_m: float
    ) -> None:
        self.rng, self.scene, self.mesh, self.plan, self.height_m = (
            rng,
            scene,
            scene.mesh,
            plan,
            height_m,
        )
        self.furniture = Furniture(rng, scene.mesh)
        self.lamp_colour = _WARM if rng.random() < 0.5 else _COLD
        self.style = {
            number: {
                "wall": textures.choose(rng, textures.INNER_WALLS),
                "floor": textures.choose(rng, textures.FLOORS),
                "ceiling": textures.choose(rng, textures.CEILINGS),
            }
            for number in np.unique(plan.region[plan.region >= 0])
        }
        for number, style in self.style.items():
            for part, tile in style.items():
                self.mesh.material(f"{part}{number}", tile.image)
        self.mesh.material(
            "trim", textures.choose(rng, (textures.wood, textures.fabric)).image, layer=1
        )
        self.mesh.material("tube", np.full((4, 4, 3), 255, np.uint8), layer=1)
        self.mesh.material("radiator", _radiator(), layer=2)
        self.door_image = [_door(rng) for _ in range(2)]
        self.wainscot = rng.random() < 0.4
        if self.wainscot:
            self.mesh.material(
                "wainscot",
                textures.choose(rng, (textures.boards, textures.wall_tiles)).image,
                layer=1,
            )
        self.window_share = float(rng.choice([0.0, 0.4, 0.8]))
        self.count = 0

    def floors_and_ceilings(self) -> None:
        size, (rows, columns) = self.plan.cell_m, np.nonzero(self.plan.region >= 0)
        for y, x in zip(rows, columns, strict=True):
            number = self.plan.region[y, x]
            corner = np.array([x, y, 0.0]) * size
            for part, origin, a, b in (
                ("floor", corner, (size, 0, 0), (0, size, 0)),
                ("ceiling", np.add(corner, (0, 0, self.height_m)), (0, size, 0), (size, 0, 0)),
            ):
                tile = self.style[number][part].size_m
                u, v = (
                    (origin[0] / tile, origin[1] / tile)
                    if part == "floor"
                    else (origin[1] / tile, origin[0] / tile)
                )
                self.mesh.patch(
                    f"{part}{number}", origin, a, b, (u, v, u + size / tile, v + size / tile)
                )
            if ((x * 7 + y * 3) % 5 == 0 and x % 3 == 0) or (x % 4 == 0 and y % 4 == 0):
                self._ceiling_lamp(np.add(corner, (size / 2, size / 2, self.height_m - 0.06)))

    def _ceiling_lamp(self, at: np.ndarray) -> None:
        size = (1.2, 0.25, 0.05) if self.lamp_colour == _COLD else (0.35, 0.35, 0.12)
        self.mesh.box("tube", at - (0, 0, 0.04), size, 0.0, self.lamp_colour, glow=1.0)
        low = at - (0, 0, 0.03)
        self.mesh.patch(
            "tube",
            np.add(low, (-size[0] / 2, size[1] / 2, -0.02)),
            (size[0], 0, 0),
            (0, -size[1], 0),
            tint=self.lamp_colour,
            glow=1.0,
        )
        place = (float(at[0]), float(at[1]), self.height_m - 0.4)
        red, green, blue = (0.75 * part for part in self.lamp_colour)
        self.scene.lamps.append(Lamp(place, (red, green, blue), 2.2, "inside"))

    def walls(self) -> None:
        for number, left, way in self.plan.runs():
            origin, along = np.array([*left, 0.0]), np.array([*way, 0.0])
            length = float(np.linalg.norm(along))
            right = along / length
            inward = np.array([right[1], -right[0], 0.0])
            up = np.array([0, 0, self.height_m])
            self.mesh.tiled(
                f"wall{number}", origin, along, up, self.style[number]["wall"].size_m, _CELL_M
            )
            front = origin + inward * 0.015
            self.mesh.tiled("trim", front, along, (0, 0, 0.12), 1.0, _CELL_M)
            if self.wainscot:
                self.mesh.tiled(
                    "wainscot", origin + inward * 0.008, along, (0, 0, 1.1), 1.4, _CELL_M
                )
            self._decorate(origin, right, inward, length)

    def _decorate(
        self, origin: np.ndarray, right: np.ndarray, inward: np.ndarray, length: float
    ) -> None:
        """Divides a wall from left to right among doors, windows, pictures and furniture."""
        rng, at = self.rng, self.rng.uniform(0.1, 0.8)
        has_windows = rng.random() < self.window_share and length > 2.5
        while at < length - 0.7:
            room = length - at
            wide = min(room - 0.1, rng.uniform(0.7, 2.4))
            spot = origin + right * (at + wide / 2) + inward * 0.02
            kind = rng.random()
            if kind < 0.25 and not self._is_way(spot):
                self._on_wall(
                    self.door_image[0 if rng.random() < 0.8 else 1], spot, right, 0.0, 0.95, 2.05
                )
                self._plate(spot + right * 0.75, right, inward)
                wide = 1.2
            elif has_windows and kind < 0.6:
                self._window(spot, right, inward, wide)
            elif kind < 0.75:
                self._hang(spot, right, inward, wide)
            elif kind < 0.95 and not self._is_way(spot + inward * 0.4):
                yaw = float(np.arctan2(inward[1], inward[0]))
                self.furniture.against_wall(float(spot[0]), float(spot[1]), yaw, wide)
            at += wide + rng.exponential(0.5)

    def _is_way(self, spot: np.ndarray) -> bool:
        """Whether a way leads by so near that furniture would be in it."""
        nodes = self.scene.paths.nodes_m
        for a, b in self.scene.paths.edges:
            way, offset = nodes[b] - nodes[a], spot[:2] - nodes[a]
            share = np.clip(offset @ way / max(way @ way, 1e-9), 0, 1)
            if np.linalg.norm(offset - share * way) < 0.7:
                return True
        return False

    def _on_wall(
        self,
        image: np.ndarray,
        spot: np.ndarray,
        right: np.ndarray,
        z: float,
        wide: float,
        high: float,
        glow: float = 0.0,
    ) -> None:
        self.count += 1
        name = self.mesh.material(f"wallpiece{self.count}", image, layer=2)
        origin = spot - right * wide / 2 + (0, 0, z)
        self.mesh.patch(name, origin, right * wide, (0, 0, high), cell_m=_CELL_M, glow=glow)

    def _plate(self, spot: np.ndarray, right: np.ndarray, inward: np.ndarray) -> None:
        text = f"{self.rng.integers(1, 9)}.{self.rng.integers(1, 99):02}"
        self._on_wall(
            posters.sign(self.rng, 64, 32, text), spot + inward * 0.01, right, 1.45, 0.3, 0.16
        )

    def _window(self, spot: np.ndarray, right: np.ndarray, inward: np.ndarray, wide: float) -> None:
        high = min(1.5, self.height_m - 1.2)
        self._on_wall(_view(self.rng), spot, right, 0.9, wide, high, glow=-1.0)
        sill = spot + inward * 0.1 + (0, 0, 0.86)
        yaw = float(np.arctan2(right[1], right[0]))
        self.mesh.box("trim", sill, (wide + 0.1, 0.25, 0.04), yaw)
        self.mesh.box("radiator", spot + inward * 0.08 + (0, 0, 0.15), (wide * 0.8, 0.1, 0.6), yaw)
        x, y, _ = spot + inward * 0.6
        self.scene.lamps.append(Lamp((float(x), float(y), 1.6), _DAYLIGHT, 2.2, "day"))

    def _hang(self, spot: np.ndarray, right: np.ndarray, inward: np.ndarray, wide: float) -> None:
        high = self.rng.uniform(0.4, 1.1)
        kind = self.rng.random()
        if kind < 0.6:
            image = posters.painting(self.rng, 128, 128)
        elif kind < 0.8:
            image = posters.notice_board(self.rng, 128, 128)
        else:
            image, high = posters.sign(self.rng, 128, 64), 0.35
        self._on_wall(
            image, spot + inward * 0.01, right, self.rng.uniform(1.0, 1.5), wide * 0.8, high
        )

    def middles(self) -> None:
        """Tables, shelves and pillars away from walls and ways."""
        rng, region = self.rng, self.plan.region
        for y, x in np.argwhere(region >= 0)[:: int(rng.integers(2, 5))]:
            around = region[y - 1 : y + 3, x - 1 : x + 3]
            spot = np.array([x + 1.0, y + 1.0, 0]) * self.plan.cell_m
            if (around < 0).any() or self._is_way(spot) or rng.random() > 0.25:
                continue
            if any(np.linalg.norm(spot[:2] - other) < 2.6 for other in self._taken()):
                continue
            self.scene.blocks.append(Block((float(spot[0]), float(spot[1])), (1.6, 1.6, 0.8)))
            if rng.random() < 0.75:
                self.furniture.table(
                    float(spot[0]), float(spot[1]), float(rng.choice([0.0, np.pi / 2]))
                )
            else:
                number = region[y, x]
                size = (0.45, 0.45, self.height_m)
                self.mesh.box(
                    f"wall{number}",
                    spot,
                    size,
                    repeat_m=self.style[number]["wall"].size_m,
                    cell_m=_CELL_M,
                )

    def _taken(self) -> list[tuple[float, float]]:
        return [block.centre_m for block in self.scene.blocks]

    def visitors(self) -> None:
        cells = np.argwhere(self.plan.region >= 0)
        for y, x in cells[self.rng.integers(len(cells), size=max(4, len(cells) // 25))]:
            place = (np.array([x, y]) + self.rng.uniform(0.2, 0.8, 2)) * self.plan.cell_m
            if self._is_way(place):  # nobody stands right before the camera
                continue
            self.scene.visitors.append(partial(_visitor, float(place[0]), float(place[1])))


def _visitor(x: float, y: float, rng: np.random.Generator, mesh: Mesh) -> None:
    """A person, or something that somebody has put down."""
    if rng.random() < 0.6:
        props.person(rng, mesh, x, y)
    else:
        name = mesh.material(f"parcel{len(mesh.materials)}", posters.sign(rng, 64, 64))
        mesh.box(name, (x, y, 0), rng.uniform(0.25, 0.6, 3), rng.uniform(0, 3))


def _door(rng: np.random.Generator) -> np.ndarray:
    """A door in its frame, uint8 RGB (256, 128, 3)."""
    tile = textures.choose(rng, (textures.wood, textures.fabric, textures.metal, textures.boards))
    image = tile.image[:, :128].copy()
    frame = textures.any_colour(rng).astype(np.uint8)
    image[:10] = image[:, :10] = image[:, -10:] = frame
    if rng.random() < 0.5:
        for top, bottom in ((30, 110), (130, 230)):
            image[top:bottom, 28:100] = (image[top:bottom, 28:100] * 0.75).astype(np.uint8)
            image[top + 3 : bottom - 3, 31:97] = (image[top + 3 : bottom - 3, 31:97] * 1.2).clip(
                0, 255
            )
    if rng.random() < 0.4:
        image[40 : int(rng.integers(90, 200)), 45:85] = (120, 140, 150)
    image[128:134, 98:114] = (205, 200, 190)
    return image


def _radiator() -> np.ndarray:
    x = np.arange(64)
    ribs = (200 + 40 * np.sin(x * 2 * np.pi / 8)).astype(np.uint8)
    return np.repeat(np.tile(ribs, (32, 1))[..., None], 3, axis=2)


def _view(rng: np.random.Generator) -> np.ndarray:
    """What one sees through a window: houses or trees below a bright sky; uint8 RGB (128, 128, 3)."""
    image = posters.landscape(rng, 128, 128)
    image = (0.55 * image + 105).astype(np.uint8)
    bars = int(rng.integers(1, 4))
    frame = textures.colour(rng, (0, 1), (0, 0.3), (0.2, 1.0)).astype(np.uint8)
    image[:7] = image[-7:] = image[:, :7] = image[:, -7:] = frame
    for number in range(1, bars):
        x = number * 128 // bars
        image[:, x - 3 : x + 3] = frame
    if rng.random() < 0.4:  # blinds
        image[: int(rng.integers(20, 128)) : 4] = 225
    return image
