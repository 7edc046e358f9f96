# SPDX-License-Identifier: MIT
"""What a comparison by geometry gave, as a message."""

import math

from geometry_msgs.msg import Point, Pose, PoseWithCovariance, Quaternion

from netvlad_ros.msg import LoopClosureGeometry
from netvlad_ros.nodes.image_data_messages import motion_from, motion_message
from netvlad_ros.verification.geometry import Geometry

# inliers_back, where only one way could be tried.
NOT_TRIED = -1


def geometry_message(geometry: Geometry) -> LoopClosureGeometry:
    """A pose that nobody knows is NaN: it must not look like one that is."""
    motion = geometry.match_from_query
    return LoopClosureGeometry(
        method=geometry.method,
        has_pose=motion is not None,
        scale_unknown=geometry.scale_unknown,
        match_from_query=unknown_pose() if motion is None else motion_message(motion),
        frame=geometry.frame,
        correspondences=geometry.correspondences,
        inliers=geometry.inliers,
        inliers_back=NOT_TRIED if geometry.inliers_back is None else geometry.inliers_back,
        reprojection_rms_px=geometry.rms_px,
    )


def geometry_from(message: LoopClosureGeometry) -> Geometry:
    """The geometry of a message, without its point pairs. Raises MessageError for a pose that can't be."""
    motion = motion_from(message.match_from_query) if message.has_pose else None
    back = message.inliers_back
    return Geometry(
        message.method,
        message.correspondences,
        message.inliers,
        None if back == NOT_TRIED else back,
        message.reprojection_rms_px,
        motion,
        message.scale_unknown,
        message.frame,
    )


def unknown_pose() -> PoseWithCovariance:
    """NaN."""
    nan = math.nan
    pose = Pose(
        position=Point(x=nan, y=nan, z=nan), orientation=Quaternion(x=nan, y=nan, z=nan, w=nan)
    )
    return PoseWithCovariance(pose=pose, covariance=[nan] * 36)
