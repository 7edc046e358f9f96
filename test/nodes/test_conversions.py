# SPDX-License-Identifier: MIT
"""What goes into a message comes out of it; what no node of ours says is refused."""

import numpy as np
import pytest
from std_msgs.msg import Header

from netvlad_ros.calibration import Calibration, Curve, fit_curve
from netvlad_ros.errors import MessageError
from netvlad_ros.keyframe import Stream
from netvlad_ros.msg import GlobalDescriptor
from netvlad_ros.nodes.conversions import calibration_from, calibration_messages, descriptor_message

pytestmark = pytest.mark.needs("rclpy")


def described(calibration: Calibration | None) -> GlobalDescriptor:
    descriptor = np.array([0.6, 0.8], np.float32)
    return descriptor_message(
        Header(), Stream("spot", "front"), "a@2x2", descriptor, calibration_messages(calibration)
    )


def test_a_calibration_travels_to_the_last_digit():
    """A limit on the robot is the one that was measured offline."""
    rng = np.random.default_rng(0)
    values = rng.uniform(-1.0, 1.0, 5000)
    curves = {
        "similarity": fit_curve(values, rng.random(5000) < values),
        "inliers": Curve((1e-9, 2e-9, 500.0), (0.0, 1 / 3, 0.99), 77),
    }
    calibration = Calibration(curves, "two streets", "a@2x2")
    assert calibration_from(described(calibration)) == calibration


def test_without_a_calibration_there_is_none_at_the_other_end():
    assert calibration_from(described(None)) is None


def test_a_curve_that_falls_is_refused():
    message = described(Calibration({"similarity": Curve((0.1, 0.2), (0.5, 0.6), 9)}, "", ""))
    message.calibration[0].curves[0].precisions = [0.6, 0.5]
    with pytest.raises(
        MessageError, match=r"^field calibration: .* never fall; calibrate again\.$"
    ):
        calibration_from(message)
