# SPDX-License-Identifier: MIT
"""What a robot on a walk has beside its camera: depth, a right camera, odometry that drifts."""

from collections.abc import Sequence
from dataclasses import dataclass

from netvlad_ros.errors import WorldError
from netvlad_ros.image_data import Pose
from netvlad_ros.worlds.odometry import Drift, drifted, exact
from netvlad_ros.worlds.walks import Shot
from netvlad_ros.worlds.world import World

METRES, MILLIMETRES = "32FC1", "16UC1"
DEPTH_ENCODINGS = (METRES, MILLIMETRES)


@dataclass(frozen=True)
class Sensors:
    """What is recorded of each shot beside the picture.

    depth:      how depth is encoded in bags, one of DEPTH_ENCODINGS; empty for none.
    baseline_m: to the right camera; 0 for none.
    drift:      of the odometry; None for exact poses.
    """

    depth: str = ""
    baseline_m: float = 0.0
    drift: Drift | None = None

    def __post_init__(self) -> None:
        """Raises WorldError for another encoding or a negative baseline."""
        if self.depth and self.depth not in DEPTH_ENCODINGS:
            raise WorldError(f"depth: expected 32FC1 or 16UC1, got {self.depth!r}.")
        if not 0 <= self.baseline_m < float("inf"):
            raise WorldError(f"baseline: expected metres from 0 on, got {self.baseline_m}.")

    def odometry(self, world: World, shots: Sequence[Shot]) -> list[Pose]:
        """Of each shot: the base in odom, or without drift the camera's body in the map.

        It goes on between laps, as if the robot had been driven to where the next one begins.
        """
        poses = [shot.pose for shot in shots]
        if self.drift is None:
            return list(map(exact, poses))
        return drifted(poses, self.drift, world.seed)


ONE_CAMERA = Sensors()
