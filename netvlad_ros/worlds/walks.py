# SPDX-License-Identifier: MIT
"""Which pictures are taken on a walk through a world: pose, time and conditions of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from netvlad_ros.worlds.camera import Pose
from netvlad_ros.worlds.conditions import Conditions, named, random_conditions
from netvlad_ros.worlds.world import World

START_NS = 1_700_000_000_000_000_000
LAP_PAUSE_NS = 60_000_000_000
RANDOM = "random"


@dataclass(frozen=True)
class Shot:
    """One picture of a walk; stamps rise, and a pause separates the laps."""

    number: int
    stamp_ns: int
    lap: int
    pose: Pose
    conditions_name: str
    conditions: Conditions


def walk(
    world: World,
    trajectory: str,
    laps: int,
    conditions: Sequence[str],
    step_m: float = 1.0,
    rate_hz: float = 2.0,
) -> list[Shot]:
    """The pictures of some laps, the first under the first conditions, and so on, from the start again.

    conditions: names of conditions.NAMED, or "random". Raises WorldError for unknown names.
    """
    shots: list[Shot] = []
    stamp_ns, period_ns = START_NS, round(1e9 / rate_hz)
    for lap, poses in enumerate(world.trajectory(trajectory, laps, step_m)):
        name = conditions[lap % len(conditions)]
        found = conditions_of(name, world.seed, lap)
        for pose in poses:
            shots.append(Shot(len(shots), stamp_ns, lap, pose, name, found))
            stamp_ns += period_ns
        stamp_ns += LAP_PAUSE_NS
    return shots


def conditions_of(name: str, seed: int, lap: int) -> Conditions:
    """The conditions of a lap: the same name in a later lap is another visit."""
    if name == RANDOM:
        return random_conditions(np.random.default_rng([seed, lap, 5]))
    return named(name, visit=lap)
