# SPDX-License-Identifier: MIT
"""What is known of an image travels in messages to the last digit; what can't be is refused with a reason."""

import dataclasses
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message

from netvlad_ros.errors import MessageError
from netvlad_ros.image_data import (
    NOTHING_KNOWN,
    CameraModel,
    CorrectedPose,
    ImageData,
    LocalFeatures,
    Pose,
)
from netvlad_ros.msg import ImageData as ImageDataMessage
from netvlad_ros.nodes.image_data_messages import image_data_from, image_data_messages

pytestmark = pytest.mark.needs("rclpy")

K = np.array([[500.25, 0.0, 319.5], [0.0, 501.0, 239.5], [0.0, 0.0, 1.0]])
MOUNT = np.array([[0.0, 0, 1, 0.1], [-1, 0, 0, 0.2], [0, -1, 0, 0.3], [0, 0, 0, 1]])
FEATURES = LocalFeatures(
    "orb",
    np.array([[1.5, 2.5], [639.0, 479.0]], np.float32),
    np.arange(64, dtype=np.uint8).reshape(2, 32),
    np.array([[0.1, 0.2, 1.3], [np.nan] * 3], np.float32),
    "depth",
)
POSE = Pose("odom", "base", np.array([1, 2, 1 / 3]), np.array([0.0, 0.6, 0.0, 0.8]), np.eye(6) / 7)
CAMERA = CameraModel(640, 480, "plumb_bob", K, np.array([0.1, -0.2, 0.001, 0, 0]), 0.25, "left")
KNOWN = ImageData(
    FEATURES,
    dataclasses.replace(CAMERA, base_from_camera=MOUNT),
    POSE,
    CorrectedPose(dataclasses.replace(POSE, frame_id="map", child_frame_id=""), "", 7),
    b"\xff\xd8\xff",
)
WITHOUT = [
    NOTHING_KNOWN,
    ImageData(),
    ImageData(dataclasses.replace(FEATURES, points_m=None, points_from="")),
    ImageData(
        LocalFeatures("sift", np.ones((1, 2), np.float32), np.full((1, 128), 0.1, np.float32))
    ),
    ImageData(LocalFeatures("orb", np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8))),
    ImageData(camera=dataclasses.replace(CAMERA, d=np.zeros(0), baseline_m=None)),
    ImageData(
        camera=dataclasses.replace(CAMERA, distortion_model="equidistant", d=np.full(4, 0.1))
    ),
    ImageData(odometry=dataclasses.replace(POSE, covariance=None)),
]


def sent(data: ImageData) -> Any:
    """A message that arrived."""
    (message,) = image_data_messages(data, Time(sec=5))
    return deserialize_message(serialize_message(message), ImageDataMessage)


def assert_same(found: Any, expected: Any) -> None:
    if dataclasses.is_dataclass(expected):
        for field in dataclasses.fields(expected):
            assert_same(getattr(found, field.name), getattr(expected, field.name))
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-15, atol=1e-15)
    else:
        assert found == expected


@pytest.mark.parametrize("data", [KNOWN, *WITHOUT])
def test_what_is_known_arrives_as_it_was(data: ImageData):
    messages = [] if data is NOTHING_KNOWN else [sent(data)]
    assert_same(image_data_from(messages), data)


def test_rows_of_no_features_keep_their_length_only_in_the_library():
    """A message has no length for rows that it does not have, and none is needed."""
    message = sent(WITHOUT[4])
    assert message.features[0].descriptor_bytes == 32


def change(part: str, field: str, value: Any) -> Callable[[Any], None]:
    """Of the first message in a part of the data."""
    return lambda message: setattr(getattr(message, part)[0], field, value)


def set_in(part: str, field: str, index: int, value: float) -> Callable[[Any], None]:
    def use(message: Any) -> None:
        getattr(getattr(message, part)[0], field)[index] = value

    return use


HOSTILE = [
    (change("features", "keypoints_px", array("f", [1.0] * 5)), "x and y of at most 20000"),
    (change("features", "keypoints_px", array("f", [1.0] * 40002)), "got 40002 coordinates"),
    (change("features", "keypoints_px", array("f", [1.0] * 6)), "expected 3 descriptors of 32 by"),
    (change("features", "descriptor_bytes", 2**32 - 1), "2 descriptors of 4294967295 bytes"),
    (change("features", "descriptor_bytes", 0), "2 descriptors of 0 bytes each"),
    (change("features", "points_m", array("f", [1.0] * 5)), "got 5 coordinates"),
    (change("features", "points_m", array("f")), "got 0 coordinates from 'depth'"),
    (change("features", "points_from", ""), "got 6 coordinates from ''"),
    (change("features", "points_from", "radar"), "points from depth, stereo, motion, got 'radar'"),
    (change("features", "method", "m" * 10_000), "short names"),
    (change("features", "is_binary", False), "not finite"),
    (set_in("features", "keypoints_px", 0, np.nan), "not finite"),
    (set_in("camera_info", "k", 0, 0.0), "focal lengths above 0"),
    (set_in("camera_info", "k", 2, np.nan), "NaN"),
    (change("camera_info", "width", 0), "images of some size"),
    (change("camera_info", "d", array("d", [0.1] * 3)), "plumb_bob with 4 or 5 coefficients"),
    (change("camera_info", "distortion_model", "magic"), "'magic' with 5"),
]


@pytest.mark.parametrize(("damage", "sentence"), HOSTILE)
def test_what_can_not_be_is_refused(damage: Callable[[Any], None], sentence: str):
    message = sent(KNOWN)
    message.features[0].descriptors = array(
        "B", np.full(64, 0xFF, np.uint8)
    )  # as float32: not finite
    damage(message)
    with pytest.raises(MessageError, match=rf"^field data: .*{sentence}"):
        image_data_from([message])


@pytest.mark.parametrize("value", [0.0, np.nan, 3.0])
def test_poses_that_are_none_are_refused(value: float):
    message = sent(KNOWN)
    message.odometry[0].pose.pose.orientation.w = value
    with pytest.raises(MessageError, match="odometry has"):
        image_data_from([message])
    message = sent(KNOWN)
    message.base_from_camera[0].rotation.x = value + 2.0
    with pytest.raises(MessageError, match="unit length"):
        image_data_from([message])
