# SPDX-License-Identifier: MIT
"""What is known of an image as a message, and back."""

from array import array
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import (
    Point,
    PoseWithCovariance,
    PoseWithCovarianceStamped,
    Quaternion,
    Transform,
    Vector3,
)
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import Header

from netvlad_ros.errors import MessageError, NetVLADError
from netvlad_ros.image_data import (
    NOTHING_KNOWN,
    POINTS_FROM,
    CameraModel,
    CorrectedPose,
    ImageData,
    LocalFeatures,
    Pose,
)
from netvlad_ros.msg import ImageData as ImageDataMessage
from netvlad_ros.msg import LocalFeatures as LocalFeaturesMessage
from netvlad_ros.nodes.stamps import to_ns, to_time
from netvlad_ros.sensors.camera_info import camera_model
from netvlad_ros.sensors.odometry import covariance_of, pose_of
from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.rigid import quaternion_of, rigid, rotation_of

T = TypeVar("T")

# As many as verification.max_features may be: each of one image is compared with each of the other.
MAX_FEATURES = 20_000
MAX_NAME = 100


def image_data_messages(data: ImageData, stamp: Time) -> list[ImageDataMessage]:
    """None, or one, for a field of a message; stamp: of the image."""
    if data is NOTHING_KNOWN:
        return []
    camera, pose = data.camera, data.map_pose
    mount = None if camera is None else camera.base_from_camera
    return [
        ImageDataMessage(
            features=[] if data.features is None else [_features_message(data.features)],
            camera_info=[] if camera is None else [_camera_message(camera, stamp)],
            base_from_camera=[] if mount is None else [transform_message(mount)],
            odometry=[] if data.odometry is None else [_odometry_message(data.odometry, stamp)],
            map_pose=[] if pose is None else [_map_pose_message(pose)],
            thumbnail=[]
            if data.thumbnail is None
            else [CompressedImage(format="jpeg", data=array("B", data.thumbnail))],
        )
    ]


def image_data_from(messages: Sequence[ImageDataMessage]) -> ImageData:
    """The field of a message. Raises MessageError for what can't be, such as half a descriptor."""
    if not messages:
        return NOTHING_KNOWN
    (given,) = messages
    try:
        camera, mount = _only(given.camera_info), _only(given.base_from_camera)
        features, odometry = _only(given.features), _only(given.odometry)
        map_pose, thumbnail = _only(given.map_pose), _only(given.thumbnail)
        return ImageData(
            None if features is None else _features(features),
            None if camera is None else _camera(camera, mount),
            None if odometry is None else _odometry(odometry),
            None if map_pose is None else _map_pose(map_pose),
            None if thumbnail is None else bytes(thumbnail.data),
        )
    except NetVLADError as error:
        raise MessageError(f"field data: {error}") from None


def _only(messages: Sequence[T]) -> T | None:
    return messages[0] if messages else None


def _features_message(features: LocalFeatures) -> LocalFeaturesMessage:
    is_binary = features.descriptors.dtype == np.uint8
    points_m = features.points_m
    return LocalFeaturesMessage(
        method=features.method,
        keypoints_px=_floats(features.keypoints_px),
        descriptors=array("B", np.ascontiguousarray(features.descriptors).tobytes()),
        descriptor_bytes=features.descriptors.shape[1] * features.descriptors.itemsize,
        is_binary=is_binary,
        points_m=array("f") if points_m is None else _floats(points_m),
        points_from=features.points_from,
    )


def _floats(values: np.ndarray) -> array:
    return array("f", np.ascontiguousarray(values, np.float32).tobytes())


def _features(message: LocalFeaturesMessage) -> LocalFeatures:
    """Raises MessageError unless all parts are of the same number of features."""
    count, odd = divmod(len(message.keypoints_px), 2)
    size, points = message.descriptor_bytes, len(message.points_m)
    if odd or count > MAX_FEATURES or max(len(message.method), len(message.points_from)) > MAX_NAME:
        raise MessageError(
            f"expected x and y of at most {MAX_FEATURES} features and short names, got "
            f"{len(message.keypoints_px)} coordinates of method {message.method[:40]!r}."
        )
    if len(message.descriptors) != count * size or (size % 4 and not message.is_binary):
        raise MessageError(
            f"expected {count} descriptors of {size} bytes each, whole numbers of float32 unless they are "
            f"binary, got {len(message.descriptors)} bytes."
        )
    if points != (3 * count if message.points_from else 0):
        raise MessageError(
            f"expected x, y and z of {count} features, or of none and points_from empty, got {points} "
            f"coordinates from {message.points_from!r}."
        )
    if message.points_from and message.points_from not in POINTS_FROM:
        raise MessageError(
            f"expected points from {', '.join(POINTS_FROM)}, got {message.points_from!r}."
        )
    keypoints_px = np.array(message.keypoints_px, np.float32).reshape(count, 2)
    descriptors = np.frombuffer(message.descriptors, np.uint8 if message.is_binary else "<f4")
    if not (np.isfinite(keypoints_px).all() and np.isfinite(descriptors).all()):
        raise MessageError("features are at pixels, or have descriptors, that are not finite.")
    length = size if message.is_binary else size // 4
    points_m = np.array(message.points_m, np.float32).reshape(-1, 3)
    return LocalFeatures(
        message.method,
        keypoints_px,
        descriptors.reshape(count, length),
        points_m if message.points_from else None,
        message.points_from,
    )


def _camera_message(camera: CameraModel, stamp: Time) -> CameraInfo:
    message = CameraInfo(
        width=camera.width_px,
        height=camera.height_px,
        distortion_model=camera.distortion_model,
        d=array("d", camera.d.tolist()),
        k=camera.k.ravel(),
        r=np.eye(3).ravel(),
    )
    p = np.column_stack([camera.k, np.zeros(3)])
    p[0, 3] = -camera.k[0, 0] * (camera.baseline_m or 0.0)
    message.p = p.ravel()
    message.header.frame_id, message.header.stamp = camera.frame_id, stamp
    return message


def _camera(message: CameraInfo, mount: Transform | None) -> CameraModel:
    camera = camera_model(message)
    if mount is None:
        return camera
    at, turned = mount.translation, mount.rotation
    position_m, quaternion = np.array([at.x, at.y, at.z]), _quaternion(turned)
    if not np.isfinite(position_m).all():
        raise MessageError("base_from_camera is not finite.")
    matrix = rigid(rotation_of(quaternion), position_m)
    return CameraModel(**(vars(camera) | {"base_from_camera": matrix}))


def _quaternion(message: Quaternion) -> np.ndarray:
    quaternion = np.array([message.x, message.y, message.z, message.w])
    length = float(np.linalg.norm(quaternion))
    if not abs(length - 1.0) < 1e-3:  # true for NaN too
        raise MessageError(f"expected a quaternion of unit length, got length {length:.3g}.")
    return np.asarray(quaternion / length)


def transform_message(matrix: np.ndarray) -> Transform:
    """Of a rigid motion (4, 4)."""
    return Transform(
        translation=Vector3(**_xyz(matrix[:3, 3])),
        rotation=_rotation(quaternion_of(matrix[:3, :3])),
    )


def _xyz(vector: np.ndarray) -> dict[str, float]:
    return dict(zip("xyz", vector.tolist(), strict=True))


def _rotation(quaternion_xyzw: np.ndarray) -> Quaternion:
    return Quaternion(**dict(zip("xyzw", quaternion_xyzw.tolist(), strict=True)))


def motion_message(motion: Motion) -> PoseWithCovariance:
    """Its covariance is of a small motion in the frame of the child."""
    position_m, turn = motion.matrix[:3, 3], motion.matrix[:3, :3]
    return pose_message(Pose("", "", position_m, quaternion_of(turn), motion.covariance))


def motion_from(message: PoseWithCovariance) -> Motion:
    """The same back. Raises MessageError for what can't be one, or is not known."""
    at = message.pose.position
    position_m = np.array([at.x, at.y, at.z])
    covariance = np.array(message.covariance).reshape(6, 6)
    rotation = rotation_of(_quaternion(message.pose.orientation))
    if not (np.isfinite(position_m).all() and np.isfinite(covariance).all()):
        raise MessageError("a pose, or its covariance, is not finite.")
    if np.linalg.eigvalsh(covariance)[0] <= 0:
        raise MessageError("the covariance of a pose has a variance that is not positive.")
    return Motion(rigid(rotation, position_m), covariance)


def pose_message(pose: Pose) -> PoseWithCovariance:
    """A covariance of zeros says that there is none."""
    message = PoseWithCovariance()
    message.pose.position = Point(**_xyz(pose.position_m))
    message.pose.orientation = _rotation(pose.orientation_xyzw)
    if pose.covariance is not None:
        message.covariance = pose.covariance.ravel()
    return message


def _odometry_message(pose: Pose, stamp: Time) -> Odometry:
    message = Odometry(child_frame_id=pose.child_frame_id, pose=pose_message(pose))
    message.header.frame_id, message.header.stamp = pose.frame_id, stamp
    return message


def _odometry(message: Any) -> Pose:
    pose = pose_of(message)
    return Pose(**(vars(pose) | {"covariance": covariance_of(message)}))


def _map_pose_message(pose: CorrectedPose) -> PoseWithCovarianceStamped:
    message = PoseWithCovarianceStamped(pose=pose_message(pose.pose))
    message.header.frame_id, message.header.stamp = pose.pose.frame_id, to_time(pose.solved_ns)
    return message


def _map_pose(message: PoseWithCovarianceStamped) -> CorrectedPose:
    return corrected_from(message.header, message.pose)


def corrected_from(
    header: Header, pose: PoseWithCovariance, child_frame_id: str = "", graph: str = ""
) -> CorrectedPose:
    """A pose in the frame of the header. Raises MessageError for what is none."""
    odometry = Odometry(header=header, child_frame_id=child_frame_id, pose=pose)
    return CorrectedPose(_odometry(odometry), graph, to_ns(header.stamp))
