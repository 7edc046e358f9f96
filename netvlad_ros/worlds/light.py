# SPDX-License-Identifier: MIT
"""How much light falls on each corner of a world: sky, sun with shadows, lamps, windows."""

from collections.abc import Sequence

import numpy as np

from netvlad_ros.worlds.conditions import Conditions
from netvlad_ros.worlds.mesh import Vertices
from netvlad_ros.worlds.scene import Block, Lamp, Scene

_NIGHT_SKY = np.array([0.10, 0.11, 0.16])
_DAY_SKY = np.array([0.46, 0.50, 0.56])
_SUN = np.array([0.72, 0.66, 0.56])
_LOW_SUN = np.array([0.85, 0.5, 0.25])
# Of the light outside, what gets in through windows and is everywhere; indoor walls are lit by lamps too.
_INDOOR_AMBIENT = 0.32
_REACH_OF_LAMPS = 4.0  # in multiples of reach_m, beyond which a lamp is forgotten


def vertex_colours(vertices: Vertices, scene: Scene, conditions: Conditions) -> np.ndarray:
    """uint8 RGBA (n, 4): tint times light of each corner."""
    falling = _indoor if scene.is_indoor else _outdoor
    light = falling(vertices, scene, conditions)
    light = np.maximum(light, _glow(vertices, scene, conditions)[:, None])
    colours = np.full((len(vertices), 4), 255, np.uint8)
    colours[:, :3] = np.clip(vertices.tint * light * 255, 0, 255)
    return colours


def _glow(vertices: Vertices, scene: Scene, conditions: Conditions) -> np.ndarray:
    """(n,) what shines by itself: lamps when they are on, views through windows by day."""
    day = float(np.clip(conditions.sun_height * 2.5 + 0.08, 0.06, 1))
    on = 1.0 if scene.is_indoor or conditions.is_dark else 0.0
    return np.where(vertices.glow >= 0, on * vertices.glow, -day * vertices.glow)


def sun_direction(conditions: Conditions) -> np.ndarray:
    """Unit vector (3,) towards the sun, which goes from one side to the other during the day."""
    height = np.clip(conditions.sun_height, 0.05, 0.95)
    azimuth = conditions.sun_azimuth_rad + (12.0 - conditions.time_h) / 12.0 * np.pi
    level = np.sqrt(1 - height**2)
    return np.array([level * np.cos(azimuth), level * np.sin(azimuth), height])


def sky_light(conditions: Conditions) -> np.ndarray:
    """RGB (3,) of the light that comes from all of the sky."""
    day = np.clip(conditions.sun_height * 2.5 + 0.15, 0, 1)
    grey = 0.0 if conditions.weather == "clear" else 0.8
    sky = _NIGHT_SKY * (1 - day) + _DAY_SKY * day
    # Clouds pass on the light of the sun from everywhere.
    return sky * (1 - grey) + grey * (sky.mean() + 0.22 * day * np.array([1.0, 1.0, 1.0]))


def _outdoor(vertices: Vertices, scene: Scene, conditions: Conditions) -> np.ndarray:
    up = vertices.normals[:, 2:]
    above = np.clip(
        vertices.positions_m[:, 2:] / 2.5, 0, 1
    )  # near the ground less of the sky is seen
    light = sky_light(conditions) * (0.72 + 0.28 * up) * (0.78 + 0.22 * np.maximum(above, up))
    if conditions.snow:  # comes back from the ground
        light = light * 1.15
    if conditions.weather == "clear" and conditions.sun_height > 0:
        light = light + _sun(vertices, scene.blocks, conditions)
    if conditions.is_dark:
        light = light + _lamps(vertices, [lamp for lamp in scene.lamps if lamp.when == "night"])
    return light


def _indoor(vertices: Vertices, scene: Scene, conditions: Conditions) -> np.ndarray:
    day = float(np.clip(conditions.sun_height * 2 + 0.1, 0, 1))
    rng = np.random.default_rng(conditions.visit)
    on = [
        lamp
        for lamp in scene.lamps
        if lamp.when == "inside" and rng.random() < max(conditions.lamps_on, 0.4 * (day < 0.3))
    ]
    windows = [lamp for lamp in scene.lamps if lamp.when == "day"] if day > 0.1 else []
    shade = 0.8 + 0.2 * vertices.normals[:, 2:]
    ambient = _INDOOR_AMBIENT * (0.25 + 0.75 * max(day * bool(windows), 0.7 * bool(on)))
    return ambient * shade + 0.8 * _lamps(vertices, on) + day * _lamps(vertices, windows)


def _sun(vertices: Vertices, blocks: Sequence[Block], conditions: Conditions) -> np.ndarray:
    direction, height = sun_direction(conditions), conditions.sun_height
    facing = np.clip(vertices.normals @ direction, 0, 1)
    low = np.clip(1 - height / 0.5, 0, 1)
    colour = (_SUN * (1 - low) + _LOW_SUN * low) * np.clip(height * 4, 0.2, 1)
    lit = np.flatnonzero(facing > 0)
    start = vertices.positions_m[lit] + 0.06 * vertices.normals[lit] + 0.02 * direction
    facing[lit[_in_shadow(start, blocks, direction)]] = 0
    return facing[:, None] * colour


def _in_shadow(points_m: np.ndarray, blocks: Sequence[Block], direction: np.ndarray) -> np.ndarray:
    """Whether a block lies between each point and the sun, bool (n,)."""
    shadow = np.zeros(len(points_m), bool)
    for block in blocks:
        cos, sin = np.cos(block.yaw_rad), np.sin(block.yaw_rad)
        reach = block.size_m[2] / max(direction[2], 0.05) + max(block.size_m[:2])
        offset = points_m[:, :2] - block.centre_m
        near = np.flatnonzero(~shadow & ((offset**2).sum(axis=1) < reach**2))
        x = offset[near, 0] * cos + offset[near, 1] * sin
        y = offset[near, 1] * cos - offset[near, 0] * sin
        half_x, half_y, top = block.size_m[0] / 2, block.size_m[1] / 2, block.size_m[2]
        local = np.stack([x, y, points_m[near, 2] - top / 2], axis=1)
        heading = np.array(
            [
                direction[0] * cos + direction[1] * sin,
                direction[1] * cos - direction[0] * sin,
                direction[2],
            ]
        )
        shadow[near] = _hits_box(local, heading, np.array([half_x, half_y, top / 2]))
    return shadow


def _hits_box(start: np.ndarray, direction: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Whether rays from start (n, 3) meet a box around the origin, bool (n,)."""
    safe = np.where(np.abs(direction) < 1e-6, 1e-6, direction)
    first, second = (-half - start) / safe, (half - start) / safe
    enters = np.minimum(first, second).max(axis=1)
    leaves = np.maximum(first, second).min(axis=1)
    return (leaves > np.maximum(enters, 0)) & (leaves > 0.01)


def _lamps(vertices: Vertices, lamps: Sequence[Lamp]) -> np.ndarray:
    light = np.zeros((len(vertices), 3))
    for lamp in lamps:
        offset = np.asarray(lamp.position_m) - vertices.positions_m
        distance2 = (offset**2).sum(axis=1)
        near = np.flatnonzero(distance2 < (_REACH_OF_LAMPS * lamp.reach_m) ** 2)
        distance = np.sqrt(distance2[near]) + 1e-6
        facing = (vertices.normals[near] * offset[near]).sum(axis=1) / distance
        share = np.clip(0.25 + 0.75 * facing, 0.04, 1) / (1 + (distance / lamp.reach_m) ** 2)
        light[near] += share[:, None] * np.asarray(lamp.colour)
    return light
