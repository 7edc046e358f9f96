# SPDX-License-Identifier: MIT
"""Which images show the same place is decided by distance, heading and time, as by an exhaustive search."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial import cKDTree

from netvlad_ros.config import CameraConfig
from netvlad_ros.data.image_sources import ImageFiles
from netvlad_ros.data.places import PlaceDataset, PlaceImages, angle_between
from netvlad_ros.data.read_places import PlaceOptions, read_places, read_sequence
from netvlad_ros.errors import DatasetError, ImageError


def images(
    positions_m: np.ndarray,
    headings_rad: np.ndarray | None = None,
    stamps_ns: np.ndarray | None = None,
) -> PlaceImages:
    names = [f"{number}.jpg" for number in range(len(positions_m))]
    return PlaceImages(ImageFiles(Path("set"), names), positions_m, headings_rad, stamps_ns)


def line(*x_m: float) -> np.ndarray:
    return np.array([(x, 0.0) for x in x_m])


@pytest.mark.parametrize("axes", [2, 3])
def test_positives_are_those_that_an_independent_search_finds(axes: int):
    rng = np.random.default_rng(0)
    database, queries = (rng.uniform(-200.0, 300.0, (count, axes)) for count in (3000, 80))
    dataset = PlaceDataset("x", images(database), images(queries), 25.0, 10.0)
    tree = cKDTree(database)
    for query, point in enumerate(queries):
        assert dataset.positives(query).tolist() == sorted(tree.query_ball_point(point, 25.0))
        assert dataset.nontrivial_positives(query).tolist() == sorted(
            tree.query_ball_point(point, 10.0)
        )


def test_the_radius_itself_is_inside_and_far_away_is_nothing():
    dataset = PlaceDataset("x", images(line(0.0, 25.0, 25.001, 1e7)), images(line(0.0, -1e6)))
    assert dataset.positives(0).tolist() == [0, 1]
    assert dataset.positives(1).tolist() == []
    assert dataset.distances_m(0, np.array([1, 2])).tolist() == [25.0, 25.001]


def test_what_is_no_positive_is_a_negative():
    rng = np.random.default_rng(1)
    dataset = PlaceDataset(
        "x", images(rng.uniform(0, 100, (500, 2))), images(rng.uniform(0, 100, (5, 2)))
    )
    for query in range(5):
        both = [*dataset.positives(query), *dataset.negatives(query)]
        assert sorted(both) == list(range(500))


def test_sampled_negatives_are_different_negatives_and_all_equally_likely():
    dataset = PlaceDataset("x", images(line(*range(0, 400, 4))), images(line(200.0)))
    negatives, rng = set(dataset.negatives(0).tolist()), np.random.default_rng(2)
    counts = np.zeros(100)
    for _ in range(2000):
        drawn = dataset.sample_negatives(0, 20, rng)
        assert len(set(drawn.tolist())) == 20
        counts[drawn] += 1
    assert set(np.flatnonzero(counts).tolist()) == negatives
    share = counts[sorted(negatives)] / 2000
    assert np.all(np.abs(share - 20 / len(negatives)) < 0.05)
    assert sorted(dataset.sample_negatives(0, 1000, rng).tolist()) == sorted(negatives)


def test_an_image_of_a_sequence_is_no_positive_of_itself():
    sequence = images(line(0.0, 5.0, 100.0))
    dataset = PlaceDataset("x", sequence, sequence)
    assert dataset.is_sequence
    assert dataset.positives(0).tolist() == [1]
    assert 0 not in dataset.negatives(0)


def test_who_looks_the_other_way_sees_another_place():
    headings = np.radians([0.0, 170.0, 359.0])
    dataset = PlaceDataset(
        "x",
        images(line(0.0, 1.0, 2.0), headings),
        images(line(0.0), np.radians([2.0])),
        heading_tolerance_rad=np.radians(10.0),
    )
    assert dataset.positives(0).tolist() == [0, 2]
    assert dataset.negatives(0).tolist() == []
    assert angle_between(np.radians([-179.0]), np.radians(179.0)) == pytest.approx(np.radians(2.0))


def test_time_machine_queries_are_trained_with_other_panoramas_of_other_times():
    dataset = PlaceDataset(
        "x",
        images(line(0.0, 0.5, 3.0, 4.0), stamps_ns=np.array([1, 2, 1, 2])),
        images(line(0.0), stamps_ns=np.array([1])),
        trivial_radius_m=1.0,
        other_time_only=True,
    )
    assert dataset.positives(0).tolist() == [0, 1, 2, 3]
    assert dataset.nontrivial_positives(0).tolist() == [3]


def test_another_radius_keeps_the_smaller_one_below_it():
    dataset = PlaceDataset("x", images(line(0.0, 7.0, 20.0)), images(line(0.0))).with_radius(5.0)
    assert (dataset.positive_radius_m, dataset.nontrivial_radius_m) == (5.0, 5.0)
    assert dataset.positives(0).tolist() == [0]


def test_a_quarter_of_a_million_images_take_little_memory_and_time():
    import time
    import tracemalloc

    rng = np.random.default_rng(3)
    places = np.repeat(rng.uniform(0, 20_000, (10_000, 2)), 25, axis=0)
    dataset = PlaceDataset("x", images(places), images(rng.uniform(0, 20_000, (1000, 2))))
    tracemalloc.start()
    start_s = time.perf_counter()
    for query in range(1000):
        dataset.positives(query)
        dataset.sample_negatives(query, 1000, rng)
    assert time.perf_counter() - start_s < 5.0
    assert tracemalloc.get_traced_memory()[1] < 40_000_000
    tracemalloc.stop()


def test_what_does_not_fit_together_is_refused():
    line_of_two = images(line(0.0, 1.0))
    with pytest.raises(DatasetError, match="one for each image"):
        PlaceImages(line_of_two.images, line(0.0))
    with pytest.raises(DatasetError, match="expected headings_rad of shape"):
        images(line(0.0), headings_rad=np.zeros(3))
    with pytest.raises(DatasetError, match="at least one query image, got none"):
        PlaceDataset("x", line_of_two, images(np.zeros((0, 2))))
    with pytest.raises(DatasetError, match="in the same frame"):
        PlaceDataset("x", line_of_two, images(np.zeros((1, 3))))
    with pytest.raises(DatasetError, match="expected radii above 0 m"):
        PlaceDataset("x", line_of_two, line_of_two, 5.0, 10.0)
    with pytest.raises(DatasetError, match="has no headings"):
        PlaceDataset("x", line_of_two, line_of_two, heading_tolerance_rad=0.1)
    unknown = images(np.full((2, 2), np.nan))
    with pytest.raises(DatasetError, match="are not known"):
        PlaceDataset("x", unknown, line_of_two).positives(0)


def test_what_is_known_of_the_camera_holds_for_the_images_of_a_sequence_and_of_a_set(
    tmp_path: Path,
) -> None:
    for name in ("@1@2@a.png", "@3@4@b.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((6, 8), np.uint8))
    few = PlaceOptions(camera=CameraConfig(max_pixels=47))
    for images in (read_places(tmp_path, few).database, read_sequence(tmp_path, few)):
        with pytest.raises(ImageError, match="it has 8 x 6 pixels, expected at most 47"):
            images.read(0)
    assert read_places(tmp_path).database.read(0).shape == (6, 8, 3)
    assert read_places(tmp_path, few).is_sequence == read_places(tmp_path).is_sequence
