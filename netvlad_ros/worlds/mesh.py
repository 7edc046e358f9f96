# SPDX-License-Identifier: MIT
"""Flat pieces of surface, each divided so that light can vary over it: what a world is made of."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

WHITE = (1.0, 1.0, 1.0)
Vector = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Material:
    """What a surface shows.

    image:   uint8 RGB or RGBA (H, W, channels); both sides are powers of two.
    layer:   of two surfaces at the same place, the one of the higher layer is seen.
    reacts:  how the seasons change it: "ground", "roof", "leaves", "grass" or "" for not at all.
    is_lit_window: is only there when it is dark outside.
    """

    image: np.ndarray
    layer: int = 0
    reacts: str = ""
    is_lit_window: bool = False

    @property
    def has_holes(self) -> bool:
        return self.image.shape[2] == 4


@dataclass
class Vertices:
    """Corners of quads, four each, counter-clockwise as seen from outside.

    positions_m: (4 n, 3); normals: (4 n, 3); uv: (4 n, 2), of which 0, 0 is the lower left of the image;
    tint: (4 n, 3) multiplies the image; glow: (4 n,) how much of it shines
    by itself when lamps are on; negative for what shines by day, such as the view through a window.
    """

    positions_m: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    tint: np.ndarray
    glow: np.ndarray

    def __len__(self) -> int:
        return len(self.positions_m)


@dataclass
class Mesh:
    """Surfaces by material."""

    materials: dict[str, Material] = field(default_factory=dict)
    _parts: dict[str, list[tuple[np.ndarray, ...]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def material(self, name: str, image: np.ndarray, **properties: object) -> str:
        """Registers a material; returns its name."""
        self.materials[name] = Material(image, **properties)  # type: ignore[arg-type]
        return name

    def patch(
        self,
        material: str,
        origin: Vector,
        along: Vector,
        up: Vector,
        uv: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
        cell_m: float = 1e9,
        tint: Vector = WHITE,
        glow: float = 0.0,
        taper: float = 1.0,
        normal: Vector | None = None,
    ) -> None:
        """A parallelogram, seen from where `along` points to the right and `up` upwards.

        origin: its lower left corner; uv: of that corner and of the opposite one.
        cell_m: it is divided into quads of about this size.
        taper:  length of the upper edge in multiples of the lower one; 0 makes a triangle.
        normal: how light falls on it; left out, as its sides lie.
        """
        start, a, b = (np.asarray(v, np.float64) for v in (origin, along, up))
        length_a, length_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
        columns, rows = max(1, round(length_a / cell_m)), max(1, round(length_b / cell_m))
        if normal is None:
            normal = np.cross(a, b)
            normal /= max(float(np.linalg.norm(normal)), 1e-9)
        s, t = _grid(columns, rows)
        inwards = (s - 0.5) * (taper - 1) * t
        positions = start + (s + inwards)[:, None] * a + t[:, None] * b
        coordinates = np.stack([uv[0] + s * (uv[2] - uv[0]), uv[1] + t * (uv[3] - uv[1])], axis=1)
        count = len(s)
        self._parts[material].append(
            (
                positions,
                np.broadcast_to(np.asarray(normal, np.float64), (count, 3)),
                _near_zero(coordinates),
                np.broadcast_to(np.asarray(tint, np.float64), (count, 3)),
                np.full(count, glow),
            )
        )

    def tiled(
        self,
        material: str,
        origin: Vector,
        along: Vector,
        up: Vector,
        size_m: float,
        cell_m: float = 3.0,
        tint: Vector = WHITE,
        taper: float = 1.0,
    ) -> None:
        """A parallelogram covered with an image that repeats every size_m."""
        repeats_a, repeats_b = (float(np.linalg.norm(v)) / size_m for v in (along, up))
        self.patch(
            material, origin, along, up, (0, 0, repeats_a, repeats_b), cell_m, tint, taper=taper
        )

    def box(
        self,
        material: str,
        centre: Vector,
        size: Vector,
        yaw_rad: float = 0.0,
        tint: Vector = WHITE,
        glow: float = 0.0,
        repeat_m: float = 0.0,
        cell_m: float = 1e9,
        top: str = "",
    ) -> None:
        """A box without a bottom; centre: of its bottom; size: along its heading, across, upwards.

        repeat_m: the image repeats after so many metres; 0 shows it once on each side.
        top: the material of the upper side, if another.
        """
        x, y = (
            np.array([np.cos(yaw_rad), np.sin(yaw_rad), 0]),
            np.array([-np.sin(yaw_rad), np.cos(yaw_rad), 0]),
        )
        z = np.array([0.0, 0.0, size[2]])
        middle = np.asarray(centre, np.float64)
        a, b = x * size[0], y * size[1]
        sides = [
            (middle - a / 2 - b / 2, a, z),
            (middle + a / 2 - b / 2, b, z),
            (middle + a / 2 + b / 2, -a, z),
            (middle - a / 2 + b / 2, -b, z),
            (middle - a / 2 - b / 2 + z, a, b),
        ]
        for number, (origin, along, up) in enumerate(sides):
            image = top if top and number == 4 else material
            lengths = [float(np.linalg.norm(v)) for v in (along, up)]
            uv = (
                (0.0, 0.0, lengths[0] / repeat_m, lengths[1] / repeat_m)
                if repeat_m
                else (0.0, 0.0, 1.0, 1.0)
            )
            self.patch(image, origin, along, up, uv, cell_m, tint, glow)

    def card(
        self,
        material: str,
        foot: Vector,
        width_m: float,
        height_m: float,
        yaw_rad: float,
        tint: Vector = WHITE,
        normal: Vector | None = None,
    ) -> None:
        """An upright picture that is seen from both sides."""
        across = np.array([np.cos(yaw_rad), np.sin(yaw_rad), 0]) * width_m
        base = np.asarray(foot, np.float64) - across / 2
        self.patch(material, base, across, (0, 0, height_m), tint=tint, normal=normal)
        self.patch(
            material,
            base + across,
            -across,
            (0, 0, height_m),
            (1, 0, 0, 1),
            tint=tint,
            normal=normal,
        )

    def add(self, material: str, vertices: Vertices) -> None:
        """Any quads."""
        self._parts[material].append(tuple(getattr(vertices, name) for name in COLUMNS))

    def vertices(self) -> dict[str, Vertices]:
        """All corners of each material."""
        return {
            name: Vertices(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
            for name, parts in self._parts.items()
        }


def _grid(columns: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Corners of columns × rows cells of the unit square, four each, counter-clockwise."""
    i, j = np.meshgrid(np.arange(columns), np.arange(rows))
    corners_s = (i.reshape(-1, 1) + np.array([0, 1, 1, 0])).ravel() / columns
    corners_t = (j.reshape(-1, 1) + np.array([0, 0, 1, 1])).ravel() / rows
    return corners_s, corners_t


def _near_zero(uv: np.ndarray) -> np.ndarray:
    """The same parts of a repeating image, with small numbers: the renderer counts in fixed point."""
    quads = uv.reshape(-1, 4, 2)
    return (quads - np.floor(quads.min(axis=1, keepdims=True) + 1e-6)).reshape(-1, 2)


def joined(parts: Sequence[Vertices]) -> Vertices:
    """All corners of several surfaces, one after another."""
    return Vertices(*(np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS))


COLUMNS = ("positions_m", "normals", "uv", "tint", "glow")
