# SPDX-License-Identifier: MIT
"""The keyframes of a replay as a pose graph: odometry from each to the next, and the loop closures."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from netvlad_ros.config import Config
from netvlad_ros.evaluation.detection_log import DetectionLog
from netvlad_ros.graph.g2o import Edge, write_g2o
from netvlad_ros.graph.pose_graph import Solution
from netvlad_ros.retrieval.closure_gates import is_of_base
from netvlad_ros.verification.odometry import OdometryTrack, is_level
from netvlad_ros.verification.rigid import of_pose


def write_solved_graph(path: Path, log: DetectionLog, config: Config, solution: Solution) -> None:
    """Vertices are the keyframes with corrected poses; wrong closures are left out. Raises OSError."""
    vertices = {
        number: solution.poses[each.query.keyframe.name]
        for number, each in enumerate(log.keyframes)
        if each.query.keyframe.name in solution.poses
    }
    closures = [
        Edge(log.position(each.match), log.position(each.query), each.motion)
        for each in solution.used
    ]
    odometry = [
        each for each in _odometry(log, config) if {each.parent, each.child} <= vertices.keys()
    ]
    write_g2o(path, vertices, [*odometry, *closures])


def write_closure_graph(path: Path, log: DetectionLog, config: Config) -> None:
    """Vertices are numbered as keyframes are, from 0; without odometry each of them is at the origin.

    Closures without a scale are left out, and so is odometry of a base if nobody knows how the camera is
    mounted on it. Raises OSError.
    """
    closures = [
        Edge(log.position(each.match.keyframe), log.position(each.query), metric)
        for each in log.closures
        if (metric := each.geometry.metric) is not None
    ]
    if not _is_of_what_moves(log):
        write_g2o(path, {number: np.eye(4) for number in range(len(log.keyframes))}, closures)
        return
    vertices = {}
    for number, keyframe in enumerate(log.keyframes):
        pose = keyframe.query.data.odometry
        vertices[number] = np.eye(4) if pose is None else of_pose(pose)
    write_g2o(path, vertices, [*_odometry(log, config), *closures])


def _is_of_what_moves(log: DetectionLog) -> bool:
    """Whether odometry and closures are of one frame."""
    return all(
        is_of_base(closure.geometry, log.keyframes[log.position(closure.query)].query.data)
        for closure in log.closures
    )


def _odometry(log: DetectionLog, config: Config) -> list[Edge]:
    """From each keyframe to the next one of its session, as far as odometry connects them."""
    edges, before = [], -1
    tracks: dict[str, OdometryTrack] = defaultdict(OdometryTrack)
    for position, logged in enumerate(log.keyframes):
        keyframe, pose = logged.query.keyframe, logged.query.data.odometry
        if pose is None:
            continue
        track = tracks[keyframe.session.uuid]
        track.is_level = is_level(config.odometry, logged.query.data)
        track.add(keyframe.number, keyframe.stamp_ns, pose)
        last = log.keyframes[before].query.keyframe
        if before >= 0 and last.session.uuid == keyframe.session.uuid:
            motion = track.between(last.number, keyframe.number, config.odometry)
            if motion is not None:
                edges.append(Edge(before, position, motion))
        before = position
    return edges
