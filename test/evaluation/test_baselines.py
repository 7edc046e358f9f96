# SPDX-License-Identifier: MIT
"""Baselines describe as an extractor does, and reach on a recorded loop what they are known for."""

from pathlib import Path

import numpy as np
import pytest

from netvlad_ros.config import ExtractorConfig
from netvlad_ros.data.read_places import read_sequence
from netvlad_ros.errors import DatasetError, ImageError
from netvlad_ros.evaluation.baselines.orb_words import OrbWords
from netvlad_ros.evaluation.baselines.rootsift_vlad import RootSiftVlad
from netvlad_ros.evaluation.baselines.thumbnails import Thumbnails
from netvlad_ros.evaluation.extractors import open_extractor
from netvlad_ros.evaluation.ground_truth import read_ground_truth

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (96, 128, 3), np.uint8) for _ in range(3)]


@pytest.fixture(
    params=[Thumbnails, lambda: RootSiftVlad(IMAGES, 8), lambda: OrbWords(IMAGES, 32)],
    ids=["thumbnails", "rootsift-vlad", "orb"],
)
def baseline(request: pytest.FixtureRequest):
    return request.param()


def test_descriptors_have_unit_length_and_differ(baseline):
    both = baseline.extract_batch(IMAGES)
    assert (both.shape, both.dtype) == ((3, baseline.dims), np.float32)
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1.0, atol=1e-5)
    assert both[0] @ both[1] < 0.99
    np.testing.assert_array_equal(baseline.extract(IMAGES[1]), both[1])
    assert baseline.extract_batch([]).shape == (0, baseline.dims)


def test_grey_images_are_taken_and_what_is_no_picture_is_refused(baseline):
    assert baseline.extract(IMAGES[0][:, :, 0]).shape == (baseline.dims,)
    with pytest.raises(ImageError, match="something to see"):
        baseline.extract(np.zeros((96, 128, 3), np.uint8))


def test_a_wall_without_features_is_described_all_the_same():
    wall = np.tile(np.linspace(100, 120, 128).astype(np.uint8), (96, 1))
    words = OrbWords(IMAGES, 32)
    assert np.linalg.norm(words.extract(wall)) == pytest.approx(1.0)


def test_the_same_vocabulary_has_the_same_fingerprint_and_another_one_has_not():
    assert RootSiftVlad(IMAGES, 8).fingerprint == RootSiftVlad(IMAGES, 8).fingerprint
    assert RootSiftVlad(IMAGES, 8).fingerprint != RootSiftVlad(IMAGES[:2], 8).fingerprint
    with pytest.raises(DatasetError, match="local descriptors, expected at least 64"):
        RootSiftVlad([])


def test_an_unknown_baseline_is_one_sentence(tmp_path: Path, shared: Path):
    images = read_sequence(shared / "data" / "rtabmap_samples" / "images")
    with pytest.raises(DatasetError, match="expected baseline:thumbnails, baseline:rootsift-vlad"):
        open_extractor("baseline:sift", ExtractorConfig(), images)
    with pytest.raises(DatasetError, match="no such file"):
        open_extractor(f"baseline:orb:{tmp_path / 'absent'}", ExtractorConfig(), images)


@pytest.mark.parametrize(
    ("spec", "low", "high"),
    [
        ("thumbnails", 14, 18),
        pytest.param("rootsift-vlad:{}", 39, 44, marks=pytest.mark.slow),
        ("orb:{}", 15, 44),
    ],
)
def test_first_matches_of_a_recorded_loop(spec: str, low: int, high: int, shared: Path):
    """Vocabularies come from a flight in another building; the last ten images are left out."""
    samples = shared / "data" / "rtabmap_samples"
    images = read_sequence(samples / "images")
    words = shared / "data" / "bags" / "euroc_v101_mono8_db3"
    extractor, name = open_extractor(f"baseline:{spec.format(words)}", ExtractorConfig(), images)
    assert name.startswith(spec.partition(":")[0])
    descriptors = extractor.extract_batch([images.read(i) for i in range(84)])
    similarities = descriptors @ descriptors.T
    truth = read_ground_truth(samples / "loop_closures.csv")
    right = sum(
        int(np.argmax(similarities[query - 1, : query - 11])) + 1 in places
        for query, places in truth.items()
    )
    assert low <= right <= high
