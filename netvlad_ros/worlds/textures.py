# SPDX-License-Identifier: MIT
"""Surfaces of buildings, streets and floors, painted from random numbers as square tiles without seams."""

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from netvlad_ros.worlds import noise

SIDE_PX = 256
Colour = np.ndarray  # float32 (3,), RGB 0..255


@dataclass(frozen=True)
class Tile:
    """A square piece of a surface.

    image:  uint8 RGB (SIDE_PX, SIDE_PX, 3), which continues at its opposite side.
    size_m: how much of the surface it shows.
    """

    image: np.ndarray
    size_m: float


def colour(
    rng: np.random.Generator,
    hue: tuple[float, float],
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> Colour:
    """A random colour; ranges of hue (in turns, may pass 1), saturation and value."""
    h, s, v = rng.uniform(*hue) % 1.0, rng.uniform(*saturation), rng.uniform(*value)
    return np.array(colorsys.hsv_to_rgb(h, s, v), np.float32) * 255


def any_colour(rng: np.random.Generator) -> Colour:
    """A paint, cloth or print: any hue, mostly pale, sometimes vivid."""
    return colour(rng, (0, 1), (0.03, rng.uniform(0.1, 0.85)), (0.15, 0.95))


def earthy(rng: np.random.Generator) -> Colour:
    """Stone, plaster or brick: mostly between red and yellow, sometimes bluish grey."""
    if rng.random() < 0.15:
        return colour(rng, (0.5, 0.65), (0.02, 0.2), (0.35, 0.8))
    return colour(rng, (0.0, 0.14), (0.05, 0.6), (0.3, 0.92))


def shaded(base: Colour, light: np.ndarray) -> np.ndarray:
    """uint8 RGB of one colour under a brightness of about 1 in each pixel, (H, W) or (H, W, 3)."""
    if light.ndim == 2:
        light = light[..., None]
    return np.clip(base * light, 0, 255).astype(np.uint8)


def masonry(
    rng: np.random.Generator,
    columns: int,
    rows: int,
    colours: Sequence[Colour],
    joint: Colour,
    shift: float = 0.5,
    joint_px: float = 2.0,
    variation: float = 0.12,
    relief: float = 0.15,
) -> np.ndarray:
    """Blocks in rows with joints between them: bricks, stones, tiles, boards; uint8 RGB.

    shift: how far each second row is moved, in blocks; negative for a random shift of each row.
    relief: how much lighter the upper edge of a block is, and darker its lower edge.
    """
    side = SIDE_PX
    y, x = np.mgrid[:side, :side].astype(np.float32)
    row_f = y * rows / side
    row = row_f.astype(int)
    shifts = rng.random(rows) if shift < 0 else np.where(np.arange(rows) % 2, shift, 0.0)
    column_f = (x * columns / side + shifts[row]) % columns
    column = column_f.astype(int)
    in_x, in_y = (column_f - column) * side / columns, (row_f - row) * side / rows
    edge = np.minimum.reduce([in_x, side / columns - in_x, in_y, side / rows - in_y])
    edge = edge + 0.6 * noise.smooth(rng, side, 64)
    block = np.clip(edge - joint_px / 2 + 0.5, 0, 1)[..., None]
    chosen = rng.integers(len(colours), size=(rows, columns))
    shades = 1 + variation * rng.standard_normal((rows, columns, 1))
    per_block = np.stack(colours)[chosen] * shades
    slope = relief * (0.5 - in_y * rows / side)
    light = 1 + slope + 0.1 * noise.octaves(rng, side, 8) + 0.05 * noise.grain(rng, side)
    painted = per_block[row, column] * light[..., None]
    joints = joint * (1 + 0.1 * noise.grain(rng, side))[..., None]
    return np.clip(painted * block + joints * (1 - block), 0, 255).astype(np.uint8)


# --- Walls --------------------------------------------------------------------------------------------


def bricks(rng: np.random.Generator) -> Tile:
    """Bricks of one clay in one of the usual bonds."""
    base = colour(rng, (0.97, 1.1), (0.25, 0.7), (0.3, 0.85))
    others = [base * rng.uniform(0.7, 1.2) for _ in range(3)]
    joint = earthy(rng) * rng.uniform(0.5, 1.1)
    columns = int(rng.integers(5, 10))
    shift = float(rng.choice([0.5, 0.5, 0.33, 0.0]))
    image = masonry(rng, columns, 2 * columns, [base, *others], joint, shift, rng.uniform(1, 3))
    return Tile(_weathered(rng, image, 0.12), columns * rng.uniform(0.22, 0.32))


def stones(rng: np.random.Generator) -> Tile:
    """Cut stones in rows."""
    base = earthy(rng)
    colours = [base * rng.uniform(0.8, 1.15) for _ in range(4)]
    columns, rows = int(rng.integers(2, 5)), int(rng.integers(4, 8))
    joint = base * rng.uniform(0.4, 1.2)
    image = masonry(rng, columns, rows, colours, joint, -1.0, rng.uniform(2, 5), relief=0.3)
    return Tile(_weathered(rng, image, 0.25), rows * rng.uniform(0.25, 0.5))


def rubble(rng: np.random.Generator) -> Tile:
    """Field stones as they came."""
    base, joint = earthy(rng), earthy(rng) * 0.7
    number, distance = noise.cells(rng, SIDE_PX, int(rng.integers(40, 220)))
    shade = 1 + 0.2 * rng.standard_normal((number.max() + 1, 1))
    tint = base * shade * rng.uniform(0.9, 1.1, (number.max() + 1, 3))
    size = np.sqrt(SIDE_PX**2 / (number.max() + 1))
    dome = np.clip(1.25 - (distance / (0.75 * size)) ** 2, 0, 1)[..., None]
    image = tint[number] * dome + joint * (1 - dome)
    return Tile(_weathered(rng, np.clip(image, 0, 255).astype(np.uint8), 0.25), 2.5)


def plaster(rng: np.random.Generator) -> Tile:
    """Plaster, painted, stained, cracked, or with bricks showing through."""
    base = earthy(rng) if rng.random() < 0.6 else colour(rng, (0, 1), (0.05, 0.5), (0.5, 0.95))
    light = 1 + rng.uniform(0.05, 0.2) * noise.octaves(rng, SIDE_PX, 3)
    light += rng.uniform(0.02, 0.08) * noise.grain(rng, SIDE_PX)
    image = shaded(base, light)
    if rng.random() < 0.5:
        _peel(rng, image)
    for _ in range(rng.integers(0, 7)):
        _crack(rng, image, base * 0.5)
    return Tile(image, rng.uniform(2.5, 4.5))


def concrete(rng: np.random.Generator) -> Tile:
    """Concrete as the formwork left it."""
    base = colour(rng, (0.05, 0.6), (0.0, 0.12), (0.4, 0.8))
    image = masonry(rng, 2, int(rng.integers(1, 4)), [base, base * 0.93], base * 0.55, 0, 2.5, 0.05)
    for x, y in rng.integers(20, SIDE_PX - 20, (6, 2)):
        cv2.circle(image, (int(x), int(y)), 3, (base * 0.5).tolist(), -1, cv2.LINE_AA)
    return Tile(_weathered(rng, image, 0.35), rng.uniform(3, 5))


def boards(rng: np.random.Generator) -> Tile:
    """Wooden cladding, upright or level."""
    base = (
        any_colour(rng) if rng.random() < 0.4 else colour(rng, (0.04, 0.12), (0.2, 0.7), (0.3, 0.8))
    )
    rows = int(rng.integers(6, 18))
    image = masonry(rng, 1, rows, [base, base * 0.9], base * 0.35, -1.0, 2.0, 0.1, 0.35)
    image = _grained(rng, image, 0.25)
    turned = rng.random() < 0.4
    return Tile(np.ascontiguousarray(np.rot90(image)) if turned else image, rows * 0.16)


def wall_tiles(rng: np.random.Generator) -> Tile:
    """Glazed tiles."""
    columns = int(rng.integers(6, 18))
    rows = columns * int(rng.choice([1, 1, 2]))
    bases = [any_colour(rng), colour(rng, (0, 1), (0, 0.2), (0.6, 0.95))][: rng.integers(1, 3)]
    joint = colour(rng, (0, 1), (0, 0.1), (0.3, 0.9))
    image = masonry(rng, columns, rows, bases, joint, 0.5 * (rng.random() < 0.4), 2.0, 0.05, 0.1)
    return Tile(image, columns * rng.uniform(0.1, 0.25))


def corrugated(rng: np.random.Generator) -> Tile:
    """Corrugated sheet metal with rust."""
    base, waves = any_colour(rng), int(rng.integers(12, 33))
    x = np.arange(SIDE_PX) * (2 * np.pi * waves / SIDE_PX)
    light = np.tile(1 + 0.25 * np.sin(x), (SIDE_PX, 1)) + 0.1 * noise.octaves(rng, SIDE_PX, 4)
    image = shaded(base, light.astype(np.float32))
    rust = noise.octaves(rng, SIDE_PX, 5) > rng.uniform(0.35, 0.9)
    image[rust] = (0.4 * image[rust] + 0.6 * np.array([110, 60, 30])).astype(np.uint8)
    return Tile(image, waves * 0.12)


# --- Floors and ground --------------------------------------------------------------------------------


def asphalt(rng: np.random.Generator) -> Tile:
    """Asphalt, mended and cracked."""
    base = colour(rng, (0.5, 0.7), (0.0, 0.1), (0.25, 0.5))
    light = 1 + 0.12 * noise.octaves(rng, SIDE_PX, 3) + 0.12 * noise.grain(rng, SIDE_PX)
    image = shaded(base, light)
    for _ in range(rng.integers(1, 5)):  # where it was mended
        x, y, w, h = rng.integers((0, 0, 20, 20), (200, 200, 120, 120))
        part = image[y : y + h, x : x + w]
        part[:] = np.clip(part * rng.uniform(0.7, 1.15), 0, 255).astype(np.uint8)
    for _ in range(rng.integers(2, 7)):
        _crack(rng, image, base * 0.45)
    return Tile(image, rng.uniform(4, 7))


def paving(rng: np.random.Generator) -> Tile:
    """Paving slabs."""
    base = colour(rng, (0.0, 0.15), (0.02, 0.3), (0.4, 0.8))
    rows = int(rng.integers(4, 12))
    columns = max(2, rows // int(rng.choice([1, 1, 2])))
    colours = [base * rng.uniform(0.85, 1.12) for _ in range(3)]
    shift = float(rng.choice([0.0, 0.5]))
    image = masonry(rng, columns, rows, colours, base * 0.5, shift, 2.0, 0.07, 0.08)
    return Tile(_weathered(rng, image, 0.25), rows * rng.uniform(0.2, 0.5))


def cobbles(rng: np.random.Generator) -> Tile:
    """Cobblestones."""
    tile = rubble(rng)
    return Tile(tile.image, 2.0)


def grass(rng: np.random.Generator) -> Tile:
    """A meadow with dry patches and flowers."""
    base = colour(rng, (0.2, 0.33), (0.35, 0.7), (0.3, 0.6))
    light = 1 + 0.3 * noise.octaves(rng, SIDE_PX, 4, 0.8) + 0.2 * noise.grain(rng, SIDE_PX)
    image = shaded(base, light)
    dry = noise.octaves(rng, SIDE_PX, 3) > 0.35
    image[dry] = (0.6 * image[dry] + 0.4 * np.array([150, 130, 80])).astype(np.uint8)
    for x, y in rng.integers(0, SIDE_PX, (rng.integers(0, 60), 2)):
        cv2.circle(image, (int(x), int(y)), 1, any_colour(rng).tolist(), -1)
    return Tile(image, rng.uniform(3, 5))


def gravel(rng: np.random.Generator) -> Tile:
    """Gravel."""
    number, distance = noise.cells(rng, SIDE_PX, 1500)
    tint = earthy(rng) * (1 + 0.25 * rng.standard_normal((1500, 1)))
    light = np.clip(1.2 - distance / 9, 0.3, 1.2)[..., None]
    return Tile(np.clip(tint[number] * light, 0, 255).astype(np.uint8), 2.5)


def parquet(rng: np.random.Generator) -> Tile:
    """A wooden floor."""
    base = colour(rng, (0.03, 0.12), (0.3, 0.7), (0.3, 0.8))
    rows = int(rng.integers(6, 20))
    colours = [base * rng.uniform(0.75, 1.15) for _ in range(5)]
    image = masonry(rng, int(rng.integers(2, 5)), rows, colours, base * 0.4, -1.0, 1.5, 0.1, 0.03)
    return Tile(_grained(rng, image, 0.2), rows * rng.uniform(0.08, 0.2))


def floor_tiles(rng: np.random.Generator) -> Tile:
    """Floor tiles of one colour, or a chequerboard."""
    columns = 2 * int(rng.integers(1, 6))
    first, second = earthy(rng), any_colour(rng) if rng.random() < 0.5 else earthy(rng)
    image = masonry(rng, columns, columns, [first], first * 0.6, 0, 2.0, 0.05, 0.02)
    if rng.random() < 0.6:  # a chequerboard
        other = masonry(rng, columns, columns, [second], first * 0.6, 0, 2.0, 0.05, 0.02)
        y, x = np.mgrid[:SIDE_PX, :SIDE_PX] * columns // SIDE_PX
        image = np.where(((x + y) % 2 == 0)[..., None], image, other)
    return Tile(_weathered(rng, image, 0.1), columns * rng.uniform(0.25, 0.5))


def terrazzo(rng: np.random.Generator) -> Tile:
    """Chips of stone in cement."""
    image = shaded(earthy(rng), 1 + 0.05 * noise.grain(rng, SIDE_PX))
    colours = [any_colour(rng) * 0.5 + earthy(rng) * 0.5 for _ in range(4)]
    for x, y, a, b, angle, which in rng.integers(
        (0, 0, 1, 1, 0, 0), (SIDE_PX, SIDE_PX, 6, 4, 180, 4), (900, 6)
    ):
        centre, axes = (int(x), int(y)), (int(a), int(b))
        cv2.ellipse(image, centre, axes, int(angle), 0, 360, colours[which].tolist(), -1)
    return Tile(image, rng.uniform(1, 2))


def carpet(rng: np.random.Generator) -> Tile:
    """Carpet with a print."""
    image = pattern(rng)
    light = 1 + 0.15 * noise.grain(rng, SIDE_PX) + 0.1 * noise.octaves(rng, SIDE_PX, 4)
    return Tile(np.clip(image * light[..., None], 0, 255).astype(np.uint8), rng.uniform(0.8, 4))


def wallpaper(rng: np.random.Generator) -> Tile:
    """Printed wallpaper."""
    image = pattern(rng)
    light = 1 + 0.06 * noise.octaves(rng, SIDE_PX, 3)
    return Tile(np.clip(image * light[..., None], 0, 255).astype(np.uint8), rng.uniform(0.8, 2.5))


def pattern(rng: np.random.Generator) -> np.ndarray:
    """A print that repeats: stripes, or a motif of lines and shapes in rows; uint8 RGB."""
    ground, ink = any_colour(rng), any_colour(rng)
    repeats = int(rng.choice([1, 2, 4, 8]))
    side = SIDE_PX // repeats
    motif = np.empty((side, side, 3), np.uint8)
    motif[:] = ground
    if rng.random() < 0.3:
        for x in rng.integers(0, side, 3):
            width = int(rng.integers(1, max(2, side // 6)))
            cv2.line(motif, (int(x), 0), (int(x), side), any_colour(rng).tolist(), width)
        return np.tile(motif, (repeats, repeats, 1))
    for _ in range(rng.integers(2, 6)):
        paint = (ink if rng.random() < 0.6 else any_colour(rng)).tolist()
        thickness = int(rng.choice([-1, 1, 2]))
        middle = (int(rng.integers(side // 4, 3 * side // 4)), side // 2)
        axes = (int(rng.integers(2, side // 3 + 3)), int(rng.integers(2, side // 3 + 3)))
        angle = float(rng.uniform(0, 180))
        cv2.ellipse(motif, middle, axes, angle, 0, 360, paint, thickness, cv2.LINE_AA)
    return np.tile(np.maximum(motif, motif[:, ::-1]), (repeats, repeats, 1))


def fabric(rng: np.random.Generator) -> Tile:
    """Cloth or paint of one colour."""
    light = 1 + 0.1 * noise.octaves(rng, SIDE_PX, 6) + 0.1 * noise.grain(rng, SIDE_PX)
    return Tile(shaded(any_colour(rng), light), 1.5)


def wood(rng: np.random.Generator) -> Tile:
    """Bare wood."""
    base = colour(rng, (0.02, 0.12), (0.2, 0.75), (0.25, 0.85))
    plain = np.broadcast_to(base.astype(np.uint8), (SIDE_PX, SIDE_PX, 3))
    return Tile(_grained(rng, plain, 0.4), rng.uniform(0.8, 2))


def metal(rng: np.random.Generator) -> Tile:
    """Brushed metal."""
    base = colour(rng, (0.5, 0.7), (0, 0.15), (0.3, 0.8))
    light = 1 + 0.1 * noise.smooth(rng, SIDE_PX, 2, 128) + 0.15 * noise.octaves(rng, SIDE_PX, 3)
    return Tile(shaded(base, light), 1.5)


# --- Roofs and ceilings -------------------------------------------------------------------------------


def roof_tiles(rng: np.random.Generator) -> Tile:
    """Tiles or slates."""
    slate = rng.random() < 0.4
    base = (
        colour(rng, (0.55, 0.7), (0, 0.2), (0.2, 0.45))
        if slate
        else colour(rng, (0.0, 0.07), (0.4, 0.75), (0.35, 0.75))
    )
    columns = int(rng.integers(8, 16))
    colours = [base * rng.uniform(0.75, 1.15) for _ in range(4)]
    image = masonry(rng, columns, columns, colours, base * 0.4, 0.5, 1.5, 0.1, 0.6)
    return Tile(_weathered(rng, image, 0.25), columns * 0.28)


def ceiling_panels(rng: np.random.Generator) -> Tile:
    """A hung ceiling."""
    base = colour(rng, (0, 1), (0, 0.08), (0.7, 0.95))
    columns = int(rng.choice([2, 4]))
    rows = columns * int(rng.choice([1, 2]))
    image = masonry(rng, columns, rows, [base], base * rng.uniform(0.5, 0.8), 0, 2.5, 0.02, 0.0)
    specks = noise.grain(rng, SIDE_PX) > rng.uniform(1.8, 3.5)
    image[specks] = (image[specks] * 0.75).astype(np.uint8)
    return Tile(image, columns * 0.6)


Painter = Callable[[np.random.Generator], Tile]
WALLS: tuple[Painter, ...] = (bricks, bricks, stones, rubble, plaster, plaster, concrete, boards)
CLADDING: tuple[Painter, ...] = (wall_tiles, corrugated, concrete, boards)
INNER_WALLS: tuple[Painter, ...] = (
    *(plaster, plaster, wallpaper, wallpaper, bricks, boards, wall_tiles, concrete, stones),
)
GROUND: tuple[Painter, ...] = (grass, grass, gravel, paving)
PAVEMENTS: tuple[Painter, ...] = (paving, paving, cobbles, asphalt, floor_tiles)
ROADS: tuple[Painter, ...] = (asphalt, asphalt, asphalt, cobbles, gravel)
FLOORS: tuple[Painter, ...] = (parquet, floor_tiles, terrazzo, carpet, concrete, paving)
CEILINGS: tuple[Painter, ...] = (ceiling_panels, ceiling_panels, plaster, boards, concrete)


def choose(rng: np.random.Generator, painters: Sequence[Painter]) -> Tile:
    """A tile of one of these kinds."""
    return painters[int(rng.integers(len(painters)))](rng)


# --- Wear ---------------------------------------------------------------------------------------------


def _weathered(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    stain = 1 + strength * noise.octaves(rng, SIDE_PX, 3)
    return np.clip(image * stain[..., None], 0, 255).astype(np.uint8)


def _grained(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    fine = noise.smooth(rng, SIDE_PX, 4, 96) + 0.6 * noise.smooth(rng, SIDE_PX, 8, 128)
    light = 1 + strength * fine + 0.03 * noise.grain(rng, SIDE_PX)
    return np.clip(image * light[..., None], 0, 255).astype(np.uint8)


def _peel(rng: np.random.Generator, image: np.ndarray) -> None:
    """Shows bricks where the plaster has come off."""
    gone = noise.octaves(rng, SIDE_PX, 4) > rng.uniform(0.4, 0.9)
    image[gone] = bricks(rng).image[gone]


def _crack(rng: np.random.Generator, image: np.ndarray, paint: Colour) -> None:
    steps = rng.normal(0, 8, (12, 2)) + rng.normal(0, 8, 2)
    points = (rng.integers(0, SIDE_PX, 2) + np.cumsum(steps, axis=0)).astype(np.int32)
    cv2.polylines(image, [points], False, paint.tolist(), 1, cv2.LINE_AA)
