# SPDX-License-Identifier: MIT
"""Where images arrive the same ones become keyframes as in a database that chooses by itself."""

import numpy as np
import pytest

from netvlad_ros.config import KeyframeConfig
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.retrieval.keyframe_chooser import KeyframeChooser
from netvlad_ros.retrieval.keyframe_selector import Choice

SECOND = 1_000_000_000


def drive(seed: int) -> list[tuple[np.ndarray, int, int]]:
    """Descriptors, stamps and times of arrival: standing still, late and repeated stamps, a set clock."""
    rng = np.random.default_rng(seed)
    images, angle, stamp_ns, received_ns = [], 0.0, 1000 * SECOND, 0
    for number in range(300):
        angle += rng.choice([0.0, 0.05, 0.3])
        step_ns = round(rng.choice([-0.2, 0.0, 0.1, 0.4, 1.0]) * SECOND)
        stamp_ns += step_ns + {100: 900, 200: -500}.get(number, 0) * SECOND
        received_ns += max(step_ns, SECOND // 10)
        descriptor = np.array([np.cos(angle), np.sin(angle)], np.float32)
        images.append((descriptor, stamp_ns, received_ns))
    return images


@pytest.mark.parametrize("seed", range(5))
def test_it_chooses_as_the_database_does(seed: int):
    chooser, alone, following = KeyframeChooser(), KeyframeDatabase(), KeyframeDatabase()
    for descriptor, stamp_ns, received_ns in drive(seed):
        choice = chooser.choose(descriptor, stamp_ns, received_ns)
        expected = alone.observe(descriptor, stamp_ns, "model", received_ns=received_ns)
        assert (choice is Choice.KEYFRAME) == (expected is not None)
        query = following.observe(
            descriptor, stamp_ns, "model", received_ns=received_ns, choice=choice
        )
        assert (query is None) == (expected is None)
    assert len(alone) == len(following) > 20
    assert chooser.passed_over == alone.passed_over


def test_values_can_change_while_it_runs():
    chooser = KeyframeChooser()
    descriptor = np.array([1.0, 0.0], np.float32)
    assert chooser.choose(descriptor, SECOND) is Choice.KEYFRAME
    assert chooser.choose(descriptor, 5 * SECOND) is Choice.PASSED
    chooser.configure(KeyframeConfig(min_interval_s=0.0, min_descriptor_change=0.0))
    assert chooser.choose(descriptor, 6 * SECOND) is Choice.KEYFRAME
