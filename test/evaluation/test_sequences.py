# SPDX-License-Identifier: MIT
"""Figures of sequences are those of an independent computation, and move with the conditions as they must."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from netvlad_ros.data.read_places import read_sequence
from netvlad_ros.errors import DatasetError
from netvlad_ros.evaluation.precision_recall import (
    JudgedMatches,
    precision_recall,
    precision_recall_curve,
)
from netvlad_ros.evaluation.protocols import SequenceProtocol, named_protocol
from netvlad_ros.evaluation.sequence_report import EvaluatedSequence, write_sequence_report
from netvlad_ros.evaluation.sequences import ImageSequence, evaluate_sequence

SECOND = 1_000_000_000
KITTI = named_protocol("kitti00-netvlad_tf_open")


def made_up_descriptors(positions_m: np.ndarray, noise: float, dims: int = 160) -> np.ndarray:
    """Random waves over the map, so that near places have near descriptors; and noise.

    The first 128 dimensions are not of unit length, as they are not in a whitened descriptor.
    """
    rng = np.random.default_rng(0)
    frequencies = rng.normal(0.0, 1 / 8.0, (positions_m.shape[1], dims))
    waves = np.cos(positions_m @ frequencies + rng.uniform(0, 2 * np.pi, dims))
    descriptors = waves + noise * rng.normal(size=waves.shape) * rng.random((len(waves), 1)) ** 3
    return (descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)).astype(np.float32)


def figures_by_definition(
    descriptors: np.ndarray, poses: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Precision and recall after each query, the surest first, the area of netvlad_tf_open, and how sure.

    With whole matrices of distances, the poses as KITTI writes them, and one query after the other.
    """
    positions = poses[:, [3, 7, 11]]
    count = len(positions)
    near_in_time = np.abs(np.subtract.outer(np.arange(count), np.arange(count))) <= 250
    apart = squareform(pdist(descriptors[:, :128].astype(np.float64), "sqeuclidean"))
    metres = squareform(pdist(positions))
    apart[near_in_time] = np.inf
    metres_elsewhere = np.where(near_in_time, np.inf, metres)
    relevant = int(np.sum(metres_elsewhere.min(axis=1) < 5.0))
    right = 0
    precision, recall = [], []
    for found, query in enumerate(np.argsort(apart.min(axis=1), kind="stable"), start=1):
        right += bool(metres[query, int(apart[query].argmin())] < 5.0)
        precision.append(right / found)
        recall.append(right / relevant)
    area = sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, count))
    return np.array(precision), np.array(recall), area, np.sort(apart.min(axis=1))


@pytest.mark.parametrize("noise", [2.0, 6.0])
def test_the_kitti_protocol_gives_the_figures_of_its_definition(noise: float, shared: Path):
    path = shared / "data" / "kitti" / "00.txt"
    poses, images = np.loadtxt(path), read_sequence(path)
    descriptors = made_up_descriptors(poses[:, [3, 11]], noise)
    results = evaluate_sequence(
        ImageSequence(descriptors, np.arange(1, 4542), images.positions_m), KITTI
    )
    precision, recall, area, surest = figures_by_definition(descriptors, poses)
    assert 0.2 < area < 0.99  # neither trivial nor hopeless
    assert results.area == pytest.approx(area, abs=1e-6)
    assert results.figures["first matches right"] == pytest.approx(recall[-1], abs=1e-12)
    assert results.figures["precision without a threshold"] == pytest.approx(precision[-1])
    reported = np.searchsorted(surest, -results.curve.thresholds + 1e-9)
    difference = np.abs(precision[reported - 1] - results.curve.precision)
    assert np.all(difference <= 1.0 / reported)  # pairs that found each other are equally sure
    assert results.figures["recall at 100 % precision"] == pytest.approx(
        recall[precision == 1.0].max(initial=0.0), abs=1e-3
    )


def test_conditions_move_the_figures_of_the_same_descriptors(shared: Path):
    path = shared / "data" / "kitti" / "00.txt"
    images = read_sequence(path)
    descriptors = made_up_descriptors(images.positions_m[:, :2], 4.0)
    sequence = ImageSequence(
        descriptors, np.arange(1, 4542), images.positions_m, images.headings_rad, images.stamps_ns
    )
    changes: dict[str, dict[str, Any]] = {
        "as published": {},
        "causal": {"causal": True},
        "25 m": {"radius_m": 25.0},
        "no window": {"exclude_images": 0},
        "headings": {"heading_tolerance_deg": 30.0},
    }
    areas = {
        name: evaluate_sequence(sequence, replace(KITTI, **changed)).area
        for name, changed in changes.items()
    }
    assert areas["no window"] > areas["as published"] + 0.02
    assert areas["25 m"] != pytest.approx(areas["as published"], abs=0.02)
    assert areas["causal"] != pytest.approx(areas["as published"], abs=0.01)
    assert areas["headings"] != areas["as published"]


def laps(**known: Any) -> ImageSequence:
    """Four places 10 m apart, twice; the third is taken for the first on the second lap."""
    places = np.array([0, 1, 2, 3, 0, 1, 0, 3])
    descriptors = np.eye(4, dtype=np.float32)[places]
    descriptors[[3, 7]] = [[0, 0, 0.6, 0.8], [0, 0, -0.6, 0.8]]
    positions = np.array([0.0, 10, 20, 30, 0, 10, 20, 30])
    defaults: dict[str, Any] = {
        "descriptors": descriptors,
        "numbers": np.arange(1, 9),
        "positions_m": np.stack([positions, np.zeros(8)], axis=1),
        "stamps_ns": np.arange(8) * SECOND,
    }
    return ImageSequence(**(defaults | known))


def test_first_matches_of_a_causal_search_are_earlier_and_old_enough():
    results = evaluate_sequence(laps(), SequenceProtocol(radius_m=1.0, exclude_images=2))
    assert results.matches.tolist() == [-1, -1, -1, 0, 0, 1, 0, 3]
    assert results.judged.right.tolist() == [False] * 4 + [True, True, False, True]
    assert results.judged.closes_loop.tolist() == [False] * 4 + [True] * 4
    assert "3 of 4 queries with a loop have a right first match" in results.counts
    assert "5 of 8 images could be looked up" in results.counts


def test_a_window_in_seconds_is_that_of_the_robot():
    """What is exactly as old as the window may be matched, as with database.exclude_recent_s."""
    assert evaluate_sequence(laps(), SequenceProtocol(exclude_s=4.0)).matches.tolist() == [
        -1
    ] * 4 + [
        0,
        1,
        0,
        3,
    ]
    assert (
        evaluate_sequence(laps(), SequenceProtocol(exclude_s=4.5)).matches.tolist()[:5] == [-1] * 5
    )


def test_later_images_count_only_where_the_protocol_says_so():
    both = evaluate_sequence(laps(), SequenceProtocol(radius_m=1.0, exclude_images=2, causal=False))
    assert both.matches[0] == 4
    assert both.judged.closes_loop.all()


def test_the_radius_may_be_inside_or_outside():
    inside = evaluate_sequence(laps(), SequenceProtocol(radius_m=10.0, exclude_images=3))
    outside = evaluate_sequence(
        laps(), SequenceProtocol(radius_m=10.0, exclude_images=3, radius_is_inside=False)
    )
    shifted = laps(positions_m=np.array([[x, 0.0] for x in (0, 10, 20, 30, 10, 20, 30, 40)]))
    assert evaluate_sequence(
        shifted, SequenceProtocol(radius_m=10.0, exclude_images=3)
    ).judged.right.tolist()[4]
    assert not evaluate_sequence(
        shifted, SequenceProtocol(radius_m=10.0, exclude_images=3, radius_is_inside=False)
    ).judged.right.any()
    assert inside.judged.right.sum() == outside.judged.right.sum() == 3


def test_who_looks_the_other_way_is_not_right():
    headings = np.radians([0, 0, 0, 0, 0, 180, 0, 350])
    results = evaluate_sequence(
        laps(headings_rad=headings),
        SequenceProtocol(radius_m=1.0, exclude_images=2, heading_tolerance_deg=20.0),
    )
    assert results.judged.right.tolist()[4:] == [True, False, False, True]
    assert results.judged.closes_loop.tolist()[4:] == [True, False, True, True]


def test_a_list_of_loops_stands_for_positions_and_skipped_images_keep_their_numbers():
    truth = {5: frozenset({1}), 6: frozenset({3}), 8: frozenset({4})}
    sequence = laps(positions_m=None, truth=truth)
    exact = evaluate_sequence(sequence, SequenceProtocol(exclude_images=2))
    assert exact.judged.right.tolist()[4:] == [True, False, False, True]
    tolerant = evaluate_sequence(sequence, SequenceProtocol(exclude_images=2, tolerance_images=1))
    assert tolerant.judged.right.tolist()[4:] == [True, True, False, True]
    kept = np.array([0, 2, 3, 4, 5, 7])  # images 2 and 7 could not be used
    fewer = laps(
        positions_m=None,
        truth=truth,
        numbers=kept + 1,
        descriptors=laps().descriptors[kept],
        stamps_ns=None,
    )
    results = evaluate_sequence(fewer, SequenceProtocol(exclude_images=2))
    assert results.judged.right.tolist() == [False, False, False, True, False, True]


def test_every_figure_says_what_it_depends_on():
    protocol = SequenceProtocol(
        "", 7.5, heading_tolerance_deg=30.0, exclude_images=5, exclude_s=2.0, descriptor_dims=64
    )
    assert protocol.conditions(from_list=False) == (
        "within 7.5 m, headings within 30°; the 5 images and 2 s before excluded; earlier images only; "
        "first 64 dimensions"
    )
    assert SequenceProtocol(tolerance_images=2).conditions(from_list=True) == (
        "listed in the ground truth, tolerance 2 images; no exclusion window; earlier images only; all "
        "dimensions"
    )
    assert KITTI.conditions(from_list=False) == (
        "kitti00-netvlad_tf_open: nearer than 5 m, any heading; the 250 images before and after excluded; "
        "earlier and later images; first 128 dimensions"
    )
    document = evaluate_sequence(laps(), SequenceProtocol(exclude_images=2)).to_json()
    assert len(document["figures"]) == 7
    for figure in document["figures"].values():
        assert figure["conditions"].startswith(
            "within 5 m, any heading; the 2 images before excluded"
        )


def test_a_report_shows_curves_under_their_conditions(tmp_path: Path):
    protocols = [SequenceProtocol(radius_m=radius_m, exclude_images=2) for radius_m in (1.0, 25.0)]
    results = [evaluate_sequence(laps(), protocol) for protocol in protocols]
    evaluated = EvaluatedSequence("laps", "made up", "x", None, np.arange(8), results)
    page, _ = write_sequence_report(tmp_path / "out", evaluated)
    text = page.read_text(encoding="utf-8")
    assert text.count("within 1 m, any heading; the 2 images before excluded") >= 8
    assert text.count("data:image/png") == 4


@pytest.mark.parametrize(
    ("known", "protocol", "says"),
    [
        ({"positions_m": None}, SequenceProtocol(), "nobody knows where"),
        (
            {"stamps_ns": None},
            SequenceProtocol(exclude_s=1.0),
            "exclude a number of images instead",
        ),
        ({}, SequenceProtocol(heading_tolerance_deg=5.0), "have no headings"),
        (
            {},
            SequenceProtocol(descriptor_dims=128),
            "the first 128 dimensions, and these descriptors have 4",
        ),
        (
            {"truth": {2: frozenset({1})}},
            SequenceProtocol(causal=False),
            "names earlier images only",
        ),
    ],
)
def test_what_a_protocol_asks_for_and_nobody_knows_is_one_sentence(
    known: dict, protocol: SequenceProtocol, says: str
):
    with pytest.raises(DatasetError, match=says):
        evaluate_sequence(laps(**known), protocol)
    with pytest.raises(DatasetError, match="expected one of kitti00-netvlad_tf_open"):
        named_protocol("kitti")


def test_the_curve_is_that_of_the_counts_at_each_threshold():
    rng = np.random.default_rng(5)
    right = rng.random(200) < 0.4
    similarities = np.round(rng.random(200), 2)  # many are equal
    similarities[:20] = -np.inf
    right[:20] = False
    judged = JudgedMatches(similarities, right, right | (rng.random(200) < 0.3))
    curve = precision_recall_curve(judged)
    for threshold, precision, recall in zip(
        curve.thresholds, curve.precision, curve.recall, strict=True
    ):
        counts = precision_recall(judged, threshold)
        assert (precision, recall) == (counts.precision, counts.recall)
    assert len(curve.thresholds) == len(np.unique(similarities)) - 1
