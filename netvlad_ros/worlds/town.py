# SPDX-License-Identifier: MIT
"""A town: crossing streets with pavements, houses on both sides, squares, trees, traffic."""

from functools import partial

import cv2
import numpy as np

from netvlad_ros.worlds import props, textures
from netvlad_ros.worlds.houses import Builder
from netvlad_ros.worlds.mesh import Mesh
from netvlad_ros.worlds.props import Props
from netvlad_ros.worlds.scene import Paths, Scene

_GROUND_CELL_M = 5.0


def town(rng: np.random.Generator) -> Scene:
    """Some four by three crossings, 30 to 55 m apart, bent and with gaps."""
    columns, rows = int(rng.integers(3, 5)), int(rng.integers(2, 4))
    spacing = rng.uniform(34, 52, 2)
    x, y = np.meshgrid(np.arange(columns) * spacing[0], np.arange(rows) * spacing[1])
    nodes = np.stack([x.ravel(), y.ravel()], axis=1)
    nodes += rng.normal(0, 4.5, nodes.shape)
    edges = [
        (r * columns + c, r * columns + c + 1) for r in range(rows) for c in range(columns - 1)
    ]
    edges += [
        (r * columns + c, (r + 1) * columns + c) for r in range(rows - 1) for c in range(columns)
    ]
    return _built(rng, nodes, np.array(edges), max_storeys=int(rng.integers(2, 7)))


def street(rng: np.random.Generator) -> Scene:
    """One winding street, in a village, a suburb or a city; it may be a ring."""
    if rng.random() < 0.4:
        count, radius = int(rng.integers(6, 10)), rng.uniform(35, 60)
        angle = np.arange(count) * 2 * np.pi / count
        wobble = radius * rng.uniform(0.8, 1.2, count)
        nodes = np.stack([wobble * np.cos(angle), wobble * np.sin(angle)], axis=1)
        edges = [(i, (i + 1) % count) for i in range(count)]
    else:
        count = int(rng.integers(5, 9))
        heading = np.cumsum(rng.normal(0, 0.4, count))
        steps = rng.uniform(25, 45, (count, 1)) * np.stack(
            [np.cos(heading), np.sin(heading)], axis=1
        )
        nodes = np.cumsum(steps, axis=0)
        edges = [(i, i + 1) for i in range(count - 1)]
    return _built(rng, nodes, np.array(edges), max_storeys=int(rng.choice([1, 2, 3, 6])))


def _built(
    rng: np.random.Generator, nodes: np.ndarray, edges: np.ndarray, max_storeys: int
) -> Scene:
    road_m, pavement_m = rng.uniform(5.0, 9.0), rng.uniform(1.5, 4.0)
    scene = Scene(Paths(nodes, edges, road_m))
    site = _Site(rng, scene, road_m, pavement_m)
    site.ground()
    for a, b in edges:
        site.road(nodes[a], nodes[b])
    for node in nodes:
        site.crossing(node)
    builder, things = Builder(rng, scene, max_storeys), Props(rng, scene)
    density = rng.uniform(0.55, 1.0)
    for a, b in edges:
        for side in (1, -1):
            site.house_row(builder, things, nodes[a], nodes[b], side, density)
            site.furniture(things, nodes[a], nodes[b], side)
    site.greenery(things)
    return scene


class _Site:
    """Lays out one town around its roads."""

    def __init__(
        self, rng: np.random.Generator, scene: Scene, road_m: float, pavement_m: float
    ) -> None:
        self.rng, self.scene, self.mesh = rng, scene, scene.mesh
        self.road_m, self.pavement_m = road_m, pavement_m
        self.edge_m = road_m / 2 + pavement_m
        self.asphalt = textures.choose(rng, textures.ROADS)
        self.pavement = textures.choose(rng, textures.PAVEMENTS)
        self.meadow = textures.choose(rng, textures.GROUND)
        mesh = scene.mesh
        mesh.material("road", self.asphalt.image, layer=1, reacts="ground")
        mesh.material("crossing", self.asphalt.image, layer=2, reacts="ground")
        mesh.material("mark", np.full((4, 4, 3), 225, np.uint8), layer=4)
        mesh.material("pavement", self.pavement.image, reacts="ground")
        mesh.material("kerb", textures.concrete(rng).image, reacts="ground")
        mesh.material("meadow", self.meadow.image, reacts="grass")
        self.front_garden_m = float(rng.choice([0.0, 0.0, rng.uniform(2, 6)]))
        self.plots: list[tuple] = []
        self.marks = rng.choice(["none", "dashed", "double"])
        self.corridors = [
            self._rectangle(a, b, self.edge_m * 2 - 0.5)
            for a, b in scene.paths.nodes_m[scene.paths.edges]
        ]

    @staticmethod
    def _rectangle(a: np.ndarray, b: np.ndarray, width_m: float) -> tuple:
        middle, way = (a + b) / 2, b - a
        size = (float(np.linalg.norm(way)), width_m)
        return tuple(map(float, middle)), size, float(np.degrees(np.arctan2(way[1], way[0])))

    def ground(self) -> None:
        nodes = self.scene.paths.nodes_m
        low, high = nodes.min(axis=0) - 70, nodes.max(axis=0) + 70
        a, b = (high[0] - low[0], 0, 0), (0, high[1] - low[1], 0)
        self.mesh.tiled("meadow", (*low, -0.02), a, b, self.meadow.size_m, 10.0)

    def road(self, a: np.ndarray, b: np.ndarray) -> None:
        way = np.array([*(b - a), 0.0])
        length = float(np.linalg.norm(way))
        ahead, left = way / length, np.array([-way[1], way[0], 0]) / length
        start = np.array([*a, 0.0])
        origin = start - left * self.road_m / 2
        self.mesh.tiled(
            "road", origin, way, left * self.road_m, self.asphalt.size_m, _GROUND_CELL_M
        )
        gap = self.edge_m + 1.0
        for side in (1, -1):
            inner = start + ahead * gap + side * left * self.road_m / 2
            self._pavement(inner, ahead * (length - 2 * gap), side * left)
        self._markings(start + ahead * gap, ahead, left, length - 2 * gap)

    def _pavement(self, inner: np.ndarray, way: np.ndarray, outward: np.ndarray) -> None:
        rise, across = np.array([0, 0, 0.14]), outward * self.pavement_m
        to_left = np.cross(way, across)[2] > 0
        origin, along = (inner, way) if to_left else (inner + way, -way)
        size_m = self.pavement.size_m
        self.mesh.tiled("pavement", origin + rise, along, across, size_m, _GROUND_CELL_M)
        kerb, back = (inner, way) if to_left else (inner + way, -way)
        self.mesh.tiled("kerb", kerb, back, rise, 1.0, 8.0)

    def _markings(
        self, start: np.ndarray, ahead: np.ndarray, left: np.ndarray, length: float
    ) -> None:
        wide, start = left * 0.12, start + np.array([0, 0, 0.015])
        if self.marks == "dashed":
            for at in np.arange(1, length - 3, 6.0):
                self.mesh.patch("mark", start + ahead * at - wide / 2, ahead * 3, wide)
        elif self.marks == "double":
            for shift in (-0.15, 0.15):
                self.mesh.patch(
                    "mark", start + left * shift - wide / 2, ahead * length, wide, cell_m=6
                )
        for end in (0.0, length - 2.5):  # zebra crossings
            if self.rng.random() < 0.35:
                for across in np.arange(-self.road_m / 2 + 0.4, self.road_m / 2 - 0.4, 1.0):
                    self.mesh.patch(
                        "mark", start + ahead * end + left * across, ahead * 2.5, left * 0.5
                    )

    def crossing(self, node: np.ndarray) -> None:
        side = 2 * self.edge_m + 1.0
        origin = (node[0] - side / 2, node[1] - side / 2, 0.0)
        self.mesh.tiled("crossing", origin, (side, 0, 0), (0, side, 0), self.asphalt.size_m, 3.0)

    def house_row(
        self,
        builder: Builder,
        things: Props,
        a: np.ndarray,
        b: np.ndarray,
        side: int,
        density: float,
    ) -> None:
        rng, length = self.rng, float(np.linalg.norm(b - a))
        ahead = (b - a) / length
        outward = side * np.array([-ahead[1], ahead[0]])
        at = rng.uniform(0, 4)
        while at < length - 6:
            width, depth = rng.uniform(6, 17), rng.uniform(8, 12)
            set_back = self.edge_m + self.front_garden_m + depth / 2
            middle = a + ahead * (at + width / 2) + outward * set_back
            yaw = float(np.arctan2(-outward[1], -outward[0]))
            plot = (tuple(map(float, middle)), (depth, width - 0.1), float(np.degrees(yaw)))
            if rng.random() < density and self._is_free(plot):
                builder.house(float(middle[0]), float(middle[1]), yaw, width, depth)
                self.plots.append(plot)
                if self.front_garden_m:
                    self._garden(things, a + ahead * at, ahead * width, outward)
            at += width + (0.0 if rng.random() < 0.7 else rng.uniform(1, 8))

    def _is_free(self, plot: tuple) -> bool:
        others = self.plots + self.corridors
        return all(
            cv2.rotatedRectangleIntersection(plot, other)[0] == cv2.INTERSECT_NONE
            or _area(cv2.rotatedRectangleIntersection(plot, other)[1]) < 0.3
            for other in others
        )

    def _garden(
        self, things: Props, start: np.ndarray, way: np.ndarray, outward: np.ndarray
    ) -> None:
        line = start + outward * (self.edge_m + 0.2)
        kind = [things.hedge, things.wall, things.fence][self.rng.integers(3)]
        kind(line, line + way * 0.8, self.rng.uniform(0.7, 1.6))
        if self.rng.random() < 0.5:
            x, y = line + way * self.rng.uniform(0.1, 0.9) + outward * 1.2
            things.tree(x, y)

    def furniture(self, things: Props, a: np.ndarray, b: np.ndarray, side: int) -> None:
        """Lamps, trees, benches and signs along the kerb; places for cars and people."""
        rng, length = self.rng, float(np.linalg.norm(b - a))
        ahead = (b - a) / length
        outward = side * np.array([-ahead[1], ahead[0]])
        inward = float(np.arctan2(-outward[1], -outward[0]))
        heading = float(np.arctan2(ahead[1], ahead[0]))
        trees, gap = rng.random() < 0.5, self.edge_m + 2
        for number, at in enumerate(np.arange(gap, length - gap, 4.0)):
            kerb = a + ahead * at + outward * (self.road_m / 2 + 0.35)
            x, y = kerb
            if number % 5 == (0 if side > 0 else 2):
                things.lamp_post(x, y, inward)
            elif number % 2 and trees:
                things.tree(x, y)
            elif rng.random() < 0.35:
                self._small_thing(things, kerb, heading, inward)
            lane = a + ahead * at + outward * (self.road_m / 2 - 1.0)
            if rng.random() < 0.6 and self.road_m > 5.5:
                turned = heading + np.pi * (rng.random() < 0.5)
                self.scene.visitors.append(partial(_car, float(lane[0]), float(lane[1]), turned))
            walk = a + ahead * (at + rng.uniform(-2, 2)) + outward * (self.edge_m - 0.8)
            self.scene.visitors.append(partial(_person, float(walk[0]), float(walk[1])))

    def _small_thing(self, things: Props, at: np.ndarray, heading: float, inward: float) -> None:
        x, y = at
        kind = self.rng.integers(5)
        if kind == 0:
            things.bench(x, y, heading)
        elif kind == 1:
            things.bin(x, y)
        elif kind == 4 and self.pavement_m > 3:
            things.kiosk(x, y, heading)
        else:
            things.board(
                x, y, inward + np.pi / 2 + self.rng.normal(0, 0.2) + np.pi / 2 * (kind == 2)
            )

    def greenery(self, things: Props) -> None:
        """Trees in gaps and behind the houses, and the edge of a wood far away."""
        nodes = self.scene.paths.nodes_m
        low, high = nodes.min(axis=0) - 45, nodes.max(axis=0) + 45
        for x, y in self.rng.uniform(low, high, (int(self.rng.integers(15, 60)), 2)):
            plot = ((float(x), float(y)), (3.0, 3.0), 0.0)
            if self._is_free(plot):
                things.tree(x, y)


def _area(corners: np.ndarray | None) -> float:
    return (
        0.0
        if corners is None or len(corners) < 3
        else float(cv2.contourArea(cv2.convexHull(corners)))
    )


def _car(x: float, y: float, yaw_rad: float, rng: np.random.Generator, mesh: Mesh) -> None:
    props.car(rng, mesh, x, y, yaw_rad + rng.normal(0, 0.03))


def _person(x: float, y: float, rng: np.random.Generator, mesh: Mesh) -> None:
    if rng.random() < 0.5:
        props.person(rng, mesh, x, y)
