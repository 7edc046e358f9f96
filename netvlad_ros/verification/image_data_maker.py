# SPDX-License-Identifier: MIT
"""What is kept of a keyframe to verify loop closures with, from its image and what came with it."""

from collections import deque
from dataclasses import replace

import cv2
import numpy as np

from netvlad_ros.config import VerificationConfig
from netvlad_ros.image_data import CameraModel, ImageData, LocalFeatures
from netvlad_ros.verification import points
from netvlad_ros.verification.camera import check_camera
from netvlad_ros.verification.features import feature_extractor
from netvlad_ros.verification.odometry import is_of_camera
from netvlad_ros.verification.rigid import inverse, of_pose
from netvlad_ros.verification.sensors import NO_SENSORS, Sensors

# Points are triangulated from so many keyframes before; the earliest one has the longest baseline.
KEYFRAMES_BEFORE = 3
THUMBNAIL_QUALITY = 85  # of a JPEG, 0 to 100


class ImageDataMaker:
    """Makes the data of the keyframes of one camera, one after the other."""

    def __init__(self, config: VerificationConfig) -> None:
        self.config = config
        self._extractor = feature_extractor(config)
        self._before: deque[ImageData] = deque(maxlen=KEYFRAMES_BEFORE)

    def make(self, image: np.ndarray, sensors: Sensors = NO_SENSORS) -> ImageData:
        """image: uint8, RGB (H, W, 3) or grey (H, W).

        Raises CameraError if the camera, its depth or its right image can't be what they are said to be.
        """
        camera = sensors.camera
        if camera is not None:
            camera = check_camera(camera, image.shape[1], image.shape[0])
        features = None
        if self._extractor is not None:
            features = self._extractor.extract(image, not _is_of_motion(sensors))
            if camera is not None:
                features = self._with_points(features, image, camera, sensors)
        thumbnail = _thumbnail(image, self.config.thumbnail_px)
        data = ImageData(features, camera, sensors.odometry, thumbnail=thumbnail)
        self._before.append(data)
        return data

    def _with_points(
        self, features: LocalFeatures, image: np.ndarray, camera: CameraModel, sensors: Sensors
    ) -> LocalFeatures:
        """From the best source there is: depth, a right image, or the keyframes before."""
        keypoints_px, max_depth_m = features.keypoints_px, self.config.max_depth_m
        if sensors.depth_m is not None:
            points_m = points.from_depth(keypoints_px, camera, sensors.depth_m, max_depth_m)
            return replace(features, points_m=points_m, points_from="depth")
        if sensors.right is not None and sensors.rig is not None:
            points_m = points.from_stereo(
                keypoints_px, camera, image, sensors.right, sensors.rig, max_depth_m
            )
            return replace(features, points_m=points_m, points_from="stereo")
        return self._with_points_from_motion(features, camera, sensors)

    def _with_points_from_motion(
        self, features: LocalFeatures, camera: CameraModel, sensors: Sensors
    ) -> LocalFeatures:
        points_m = np.full((len(features), 3), np.nan, np.float32)
        for before in self._before:
            moved = _camera_motion(before, camera, sensors)
            if moved is None or before.features is None or before.camera is None:
                continue
            found = points.from_motion(
                features, before.features, camera, before.camera, moved, self.config.max_ratio
            )
            unknown = np.isnan(points_m[:, 2])
            points_m[unknown] = found[unknown]
        if not np.isfinite(points_m).any():
            return features
        return replace(features, points_m=points_m, points_from="motion")


def _is_of_motion(sensors: Sensors) -> bool:
    """Whether points can only follow from how the camera moved.

    Then contrast stays as it is: equal contrast brings out paving, which repeats itself, and left 10 of 72
    closures of rendered town 70008.
    """
    is_moving = sensors.odometry is not None
    return is_moving and sensors.depth_m is None and sensors.right is None


def _thumbnail(image: np.ndarray, side_px: int) -> bytes | None:
    """A JPEG whose longer side is not longer than this; None if that is 0."""
    if not side_px:
        return None
    scale = side_px / max(image.shape[:2])
    if scale < 1:
        size = [max(1, round(scale * side)) for side in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    ordered = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    _, jpeg = cv2.imencode(".jpg", ordered, [cv2.IMWRITE_JPEG_QUALITY, THUMBNAIL_QUALITY])
    return jpeg.tobytes()


def _camera_motion(before: ImageData, camera: CameraModel, sensors: Sensors) -> np.ndarray | None:
    """before_from_now (4, 4) of the camera, by odometry; None if there is none, or another frame's.

    The mount has to be known, unless odometry is of the camera itself.
    """
    then, now = before.odometry, sensors.odometry
    if then is None or now is None or before.camera is None or then.frame_id != now.frame_id:
        return None
    mount = np.eye(4) if is_of_camera(now, camera) else camera.base_from_camera
    if mount is None:
        return None
    return inverse(mount) @ inverse(of_pose(then)) @ of_pose(now) @ mount
