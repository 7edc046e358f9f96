# SPDX-License-Identifier: MIT
"""A world before anybody looks at it: surfaces, lamps, what casts shadows, where one can go."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from netvlad_ros.worlds.mesh import Mesh


@dataclass(frozen=True)
class Lamp:
    """Something that gives light.

    colour: RGB, 1 for as bright as white paper in the sun; reach_m: where half of it is left.
    when:   "night" (on when it is dark outside), "inside" (on when people are in), "day" (a window).
    """

    position_m: tuple[float, float, float]
    colour: tuple[float, float, float]
    reach_m: float = 5.0
    when: str = "night"


@dataclass(frozen=True)
class Block:
    """A box that casts a shadow and that nobody walks through; size: along its heading, across, up."""

    centre_m: tuple[float, float]
    size_m: tuple[float, float, float]
    yaw_rad: float = 0.0


@dataclass(frozen=True)
class Paths:
    """Where a camera can go: places, and the straight ways between them.

    nodes_m: (n, 2); edges: (m, 2) numbers of nodes; width_m: of the free space around each way.
    """

    nodes_m: np.ndarray
    edges: np.ndarray
    width_m: float

    def neighbours(self, node: int) -> np.ndarray:
        """The nodes at the other ends of a node's ways."""
        here = self.edges[(self.edges == node).any(axis=1)]
        return here.sum(axis=1) - node


# Adds to a mesh what comes and goes: people and cars.
Visitors = Callable[[np.random.Generator, Mesh], None]


@dataclass
class Scene:
    """Everything of a world that does not depend on time and weather."""

    paths: Paths
    is_indoor: bool = False
    mesh: Mesh = field(default_factory=Mesh)
    lamps: list[Lamp] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    visitors: list[Visitors] = field(default_factory=list)
    eye_m: float = 1.5
    view_m: float = 160.0
