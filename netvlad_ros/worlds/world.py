# SPDX-License-Identifier: MIT
"""One world: a seed and a kind in, pictures from any pose out."""

import numpy as np

from netvlad_ros.errors import WorldError
from netvlad_ros.worlds import effects, interior, town
from netvlad_ros.worlds.camera import Camera, Pose
from netvlad_ros.worlds.conditions import Conditions
from netvlad_ros.worlds.renderer import Renderer
from netvlad_ros.worlds.scene import Scene
from netvlad_ros.worlds.trajectories import trajectory

KINDS = {
    "town": town.town,
    "street": town.street,
    "corridor": interior.corridor,
    "room": interior.room,
}

_RIGHT = 1 << 30  # added to the number of a shot, for the noise of the right camera


class World:
    """A place that can be visited again and again.

    seed: the same seed and kind give the same pixels in each process that renders the same; after other
        worlds the renderer may round a few pixels in ten thousand differently.
    kind: one of KINDS. Raises WorldError for others, or if Panda3D is missing.
    """

    def __init__(self, seed: int, kind: str, camera: Camera | None = None) -> None:
        if kind not in KINDS:
            raise WorldError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}.")
        rng = np.random.default_rng([seed, list(KINDS).index(kind)])
        self._start(f"{kind}-{seed}", seed, KINDS[kind](rng), camera or Camera())

    @classmethod
    def of_scene(cls, name: str, scene: Scene, camera: Camera | None = None) -> "World":
        """A world of somebody's own making, such as a scanned building."""
        world = cls.__new__(cls)
        world._start(name, 0, scene, camera or Camera())
        return world

    def _start(self, name: str, seed: int, scene: Scene, camera: Camera) -> None:
        self.name, self.seed, self.scene, self.camera = name, seed, scene, camera
        self._renderer = Renderer(scene, camera)

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives back the memory, some 200 MB."""
        self._renderer.close()

    def render(
        self, pose: Pose, conditions: Conditions, shot: int = 0, camera: Camera | None = None
    ) -> np.ndarray:
        """What the camera delivers, uint8 RGB (height_px, width_px, 3).

        conditions: a change of them costs about as much as 20 pictures; sort by them.
        shot: numbers the pictures of one visit; noise, rain and blur differ between them.
        camera: another one of the same image size; left out, the world's own.
        """
        drawn = self._renderer.draw(pose, conditions, camera)
        return effects.photographed(drawn, conditions, camera or self.camera, shot)

    def render_right(
        self, pose: Pose, conditions: Conditions, baseline_m: float, shot: int = 0
    ) -> np.ndarray:
        """As render(), the right one of a rectified pair of such cameras, with noise of its own."""
        return self.render(pose.beside(baseline_m), conditions, shot + _RIGHT)

    def depth_m(
        self, pose: Pose, conditions: Conditions, camera: Camera | None = None
    ) -> np.ndarray:
        """How far away is what each pixel of render() shows, by the geometry, without any noise.

        float32 (height_px, width_px), metres along the optical axis. NaN in the sky, and in the margin of a
        distorted picture that mirrors what is farther in.
        """
        return self._renderer.depth_m(pose, conditions, camera)

    def is_free(self, pose: Pose) -> bool:
        """Whether a camera can be there: near a way, and in no building."""
        paths = self.scene.paths
        starts, ends = paths.nodes_m[paths.edges[:, 0]], paths.nodes_m[paths.edges[:, 1]]
        ways, offset = ends - starts, pose.position_m[:2] - starts
        share = ((offset * ways).sum(1) / np.maximum((ways**2).sum(1), 1e-9)).clip(0, 1)
        nearest = np.linalg.norm(offset - share[:, None] * ways, axis=1).min()
        return bool(nearest <= 0.35 * paths.width_m + 0.3)

    def trajectory(self, name: str, laps: int = 2, step_m: float = 1.0) -> list[list[Pose]]:
        """The poses of each lap of a way through this world; names: trajectories.TRAJECTORIES."""
        rng = np.random.default_rng([self.seed, 99])
        return trajectory(name, rng, self.scene.paths, self.scene.eye_m, laps, step_m)

    def random_pose(self, rng: np.random.Generator) -> Pose:
        """Somewhere on the ways, mostly looking along them."""
        paths = self.scene.paths
        a, b = paths.nodes_m[paths.edges[rng.integers(len(paths.edges))]]
        way = (b - a) / max(float(np.linalg.norm(b - a)), 1e-9)
        aside = np.array([-way[1], way[0]]) * rng.uniform(-0.25, 0.25) * paths.width_m
        x, y = a + (b - a) * rng.uniform(0, 1) + aside
        turn = rng.normal(0, 0.4) if rng.random() < 0.7 else rng.uniform(-np.pi, np.pi)
        yaw = np.arctan2(way[1], way[0]) + turn + np.pi * (rng.random() < 0.5)
        height = self.scene.eye_m + rng.uniform(-0.4, 0.4)
        return Pose(float(x), float(y), float(height), float(yaw), float(rng.normal(0.03, 0.06)))
