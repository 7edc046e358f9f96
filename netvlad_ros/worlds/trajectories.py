# SPDX-License-Identifier: MIT
"""Ways through a world that come back to places: with other headings, lanes, heights, at other times."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from netvlad_ros.errors import WorldError
from netvlad_ros.worlds.camera import Pose
from netvlad_ros.worlds.scene import Paths


@dataclass(frozen=True)
class Plan:
    """What shapes a way.

    paths, eye_m: of the world; laps: how often it is gone; step_m: between two pictures.
    """

    paths: Paths
    eye_m: float
    laps: int
    step_m: float


def trajectory(
    name: str,
    rng: np.random.Generator,
    paths: Paths,
    eye_m: float,
    laps: int = 2,
    step_m: float = 1.0,
) -> list[list[Pose]]:
    """The poses of each lap. Raises WorldError for an unknown name."""
    if name not in TRAJECTORIES:
        raise WorldError(f"trajectory: expected one of {', '.join(TRAJECTORIES)}, got {name!r}.")
    if laps < 1 or step_m <= 0:
        raise WorldError(f"laps and step: expected more than 0, got {laps} and {step_m} m.")
    return TRAJECTORIES[name](rng, Plan(paths, eye_m, laps, step_m))


def along(points_m: np.ndarray, eye_m: float | np.ndarray, step_m: float) -> list[Pose]:
    """Poses every step_m along a polyline (n, 2), looking ahead; turns are rounded off."""
    lengths = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points_m, axis=0), axis=1))]
    at = np.arange(0, lengths[-1], step_m)
    x, y = (np.interp(at, lengths, points_m[:, axis]) for axis in (0, 1))
    heights = np.broadcast_to(eye_m, (len(at),))
    # Looks to where it will be in three metres, as one does who walks or drives.
    far = np.minimum(at + 3.0, lengths[-1])
    dx, dy = (np.interp(far, lengths, points_m[:, axis]) - now for axis, now in ((0, x), (1, y)))
    yaw = np.arctan2(dy, dx)
    if len(yaw) > 1:  # at the very end nothing lies ahead
        still = np.hypot(dx, dy) < 0.5
        yaw[still] = yaw[~still][-1] if (~still).any() else 0.0
    return [
        Pose(float(a), float(b), float(z), float(c))
        for a, b, z, c in zip(x, y, heights, yaw, strict=True)
    ]


def shaken(rng: np.random.Generator, poses: list[Pose]) -> list[Pose]:
    """The same way with the sway of a vehicle or a hand; the poses stay exact."""
    knots = len(poses) // 6 + 3
    at = np.linspace(0, knots - 1, len(poses))
    sway = np.stack([np.interp(at, np.arange(knots), rng.normal(0, 1, knots)) for _ in range(3)], 1)
    return [
        replace(
            pose,
            yaw_rad=pose.yaw_rad + 0.06 * a,
            pitch_rad=pose.pitch_rad + 0.02 * b,
            roll_rad=pose.roll_rad + 0.02 * c,
        )
        for pose, (a, b, c) in zip(poses, np.clip(sway, -2, 2), strict=True)
    ]


# --- Shapes in free space, within the box of the paths ---------------------------------------------


def circle(rng: np.random.Generator, plan: Plan) -> list[list[Pose]]:
    """Round and round, each lap on another lane."""
    angle = np.linspace(0, 2 * np.pi, 200)
    return [
        _shape(plan, 0.9 + 0.1 * lane, np.cos(angle), np.sin(angle), rng)
        for lane in _lanes(rng, plan)
    ]


def figure_eight(rng: np.random.Generator, plan: Plan) -> list[list[Pose]]:
    """Two loops that cross in the middle, from two headings."""
    angle = np.linspace(0, 2 * np.pi, 300)
    x, y = np.sin(angle), np.sin(2 * angle) * 0.6
    return [_shape(plan, 0.9 + 0.1 * lane, x, y, rng) for lane in _lanes(rng, plan)]


def helix(rng: np.random.Generator, plan: Plan) -> list[list[Pose]]:
    """A circle that rises by 0.4 m with each lap."""
    angle = np.linspace(0, 2 * np.pi, 200)
    return [
        _shape(replace(plan, eye_m=plan.eye_m + 0.4 * lap), 0.9, np.cos(angle), np.sin(angle), rng)
        for lap in range(plan.laps)
    ]


def lawn_mower(rng: np.random.Generator, plan: Plan) -> list[list[Pose]]:
    """Strip beside strip, there and back; each second lap across the strips of the first."""
    rows = 5
    y = np.repeat(np.linspace(-0.9, 0.9, rows), 2)
    x = np.tile([-0.9, 0.9, 0.9, -0.9], rows)[: len(y)]
    return [
        _shape(plan, 1.0, x if lap % 2 == 0 else y, y if lap % 2 == 0 else x, rng)
        for lap in range(plan.laps)
    ]


# --- On the ways ---------------------------------------------------------------------------------------


def back_and_forth(rng: np.random.Generator, plan: Plan) -> list[list[Pose]]:
    """The longest way there, then back on the other lane, and so on."""
    nodes = _longest(plan.paths)
    return [
        _on_lane(plan, nodes if lap % 2 == 0 else nodes[::-1], 0.15 * plan.paths.width_m, rng)
        for lap in range(plan.laps)
    ]


def random_walk(rng: np.random.Generator, plan: Plan) -> list[list[Pose]]:
    """From crossing to crossing as chance has it, turning round only at dead ends."""
    nodes = _walk(rng, plan.paths, 3 * len(plan.paths.edges))
    parts = np.array_split(np.arange(len(nodes) - 1), plan.laps)
    return [
        _on_lane(plan, nodes[part[0] : part[-1] + 2], 0.15 * plan.paths.width_m, rng)
        for part in parts
        if len(part)
    ]


def loop(rng: np.random.Generator, plan: Plan) -> list[list[Pose]]:
    """The same round through the streets in each lap, a little to the left or right."""
    nodes = _round_trip(rng, plan.paths)
    lanes = [(0.02 + 0.2 * lane) * plan.paths.width_m for lane in _lanes(rng, plan)]
    return [_on_lane(plan, nodes, lane, rng) for lane in lanes]


TRAJECTORIES: dict[str, Callable[[np.random.Generator, Plan], list[list[Pose]]]] = {
    "loop": loop,
    "circle": circle,
    "figure-eight": figure_eight,
    "helix": helix,
    "lawn-mower": lawn_mower,
    "back-and-forth": back_and_forth,
    "random-walk": random_walk,
}


def _lanes(rng: np.random.Generator, plan: Plan) -> np.ndarray:
    """One number in 0..1 for each lap, not all the same."""
    return (np.arange(plan.laps) * 0.618 + rng.random()) % 1


def _shape(
    plan: Plan, size: float, x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> list[Pose]:
    low, high = plan.paths.nodes_m.min(axis=0), plan.paths.nodes_m.max(axis=0)
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, plan.paths.width_m / 4) * size
    points = middle + np.stack([x, y], axis=1) * half
    return shaken(rng, along(points, plan.eye_m, plan.step_m))


def _on_lane(plan: Plan, nodes: np.ndarray, lane_m: float, rng: np.random.Generator) -> list[Pose]:
    """On the right-hand side of the ways between these nodes."""
    corners = plan.paths.nodes_m[nodes]
    ways = np.diff(corners, axis=0)
    ways /= np.maximum(np.linalg.norm(ways, axis=1, keepdims=True), 1e-9)
    right = np.stack([ways[:, 1], -ways[:, 0]], axis=1) * lane_m
    points = np.stack([corners[:-1] + right, corners[1:] + right], axis=1).reshape(-1, 2)
    return shaken(rng, along(points, plan.eye_m, plan.step_m))


def _walk(rng: np.random.Generator, paths: Paths, steps: int) -> np.ndarray:
    nodes = [int(paths.edges[rng.integers(len(paths.edges)), 0])]
    for _ in range(steps):
        ways = paths.neighbours(nodes[-1])
        onwards = ways[ways != nodes[-2]] if len(nodes) > 1 else ways
        nodes.append(int(rng.choice(onwards if len(onwards) else ways)))
    return np.array(nodes)


def _round_trip(rng: np.random.Generator, paths: Paths) -> np.ndarray:
    """A closed way of at least three edges, or there and back where there is none."""
    best: list[int] = []
    for _ in range(300):
        nodes = list(_walk(rng, paths, 14))
        for number, node in enumerate(nodes):
            if node in nodes[:number]:
                ring = nodes[nodes.index(node) : number + 1]
                best = ring if len(ring) > max(3, len(best)) else best
                break
    if best:
        return np.array(best)
    there = _longest(paths)
    return np.r_[there, there[-2::-1]]


def _longest(paths: Paths) -> np.ndarray:
    """Of the shortest ways between two nodes, the one with most edges."""
    best = np.array([0])
    for start in range(len(paths.nodes_m)):
        came_from, queue = {start: -1}, [start]
        for node in queue:
            for following in map(int, paths.neighbours(node)):
                if following not in came_from:
                    came_from[following] = node
                    queue.append(following)
        way = [queue[-1]]
        while way[-1] != start:
            way.append(came_from[way[-1]])
        if len(way) > len(best):
            best = np.array(way[::-1])
    return best
