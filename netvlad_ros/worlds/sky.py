# SPDX-License-Identifier: MIT
"""The sky: blue or red, clouds, or the glow of a town at night."""

import cv2
import numpy as np

from netvlad_ros.worlds import noise
from netvlad_ros.worlds.conditions import Conditions
from netvlad_ros.worlds.light import sky_light

_SIDE_PX = 512


def sky_panorama(conditions: Conditions) -> np.ndarray:
    """uint8 RGB (256, 512, 3): all around, from the zenith down to 10 degrees below the horizon."""
    rng = np.random.default_rng(conditions.visit + 17)
    rise = np.linspace(1, 0, 256, dtype=np.float32)[:, None, None]
    day = float(np.clip(conditions.sun_height * 2.5 + 0.15, 0, 1))
    zenith = np.array([60, 110, 200]) * day + np.array([6, 8, 22]) * (1 - day)
    horizon = np.array([205, 220, 235]) * day + np.array([60, 45, 50]) * (1 - day)
    low_sun = float(np.clip(1 - abs(conditions.sun_height - 0.1) / 0.35, 0, 1))
    horizon = horizon * (1 - 0.4 * low_sun) + np.array([250, 150, 80]) * 0.4 * low_sun
    image = horizon * (1 - rise**0.6) + zenith * rise**0.6
    image = np.repeat(image, _SIDE_PX, axis=1)
    image = _with_clouds(rng, image, conditions)
    if conditions.weather == "fog":
        image = 0.1 * image + 0.9 * haze(conditions)
    return image.clip(0, 255).astype(np.uint8)


def haze(conditions: Conditions) -> np.ndarray:
    """RGB (3,), 0..255, of what is too far away to be seen."""
    return sky_light(conditions) * np.array([230, 234, 240]) + 8


def _with_clouds(rng: np.random.Generator, image: np.ndarray, conditions: Conditions) -> np.ndarray:
    bumps = cv2.resize(noise.octaves(rng, _SIDE_PX, 4, 0.6), (_SIDE_PX, 256))
    cover = rng.uniform(-0.35, 0.3) if conditions.weather == "clear" else 0.9
    amount = np.clip((bumps + cover) * 2.5, 0, 1)[..., None]
    shade = noise.octaves(rng, _SIDE_PX, 6)[:256, :, None]
    white = sky_light(conditions) * np.array([330, 330, 335]) * (0.95 + 0.18 * shade)
    return image * (1 - amount) + np.minimum(white, 250) * amount
