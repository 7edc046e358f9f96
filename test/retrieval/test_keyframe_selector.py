# SPDX-License-Identifier: MIT
"""Which images become keyframes."""

import numpy as np
import pytest

from netvlad_ros.config import KeyframeConfig
from netvlad_ros.retrieval.keyframe_selector import KeyframeSelector

SECOND = 1_000_000_000
EAST = np.array([1, 0], np.float32)
NORTH = np.array([0, 1], np.float32)


def towards(degrees: float) -> np.ndarray:
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], np.float32)


def selected(config: KeyframeConfig, *images: tuple[np.ndarray, float]) -> list[bool]:
    selector = KeyframeSelector(config)
    return [
        not selector.select(descriptor, int(stamp_s * SECOND)) for descriptor, stamp_s in images
    ]


def test_the_first_image_is_a_keyframe_whatever_is_asked_for():
    config = KeyframeConfig(min_interval_s=3600.0, min_descriptor_change=2.0)
    assert selected(config, (EAST, 0.0)) == [True]


def test_without_conditions_every_image_is_a_keyframe():
    config = KeyframeConfig(min_interval_s=0.0, min_descriptor_change=0.0)
    assert selected(config, (EAST, 0.0), (EAST, 0.0), (EAST, 0.1)) == [True] * 3


@pytest.mark.parametrize("seed", range(20))
def test_a_similarity_that_rounding_lifts_above_one_is_no_negative_change(seed: int):
    image = np.random.default_rng(seed).standard_normal(64).astype(np.float32)
    image /= np.linalg.norm(image)
    config = KeyframeConfig(min_interval_s=0.0, min_descriptor_change=0.0)
    assert selected(config, (image, 0.0), (image, 0.1)) == [True, True]


def test_the_least_interval_counts_from_the_last_keyframe():
    config = KeyframeConfig(min_interval_s=0.5, min_descriptor_change=0.0)
    stamps_s = [0.0, 0.3, 0.499999999, 0.5, 0.7, 1.0, 1.6]
    wanted = [True, False, False, True, False, True, True]
    assert selected(config, *((EAST, stamp_s) for stamp_s in stamps_s)) == wanted


def test_the_least_change_counts_from_the_last_keyframe():
    config = KeyframeConfig(min_interval_s=0.0, min_descriptor_change=0.1)
    turning = [towards(0), towards(20), towards(25), towards(26), towards(45), towards(52)]
    wanted = [True, False, False, True, False, True]  # 1 - cos 25.9 degrees is 0.1
    assert selected(config, *((each, 0.0) for each in turning)) == wanted


def test_both_conditions_have_to_be_met():
    config = KeyframeConfig(min_interval_s=1.0, min_descriptor_change=0.5)
    images = [(EAST, 0.0), (NORTH, 0.5), (EAST, 2.0), (NORTH, 3.0)]
    assert selected(config, *images) == [True, False, False, True]


def test_a_robot_that_stands_still_adds_no_keyframes():
    config = KeyframeConfig(min_interval_s=0.5, min_descriptor_change=1e-6)
    assert selected(config, *((EAST, float(second)) for second in range(5))) == [True] + [False] * 4


def test_a_descriptor_array_may_be_used_again_by_its_owner():
    selector = KeyframeSelector(KeyframeConfig(min_interval_s=0.0, min_descriptor_change=0.5))
    image = EAST.copy()
    assert not selector.select(image, 0)
    image[:] = NORTH
    assert not selector.select(image, 1)


def test_the_reason_names_the_parameter():
    selector = KeyframeSelector(KeyframeConfig(min_interval_s=1.0, min_descriptor_change=0.5))
    selector.select(EAST, 0)
    assert "keyframes.min_interval_s" in selector.select(NORTH, SECOND // 2)
    assert "keyframes.min_descriptor_change" in selector.select(EAST, 2 * SECOND)
