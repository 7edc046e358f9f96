# SPDX-License-Identifier: MIT
"""Where in a map a query was, as one of its matches says."""

import numpy as np

from netvlad_ros.image_data import CameraModel, ImageData, Pose
from netvlad_ros.keyframe import SHOWN_DIGITS, Match
from netvlad_ros.verification.geometry import BASE, Geometry
from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.odometry import is_of_camera

HOW_TO_GET_POSES = "map with odometry, and better with a pose graph"


def is_base(query: ImageData) -> bool:
    """Whether poses of a query are of its base; if not, they are of its camera's optical frame."""
    return _mount(query) is not None and not is_of_camera(query.odometry, query.camera)


def in_map(
    match: Match, geometry: Geometry, session: str, query: ImageData
) -> tuple[str, Motion] | str:
    """The frame, and in it the pose of the query, as is_base() says of what; or why there is none.

    Covariance: of the geometry, and of the match's corrected pose. Odometry is a frame by itself.
    session: of the query, whose own odometry is no map.
    """
    if geometry.metric is None:
        return (
            f"keyframe {match.keyframe} has no points in metres; map with depth, stereo or odometry"
        )
    found = _pose_of(match, session)
    if found is None:
        return f"keyframe {match.keyframe} has no pose in the map; {HOW_TO_GET_POSES}"
    frame_id, pose = found
    if not _is_number(pose):
        return f"the pose of keyframe {match.keyframe} is not a number"
    mount = _mount(match.data)
    of_camera = is_of_camera(pose, match.data.camera) or (
        mount is None and match.data.map_pose is not None
    )
    at = Motion.of_pose(pose)
    if mount is None and not of_camera:
        return f"how the camera of keyframe {match.keyframe} is mounted is not known"
    if geometry.frame == BASE:
        assert mount is not None
        return frame_id, (_of_base(at, mount) if of_camera else at).then(geometry.metric)
    camera = (
        at if of_camera or mount is None else at.between_others(np.eye(4), np.linalg.inv(mount))
    )
    seen, own = camera.then(geometry.metric), _mount(query)
    return frame_id, _of_base(seen, own) if own is not None and is_base(query) else seen


def base_of(camera: Motion, query: ImageData) -> Motion | None:
    """The pose of the base from that of the camera; None where its mount is not known."""
    mount = _mount(query)
    return None if mount is None else _of_base(camera, mount)


def _of_base(camera: Motion, mount: np.ndarray) -> Motion:
    return camera.between_others(np.eye(4), mount)


def _pose_of(match: Match, session: str) -> tuple[str, Pose] | None:
    """With the frame; odometry of each session is another."""
    if match.data.map_pose is not None:
        return match.data.map_pose.pose.frame_id, match.data.map_pose.pose
    odometry = match.data.odometry
    if odometry is None or match.keyframe.session.uuid == session:
        return None
    of_session = f"{odometry.frame_id}_{match.keyframe.session.uuid[:SHOWN_DIGITS]}"
    # Of how it drifted since its beginning, which is no error in its own frame, nothing is asked.
    return of_session, Pose(**(vars(odometry) | {"covariance": None}))


def _is_number(pose: Pose) -> bool:
    known = np.concatenate([pose.position_m, pose.orientation_xyzw])
    covariance = np.zeros(1) if pose.covariance is None else pose.covariance
    is_turn = abs(float(np.linalg.norm(pose.orientation_xyzw)) - 1.0) < 1e-3
    return bool(np.isfinite(known).all() and np.isfinite(covariance).all() and is_turn)


def _mount(data: ImageData) -> np.ndarray | None:
    camera: CameraModel | None = data.camera
    return None if camera is None else camera.base_from_camera
