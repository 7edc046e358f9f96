# SPDX-License-Identifier: MIT
"""The ROS messages of a walk: what the camera and the other sensors of the robot publish."""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.typesys import Stores, get_typestore

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.errors import WorldError
from netvlad_ros.image_data import Pose
from netvlad_ros.worlds.depth import sixteen_bits
from netvlad_ros.worlds.odometry import BASE, CAMERA_BODY, base_from_camera, exact
from netvlad_ros.worlds.sensors import MILLIMETRES, Sensors
from netvlad_ros.worlds.walks import Shot
from netvlad_ros.worlds.world import World

# The last four only where the sensors ask for them; exact poses are those of odometry without drift.
TOPICS = {
    "image": "/camera/image_raw",
    "info": "/camera/camera_info",
    "odometry": "/odom",
    "right": "/camera/right/image_raw",
    "right info": "/camera/right/camera_info",
    "depth": "/camera/depth/image_raw",
    "truth": "/ground_truth/odom",
    "static": "/tf_static",
}
OPTICAL = "camera_optical_frame"
JPEG_QUALITY = 95
_FOREVER = QosTime(0x7FFFFFFF, 0xFFFFFFFF)
# As a static transform is published: who subscribes later gets it too.
LATCHED = (
    Qos(
        QosHistory.KEEP_LAST,
        1,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL,
        _FOREVER,
        _FOREVER,
        QosLiveliness.AUTOMATIC,
        _FOREVER,
        False,
    ),
)

TopicMessage = tuple[str, Any]


def encoded(image: np.ndarray, suffix: str) -> bytes:
    """The file of a picture: uint8 RGB (H, W, 3), or one channel (H, W)."""
    done, data = cv2.imencode(
        suffix,
        image[..., ::-1] if image.ndim == 3 else image,
        [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix == ".jpg" else [],
    )
    if not done:
        raise WorldError(f"OpenCV can't write {suffix} images; another build of it can.")
    return data.tobytes()


class Messages:
    """The messages of each shot of a walk."""

    def __init__(self, world: World, compressed: bool, sensors: Sensors) -> None:
        self.world, self.compressed, self.sensors = world, compressed, sensors
        self.store = get_typestore(Stores.LATEST)

    def of(self, shots: Sequence[Shot]) -> Iterator[tuple[Shot, list[TopicMessage]]]:
        """Each shot with topics and messages, poses first, so that they are there when the image comes."""
        odometry = self.sensors.odometry(self.world, shots)
        for shot, pose in zip(shots, odometry, strict=True):
            first = shot is shots[0] and self.sensors.drift is not None
            yield (
                shot,
                [
                    *([(TOPICS["static"], self._mount(shot))] if first else []),
                    *self._poses(shot, pose),
                    *self._pictures(shot),
                ],
            )

    def _poses(self, shot: Shot, pose: Pose) -> Iterator[TopicMessage]:
        yield TOPICS["odometry"], self._odometry(shot, pose)
        if self.sensors.drift is not None:
            yield TOPICS["truth"], self._odometry(shot, exact(shot.pose))

    def _pictures(self, shot: Shot) -> Iterator[TopicMessage]:
        yield TOPICS["info"], self._info(shot, 0.0)
        image = self.world.render(shot.pose, shot.conditions, shot.number)
        yield self._picture(shot, TOPICS["image"], image)
        baseline_m = self.sensors.baseline_m
        if baseline_m:
            image = self.world.render_right(shot.pose, shot.conditions, baseline_m, shot.number)
            yield TOPICS["right info"], self._info(shot, baseline_m)
            yield self._picture(shot, TOPICS["right"], image)
        if self.sensors.depth:
            depth_m = self.world.depth_m(shot.pose, shot.conditions)
            yield TOPICS["depth"], self._depth(shot, depth_m)

    def _type(self, name: str) -> Any:
        return self.store.types[name]

    def _header(self, shot: Shot, frame: str) -> Any:
        stamp = self._type("builtin_interfaces/msg/Time")(*divmod(shot.stamp_ns, NANOSECONDS))
        return self._type("std_msgs/msg/Header")(stamp, frame)

    def _picture(self, shot: Shot, topic: str, image: np.ndarray) -> TopicMessage:
        if self.compressed:
            data = np.frombuffer(encoded(image, ".jpg"), np.uint8)
            kind = self._type("sensor_msgs/msg/CompressedImage")
            return f"{topic}/compressed", kind(self._header(shot, OPTICAL), "jpeg", data)
        return topic, self._image(shot, "rgb8", image)

    def _depth(self, shot: Shot, depth_m: np.ndarray) -> Any:
        encoding = self.sensors.depth
        image = sixteen_bits(depth_m, 0.001) if encoding == MILLIMETRES else depth_m
        return self._image(shot, encoding, image)

    def _image(self, shot: Shot, encoding: str, image: np.ndarray) -> Any:
        height, width = image.shape[:2]
        data = np.ascontiguousarray(image).reshape(-1).view(np.uint8)
        return self._type("sensor_msgs/msg/Image")(
            self._header(shot, OPTICAL), height, width, encoding, 0, data.size // height, data
        )

    def _info(self, shot: Shot, baseline_m: float) -> Any:
        """Of the left camera, or of the right one, so far beside it; both in the frame of the left one."""
        camera = self.world.camera
        region = self._type("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False)
        return self._type("sensor_msgs/msg/CameraInfo")(
            self._header(shot, OPTICAL),
            camera.height_px,
            camera.width_px,
            "plumb_bob",
            np.array([camera.k1, camera.k2, 0, 0, 0], np.float64),
            camera.matrix().ravel(),
            np.eye(3).ravel(),
            camera.projection(baseline_m).ravel(),
            0,
            0,
            region,
        )

    def _odometry(self, shot: Shot, pose: Pose) -> Any:
        """Standing still, as it is rendered."""
        covariance = np.zeros(36) if pose.covariance is None else pose.covariance.ravel()
        vector = self._type("geometry_msgs/msg/Vector3")
        position = self._type("geometry_msgs/msg/Point")(*pose.position_m.tolist())
        rotation = self._type("geometry_msgs/msg/Quaternion")(*pose.orientation_xyzw.tolist())
        twist = self._type("geometry_msgs/msg/Twist")(vector(0, 0, 0), vector(0, 0, 0))
        return self._type("nav_msgs/msg/Odometry")(
            self._header(shot, pose.frame_id),
            pose.child_frame_id,
            self._type("geometry_msgs/msg/PoseWithCovariance")(
                self._type("geometry_msgs/msg/Pose")(position, rotation), covariance
            ),
            self._type("geometry_msgs/msg/TwistWithCovariance")(twist, np.zeros(36)),
        )

    def _mount(self, shot: Shot) -> Any:
        """From the base to the camera's body, and from there to its optical frame."""
        to_optical = base_from_camera()
        body = Pose(BASE, CAMERA_BODY, to_optical[:3, 3], np.array([0, 0, 0, 1.0]))
        optical = Pose(CAMERA_BODY, OPTICAL, np.zeros(3), np.array([-0.5, 0.5, -0.5, 0.5]))
        return self._type("tf2_msgs/msg/TFMessage")(
            [self._transform(shot, pose) for pose in (body, optical)]
        )

    def _transform(self, shot: Shot, pose: Pose) -> Any:
        vector = self._type("geometry_msgs/msg/Vector3")(*pose.position_m.tolist())
        rotation = self._type("geometry_msgs/msg/Quaternion")(*pose.orientation_xyzw.tolist())
        return self._type("geometry_msgs/msg/TransformStamped")(
            self._header(shot, pose.frame_id),
            pose.child_frame_id,
            self._type("geometry_msgs/msg/Transform")(vector, rotation),
        )
