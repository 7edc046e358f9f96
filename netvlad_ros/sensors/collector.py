# SPDX-License-Identifier: MIT
"""What belongs to an image, collected by stamp from the topics beside it."""

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from netvlad_ros.config import CameraConfig, SensorsConfig
from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.data.image_messages import to_image
from netvlad_ros.errors import CameraError, MessageError, NetVLADError
from netvlad_ros.image_data import CameraModel, Pose
from netvlad_ros.sensors.camera_info import camera_model, is_same, stereo_rig
from netvlad_ros.sensors.depth import fitted, to_depth_m
from netvlad_ros.sensors.odometry import OdometryBuffer, covariance_of, pose_of
from netvlad_ros.sensors.topic_buffer import Load, TopicBuffer
from netvlad_ros.verification.camera import check_camera
from netvlad_ros.verification.odometry import is_of_camera
from netvlad_ros.verification.sensors import Sensors, StereoRig

# So much of stamps is kept beside the time that images wait for a back-end that chooses keyframes.
KEEP_NS = 3 * NANOSECONDS


class Kind(enum.StrEnum):
    """What comes with images, by the name of its topic in the nodes."""

    CAMERA_INFO = "camera_info"
    DEPTH = "depth"
    RIGHT = "right_image"
    RIGHT_CAMERA_INFO = "right_camera_info"
    ODOMETRY = "odometry"


@dataclass(frozen=True)
class Collected:
    """What was found for one image.

    problems: what is wrong with what came, as sentences.
    notes:    what was left open by those who set the robot up.
    """

    sensors: Sensors
    problems: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


class SensorCollector:
    """Takes in the messages beside the images of one camera, from a bag or from live topics.

    Messages are those of rclpy or rosbags. What is missing or wrong is left out and named; nothing that
    comes in raises.
    """

    def __init__(
        self,
        config: SensorsConfig,
        camera: CameraConfig,
        base_from_camera: Callable[[str], np.ndarray | None] = lambda frame_id: None,
        hold_ns: int = 0,
    ) -> None:
        """How images are waited for.

        base_from_camera: (4, 4) of an optical frame, None if it is not known; may raise MessageError.
        hold_ns:          how long images themselves may wait before somebody asks.
        """
        self._keep_ns = KEEP_NS + hold_ns
        self.config = config
        self._camera_config = camera
        self._base_from_camera = base_from_camera
        self._topics: dict[Kind, TopicBuffer] = {}
        self._odometry = OdometryBuffer()
        self._odometry_problem = ""
        self._last_camera: CameraModel | None = None

    def expect(self, kind: Kind, topic: str) -> None:
        """From now on images wait for what comes on this topic."""
        if kind not in self._topics or self._topics[kind].topic != topic:
            self._topics[kind] = TopicBuffer(topic, self._keep_ns)

    def add(self, kind: Kind, stamp_ns: int, now_ns: int, load: Load, size_bytes: int = 0) -> None:
        """Takes in a message of an expected topic; load gives the message, if it is needed."""
        if kind is Kind.ODOMETRY:
            self._add_odometry(stamp_ns, load)
        self._topics[kind].add(stamp_ns, now_ns, load, size_bytes)

    def is_complete(self, stamp_ns: int, now_ns: int) -> bool:
        """Whether nothing is to be waited for that may still come for the image of this stamp."""
        return not any(
            # A calibration holds for all images.
            each.is_awaited(stamp_ns if kind not in _CALIBRATIONS else 0, now_ns)
            for kind, each in self._topics.items()
        )

    def collect(self, image: np.ndarray, stamp_ns: int) -> Collected:
        """What belongs to an image."""
        problems: dict[str, str] = {}

        def found(kind: Kind, find: Callable[..., Any], *arguments: Any) -> Any:
            if kind not in self._topics:
                return None
            try:
                return find(*arguments)
            except NetVLADError as error:
                problems[kind] = _about(self._topics[kind].topic, error)
                return None

        camera = found(Kind.CAMERA_INFO, self._camera, image, problems)
        depth_m = found(Kind.DEPTH, self._depth_m, image, stamp_ns)
        right = found(Kind.RIGHT, self._right, image, stamp_ns) if depth_m is None else None
        rig = None if right is None else found(Kind.RIGHT, self._rig, right)
        odometry = found(Kind.ODOMETRY, self._odometry_at, stamp_ns, problems)
        sensors = Sensors(camera, depth_m, right, rig, odometry)
        return Collected(sensors, problems, dict(self._notes(sensors)))

    def _notes(self, sensors: Sensors) -> Iterator[tuple[str, str]]:
        camera, odometry = sensors.camera, sensors.odometry
        if odometry is None:
            return
        topic = self._topics[Kind.ODOMETRY].topic
        if odometry.covariance is None:
            yield "covariance", f"{topic} gives no covariance: its drift is taken from parameters"
        if camera is None or camera.base_from_camera is not None:
            return
        if not is_of_camera(odometry, camera):
            sentence = (
                f"{topic} is of {odometry.child_frame_id}, and how {camera.frame_id} is mounted on it is not "
                "known: it says nothing of the camera's motion (sensors.base_from_camera)"
            )
            yield "mount", sentence

    def _add_odometry(self, stamp_ns: int, load: Load) -> None:
        try:
            message = load()
            pose = pose_of(message)
            try:
                pose = replace(pose, covariance=covariance_of(message))
            except MessageError as error:
                self._odometry_problem = str(error)
            self._odometry_problem = self._odometry.add(stamp_ns, pose) or self._odometry_problem
        except MessageError as error:
            self._odometry_problem = str(error)

    def _camera(self, image: np.ndarray, problems: dict[str, str]) -> CameraModel:
        topic = self._topics[Kind.CAMERA_INFO]
        camera = camera_model(topic.newest(), self.config.rectified)
        camera = check_camera(camera, image.shape[1], image.shape[0])
        if self._last_camera is not None and not is_same(camera, self._last_camera):
            problems[Kind.CAMERA_INFO] = (
                f"{topic.topic}: the camera is another one than before; do two cameras publish it? Earlier "
                "keyframes keep theirs."
            )
        self._last_camera = camera
        try:
            return replace(camera, base_from_camera=self._base_from_camera(camera.frame_id))
        except MessageError as error:
            problems["base_from_camera"] = str(error)
            return camera

    def _depth_m(self, image: np.ndarray, stamp_ns: int) -> np.ndarray:
        message = self._near(Kind.DEPTH, stamp_ns)
        return fitted(to_depth_m(message, self._camera_config.max_pixels), image)

    def _right(self, image: np.ndarray, stamp_ns: int) -> np.ndarray:
        right = to_image(self._near(Kind.RIGHT, stamp_ns), self._camera_config)
        if right.shape[:2] != image.shape[:2]:
            raise CameraError(
                f"it has {right.shape[1]} x {right.shape[0]} pixels and the left image {image.shape[1]} x "
                f"{image.shape[0]}; subscribe to images of one size."
            )
        return right

    def _rig(self, right: np.ndarray) -> StereoRig:
        if Kind.CAMERA_INFO not in self._topics:
            raise CameraError("the left camera sends no camera_info; publish it.")
        other = self._topics.get(Kind.RIGHT_CAMERA_INFO)
        rig = stereo_rig(
            self._topics[Kind.CAMERA_INFO].newest(),
            None if other is None else other.newest(),
            self.config.rectified,
            self.config.baseline_m,
        )
        return replace(rig, right=check_camera(rig.right, right.shape[1], right.shape[0]))

    def _odometry_at(self, stamp_ns: int, problems: dict[str, str]) -> Pose:
        problem, self._odometry_problem = self._odometry_problem, ""
        if problem:
            problems[Kind.ODOMETRY] = _about(self._topics[Kind.ODOMETRY].topic, problem)
        return self._odometry.at(stamp_ns)

    def _near(self, kind: Kind, stamp_ns: int) -> Any:
        return self._topics[kind].nearest(stamp_ns, round(self.config.tolerance_s * NANOSECONDS))


_CALIBRATIONS = (Kind.CAMERA_INFO, Kind.RIGHT_CAMERA_INFO)


def _about(topic: str, what: object) -> str:
    sentence = str(what)
    return sentence if topic in sentence else f"{topic}: {sentence}"
