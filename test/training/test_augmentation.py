# SPDX-License-Identifier: MIT
"""Augmentation changes every image differently, the same way each time, and no more than its level says."""

from typing import Any

import numpy as np
import pytest

from netvlad_ros.errors import ConfigError
from netvlad_ros.training.augmentation import LEVELS, Level, augmented, changed
from netvlad_ros.training.batches import TrainingBatch, tuple_relation


def _picture(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(40, 200, (6, 8, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)


def _batch() -> TrainingBatch:
    """Six times the same picture."""
    images = np.broadcast_to(_picture(), (2, 3, 48, 64, 3)).copy()
    return TrainingBatch(images, tuple_relation(2, 1, 1), 1)


def _changed(**values: Any) -> np.ndarray:
    """int64 (30, H, W, 3): the picture changed in one way, thirty times."""
    level = Level(**values)
    return np.stack(
        [changed(_picture(), level, np.random.default_rng(n)) for n in range(30)]
    ).astype(int)


@pytest.mark.parametrize("level", ["basic", "typical", "heavy"])
def test_every_image_of_a_batch_becomes_another_and_the_relations_stay(level):
    batch = _batch()
    before = batch.images.copy()
    found = augmented(batch, level, seed=1, step=5)
    assert found.images.shape == batch.images.shape
    assert found.images.dtype == np.uint8
    assert found.relation is batch.relation
    assert len({image.tobytes() for image in found.flat_images}) == 6
    assert np.array_equal(batch.images, before)


def test_seed_and_step_decide_alone():
    first = augmented(_batch(), "heavy", 1, 5).images
    assert np.array_equal(first, augmented(_batch(), "heavy", 1, 5).images)
    assert not np.array_equal(first, augmented(_batch(), "heavy", 1, 6).images)
    assert not np.array_equal(first, augmented(_batch(), "heavy", 2, 5).images)


def test_without_augmentation_nothing_changes():
    batch = _batch()
    assert augmented(batch, "none", 0, 0) is batch
    assert (_changed() == _picture()).all()


def test_each_level_changes_more_than_the_one_before():
    rng_of = np.random.default_rng
    mean = [
        np.mean(
            [
                np.abs(
                    changed(_picture(), LEVELS[level], rng_of(n)) - _picture().astype(int)
                ).mean()
                for n in range(40)
            ]
        )
        for level in ("none", "basic", "typical", "heavy")
    ]
    assert mean[0] == 0
    assert mean[1] * 1.3 < mean[2]
    assert mean[2] * 1.3 < mean[3]


def test_exposure_brightens_and_darkens_up_to_its_stops():
    ratios = _changed(exposure=0.3).mean(axis=(1, 2, 3)) / _picture().mean()
    assert ratios.min() < 0.9
    assert ratios.max() > 1.1
    assert ((ratios > 2**-0.31) & (ratios < 2**0.31)).all()
    assert (_changed(exposure=2.0) == 255).mean() < 0.01


def test_without_saturation_all_channels_are_equal():
    grey = _changed(grey=1.0)
    assert np.abs(grey - grey[..., :1]).max() <= 1


def test_a_cast_leaves_black_black_and_changes_channels_apart():
    ratios = _changed(cast=0.1).mean(axis=(1, 2)) / _picture().mean(axis=(0, 1))
    assert np.abs(ratios - 1).max() < 0.11
    assert np.ptp(ratios, axis=1).mean() > 0.05


def test_noise_is_as_strong_as_allowed_and_changes_no_mean():
    noise = _changed(noise=(1.0, 0.03)) - _picture()
    deviations = noise.std(axis=(1, 2, 3)) / 255
    assert deviations.min() > 0.001
    assert 0.02 < deviations.max() < 0.033
    assert np.abs(noise.mean(axis=(1, 2, 3))).max() < 2


def test_blur_takes_away_edges_and_leaves_brightness():
    def edges(images: np.ndarray) -> np.ndarray:
        return (np.diff(images, axis=-2) ** 2).mean(axis=(-1, -2, -3))

    for values in ({"blur": (1.0, 8.0)}, {"motion": (1.0, 60.0)}):
        blurred = _changed(**values)
        assert edges(blurred).mean() < 0.9 * edges(_picture().astype(int))
        assert np.abs(blurred.mean(axis=(1, 2, 3)) - _picture().mean()).max() < 2


def test_geometry_moves_by_no_more_than_asked_for_and_leaves_no_black():
    for values in ({"rotation_deg": 5.0}, {"shift": 0.1}, {"zoom": 0.1}, {"perspective": 0.05}):
        moved = _changed(**values)
        assert moved.min() >= _picture().min()
        assert 1 < np.abs(moved - _picture()).mean() < 40


def test_erasing_covers_some_of_the_image_only():
    changed_share = (_changed(erase=(1.0, 0.2)) != _picture()).any(axis=-1).mean(axis=(1, 2))
    assert (changed_share > 0.01).all()
    assert changed_share.max() < 0.75


def test_a_batch_is_mirrored_as_a_whole():
    """Columns are recognised by their brightness, which only rises to the right."""
    ramp = np.broadcast_to(np.arange(40, 168, 2, dtype=np.uint8)[:, None], (48, 64, 3))
    batch = TrainingBatch(
        np.broadcast_to(ramp, (2, 3, 48, 64, 3)).copy(), tuple_relation(2, 1, 1), 1
    )
    turned = []
    for step in range(20):
        images = augmented(batch, "basic", 0, step).flat_images.astype(int)
        rises = images[..., -1, :].mean(axis=(1, 2)) > images[..., 0, :].mean(axis=(1, 2))
        assert len(set(rises.tolist())) == 1
        turned.append(rises[0])
    assert 4 < sum(turned) < 16


def test_an_unknown_level_is_refused():
    with pytest.raises(
        ConfigError, match="expected one of none, basic, typical, heavy; got 'some'"
    ):
        augmented(_batch(), "some", 0, 0)
