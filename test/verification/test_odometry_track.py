# SPDX-License-Identifier: MIT
"""The odometry of a long drive is compared as fast as that of a short one."""

import timeit

import numpy as np
from made_up_views import pose, standing

from netvlad_ros.config import OdometryConfig
from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.verification.odometry import OdometryTrack


def test_a_drive_of_five_thousand_keyframes_is_compared_within_a_millisecond() -> None:
    track, config = OdometryTrack(), OdometryConfig()
    for number, angle in enumerate(np.linspace(0, 20 * np.pi, 5_000)):
        base = standing(50 * np.sin(angle), -50 * np.cos(angle), np.degrees(angle))
        track.add(number, number * NANOSECONDS, pose(base))
    took_s = timeit.repeat(lambda: track.between(0, 4_999, config), number=1, repeat=50)
    assert min(took_s) < 1e-3
