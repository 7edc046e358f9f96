# SPDX-License-Identifier: MIT
"""Pose graphs as g2o files: VERTEX_SE3:QUAT and EDGE_SE3:QUAT."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netvlad_ros.graph.conventions import g2o_information
from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.rigid import quaternion_of


@dataclass(frozen=True, eq=False)
class Edge:
    """Where one vertex was, seen from another: p_parent = motion p_child."""

    parent: int
    child: int
    motion: Motion


def write_g2o(path: Path, vertices: Mapping[int, np.ndarray], edges: Iterable[Edge]) -> None:
    """vertices: by their numbers, the first guess of each pose (4, 4). Raises OSError."""
    lines = [f"VERTEX_SE3:QUAT {number} {_pose(pose)}" for number, pose in vertices.items()]
    lines += [_edge(each) for each in edges]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _edge(edge: Edge) -> str:
    """With the upper triangle of the information, row by row; see g2o_information() for its meaning."""
    upper = g2o_information(edge.motion)[np.triu_indices(6)]
    return f"EDGE_SE3:QUAT {edge.parent} {edge.child} {_pose(edge.motion.matrix)} {_words(upper)}"


def _pose(matrix: np.ndarray) -> str:
    """x y z qx qy qz qw."""
    return _words(np.append(matrix[:3, 3], quaternion_of(matrix[:3, :3])))


def _words(values: np.ndarray) -> str:
    return " ".join(f"{value:.9g}" for value in values.tolist())
