# SPDX-License-Identifier: MIT
"""What came with an image: its camera, depth or a right image, and odometry."""

from dataclasses import dataclass

import numpy as np

from netvlad_ros.image_data import CameraModel, Pose


@dataclass(frozen=True, eq=False)
class StereoRig:
    """How the two images of a stereo pair become rectified ones, as R and P of sensor_msgs/CameraInfo say.

    left_r, right_r: (3, 3), from each camera's optical frame to its rectified one.
    left_p, right_p: (3, 4), from the left camera's rectified frame to pixels of each rectified image.
    right:           the right camera; a pair that is rectified already has no distortion.
    """

    left_r: np.ndarray
    left_p: np.ndarray
    right: CameraModel
    right_r: np.ndarray
    right_p: np.ndarray

    @property
    def baseline_m(self) -> float:
        """From the left camera to the right one; not positive if it is not known."""
        focal_px = float(self.right_p[0, 0])
        return -float(self.right_p[0, 3]) / focal_px if focal_px > 0 else 0.0


@dataclass(frozen=True, eq=False)
class Sensors:
    """What is known of an image when it arrives; None where nobody sent it.

    depth_m:  (H, W) float32, along the optical axis and aligned with the image; 0 or NaN where unknown.
    right:    uint8 image of the right camera, RGB or grey.
    rig:      of the two cameras, if there is a right image.
    odometry: of the robot's base, at the stamp of the image.
    """

    camera: CameraModel | None = None
    depth_m: np.ndarray | None = None
    right: np.ndarray | None = None
    rig: StereoRig | None = None
    odometry: Pose | None = None


NO_SENSORS = Sensors()
