# SPDX-License-Identifier: MIT
"""Images changed as another camera, hour or way of holding it would have, each of a batch differently."""

import functools
from dataclasses import dataclass, replace

import cv2
import numpy as np

from netvlad_ros.errors import ConfigError
from netvlad_ros.training.batches import TrainingBatch

_NOISE_STD = 40.0  # of the sheet that noise is cut from, of 255
_SHEET_PX = 1024


@dataclass(frozen=True)
class Level:
    """How much is changed. Ranges are symmetric around no change, lengths in pixels at 320 of width.

    Light: exposure in stops, gamma and contrast as the logarithm of a factor, uneven as the standard
    deviation of the light between parts of the image, in stops.
    Colour: cast as a share of each channel, saturation as a share; grey is the probability of none.
    Sharpness: the probability of a blur and its largest standard deviation; of motion and its longest way.
    Sensor: the probability of noise and its largest standard deviation of 0..1; the probability of JPEG
    compression and its lowest quality.
    Geometry: rotation in degrees; shift, zoom and perspective as shares of the image's sides.
    Erasing: the probability that rectangles are covered, and the largest share of the image one covers.
    mirror: the probability that a whole batch is mirrored, which shows other places, but consistently.
    """

    exposure: float = 0.0
    gamma: float = 0.0
    contrast: float = 0.0
    uneven: float = 0.0
    cast: float = 0.0
    saturation: float = 0.0
    grey: float = 0.0
    blur: tuple[float, float] = (0.0, 0.0)
    motion: tuple[float, float] = (0.0, 0.0)
    noise: tuple[float, float] = (0.0, 0.0)
    jpeg: tuple[float, int] = (0.0, 100)
    rotation_deg: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    perspective: float = 0.0
    erase: tuple[float, float] = (0.0, 0.0)
    mirror: float = 0.0


_BASIC = Level(exposure=0.4, gamma=0.15, contrast=0.15, cast=0.05, saturation=0.2, mirror=0.5)
_TYPICAL = replace(
    _BASIC,
    exposure=0.8,
    gamma=0.35,
    contrast=0.3,
    uneven=0.3,
    cast=0.12,
    saturation=0.5,
    grey=0.1,
    blur=(0.3, 1.2),
    motion=(0.1, 5.0),
    noise=(0.4, 0.04),
    jpeg=(0.3, 35),
    rotation_deg=5.0,
    shift=0.04,
    zoom=0.08,
    perspective=0.03,
    erase=(0.15, 0.1),
)
_HEAVY = replace(
    _TYPICAL,
    exposure=1.2,
    gamma=0.6,
    contrast=0.5,
    uneven=0.5,
    cast=0.2,
    saturation=1.0,
    grey=0.25,
    blur=(0.4, 2.2),
    motion=(0.2, 10.0),
    noise=(0.6, 0.08),
    jpeg=(0.5, 12),
    rotation_deg=12.0,
    shift=0.1,
    zoom=0.2,
    perspective=0.08,
    erase=(0.4, 0.2),
)
LEVELS = {"none": Level(), "basic": _BASIC, "typical": _TYPICAL, "heavy": _HEAVY}


def augmented(batch: TrainingBatch, level: str, seed: int, step: int) -> TrainingBatch:
    """The batch with each image changed; the same arguments give the same pixels.

    One core changes about 700 images of 320x240 a second at `typical`, 550 at `heavy`, 3500 at `basic`.
    level: one of LEVELS. Raises ConfigError for others.
    """
    if level not in LEVELS:
        raise ConfigError(
            f"augmentation.level: expected one of {', '.join(LEVELS)}; got {level!r}."
        )
    if level == "none":
        return batch
    chosen = LEVELS[level]
    mirrored = np.random.default_rng([seed, step]).random() < chosen.mirror
    images = np.empty_like(batch.flat_images)
    for number, image in enumerate(batch.flat_images):
        rng = np.random.default_rng([seed, step, number])
        images[number] = changed(image, chosen, rng)[:, :: -1 if mirrored else 1]
    return replace(batch, images=images.reshape(batch.images.shape))


def changed(image: np.ndarray, level: Level, rng: np.random.Generator) -> np.ndarray:
    """uint8 RGB (H, W, 3), in the order in which light goes: scene, lens, sensor, file."""
    image = _moved(image, level, rng)
    image = _covered(image, level, rng)
    image = _unevenly_lit(image, level, rng)
    image = _blurred(image, level, rng)
    image = _coloured(image, level, rng)
    image = _noisy(image, level, rng)
    return _compressed(image, level, rng)


def _moved(image: np.ndarray, level: Level, rng: np.random.Generator) -> np.ndarray:
    """Rotation, zoom, shift and perspective in one; what comes in from outside is a reflection."""
    if not (level.rotation_deg or level.shift or level.zoom or level.perspective):
        return image
    size = np.array(image.shape[1::-1], np.float32)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32) * size
    angle = np.radians(rng.uniform(-level.rotation_deg, level.rotation_deg))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = (corners - size / 2) @ turn * (1 + rng.uniform(-level.zoom, level.zoom)) + size / 2
    turned += size * rng.uniform(-level.shift, level.shift, 2)
    turned += size * rng.uniform(-level.perspective, level.perspective, (4, 2))
    matrix = cv2.getPerspectiveTransform(corners, turned.astype(np.float32))
    width, height = image.shape[1::-1]
    return cv2.warpPerspective(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)


def _covered(image: np.ndarray, level: Level, rng: np.random.Generator) -> np.ndarray:
    """Up to three rectangles of one colour or of noise: passers-by, dirt, a robot's own parts."""
    if rng.random() >= level.erase[0]:
        return image
    image = image.copy()
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(1, 4))):
        share, shape = rng.uniform(0.02, level.erase[1]), np.exp(rng.uniform(-0.8, 0.8))
        h = min(height, int(np.sqrt(share / shape) * height) + 1)
        w = min(width, int(np.sqrt(share * shape) * width) + 1)
        y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        colour = rng.integers(0, 256, 3)
        image[y : y + h, x : x + w] = (
            colour if rng.random() < 0.5 else rng.integers(0, 256, (h, w, 3), np.uint8)
        )
    return image


def _unevenly_lit(image: np.ndarray, level: Level, rng: np.random.Generator) -> np.ndarray:
    """Brighter and darker parts that go over into each other, as of lamps and shadows."""
    if not level.uneven:
        return image
    gains = 64 * 2.0 ** rng.normal(0, level.uneven, (3, 4))
    height, width = image.shape[:2]
    spread = cv2.resize(
        np.minimum(gains, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR
    )
    return np.asarray(cv2.multiply(image, cv2.merge([spread] * 3), scale=1 / 64))


def _blurred(image: np.ndarray, level: Level, rng: np.random.Generator) -> np.ndarray:
    scale = image.shape[1] / 320
    if rng.random() < level.blur[0]:
        deviation_px = float(rng.uniform(0.3, level.blur[1])) * scale
        image = cv2.GaussianBlur(image, (0, 0), max(deviation_px, 0.1))
    if rng.random() < level.motion[0]:
        image = cv2.filter2D(image, -1, _streak(rng.uniform(1, level.motion[1]) * scale, rng))
    return image


def _streak(length_px: float, rng: np.random.Generator) -> np.ndarray:
    """The kernel of a motion blur, mostly sideways, as cameras turn."""
    size = int(length_px) // 2 * 2 + 3
    kernel = np.zeros((size, size), np.float32)
    angle = rng.normal(0, 0.5)
    reach = np.array([np.cos(angle), np.sin(angle)]) * length_px / 2
    start, end = (np.round(size // 2 + side * reach).astype(int).tolist() for side in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    return kernel / kernel.sum()


def _coloured(image: np.ndarray, level: Level, rng: np.random.Generator) -> np.ndarray:
    """Saturation and cast as one matrix; exposure, contrast and gamma as one table."""
    if level == LEVELS["none"]:
        return image
    saturation = 0.0 if rng.random() < level.grey else 1 + rng.uniform(-1, 1) * level.saturation
    mix = saturation * np.eye(3) + (1 - saturation) * np.array([0.299, 0.587, 0.114])
    image = cv2.transform(image, mix * (1 + _around(level.cast, rng, 3)[:, None]))
    gain = float(2 ** _around(level.exposure, rng)[0])
    contrast, gamma = (
        float(np.exp(_around(each, rng)[0])) for each in (level.contrast, level.gamma)
    )
    light = np.arange(256) / 255
    # A longer exposure goes softly into white, as sensors' curves do.
    light = 1 - (1 - light) ** gain if gain > 1 else gain * light
    middle = 0.45 * min(gain, 1.0)
    light = np.clip(middle + contrast * (light - middle), 0, 1) ** gamma
    return np.asarray(cv2.LUT(image, np.round(255 * light).astype(np.uint8)))


def _around(reach: float, rng: np.random.Generator, count: int = 1) -> np.ndarray:
    return rng.uniform(-reach, reach, count)


def _noisy(image: np.ndarray, level: Level, rng: np.random.Generator) -> np.ndarray:
    if rng.random() >= level.noise[0]:
        return image
    height, width = image.shape[:2]
    sheet = _noise_sheet(max(_SHEET_PX, 2 * max(height, width)))
    y, x = rng.integers(0, (len(sheet) - height + 1, len(sheet) - width + 1))
    weight = float(rng.uniform(0.002, level.noise[1])) * 255 / _NOISE_STD
    cut = sheet[y : y + height, x : x + width]
    return np.asarray(cv2.addWeighted(image, 1.0, cut, weight, -128 * weight))


@functools.lru_cache(2)
def _noise_sheet(size: int) -> np.ndarray:
    """uint8 (size, size, 3) around 128, somewhat coarser in colour, as sensors' noise is."""
    rng = np.random.default_rng(7)
    noise = rng.standard_normal((size, size, 1), np.float32)
    colour = cv2.GaussianBlur(rng.standard_normal((size, size, 3), np.float32), (0, 0), 0.8)
    noise = noise + 1.8 * colour
    return np.clip(128 + _NOISE_STD * noise / noise.std(), 0, 255).astype(np.uint8)


def _compressed(image: np.ndarray, level: Level, rng: np.random.Generator) -> np.ndarray:
    if rng.random() >= level.jpeg[0]:
        return image
    quality = int(rng.integers(level.jpeg[1], 96))
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
