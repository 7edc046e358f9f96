# SPDX-License-Identifier: MIT
"""What a network learns from: a picture, others of the same place, and some of elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from netvlad_ros.errors import WorldError
from netvlad_ros.worlds.camera import Camera, Pose, overlap
from netvlad_ros.worlds.conditions import Conditions, random_conditions
from netvlad_ros.worlds.world import World

_TRIES = 200


@dataclass(frozen=True)
class GroupConfig:
    """What one group holds, and what counts as the same place.

    positives, negatives: pictures of each kind beside the one query.
    radius_m, far_m: positives are within the one, negatives beyond the other; in rooms a third of both.
    min_overlap: share of the view that positives have in common with the query at least.
    conditions: so many random times and weathers are shared by the groups of one batch; changing them
        costs as much as rendering 20 pictures.
    fov_deg, k1: cameras have one of each; many different ones would take long to prepare.
    """

    positives: int = 5
    negatives: int = 10
    radius_m: float = 6.0
    far_m: float = 25.0
    min_overlap: float = 0.4
    conditions: int = 3
    fov_deg: tuple[float, ...] = (55.0, 60.0, 65.0, 70.0, 75.0, 80.0, 85.0, 95.0)
    k1: tuple[float, ...] = (0.0, 0.0, 0.0, -0.12, -0.06, 0.03)


@dataclass(frozen=True)
class Group:
    """images: uint8 RGB (1 + positives + negatives, H, W, 3): the query, positives, negatives, in this order.

    poses, conditions: of each; world: its name.
    """

    world: str
    images: np.ndarray
    positives: int
    poses: list[Pose]
    conditions: list[Conditions]


def groups(
    world: World, rng: np.random.Generator, count: int, config: GroupConfig | None = None
) -> Iterator[Group]:
    """So many groups from one world. Raises WorldError if the world is too small for them."""
    config = config or GroupConfig()
    size = 1 + config.positives + config.negatives
    visits = [random_conditions(rng) for _ in range(max(1, config.conditions))]
    poses = [_poses(world, rng, config) for _ in range(count)]
    chosen = rng.integers(len(visits), size=(count, size))
    cameras = [[_camera(rng, world.camera, config) for _ in range(size)] for _ in range(count)]
    height, width = world.camera.height_px, world.camera.width_px
    images = np.empty((count, size, height, width, 3), np.uint8)
    for number, visit in enumerate(visits):  # all pictures of one visit before the next
        for group, place in np.argwhere(chosen == number).tolist():
            shot = group * size + place
            images[group, place] = world.render(
                poses[group][place], visit, shot, cameras[group][place]
            )
    for group in range(count):
        conditions = [visits[number] for number in chosen[group]]
        yield Group(world.name, images[group], config.positives, poses[group], conditions)


def _poses(world: World, rng: np.random.Generator, config: GroupConfig) -> list[Pose]:
    scale = 1 / 3 if world.scene.is_indoor else 1.0
    radius_m, far_m = config.radius_m * scale, config.far_m * scale
    query = world.random_pose(rng)
    found = [query]
    for _ in range(config.positives):
        found.append(_near(world, rng, query, radius_m, config.min_overlap))
    for _ in range(config.negatives):
        found.append(_far(world, rng, query, far_m))
    return found


def _near(
    world: World, rng: np.random.Generator, query: Pose, radius_m: float, min_overlap: float
) -> Pose:
    """Another pose that sees the same; it moves along the ways' width rather than through walls."""
    reach_m = radius_m
    for _ in range(_TRIES):
        ahead, aside = rng.uniform(-reach_m, reach_m), rng.uniform(-0.4, 0.4) * reach_m
        cos, sin = np.cos(query.yaw_rad), np.sin(query.yaw_rad)
        x, y = query.x_m + ahead * cos - aside * sin, query.y_m + ahead * sin + aside * cos
        pose = replace(
            query,
            x_m=float(x),
            y_m=float(y),
            z_m=query.z_m + rng.uniform(-0.3, 0.4),
            yaw_rad=query.yaw_rad + rng.normal(0, 0.3),
            pitch_rad=float(rng.normal(0.03, 0.06)),
            roll_rad=float(rng.normal(0, 0.03)),
        )
        is_same = (
            np.hypot(ahead, aside) <= radius_m and overlap(world.camera, query, pose) >= min_overlap
        )
        if is_same and world.is_free(pose):
            return pose
        reach_m *= 0.98
    return query


def _far(world: World, rng: np.random.Generator, query: Pose, far_m: float) -> Pose:
    """A pose elsewhere; in a small world one that looks elsewhere."""
    for number in range(_TRIES):
        pose = world.random_pose(rng)
        distance_m = float(np.linalg.norm(pose.position_m - query.position_m))
        elsewhere = distance_m > far_m or number > _TRIES // 2
        if elsewhere and overlap(world.camera, query, pose) == 0:
            return pose
    raise WorldError(
        f"{world.name}: expected places that don't see each other, got too small a world."
    )


def _camera(rng: np.random.Generator, camera: Camera, config: GroupConfig) -> Camera:
    fov_deg, k1 = float(rng.choice(config.fov_deg)), float(rng.choice(config.k1))
    return replace(camera, fov_deg=fov_deg, k1=k1)
