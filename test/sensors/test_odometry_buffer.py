# SPDX-License-Identifier: MIT
"""Odometry is had at the stamps of images, and nothing is made up where it is missing or wrong."""

import numpy as np
import pytest
from sensor_messages import odometry

from netvlad_ros.errors import MessageError
from netvlad_ros.sensors.odometry import OdometryBuffer, covariance_of, pose_of

MS = 1_000_000
SECOND = 1000 * MS
HALF_TURN = (0.0, 0.0, 1.0, 0.0)


def filled(*poses: tuple[int, tuple[float, float, float]]) -> OdometryBuffer:
    """By stamps in milliseconds."""
    buffer = OdometryBuffer()
    for stamp_ms, position_m in poses:
        buffer.add(stamp_ms * MS, pose_of(odometry(stamp_ms * MS, position_m)))
    return buffer


def test_between_two_poses_it_goes_straight_and_turns_evenly():
    buffer = OdometryBuffer()
    yaw = np.radians(60)
    turned = (0.0, 0.0, -np.sin(yaw / 2), -np.cos(yaw / 2))  # the same, with the other sign
    buffer.add(0, pose_of(odometry(0, (1.0, 0.0, 0.0))))
    buffer.add(100 * MS, pose_of(odometry(0, (2.0, 4.0, 0.0), turned)))
    pose = buffer.at(25 * MS)
    np.testing.assert_allclose(pose.position_m, (1.25, 1.0, 0.0))
    angle = np.radians(15) / 2
    np.testing.assert_allclose(np.abs(pose.orientation_xyzw), (0, 0, np.sin(angle), np.cos(angle)))
    assert (pose.frame_id, pose.child_frame_id) == ("odom", "base")


def test_at_a_stamp_that_came_it_is_what_came():
    buffer = filled((0, (0, 0, 0)), (100, (1, 0, 0)), (200, (5, 0, 0)))
    assert buffer.at(100 * MS).position_m.tolist() == [1, 0, 0]


@pytest.mark.parametrize("stamp_ms", [-40, 240])
def test_a_little_beyond_it_goes_on_as_before(stamp_ms: int):
    buffer = filled((0, (0, 0, 0)), (100, (1, 0, 0)), (200, (2, 0, 0)))
    assert buffer.at(stamp_ms * MS).position_m[0] == pytest.approx(stamp_ms / 100)


@pytest.mark.parametrize(
    ("stamp_ms", "sentence"),
    [
        (300, "nearest odometry is 0.100 s earlier than the image; has it stopped"),
        (-2000, "nearest odometry is 2.000 s later than the image"),
        (9000, "8.800 s earlier"),
    ],
)
def test_further_beyond_nothing_is_made_up(stamp_ms: int, sentence: str):
    buffer = filled((0, (0, 0, 0)), (100, (1, 0, 0)), (200, (2, 0, 0)))
    with pytest.raises(MessageError, match=sentence):
        buffer.at(stamp_ms * MS)


def test_nor_in_a_gap_nor_before_anything_came():
    with pytest.raises(MessageError, match=r"gap of 5\.0 s"):
        filled((0, (0, 0, 0)), (5000, (1, 0, 0))).at(SECOND)
    with pytest.raises(MessageError, match="no odometry"):
        OdometryBuffer().at(0)


def test_a_jump_is_told_and_what_was_before_is_of_another_frame():
    buffer = filled((0, (0, 0, 0)), (100, (0.1, 0, 0)))
    sentence = buffer.add(200 * MS, pose_of(odometry(0, (30.0, 0.0, 0.0))))
    assert sentence.startswith("odometry jumped by 29.9 m and 0 deg within 0.100 s")
    assert buffer.at(200 * MS).frame_id == "odom+1"
    with pytest.raises(MessageError, match=r"0\.150 s later"):
        buffer.at(50 * MS)


def test_a_turn_at_once_is_a_jump_too_and_a_fast_drive_is_none():
    buffer = OdometryBuffer()
    buffer.add(0, pose_of(odometry(0)))
    assert buffer.add(10 * MS, pose_of(odometry(0, (0.3, 0.0, 0.0)))) == ""
    assert buffer.add(SECOND, pose_of(odometry(0, (40.0, 0.0, 0.0)))) == ""
    assert "180 deg" in buffer.add(1010 * MS, pose_of(odometry(0, (40.0, 0, 0), HALF_TURN)))


def test_odometry_that_stops_and_is_at_its_origin_then_began_anew():
    """Its program was started again; within such a time the robot could have driven there."""
    buffer = filled((0, (0, 0, 0)), (SECOND // MS, (40.0, 0, 0)))
    assert "after 9.0 s without any, 40.0 m from" in buffer.add(10 * SECOND, pose_of(odometry(0)))
    assert buffer.at(10 * SECOND).frame_id == "odom+1"
    elsewhere = filled((0, (0, 0, 0)), (SECOND // MS, (40.0, 0, 0)))
    assert elsewhere.add(10 * SECOND, pose_of(odometry(0, (70.0, 0.0, 0.0)))) == ""


def test_two_publishers_are_told_apart():
    buffer = filled((0, (0, 0, 0)))
    other = pose_of(odometry(0, child_frame_id="imu"))
    assert "do two nodes publish it?" in buffer.add(MS, other)


def test_a_bag_that_begins_anew_is_no_fault_but_of_another_frame():
    buffer = filled((100_000, (9, 0, 0)), (100_100, (9.1, 0, 0)))
    assert buffer.add(0, pose_of(odometry(0))) == ""
    assert buffer.at(0).frame_id == "odom+1"


def test_repeated_and_late_stamps_are_left_out():
    buffer = filled((0, (0, 0, 0)), (100, (1, 0, 0)), (100, (2, 0, 0)), (50, (7, 0, 0)))
    assert buffer.at(100 * MS).position_m[0] == 1


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (odometry(0, (np.nan, 0.0, 0.0)), "not finite"),
        (odometry(0, xyzw=(0.0, 0.0, np.inf, 0.0)), "not finite"),
        (odometry(0, xyzw=(0.0, 0.0, 0.0, 0.0)), "orientation of length 0,"),
    ],
)
def test_poses_that_are_none_are_refused(message: object, sentence: str):
    with pytest.raises(MessageError, match=sentence):
        pose_of(message)


def test_a_covariance_that_was_left_out_is_none():
    assert covariance_of(odometry(0, covariance=0.0)) is None
    unknown = np.zeros((6, 6))
    unknown[0, 0] = -1.0
    assert covariance_of(odometry(0, covariance=unknown)) is None
    np.testing.assert_array_equal(covariance_of(odometry(0)), np.eye(6) * 0.01)


LOPSIDED = np.eye(6)
LOPSIDED[0, 1] = 0.5


@pytest.mark.parametrize(
    ("covariance", "sentence"),
    [
        (np.full((6, 6), np.nan), "not finite"),
        (LOPSIDED, "not symmetric"),
        (-np.eye(6) * 2, "a negative variance"),
        (np.zeros((2, 2)), "not 6 x 6"),
    ],
)
def test_what_is_no_covariance_is_refused(covariance: np.ndarray, sentence: str):
    with pytest.raises(MessageError, match=sentence):
        covariance_of(odometry(0, covariance=covariance))
