# SPDX-License-Identifier: MIT
"""What people put up for others to see: signs, posters, paintings, notice boards, books, graffiti."""

import cv2
import numpy as np

from netvlad_ros.worlds import noise, textures

# fmt: off
_SYLLABLES = (
    "ba", "ko", "mi", "ra", "ter", "lo", "ven", "si", "du", "na", "pel", "or", "ga", "thi", "en", "stra",
    "mo", "ri", "fa", "lu", "ke", "han",
)
_WORDS = (
    "CAFE", "BAR", "HOTEL", "BOOKS", "MARKT", "SALE", "PHARMACY", "BANK", "24h", "PIZZA", "OPTIK", "MODE",
    "EXIT", "STOP", "TAXI",
)
# fmt: on
_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)


def word(rng: np.random.Generator) -> str:
    """A name that could stand over a shop."""
    if rng.random() < 0.35:
        return str(rng.choice(_WORDS))
    name = "".join(rng.choice(_SYLLABLES, rng.integers(2, 4)))
    return name.upper() if rng.random() < 0.5 else name.capitalize()


def sign(rng: np.random.Generator, width: int, height: int, text: str = "") -> np.ndarray:
    """A board with a word on it, uint8 RGB (height, width, 3)."""
    ground = textures.any_colour(rng)
    light = 1 + 0.06 * cv2.resize(noise.octaves(rng, 64, 4), (width, height))
    image = textures.shaded(ground, light)
    dark = ground.mean() > 120
    ink = textures.colour(rng, (0, 1), (0.1, 0.9), (0.05, 0.3) if dark else (0.8, 1.0))
    if rng.random() < 0.4:
        cv2.rectangle(image, (2, 2), (width - 3, height - 3), ink.tolist(), 2)
    _letters(rng, image, text or word(rng), ink)
    return image


def painting(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A framed picture: landscape, shapes, or a print; uint8 RGB (height, width, 3)."""
    kind = rng.choice(["landscape", "shapes", "print", "poster"])
    image = {"landscape": landscape, "shapes": _shapes, "print": _print, "poster": _poster}[kind](
        rng, width, height
    )
    frame = max(2, min(width, height) // int(rng.integers(10, 26)))
    paint = (textures.any_colour(rng) * 0.7).tolist()
    cv2.rectangle(image, (0, 0), (width - 1, height - 1), paint, 2 * frame)
    cv2.rectangle(image, (frame, frame), (width - frame, height - frame), (235, 230, 220), 1)
    return image


def notice_board(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Sheets of paper pinned to a board, uint8 RGB (height, width, 3)."""
    image = textures.shaded(
        textures.any_colour(rng) * 0.8, 1 + 0.1 * rng.standard_normal((height, width), np.float32)
    )
    for _ in range(rng.integers(6, 22)):
        w, h = (int(side) for side in rng.integers(width // 12 + 4, width // 4 + 6, 2))
        x, y = int(rng.integers(0, max(1, width - w))), int(rng.integers(0, max(1, height - h)))
        sheet = _paper(rng, min(w, width - x), min(h, height - y))
        image[y : y + sheet.shape[0], x : x + sheet.shape[1]] = sheet
    return image


def books(rng: np.random.Generator, width: int, height: int, rows: int = 5) -> np.ndarray:
    """The front of a full bookcase, uint8 RGB (height, width, 3)."""
    case = textures.colour(rng, (0.03, 0.12), (0.1, 0.7), (0.2, 0.8))
    image = np.empty((height, width, 3), np.uint8)
    image[:] = case * 0.35
    shelf = height / rows
    for row in range(rows):
        x, floor = 3, int((row + 1) * shelf) - 4
        while x < width - 4:
            w, h = int(rng.integers(3, 11)), int(shelf * rng.uniform(0.5, 0.88))
            if rng.random() < 0.93:
                cv2.rectangle(
                    image,
                    (x, floor - h),
                    (min(x + w, width - 4), floor),
                    textures.any_colour(rng).tolist(),
                    -1,
                )
                mark = floor - int(h * rng.uniform(0.3, 0.9))
                cv2.line(image, (x + 1, mark), (x + w - 1, mark), (225, 215, 180), 2)
            x += w + 1
        cv2.line(image, (0, floor + 2), (width, floor + 2), case.tolist(), 4)
    cv2.rectangle(image, (0, 0), (width - 1, height - 1), case.tolist(), 6)
    return image


def graffiti(rng: np.random.Generator, image: np.ndarray, x: int, y: int, size: int) -> None:
    """Sprays something on a picture of a wall."""
    paint = textures.colour(rng, (0, 1), (0.4, 1), (0.3, 1)).tolist()
    steps = rng.normal((size / 8, 0), size / 3, (14, 2))
    points = np.add(np.clip(np.cumsum(steps, axis=0) * 0.5, -size, size), (x, y))
    cv2.polylines(image, [points.astype(np.int32)], False, paint, max(1, size // 12), cv2.LINE_AA)
    if rng.random() < 0.5:
        scale = size / 40
        cv2.putText(image, word(rng), (x, y), 3, scale, paint, max(1, size // 14), cv2.LINE_AA)


def _letters(rng: np.random.Generator, image: np.ndarray, text: str, ink: np.ndarray) -> None:
    height, width = image.shape[:2]
    font, thickness = int(rng.choice(_FONTS)), max(1, height // int(rng.integers(12, 24)))
    (w, h), base = cv2.getTextSize(text, font, 1.0, thickness)
    scale = min(0.88 * width / w, 0.75 * height / (h + base))
    at = (int((width - w * scale) / 2), int((height + h * scale) / 2))
    cv2.putText(image, text, at, font, scale, ink.tolist(), thickness, cv2.LINE_AA)


def _paper(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    image = np.empty((height, width, 3), np.uint8)
    image[:] = textures.colour(rng, (0, 1), (0, 0.35), (0.8, 1))
    for y in range(5, height - 3, 4):
        end = int(width * rng.uniform(0.4, 0.9))
        cv2.line(image, (3, y), (end, y), (90, 90, 95), 1)
    return image


def landscape(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Hills below a sky in invented colours, uint8 RGB (height, width, 3)."""
    top, bottom = textures.any_colour(rng), textures.any_colour(rng)
    blend = np.linspace(0, 1, height)[:, None, None]
    image = np.repeat(top * (1 - blend) + bottom * blend, width, axis=1).astype(np.uint8)
    for level in np.sort(rng.uniform(0.3, 0.9, 4)):
        ridge = level * height + height * 0.12 * np.cumsum(rng.normal(0, 0.35, width // 6 + 2))
        points = np.stack([np.arange(len(ridge)) * 6, ridge], axis=1)
        outline = np.concatenate([points, [[width + 12, height], [0, height]]]).astype(np.int32)
        cv2.fillPoly(image, [outline], textures.any_colour(rng).tolist(), cv2.LINE_AA)
    return image


def _shapes(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    image = np.empty((height, width, 3), np.uint8)
    image[:] = textures.any_colour(rng)
    for _ in range(rng.integers(4, 16)):
        points = rng.integers((0, 0), (width, height), (int(rng.integers(3, 6)), 2))
        paint = textures.any_colour(rng).tolist()
        if rng.random() < 0.5:
            cv2.fillPoly(image, [points.astype(np.int32)], paint, cv2.LINE_AA)
        else:
            radius = int(rng.integers(3, width // 3 + 4))
            cv2.circle(image, tuple(map(int, points[0])), radius, paint, int(rng.choice([-1, 3])))
    return image


def _print(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    return cv2.resize(textures.pattern(rng), (width, height), interpolation=cv2.INTER_AREA)


def _poster(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    image = _shapes(rng, width, height) if rng.random() < 0.5 else landscape(rng, width, height)
    for _ in range(rng.integers(1, 4)):
        h = int(height * rng.uniform(0.12, 0.3))
        y = int(rng.integers(0, max(1, height - h)))
        _letters(rng, image[y : y + h], word(rng), textures.any_colour(rng))
    return image
