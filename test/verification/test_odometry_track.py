# SPDX-License-Identifier: MIT
"""The odometry of a long drive is compared as fast as that of a short one."""

import time
import timeit

import numpy as np
from made_up_views import pose, standing

from netvlad_ros.config import OdometryConfig
from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.verification.odometry import OdometryTrack


def test_a_drive_of_twenty_thousand_keyframes_is_compared_within_two_milliseconds() -> None:
    track, config = OdometryTrack(), OdometryConfig()
    for number, angle in enumerate(np.linspace(0, 80 * np.pi, 20_000)):
        base = standing(50 * np.sin(angle), -50 * np.cos(angle), np.degrees(angle))
        track.add(number, number * NANOSECONDS, pose(base))
    # Of all threads: BLAS would start some.
    timer = timeit.Timer(lambda: track.between(0, 19_999, config), timer=time.process_time)
    assert min(timer.repeat(number=1, repeat=50)) < 2e-3
