# SPDX-License-Identifier: MIT
"""What a camera makes of a scene: exposure, white balance, blur, noise, rain on its way, compression."""

import functools

import cv2
import numpy as np

from netvlad_ros.data.image_files import decode
from netvlad_ros.worlds.camera import Camera, straight_pixels
from netvlad_ros.worlds.conditions import Conditions

_BRIGHTNESS = 112.0  # what the automatic exposure aims at, of 0..255
_GAIN_LIMITS = (0.6, 3.2)  # a night stays darker than a day


def photographed(
    image: np.ndarray, conditions: Conditions, camera: Camera, shot: int = 0
) -> np.ndarray:
    """The picture that the camera delivers, uint8 RGB (H, W, 3).

    image: as the renderer drew it; shot: numbers the pictures of a visit, and seeds noise and rain.
    """
    rng = np.random.default_rng([conditions.visit & 0x7FFFFFFF, shot])
    scale = camera.width_px / 320
    if camera.k1 or camera.k2:
        image = distorted(image, camera)
    if conditions.weather in ("rain", "snowfall"):
        image = _fallen(rng, image, conditions.weather)
    image = _blurred(rng, image, conditions.blur_px * scale, conditions.motion_px * scale)
    image = _developed(image, conditions)
    image = _with_noise(rng, image, conditions.noise)
    if conditions.jpeg:
        image = _compressed(image, conditions.jpeg)
    return image


def distorted(image: np.ndarray, camera: Camera) -> np.ndarray:
    """The picture through a lens with the camera's radial distortion; nothing is left black."""
    return cv2.remap(
        image, *straight_pixels(camera), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )


def _blurred(
    rng: np.random.Generator, image: np.ndarray, blur_px: float, motion_px: float
) -> np.ndarray:
    if blur_px > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), blur_px)
    if motion_px >= 1:
        length = int(motion_px) + 1
        kernel = np.zeros((length, length), np.float32)
        middle, angle = (length - 1) / 2, rng.normal(0, 0.3)
        reach = np.array([np.cos(angle), np.sin(angle)]) * middle
        start, end = np.round([middle - reach, middle + reach]).astype(int).tolist()
        cv2.line(kernel, start, end, 1.0)
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    return image


def _developed(image: np.ndarray, conditions: Conditions) -> np.ndarray:
    """Exposure, contrast, white balance, saturation and vignetting in one pass over the pixels."""
    height, width = image.shape[:2]
    gain = np.clip(_BRIGHTNESS / (float(image[::4, ::4].mean()) + 4), *_GAIN_LIMITS)
    gain = gain**0.75 * 2**conditions.exposure_stops
    colours = gain * np.array([1 + 0.18 * conditions.warmth, 1, 1 - 0.18 * conditions.warmth])
    grey = np.array([0.299, 0.587, 0.114])
    mix = conditions.saturation * np.eye(3) + (1 - conditions.saturation) * grey
    pivot = 110 * (1 - conditions.contrast)
    matrix = np.hstack([conditions.contrast * mix * colours, np.full((3, 1), pivot)])
    developed = cv2.transform(image.astype(np.float32), matrix.astype(np.float32))
    if conditions.vignetting:
        developed *= _falloff(height, width, round(conditions.vignetting, 2))
    # Bright parts go softly into white, as film and sensors' curves do.
    bright = developed > 200
    developed[bright] = 200 + 55 * np.tanh((developed[bright] - 200) / 90)
    return developed


@functools.lru_cache(64)
def _falloff(height: int, width: int, strength: float) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return (1 - strength * (x**2 + y**2) / 2)[..., None].astype(np.float32)


@functools.cache
def _noise_sheet() -> np.ndarray:
    """Normal noise, float32 (1024, 1024, 3), somewhat coarser in colour, as sensors' is."""
    rng = np.random.default_rng(7)
    brightness = rng.standard_normal((1024, 1024, 1), np.float32)
    colour = cv2.GaussianBlur(rng.standard_normal((1024, 1024, 3), np.float32), (0, 0), 0.8)
    sheet = 0.8 * brightness + 1.4 * colour
    return sheet / sheet.std()


def _with_noise(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    height, width = image.shape[:2]
    if strength and max(height, width) <= 1000:
        y, x = rng.integers(0, (1024 - height, 1024 - width))
        image = image + (255 * strength) * _noise_sheet()[y : y + height, x : x + width]
    elif strength:
        image = image + 255 * strength * rng.standard_normal(image.shape, np.float32)
    return np.clip(image, 0, 255, out=image).astype(np.uint8)


def _fallen(rng: np.random.Generator, image: np.ndarray, weather: str) -> np.ndarray:
    """Streaks of rain, or flakes."""
    height, width = image.shape[:2]
    layer = image.copy()
    count = int(rng.integers(60, 220)) * width // 320
    tilt = rng.normal(0, 2)
    for x, y, size in zip(
        rng.integers(0, width, count),
        rng.integers(0, height, count),
        rng.random(count),
        strict=True,
    ):
        if weather == "rain":
            end = (int(x + tilt * (1 + size)), int(y + 4 + 12 * size))
            cv2.line(layer, (int(x), int(y)), end, (205, 210, 215), 1, cv2.LINE_AA)
        else:
            cv2.circle(
                layer, (int(x), int(y)), int(1 + 1.6 * size**3), (245, 245, 250), -1, cv2.LINE_AA
            )
    share = 0.35 if weather == "rain" else 0.8
    return np.asarray(cv2.addWeighted(layer, share, image, 1 - share, 0))


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = decode(data) if done else None
    return image if decoded is None else decoded
