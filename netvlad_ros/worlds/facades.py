# SPDX-License-Identifier: MIT
"""The outer walls of houses, painted whole: storeys of windows, doors, shops, ledges, pipes, dirt."""

import functools
from dataclasses import dataclass, field

import cv2
import numpy as np

from netvlad_ros.worlds import noise, posters, textures
from netvlad_ros.worlds.textures import Tile

# (left, bottom, width, height) in metres from the lower left corner of the wall
Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True)
class Style:
    """What all walls of one house have in common; lengths in metres."""

    wall: Tile
    ground_floor: Tile | None
    trim: np.ndarray
    frame: np.ndarray
    storeys: int
    storey_m: float
    bay_m: float
    window_m: tuple[float, float]
    panes: tuple[int, int]
    arched: bool
    shutters: np.ndarray | None
    ledges: bool
    quoins: bool
    shop: bool
    balconies: float
    ribbons: bool

    @property
    def height_m(self) -> float:
        return self.storeys * self.storey_m + 0.4


@dataclass
class Facade:
    """A painted wall.

    image:   uint8 RGB, sides are powers of two; it shows the whole wall.
    windows: where light may come out at night.
    """

    image: np.ndarray
    width_m: float
    height_m: float
    windows: list[Rectangle] = field(default_factory=list)
    balconies: list[Rectangle] = field(default_factory=list)
    shops: list[Rectangle] = field(default_factory=list)


def random_style(rng: np.random.Generator, max_storeys: int = 6) -> Style:
    """The style of a house, from cottage to office block."""
    modern = rng.random() < 0.3
    painters = textures.CLADDING if modern else textures.WALLS
    bay_m = rng.uniform(1.6, 3.6)
    width_m = bay_m * rng.uniform(0.35, 0.85 if modern else 0.6)
    return Style(
        wall=textures.choose(rng, painters),
        ground_floor=textures.choose(rng, textures.WALLS) if rng.random() < 0.5 else None,
        trim=textures.earthy(rng) if rng.random() < 0.8 else textures.any_colour(rng),
        frame=textures.colour(rng, (0, 1), (0, 0.6), (0.1, 0.95)),
        storeys=int(rng.integers(1, max_storeys + 1)),
        storey_m=rng.uniform(2.7, 3.8),
        bay_m=bay_m,
        window_m=(width_m, rng.uniform(1.1, 2.0)),
        panes=(int(rng.integers(1, 4)), int(rng.integers(1, 4))),
        arched=not modern and rng.random() < 0.25,
        shutters=textures.any_colour(rng) if not modern and rng.random() < 0.35 else None,
        ledges=rng.random() < 0.5,
        quoins=not modern and rng.random() < 0.3,
        shop=rng.random() < 0.45,
        balconies=float(rng.choice([0, 0, 0.3, 0.8])),
        ribbons=modern and rng.random() < 0.5,
    )


def paint(rng: np.random.Generator, style: Style, width_m: float, front: bool = True) -> Facade:
    """Paints one wall; the front has doors and shops, a side has fewer windows."""
    width_px = 1024 if width_m > 14 else 512 if width_m > 5 else 256
    height_px = 512 if style.height_m > 5 else 256
    facade = Facade(np.empty((height_px, width_px, 3), np.uint8), width_m, style.height_m)
    canvas = _Canvas(facade)
    canvas.cover(style.wall, 0, style.height_m)
    if style.ground_floor:
        canvas.cover(style.ground_floor, 0, style.storey_m)
    if style.quoins:
        _paint_quoins(canvas, style)
    bays = max(1, int(width_m / style.bay_m))
    density = 1.0 if front else rng.choice([0.0, 0.4, 0.9])
    for storey in range(style.storeys):
        if storey == 0 and front:
            _paint_ground_floor(rng, canvas, style, bays)
        else:
            _paint_storey(rng, canvas, style, storey, bays, density)
    _paint_details(rng, canvas, style)
    return facade


class _Canvas:
    """Paints on a facade in metres, y upwards."""

    def __init__(self, facade: Facade) -> None:
        self.facade = facade
        self.image = facade.image
        self.x_px = facade.image.shape[1] / facade.width_m
        self.y_px = facade.image.shape[0] / facade.height_m

    def pixels(self, rectangle: Rectangle) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels, within the image."""
        left, bottom, width, height = rectangle
        rows, columns = self.image.shape[:2]
        x0, x1 = (left * self.x_px, (left + width) * self.x_px)
        y0, y1 = (rows - (bottom + height) * self.y_px, rows - bottom * self.y_px)
        left_px, right_px = (int(np.clip(round(x), 0, columns)) for x in (x0, x1))
        top_px, bottom_px = (int(np.clip(round(y), 0, rows)) for y in (y0, y1))
        return left_px, top_px, right_px, bottom_px

    def part(self, rectangle: Rectangle) -> np.ndarray:
        left, top, right, bottom = self.pixels(rectangle)
        return self.image[top:bottom, left:right]

    def fill(self, rectangle: Rectangle, paint: np.ndarray) -> None:
        part = self.part(rectangle)
        part[:] = np.clip(paint, 0, 255)

    def shade(self, rectangle: Rectangle, factor: float) -> None:
        part = self.part(rectangle)
        part[:] = np.clip(part * factor, 0, 255).astype(np.uint8)

    def put(self, rectangle: Rectangle, image: np.ndarray) -> None:
        part = self.part(rectangle)
        if part.size:
            size = (part.shape[1], part.shape[0])
            part[:] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)

    def cover(self, tile: Tile, from_m: float, to_m: float) -> None:
        part = self.part((0, from_m, self.facade.width_m, to_m - from_m))
        size = (max(8, round(tile.size_m * self.x_px)), max(8, round(tile.size_m * self.y_px)))
        small = cv2.resize(tile.image, size, interpolation=cv2.INTER_AREA)
        repeats = (-(-part.shape[0] // size[1]), -(-part.shape[1] // size[0]), 1)
        part[:] = np.tile(small, repeats)[: part.shape[0], : part.shape[1]]


def _paint_storey(
    rng: np.random.Generator, canvas: _Canvas, style: Style, storey: int, bays: int, density: float
) -> None:
    base, (w, h) = storey * style.storey_m, style.window_m
    if style.ledges:
        _ledge(canvas, style, base)
    sill = base + (style.storey_m - h) * 0.45
    if style.ribbons:
        w = canvas.facade.width_m / bays * 0.97
    pitch = canvas.facade.width_m / bays
    for bay in range(bays):
        if rng.random() < density:
            rectangle = ((bay + 0.5) * pitch - w / 2, sill, w, h)
            _window(rng, canvas, style, rectangle)
            if storey and rng.random() < style.balconies:
                canvas.facade.balconies.append(rectangle)


def _paint_ground_floor(rng: np.random.Generator, canvas: _Canvas, style: Style, bays: int) -> None:
    pitch, top = canvas.facade.width_m / bays, min(2.5, style.storey_m - 0.5)
    door_bay = int(rng.integers(bays))
    for bay in range(bays):
        left = bay * pitch
        if bay == door_bay:
            _door(rng, canvas, style, (left + pitch / 2 - 0.55, 0, 1.1, min(2.2, top)))
        elif style.shop:
            rectangle = (left + 0.1 * pitch, 0.5, 0.8 * pitch, top - 0.5)
            _shop_window(rng, canvas, style, rectangle)
        else:
            w, h = style.window_m
            low = min(h, style.storey_m - 1.2)
            _window(rng, canvas, style, (left + (pitch - w) / 2, 0.9, w, low))
    if style.shop:
        band = (0.05 * canvas.facade.width_m, top + 0.02, 0.9 * canvas.facade.width_m, 0.55)
        _shop_signs(rng, canvas, band)
        canvas.facade.shops.append(band)


def _shop_signs(rng: np.random.Generator, canvas: _Canvas, band: Rectangle) -> None:
    count = max(1, int(band[2] / rng.uniform(4, 9)))
    for number in range(count):
        width = band[2] / count
        text = " ".join(posters.word(rng) for _ in range(rng.integers(1, 3)))
        board = posters.sign(rng, max(48, int(width * 48)), 40, text)
        canvas.put((band[0] + number * width, band[1], 0.96 * width, band[3]), board)


def _window(rng: np.random.Generator, canvas: _Canvas, style: Style, rectangle: Rectangle) -> None:
    left, bottom, w, h = rectangle
    rim = 0.12
    canvas.fill((left - rim, bottom - rim, w + 2 * rim, h + 2 * rim), style.trim)
    canvas.shade((left - rim, bottom - rim, w + 2 * rim, 0.05), 0.6)
    if style.shutters is not None:
        for x in (left - 0.5 * w - rim, left + w + rim):
            _shutter(canvas, style.shutters, (x, bottom, 0.5 * w, h))
    canvas.put(rectangle, _glass(rng, style))
    canvas.shade((left, bottom + h - 0.12, w, 0.12), 0.45)
    canvas.fill((left - 0.18, bottom - 0.16, w + 0.36, 0.1), np.minimum(style.trim * 1.25, 255))
    canvas.shade((left - 0.1, bottom - 0.4, w + 0.2, 0.24), 0.85)  # dirt below the sill
    if style.arched:
        x0, top, x1, _ = canvas.pixels(rectangle)
        centre, radius = ((x0 + x1) // 2, top), max(1, (x1 - x0) // 2)
        cv2.ellipse(
            canvas.image, centre, (radius, radius // 2), 0, 180, 360, style.trim.tolist(), -1
        )
        inner = (max(1, radius - 4), max(1, radius // 2 - 4))
        cv2.ellipse(canvas.image, centre, inner, 0, 180, 360, (50, 55, 60), -1)
    canvas.facade.windows.append(rectangle)


@functools.cache
def _reflected_sky() -> np.ndarray:
    """Brightness of a sky in window glass, float32 (384, 256)."""
    return cv2.resize(noise.octaves(np.random.default_rng(1), 256, 8), (256, 384))


def _glass(rng: np.random.Generator, style: Style) -> np.ndarray:
    """A window as seen from outside: reflection of the sky, curtains or blinds, bars; uint8 RGB."""
    width, height = 64, 96
    sky = textures.colour(rng, (0.5, 0.65), (0.05, 0.5), (0.15, 0.75))
    fall = np.linspace(1.2, 0.4, height, dtype=np.float32)[:, None]
    left, top = int(rng.integers(192)), int(rng.integers(288))
    light = fall + 0.25 * _reflected_sky()[top : top + height, left : left + width]
    image = textures.shaded(sky, light)
    kind = rng.random()
    cloth = textures.colour(rng, (0, 1), (0, 0.4), (0.5, 0.95))
    if kind < 0.35:
        side = int(width * rng.uniform(0.15, 0.45))
        folds = 1 + 0.2 * np.sin(np.arange(side) * rng.uniform(0.5, 1.2))
        curtain = np.clip(cloth * folds[:, None], 0, 255).astype(np.uint8)
        image[:, :side] = (0.4 * image[:, :side] + 0.6 * curtain).astype(np.uint8)
        image[:, width - side :] = image[:, :side][:, ::-1]
    elif kind < 0.6:
        drop = int(height * rng.uniform(0.15, 0.9))
        image[:drop] = cloth * 0.9
        image[:drop:5] = cloth * 0.6
    for column in range(1, style.panes[0]):
        x = column * width // style.panes[0]
        cv2.line(image, (x, 0), (x, height), style.frame.tolist(), 4)
    for row in range(1, style.panes[1]):
        y = row * height // style.panes[1]
        cv2.line(image, (0, y), (width, y), style.frame.tolist(), 4)
    cv2.rectangle(image, (0, 0), (width - 1, height - 1), style.frame.tolist(), 9)
    return image


def _shutter(canvas: _Canvas, paint: np.ndarray, rectangle: Rectangle) -> None:
    part = canvas.part(rectangle)
    if part.size:
        part[:] = paint
        part[::3] = paint * 0.65
        part[:, :1] = part[:, -1:] = paint * 0.5


def _door(rng: np.random.Generator, canvas: _Canvas, style: Style, rectangle: Rectangle) -> None:
    left, bottom, w, h = rectangle
    canvas.fill((left - 0.2, bottom, w + 0.4, h + 0.25), style.trim)
    leaf = textures.any_colour(rng) * 0.8
    image = np.empty((128, 64, 3), np.uint8)
    image[:] = leaf
    for y0, y1 in ((8, 50), (58, 120)):
        for x0, x1 in ((7, 28), (36, 57)):
            cv2.rectangle(
                image, (x0, y0), (x1, y1), (leaf * rng.uniform(0.4, 1.3)).clip(0, 255).tolist(), -1
            )
            cv2.rectangle(image, (x0, y0), (x1, y1), (leaf * 0.5).tolist(), 1)
    if rng.random() < 0.4:
        cv2.rectangle(image, (12, 10), (52, 48), (70, 85, 95), -1)
    cv2.circle(image, (55, 66), 3, (220, 200, 120), -1)
    canvas.put(rectangle, image)
    plate = posters.sign(rng, 32, 24, str(rng.integers(1, 200)))
    canvas.put((left + w + 0.25, 1.6, 0.35, 0.25), plate)


def _shop_window(
    rng: np.random.Generator, canvas: _Canvas, style: Style, rectangle: Rectangle
) -> None:
    left, bottom, w, h = rectangle
    canvas.fill((left - 0.08, bottom - 0.1, w + 0.16, h + 0.16), style.frame)
    image = textures.shaded(
        textures.any_colour(rng) * 0.5, 1 + 0.5 * cv2.resize(noise.octaves(rng, 64, 3), (160, 96))
    )
    for _ in range(rng.integers(3, 14)):
        x, y = int(rng.integers(0, 150)), int(rng.integers(30, 90))
        size = (int(rng.integers(6, 30)), int(rng.integers(6, 40)))
        cv2.rectangle(
            image, (x, y - size[1]), (x + size[0], y), textures.any_colour(rng).tolist(), -1
        )
    if rng.random() < 0.5:
        part = image[20:60, 20:140]
        part[:] = posters.sign(rng, 120, 40)
    canvas.put(rectangle, image)
    canvas.facade.windows.append(rectangle)


def _ledge(canvas: _Canvas, style: Style, at_m: float) -> None:
    canvas.fill((0, at_m - 0.1, canvas.facade.width_m, 0.18), np.minimum(style.trim * 1.1, 255))
    canvas.shade((0, at_m - 0.22, canvas.facade.width_m, 0.12), 0.6)


def _paint_quoins(canvas: _Canvas, style: Style) -> None:
    for number in range(int(style.height_m / 0.45)):
        w = 0.6 if number % 2 else 0.35
        for left in (0.0, canvas.facade.width_m - w):
            canvas.fill(
                (left, number * 0.45 + 0.03, w, 0.4), style.trim * (0.95 + 0.1 * (number % 3 == 0))
            )


def _paint_details(rng: np.random.Generator, canvas: _Canvas, style: Style) -> None:
    """Cornice, plinth, pipes, posters, graffiti, streaks of dirt."""
    width, height = canvas.facade.width_m, style.height_m
    canvas.fill((0, height - 0.3, width, 0.3), style.trim)
    for x in np.arange(0, width, 0.4):
        canvas.shade((x, height - 0.25, 0.2, 0.15), 0.65)
    canvas.shade((0, height - 0.5, width, 0.2), 0.65)
    canvas.shade((0, 0, width, rng.uniform(0.2, 0.8)), rng.uniform(0.6, 0.9))
    if rng.random() < 0.6:
        x = rng.choice([0.2, width - 0.35])
        canvas.fill((x, 0, 0.12, height), style.frame * 0.7)
        canvas.shade((x + 0.12, 0, 0.1, height), 0.75)
    for _ in range(rng.integers(0, 4)):
        poster = posters.painting(rng, 48, 64)
        canvas.put((rng.uniform(0, width - 0.8), rng.uniform(1.0, 1.5), 0.6, 0.85), poster)
    if rng.random() < 0.15:
        x = int(rng.uniform(0.1, 0.8) * canvas.image.shape[1])
        y = canvas.image.shape[0] - int(1.2 * canvas.y_px)
        posters.graffiti(rng, canvas.image, x, y, int(0.8 * canvas.x_px))
    _stain(rng, canvas.image)


def _stain(rng: np.random.Generator, image: np.ndarray) -> None:
    rows, columns = image.shape[:2]
    dirt = noise.smooth(rng, 256, 64, 3) * 0.06 + noise.octaves(rng, 256, 3) * rng.uniform(
        0.04, 0.16
    )
    light = 1 + cv2.resize(dirt, (columns, rows))
    image[:] = np.clip(image * light[..., None], 0, 255).astype(np.uint8)
