# SPDX-License-Identifier: MIT
"""What odometry may have drifted grows with the way and with turns, as far as these can drift."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_views import pose, standing

from netvlad_ros.config import OdometryConfig
from netvlad_ros.verification.odometry import OdometryTrack

CONFIG = OdometryConfig(noise_m=0.0, noise_deg=0.0)


def deviations(
    bases: list[np.ndarray], config: OdometryConfig = CONFIG, level: bool = True
) -> np.ndarray:
    """Of the last pose, seen from the first: x, y, z in metres and rotations in degrees, in its own frame."""
    track = OdometryTrack(is_level=level)
    for number, base in enumerate(bases):
        assert not track.add(number, number * 10**9, pose(base))
    motion = track.between(0, len(bases) - 1, config)
    assert motion is not None
    found = np.sqrt(np.diag(motion.covariance))
    return np.r_[found[:3], np.degrees(found[3:])]


STRAIGHT = [standing(x) for x in np.linspace(0, 100, 51)]


def test_a_straight_way_drifts_by_its_share_and_its_heading_by_the_metre() -> None:
    x, y, z, *_, yaw = deviations(STRAIGHT)
    assert x == pytest.approx(1.0)
    assert z == pytest.approx(1.0)
    assert yaw == pytest.approx(1.0)  # 0.01 deg per metre
    # Each metre's heading moves all that follows.
    assert y == pytest.approx(np.hypot(1.0, np.radians(0.01) * 100**2 / 2), rel=0.03)


def test_turns_to_the_left_and_right_cancel_where_odometry_is_level() -> None:
    config = replace(CONFIG, drift_m_per_m=0.0, drift_deg_per_m=0.0)
    round_and_round = [standing(0, 0, 90 * n) for n in range(9)]
    to_and_fro = [standing(0, 0, 90 * (n % 2)) for n in range(9)]
    turned = 4 * np.pi
    at_random = 0.02 * np.degrees(np.sqrt(turned))
    assert deviations(round_and_round, config)[5] == pytest.approx(
        np.hypot(0.02 * np.degrees(turned), at_random)
    )
    assert deviations(to_and_fro, config)[5] == pytest.approx(at_random)
    # Where nothing is level, errors add up.
    assert deviations(to_and_fro, config, level=False)[5] == pytest.approx(
        0.02 * np.degrees(turned)
    )


def test_height_does_not_drift_by_turns_where_odometry_is_level() -> None:
    there_and_round = [*STRAIGHT, *(standing(100, 0, 45 * n) for n in range(1, 9))]
    assert deviations(there_and_round)[2] == pytest.approx(1.0)
    assert deviations(there_and_round, level=False)[2] > 1.1


def test_the_covariances_of_messages_may_say_it_instead() -> None:
    track = OdometryTrack(is_level=True)
    for number in range(2):
        reported = replace(pose(standing(number)), covariance=np.eye(6) * 0.02)
        track.add(number, number * 10**9, reported)
    motion = track.between(0, 1, replace(CONFIG, drift="message"))
    assert motion is not None
    assert motion.covariance == pytest.approx(np.eye(6) * 0.04)
