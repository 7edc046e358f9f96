# SPDX-License-Identifier: MIT
"""What seasons, snow and rain make of a material."""

import zlib

import cv2
import numpy as np

from netvlad_ros.worlds import noise
from netvlad_ros.worlds.conditions import Conditions
from netvlad_ros.worlds.mesh import Material

# Hue shift in OpenCV's degrees / 2, saturation and value, for leaves and, weaker, for grass.
_TINTS = {
    "spring": (4, 1.0, 1.1),
    "summer": (0, 1.0, 1.0),
    "autumn": (-28, 1.1, 1.0),
    "winter": (-20, 0.45, 0.8),
}
_SNOW_ON = {"ground": 0.75, "grass": 0.97, "roof": 0.95, "leaves": 0.35}
_WHITE = np.array([235, 240, 248], np.float32)


def in_season(name: str, material: Material, conditions: Conditions) -> np.ndarray:
    """The material's image as it looks then, same shape; the name seeds where snow and puddles lie."""
    image = material.image
    if not material.reacts:
        return image
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if material.reacts in ("leaves", "grass"):
        image = _tinted(image, conditions.season, 1.0 if material.reacts == "leaves" else 0.3)
    if material.reacts == "leaves" and conditions.season == "winter":
        image = _thinned(rng, image)
    if conditions.weather == "rain":
        image = _wet(rng, image, material.reacts)
    if conditions.snow:
        image = _snowed(rng, image, _SNOW_ON[material.reacts])
    return image


def _tinted(image: np.ndarray, season: str, strength: float) -> np.ndarray:
    shift, saturation, value = _TINTS[season]
    hsv = cv2.cvtColor(image[..., :3], cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + shift * strength) % 180
    hsv[..., 1] *= 1 + (saturation - 1) * strength
    hsv[..., 2] *= 1 + (value - 1) * strength
    tinted = image.copy()
    tinted[..., :3] = cv2.cvtColor(hsv.clip(0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)
    return tinted


def _thinned(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Bare branches are left of most leaves."""
    if image.shape[2] != 4:
        return image
    thin = image.copy()
    gone = noise.octaves(rng, image.shape[0], 16) > -0.25
    thin[..., 3][gone & (thin[..., 3] > 0)] = 0
    return thin


def _wet(rng: np.random.Generator, image: np.ndarray, reacts: str) -> np.ndarray:
    dark = np.full(image.shape[:2], 0.75, np.float32)
    wet = image.copy()
    if reacts == "ground":
        side = image.shape[0]
        puddle = cv2.resize(noise.octaves(rng, 256, 3), (image.shape[1], side)) > 0.25
        dark[:] = 0.6
        wet[puddle, :3] = (0.35 * wet[puddle, :3] + 70).astype(np.uint8)
    wet[..., :3] = (wet[..., :3] * dark[..., None]).astype(np.uint8)
    return wet


def _snowed(rng: np.random.Generator, image: np.ndarray, share: float) -> np.ndarray:
    patches = cv2.resize(noise.octaves(rng, 256, 4), (image.shape[1], image.shape[0]))
    cover = np.clip((share - 0.5) * 3 + 1.5 * patches + 0.5, 0, 0.96)[..., None]
    light = (1 + 0.04 * patches)[..., None]
    snowed = image.copy()
    snowed[..., :3] = (image[..., :3] * (1 - cover) + _WHITE * light * cover).clip(0, 255)
    return snowed
