# SPDX-License-Identifier: MIT
"""Camera effects: each does what it says, within the range of a picture, and is seeded."""

from dataclasses import replace

import numpy as np
import pytest

from netvlad_ros.worlds.camera import Camera
from netvlad_ros.worlds.conditions import Conditions
from netvlad_ros.worlds.effects import distorted, photographed

CAMERA = Camera(96, 64)
PLAIN = Conditions(noise=0.0, blur_px=0.0, vignetting=0.0)


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(40, 190, (64, 96, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        {"noise": 0.2},
        {"exposure_stops": 3.0},
        {"exposure_stops": -3.0},
        {"blur_px": 3.0},
        {"motion_px": 12.0},
        {"vignetting": 1.0},
        {"warmth": 1.0},
        {"jpeg": 5},
        {"saturation": 0.0},
        {"contrast": 2.0},
        {"weather": "rain"},
        {"weather": "snowfall"},
    ],
    ids=str,
)
def test_an_effect_changes_the_picture_and_leaves_it_a_picture(picture, change):
    before = photographed(picture, PLAIN, CAMERA)
    after = photographed(picture, replace(PLAIN, **change), CAMERA)
    assert after.shape == picture.shape
    assert after.dtype == np.uint8
    assert np.abs(after.astype(int) - before).mean() > 1


def test_noise_has_the_given_strength_and_is_another_in_the_next_shot():
    grey, noisy = np.full((64, 96, 3), 112, np.uint8), replace(PLAIN, noise=0.05)
    clean = photographed(grey, PLAIN, CAMERA).astype(float)
    first, again, next_one = (photographed(grey, noisy, CAMERA, shot) for shot in (1, 1, 2))
    assert np.std(first - clean) == pytest.approx(0.05 * 255, rel=0.15)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, next_one)


def test_automatic_exposure_brings_dark_and_bright_pictures_closer():
    dark, bright = (np.full((64, 96, 3), level, np.uint8) for level in (40, 200))
    seen = [photographed(image, PLAIN, CAMERA).mean() for image in (dark, bright)]
    assert 40 < seen[0] < seen[1] < 200


def test_grey_is_grey_and_warm_is_red(picture):
    grey = photographed(picture, replace(PLAIN, saturation=0.0), CAMERA).astype(int)
    assert np.ptp(grey, axis=2).max() <= 1
    warm = photographed(picture, replace(PLAIN, warmth=1.0), CAMERA)
    assert warm[..., 0].mean() > warm[..., 2].mean() + 10


def test_corners_are_darker_with_vignetting(picture):
    image = photographed(np.full_like(picture, 110), replace(PLAIN, vignetting=0.5), CAMERA)
    assert image[0, 0].mean() < 0.6 * image[32, 48].mean()


def test_a_lens_without_distortion_leaves_the_picture_and_a_barrel_bends_lines():
    lines = np.zeros((64, 96, 3), np.uint8)
    lines[6:9] = 255
    assert np.array_equal(distorted(lines, CAMERA), lines)
    bent = distorted(lines, replace(CAMERA, k1=-0.2))[..., 0].astype(float)
    rows = np.arange(64)
    middle, side = ((bent[:20, x] * rows[:20]).sum() / bent[:20, x].sum() for x in (48, 12))
    assert side > middle + 1  # towards the centre
