# SPDX-License-Identifier: MIT
"""What is known of an image beside its global descriptor: features, camera, poses."""

from dataclasses import dataclass

import numpy as np

# What tells how far points are away.
POINTS_FROM = ("depth", "stereo", "motion")


@dataclass(frozen=True, eq=False)
class Pose:
    """Of a child frame in a frame, at the stamp of the keyframe: p_frame = R p_child + position.

    position_m:       (3,) float64.
    orientation_xyzw: (4,) float64, a unit quaternion.
    covariance:       (6, 6) float64 of x, y, z in metres and rotations about x, y, z in radians, as in
                      geometry_msgs/PoseWithCovariance; None if it is not known.
    """

    frame_id: str
    child_frame_id: str
    position_m: np.ndarray
    orientation_xyzw: np.ndarray
    covariance: np.ndarray | None = None


@dataclass(frozen=True)
class CorrectedPose:
    """A pose as a pose graph found it: of what odometry is of, in the map's frame.

    Without odometry it is of the base where it is known how the camera is mounted on it, or else of the
    camera's optical frame.

    graph:     name of the graph, such as its node's or its file's.
    solved_ns: when it was solved, by the clock of the keyframe's session.
    """

    pose: Pose
    graph: str
    solved_ns: int


@dataclass(frozen=True, eq=False)
class CameraModel:
    """Intrinsics, as in sensor_msgs/CameraInfo.

    k:          (3, 3) float64, in pixels.
    d:          (n,) float64, coefficients of the distortion model.
    baseline_m: to the other camera of a stereo pair; None if there is none.
    frame_id:   of its optical frame (x right, y down, z ahead).
    base_from_camera: (4, 4) float64, from that frame to the robot's base; None if it is not known.
    """

    width_px: int
    height_px: int
    distortion_model: str
    k: np.ndarray
    d: np.ndarray
    baseline_m: float | None = None
    frame_id: str = ""
    base_from_camera: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class LocalFeatures:
    """Points of an image that another image of the place may have too.

    method:       what found and described them, such as "orb".
    keypoints_px: (n, 2) float32, x and y.
    descriptors:  (n, length), uint8 (compared by Hamming distance) or float32 (Euclidean).
    points_m:     (n, 3) float32 in the camera's optical frame, NaN where unknown; None without depth.
    points_from:  how they are known, one of POINTS_FROM; empty without.
    """

    method: str
    keypoints_px: np.ndarray
    descriptors: np.ndarray
    points_m: np.ndarray | None = None
    points_from: str = ""

    def __len__(self) -> int:
        return len(self.keypoints_px)


@dataclass(frozen=True, eq=False)
class ImageData:
    """What is known of one image beside its descriptor; each part only where somebody needs it.

    camera:    of the image that the features are from.
    odometry:  raw, at the stamp of the image.
    map_pose:  corrected by a pose graph.
    thumbnail: a small JPEG, to look at.
    """

    features: LocalFeatures | None = None
    camera: CameraModel | None = None
    odometry: Pose | None = None
    map_pose: CorrectedPose | None = None
    thumbnail: bytes | None = None


NOTHING_KNOWN = ImageData()
