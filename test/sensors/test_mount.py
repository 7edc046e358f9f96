# SPDX-License-Identifier: MIT
"""How the camera is mounted is read from one parameter, in either of two ways of writing it."""

import numpy as np
import pytest

from netvlad_ros.errors import ConfigError
from netvlad_ros.sensors.mount import mount_of

# A camera that looks ahead: its z is the base's x, its x the base's -y.
AHEAD = np.array([[0, 0, 1, 0.1], [-1, 0, 0, 0.2], [0, -1, 0, 0.3], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    "text",
    ["0.1 0.2 0.3 -0.5 0.5 -0.5 0.5", "0.1, 0.2, 0.3, -1.5707963, 0, -1.5707963"],
)
def test_a_camera_that_looks_ahead_is_written_as_a_quaternion_or_as_angles(text: str):
    mount = mount_of(text)
    assert mount is not None
    np.testing.assert_allclose(mount, AHEAD, atol=1e-7)


@pytest.mark.parametrize("text", ["", "tf", " tf "])
def test_without_numbers_it_is_not_known_here(text: str):
    assert mount_of(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2 3", "expected x y z qx qy qz qw"),
        ("1 2 3 a b c", "got '1 2 3 a b c'"),
        ("0 0 0 0 0 0 nan", "expected x y z"),
        ("0 0 0 0 0 0 0", "unit length, got length 0"),
        ("0 0 0 1 1 0 0", "got length 1.41"),
    ],
)
def test_what_is_no_mount_is_refused(text: str, words: str):
    with pytest.raises(ConfigError, match=words):
        mount_of(text)
