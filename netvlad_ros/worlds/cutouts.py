# SPDX-License-Identifier: MIT
"""Pictures with holes: leaves, people, railings, fences, all uint8 RGBA."""

import cv2
import numpy as np

from netvlad_ros.worlds import noise, textures


def crown(rng: np.random.Generator, side_px: int = 128) -> np.ndarray:
    """The crown of a tree or a bush."""
    image = np.zeros((side_px, side_px, 4), np.uint8)
    base = textures.colour(rng, (0.2, 0.36), (0.35, 0.75), (0.25, 0.6))
    light = 1 + 0.5 * noise.octaves(rng, side_px, 6, 0.8) + 0.25 * noise.grain(rng, side_px)
    y, x = np.mgrid[:side_px, :side_px] / side_px - 0.5
    light = light * (1.05 - 0.7 * y)
    image[..., :3] = textures.shaded(base, light.astype(np.float32))
    narrow = rng.uniform(0.9, 1.7)
    edge = (x * narrow) ** 2 + y**2 + 0.09 * noise.octaves(rng, side_px, 4, 0.75)
    image[..., 3] = np.where(edge < 0.19, 255, 0)
    return image


def fir(rng: np.random.Generator, side_px: int = 128) -> np.ndarray:
    """A conifer."""
    image = np.zeros((side_px, side_px, 4), np.uint8)
    base = textures.colour(rng, (0.3, 0.45), (0.3, 0.6), (0.2, 0.4))
    light = 1 + 0.4 * noise.octaves(rng, side_px, 8, 0.8) + 0.2 * noise.grain(rng, side_px)
    image[..., :3] = textures.shaded(base, light)
    y, x = np.mgrid[:side_px, :side_px] / side_px
    steps = 0.7 + 0.3 * ((y * rng.integers(5, 9)) % 1)
    edge = np.abs(x - 0.5) + 0.05 * noise.octaves(rng, side_px, 8)
    image[..., 3] = np.where(edge < 0.45 * y * steps, 255, 0)
    return image


def person(rng: np.random.Generator, width: int = 64, height: int = 128) -> np.ndarray:
    """Somebody standing or walking, seen from anywhere."""
    image = np.zeros((height, width, 4), np.uint8)
    skin = textures.colour(rng, (0.03, 0.09), (0.2, 0.6), (0.3, 0.95))
    coat, legs, hair = (textures.any_colour(rng) for _ in range(3))
    stride, middle = int(rng.integers(2, 13)), width // 2

    def limb(a: tuple[int, int], b: tuple[int, int], paint: np.ndarray, thickness: int) -> None:
        cv2.line(image, a, b, (*paint.tolist(), 255), thickness, cv2.LINE_8)

    limb((middle - 4, 70), (middle - stride, 122), legs, 9)
    limb((middle + 4, 70), (middle + stride, 122), legs * 0.85, 9)
    limb((middle - stride - 2, 124), (middle - stride + 5, 124), hair * 0.4, 6)
    limb((middle + stride - 2, 124), (middle + stride + 5, 124), hair * 0.4, 6)
    length = int(rng.integers(66, 90))
    cv2.ellipse(
        image,
        (middle, (28 + length) // 2),
        (13, (length - 28) // 2),
        0,
        0,
        360,
        (*coat.tolist(), 255),
        -1,
    )
    limb((middle - 11, 36), (middle - 12 - stride // 2, 66), coat * 0.8, 6)
    limb((middle + 11, 36), (middle + 12 + stride // 2, 66), coat * 0.8, 6)
    if rng.random() < 0.4:
        limb((middle + 14, 55), (middle + 14, 72), textures.any_colour(rng), 11)
    cv2.circle(image, (middle, 17), 9, (*skin.tolist(), 255), -1)
    cv2.ellipse(image, (middle, 13), (10, 7), 0, 170, 370, (*hair.tolist(), 255), -1)
    light = 1 + 0.12 * cv2.resize(noise.octaves(rng, 64, 4), (width, height))
    image[..., :3] = (image[..., :3] * light[..., None]).clip(0, 255)
    return image


def railing(rng: np.random.Generator, width: int = 128, height: int = 64) -> np.ndarray:
    """Bars of a balcony, a gate or a fence; it repeats sideways."""
    image = np.zeros((height, width, 4), np.uint8)
    paint = (*(textures.any_colour(rng) * 0.7).tolist(), 255)
    step, thickness = int(rng.choice([4, 8, 16])), int(rng.integers(1, 4))
    if rng.random() < 0.2:  # solid boards
        image[:] = paint
        image[:, ::step] = (40, 40, 40, 255)
    for x in range(step // 2, width, step):
        cv2.line(image, (x, 0), (x, height), paint, thickness)
        if rng.random() < 0.05:
            cv2.circle(image, (x, height // 2), 5, paint, 2)
    for y in (3, height - 6, *([height // 2] if rng.random() < 0.4 else [])):
        cv2.line(image, (0, y), (width, y), paint, 4)
    return image


def plant(rng: np.random.Generator, side_px: int = 128) -> np.ndarray:
    """A house plant without its pot."""
    image = np.zeros((side_px, side_px, 4), np.uint8)
    base = textures.colour(rng, (0.2, 0.4), (0.4, 0.8), (0.3, 0.7))
    for _ in range(rng.integers(12, 40)):
        angle, length = rng.uniform(-1.3, 1.3), rng.uniform(0.4, 0.95) * side_px
        tip = (side_px / 2 + length * 0.5 * np.sin(angle), side_px - length * np.cos(angle * 0.6))
        paint = (*(base * rng.uniform(0.6, 1.3)).clip(0, 255).tolist(), 255)
        middle = ((side_px / 2 + tip[0]) / 2, (side_px + tip[1]) / 2)
        axes = (int(length / 2), int(rng.integers(2, 9)))
        tilt = float(np.degrees(np.arctan2(tip[1] - side_px, tip[0] - side_px / 2)))
        cv2.ellipse(image, (int(middle[0]), int(middle[1])), axes, tilt, 0, 360, paint, -1)
    return image
