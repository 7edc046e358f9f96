# SPDX-License-Identifier: MIT
"""Where the frame of one map lies in that of another, by the loop closures between them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from netvlad_ros.image_data import CorrectedPose, ImageData, Pose
from netvlad_ros.retrieval.closures import Closure
from netvlad_ros.verification import covariance
from netvlad_ros.verification.geometry import BASE
from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.rigid import of_pose, quaternion_of

# So many closures have to agree, and more than this share of all between the two frames: streets that look
# alike agree with each other too, a house further.
MIN_AGREEING, MIN_SHARE = 5, 0.5
# Closures agree if the one place is so near to where the other one puts it; maps are bent themselves, and a
# heading that is off by half a degree moves what is far away by 1 % of the way there.
AGREE_M, AGREE_DEG, AGREE_SHARE = 1.0, 5.0, 0.01
# How well the places of one map lie to each other, which no closure counts as better than.
MAP_M, MAP_RAD = 0.1, 0.01
ITERATIONS = 3


@dataclass(frozen=True, eq=False)
class Edge:
    """The same place in both maps.

    frames:     of the first map and of the second.
    first:      (4, 4) where the robot was in the first map when it made the second.
    second:     (4, 4) where it was in the second map.
    covariance: (6, 6) of a small motion in the robot's frame.
    """

    frames: tuple[str, str]
    first: np.ndarray
    second: np.ndarray
    covariance: np.ndarray

    @property
    def first_from_second(self) -> Motion:
        """Where the second map's frame lies in the first one's, if this is right."""
        here = Motion(self.first, self.covariance)
        return here.then(Motion(self.second, np.zeros((6, 6))).inverse())

    def away(self, first_from_second: np.ndarray) -> tuple[float, float]:
        """Metres and degrees between what this says and where the second map's frame is said to be."""
        here = Motion(self.first, self.covariance)
        return here.difference(Motion(first_from_second @ self.second, self.covariance))


@dataclass(frozen=True, eq=False)
class Alignment:
    """What came out for one frame of the second map.

    frame:             its name.
    into:              the frame of the first map that it was put into; empty if into none.
    edges, agreeing:   how many closures there are between the two, or the best two, and that agree.
    first_from_second: (4, 4); None if too few agree.
    rms_m, rms_deg:    of how far those that agree are away.
    """

    frame: str
    into: str = ""
    edges: int = 0
    agreeing: int = 0
    first_from_second: np.ndarray | None = None
    rms_m: float = 0.0
    rms_deg: float = 0.0


def edge_of(closure: Closure, query: ImageData) -> Edge | None:
    """A closure as an edge between the maps of both; None if one has no pose or the closure has no metres.

    query: what the second map knows of the closure's query.
    """
    match, metric = closure.match.data, closure.geometry.metric
    if metric is None or match.map_pose is None or query.map_pose is None:
        return None
    poses = match.map_pose.pose, query.map_pose.pose
    is_of_base = closure.geometry.frame == BASE
    if not all(is_pose(each) for each in poses):
        return None
    if not is_of_base and not all(_is_of_camera(each) for each in (match, query)):
        return None
    return _edge(poses[0], poses[1], metric)


def edge_of_same(first: ImageData, second: ImageData) -> Edge | None:
    """Of a keyframe that is in both maps."""
    if first.map_pose is None or second.map_pose is None:
        return None
    poses = first.map_pose.pose, second.map_pose.pose
    if not all(is_pose(each) for each in poses):
        return None
    return _edge(*poses, Motion(np.eye(4), np.zeros((6, 6))))


def align(frame: str, edges: Sequence[Edge]) -> Alignment:
    """Where a frame of the second map lies in that frame of the first one with which most edges agree."""
    by_frame: defaultdict[str, list[Edge]] = defaultdict(list)
    for edge in edges:
        if edge.frames[1] == frame:
            by_frame[edge.frames[0]].append(edge)
    found = [_aligned(frame, into, each) for into, each in by_frame.items()]
    return max(found, key=lambda each: each.agreeing, default=Alignment(frame))


def moved(pose: CorrectedPose, frame: str, frame_from_its: np.ndarray) -> CorrectedPose:
    """The same pose in another frame, with its covariance, whose axes are those of the frame."""
    matrix = frame_from_its @ of_pose(pose.pose)
    turn = np.kron(np.eye(2), frame_from_its[:3, :3])
    spread = pose.pose.covariance
    return replace(
        pose,
        pose=replace(
            pose.pose,
            frame_id=frame,
            position_m=matrix[:3, 3],
            orientation_xyzw=quaternion_of(matrix[:3, :3]),
            covariance=None if spread is None else turn @ spread @ turn.T,
        ),
    )


def is_pose(pose: Pose) -> bool:
    """Whether it is made of numbers, and its orientation a unit quaternion."""
    is_finite = np.isfinite(pose.position_m).all() and np.isfinite(pose.orientation_xyzw).all()
    return bool(is_finite and abs(np.linalg.norm(pose.orientation_xyzw) - 1) < 1e-3)


def _is_of_camera(data: ImageData) -> bool:
    """Whether the corrected pose is of the camera's own optical frame."""
    assert data.map_pose is not None
    return data.camera is not None and data.map_pose.pose.child_frame_id == data.camera.frame_id


def _edge(first: Pose, second: Pose, first_from_second: Motion) -> Edge:
    spread = first_from_second.covariance + np.diag([MAP_M**2] * 3 + [MAP_RAD**2] * 3)
    here = of_pose(first) @ first_from_second.matrix
    return Edge((first.frame_id, second.frame_id), here, of_pose(second), spread)


def _aligned(frame: str, into: str, edges: Sequence[Edge]) -> Alignment:
    agreeing = max((_agreeing_with(edge, edges) for edge in edges), key=len)
    for _ in range(ITERATIONS):
        motion = covariance.mean([each.first_from_second for each in agreeing]).matrix
        away = np.array([each.away(motion) for each in edges])
        rows = np.flatnonzero((away < (AGREE_M, AGREE_DEG)).all(1)).tolist()
        agreeing = [edges[row] for row in rows] or agreeing
    if len(rows) < MIN_AGREEING or len(rows) <= MIN_SHARE * len(edges):
        return Alignment(frame, "", len(edges), len(rows))
    rms_m, rms_deg = np.sqrt((away[rows] ** 2).mean(0))
    return Alignment(frame, into, len(edges), len(rows), motion, float(rms_m), float(rms_deg))


def _agreeing_with(edge: Edge, edges: Sequence[Edge]) -> list[Edge]:
    motion = edge.first_from_second.matrix
    agreeing = []
    for other in edges:
        away_m, away_deg = other.away(motion)
        between_m = np.linalg.norm(other.first[:3, 3] - edge.first[:3, 3])
        if away_m < AGREE_M + AGREE_SHARE * between_m and away_deg < AGREE_DEG:
            agreeing.append(other)
    return agreeing
