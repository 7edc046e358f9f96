# SPDX-License-Identifier: MIT
"""Two images of one place give the pose between them, as far as what is known of them allows."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_views import CAMERA, MOUNT, Scene, standing

from netvlad_ros.config import VerificationConfig
from netvlad_ros.image_data import NOTHING_KNOWN, ImageData, LocalFeatures
from netvlad_ros.verification.geometry import BASE, CAMERA_OPTICAL, in_base
from netvlad_ros.verification.matching import match
from netvlad_ros.verification.rigid import angle_deg, exp, inverse, log
from netvlad_ros.verification.verifier import verify

CONFIG = VerificationConfig()
SCENE = Scene()
MATCH, QUERY = standing(0, 0), standing(0.3, 1.0, 8)
BASE_MOVED = inverse(MATCH) @ QUERY
CAMERA_MOVED = inverse(MATCH @ MOUNT) @ QUERY @ MOUNT


@pytest.mark.parametrize("source", ["depth", "stereo", "motion"])
def test_points_in_metres_give_the_pose(source: str) -> None:
    found = verify(SCENE.seen_from(QUERY, source), SCENE.seen_from(MATCH, source), CONFIG)
    assert found.method == f"pnp_{source}"
    assert found.frame == CAMERA_OPTICAL
    assert found.metric is not None
    assert found.metric.matrix == pytest.approx(CAMERA_MOVED, abs=1e-4)
    assert found.inliers == found.correspondences == found.inliers_back
    assert found.pairs_px is not None
    assert found.pairs_px.shape == (found.inliers, 4)


@pytest.mark.parametrize("sources", [("depth", ""), ("", "depth")])
def test_points_of_one_image_are_enough(sources: tuple[str, str]) -> None:
    query, match = SCENE.seen_from(QUERY, sources[0]), SCENE.seen_from(MATCH, sources[1])
    found = verify(query, match, CONFIG)
    assert found.method == "pnp_depth"
    assert found.metric is not None
    assert found.metric.matrix == pytest.approx(CAMERA_MOVED, abs=1e-4)
    assert found.inliers_back is None


def test_with_the_mount_the_pose_is_that_of_the_base() -> None:
    found = in_base(verify(SCENE.seen_from(QUERY), SCENE.seen_from(MATCH), CONFIG), MOUNT, MOUNT)
    assert found.frame == BASE
    assert found.metric is not None
    assert found.metric.matrix == pytest.approx(BASE_MOVED, abs=1e-4)


def test_cameras_alone_give_a_direction() -> None:
    found = verify(SCENE.seen_from(QUERY, ""), SCENE.seen_from(MATCH, ""), CONFIG)
    assert found.method == "essential"
    assert found.scale_unknown
    assert found.metric is None
    assert found.match_from_query is not None
    way = CAMERA_MOVED[:3, 3] / np.linalg.norm(CAMERA_MOVED[:3, 3])
    assert found.match_from_query.matrix[:3, 3] == pytest.approx(way, abs=1e-3)
    assert angle_deg(inverse(CAMERA_MOVED) @ found.match_from_query.matrix) < 0.05
    # Along the direction nothing is known, whatever frame one looks from.
    along = found.match_from_query.matrix[:3, :3].T @ way
    assert along @ found.match_from_query.covariance[:3, :3] @ along > 1e5
    assert in_base(found, MOUNT, MOUNT) is found


@pytest.mark.parametrize("whose", ["query", "match"])
def test_without_a_camera_points_agree_but_no_pose_follows(whose: str) -> None:
    views = {"query": SCENE.seen_from(QUERY), "match": SCENE.seen_from(MATCH)}
    views[whose] = replace(views[whose], camera=None)
    found = verify(views["query"], views["match"], CONFIG)
    assert found.method == "fundamental"
    assert found.match_from_query is None
    assert found.inliers > 0.95 * found.correspondences


def test_another_place_has_nothing_in_common() -> None:
    found = verify(SCENE.seen_from(QUERY), Scene(seed=1).seen_from(MATCH), CONFIG)
    assert found.inliers < 8


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (NOTHING_KNOWN, "the query has no local features"),
        (
            ImageData(
                LocalFeatures("sift", np.zeros((9, 2), np.float32), np.zeros((9, 128), np.float32))
            ),
            "orb (32 x uint8) of the match and sift (128 x float32) of the query can't be compared",
        ),
        (
            ImageData(
                LocalFeatures("orb", np.zeros((9, 2), np.float32), np.zeros((9, 16), np.uint8))
            ),
            "orb (16 x uint8) of the query can't be compared",
        ),
    ],
)
def test_what_can_not_be_compared_is_told(query: ImageData, says: str) -> None:
    found = verify(query, SCENE.seen_from(MATCH), CONFIG)
    assert found.method == "none"
    assert says in found.problem
    assert "the match has no" in verify(SCENE.seen_from(QUERY), NOTHING_KNOWN, CONFIG).problem


@pytest.mark.parametrize("source", ["depth", ""])
@pytest.mark.parametrize("count", [0, 1, 2, 4, 7, 40])
def test_few_points_or_points_that_coincide_give_no_error(source: str, count: int) -> None:
    one = SCENE.seen_from(MATCH, source)
    assert one.features is not None
    points = (
        None if one.features.points_m is None else np.repeat(one.features.points_m[:1], count, 0)
    )
    features = LocalFeatures(
        "orb",
        np.repeat(one.features.keypoints_px[:1], count, 0),
        one.features.descriptors[:count],
        points,
        source,
    )
    for camera in (CAMERA, None):
        view = ImageData(features, camera)
        found = verify(view, view, CONFIG)
        assert found.metric is None or np.isfinite(found.metric.covariance).all()


@pytest.mark.parametrize("noise_px", [0.0, 0.7])
@pytest.mark.parametrize("turned_deg", [0, 5])
def test_a_camera_that_only_turned_tells_no_direction(noise_px: float, turned_deg: float) -> None:
    turned = MATCH @ MOUNT @ exp(np.array([0, 0, 0, 0, np.radians(turned_deg), 0])) @ inverse(MOUNT)
    one, other = (
        SCENE.seen_from(each, "", noise_px=noise_px, seed=seed)
        for seed, each in enumerate((MATCH, turned))
    )
    found = verify(one, other, CONFIG).match_from_query
    assert found is not None
    assert np.linalg.eigvalsh(found.covariance[:3, :3])[0] > 100
    assert found.covariance[3:, 3:] == pytest.approx(np.zeros((3, 3)), abs=1e-4)


def test_the_same_images_give_the_same_bytes() -> None:
    query, match = (SCENE.seen_from(each, noise_px=0.7, seed=5) for each in (QUERY, MATCH))
    first, second = (verify(query, match, CONFIG).metric for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.matrix.tobytes() == second.matrix.tobytes()
    assert first.covariance.tobytes() == second.covariance.tobytes()


def test_the_truth_is_as_often_inside_the_ellipsoid_as_the_covariance_says() -> None:
    """With independent errors of a pixel."""
    inside: list[bool] = []
    for seed in range(60):
        scene = Scene(seed)
        query = scene.seen_from(QUERY, noise_px=1.0, seed=seed)
        found = verify(query, scene.seen_from(MATCH, noise_px=1.0, seed=seed + 1000), CONFIG).metric
        assert found is not None
        away = log(inverse(CAMERA_MOVED) @ found.matrix)
        inside.append(bool(away @ np.linalg.solve(found.covariance, away) < 12.59))
    assert np.mean(inside) >= 0.9


def test_a_match_is_mutual_and_clear() -> None:
    looks = np.random.default_rng(0).integers(0, 256, (4, 32), np.uint8)
    pixels = np.zeros((4, 2), np.float32)
    a = LocalFeatures("orb", pixels, looks)
    assert match(a, LocalFeatures("orb", pixels, looks[::-1]), 0.8).tolist() == [
        [0, 3],
        [1, 2],
        [2, 1],
        [3, 0],
    ]
    twins = LocalFeatures("orb", pixels, looks[[0, 0, 1, 2]])  # which of the two?
    assert match(a, twins, 0.8).tolist() == [[1, 2], [2, 3]]
    assert match(a, replace(a, method="brisk"), 0.8).shape == (0, 2)
