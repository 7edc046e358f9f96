# SPDX-License-Identifier: MIT
"""Ways through worlds: they come back, on other lanes, from other headings, and where the paths are."""

import numpy as np
import pytest

from netvlad_ros.errors import WorldError
from netvlad_ros.worlds.camera import Camera, overlap
from netvlad_ros.worlds.conditions import named
from netvlad_ros.worlds.scene import Paths
from netvlad_ros.worlds.trajectories import TRAJECTORIES, trajectory
from netvlad_ros.worlds.walks import Shot

SQUARE = Paths(
    np.array([[0.0, 0.0], [40.0, 0.0], [40.0, 30.0], [0.0, 30.0]]),
    np.array([[0, 1], [1, 2], [2, 3], [0, 3]]),
    6.0,
)


def poses(name, laps=2, seed=0):
    return trajectory(name, np.random.default_rng(seed), SQUARE, 1.5, laps, 1.0)


def positions(lap):
    return np.array([pose.position_m for pose in lap])


@pytest.mark.parametrize("name", list(TRAJECTORIES))
def test_a_way_stays_near_the_paths_and_advances_by_its_step(name):
    for lap in poses(name):
        at = positions(lap)
        assert len(at) > 20
        assert (at[:, :2] >= -4).all()
        assert (at[:, :2] <= (44, 34)).all()
        steps = np.linalg.norm(np.diff(at[:, :2], axis=0), axis=1)
        assert np.median(steps) == pytest.approx(1.0, abs=0.02)
        assert steps.max() <= 1.001


@pytest.mark.parametrize("name", ["loop", "circle", "figure-eight", "helix", "lawn-mower"])
def test_the_second_lap_comes_back_to_places_of_the_first(name):
    first, second = (positions(lap)[:, :2] for lap in poses(name))
    nearest = np.linalg.norm(first[:, None] - second[None], axis=2).min(axis=1)
    assert np.median(nearest) < 4.0


def test_back_and_forth_looks_the_other_way_on_the_other_lane():
    there, back = poses("back-and-forth")
    middle = there[len(there) // 2]
    gaps = [np.hypot(pose.x_m - middle.x_m, pose.y_m - middle.y_m) for pose in back]
    meeting = back[int(np.argmin(gaps))]
    assert 1.0 < min(gaps) < 4.0
    assert np.cos(meeting.yaw_rad - middle.yaw_rad) < -0.8


def test_a_helix_rises():
    first, second = poses("helix")
    assert positions(second)[:, 2].mean() == pytest.approx(positions(first)[:, 2].mean() + 0.4)


def test_laps_of_a_loop_use_other_lanes():
    first, second = (positions(lap) for lap in poses("loop"))
    count = min(len(first), len(second))
    assert np.abs(first[:count] - second[:count]).max() > 0.3


def test_the_same_seed_goes_the_same_way():
    assert poses("random-walk", seed=3) == poses("random-walk", seed=3)
    assert poses("random-walk", seed=3) != poses("random-walk", seed=4)


def same_places(
    shots: list[Shot], camera: Camera, radius_m: float = 5.0, min_overlap: float = 0.3
) -> list[tuple[int, int]]:
    """Pairs of shots, of different laps, that are near each other and whose views overlap."""
    positions = np.array([shot.pose.position_m for shot in shots])
    pairs = []
    for later in shots:
        near = (
            np.linalg.norm(positions[: later.number] - positions[later.number], axis=1) <= radius_m
        )
        for earlier in np.flatnonzero(near).tolist():
            other = shots[earlier]
            if other.lap != later.lap and overlap(camera, other.pose, later.pose) >= min_overlap:
                pairs.append((earlier, later.number))
    return pairs


def test_revisits_of_the_same_place_overlap_and_the_pairs_are_of_different_laps():
    shots = [
        Shot(0, 0, lap, pose, "day", named("day"))
        for lap, way in enumerate(poses("loop"))
        for pose in way
    ]
    shots = [
        Shot(i, 0, shot.lap, shot.pose, "day", shot.conditions) for i, shot in enumerate(shots)
    ]
    pairs = same_places(shots, Camera(), radius_m=3.0)
    assert len(pairs) > len(shots) / 2
    for earlier, later in pairs:
        a, b = shots[earlier], shots[later]
        assert a.lap < b.lap
        assert np.linalg.norm(a.pose.position_m - b.pose.position_m) <= 3.0


def test_unknown_ways_and_impossible_steps_are_refused():
    with pytest.raises(WorldError, match=r"trajectory: expected one of loop, .* got 'zigzag'"):
        poses("zigzag")
    with pytest.raises(WorldError, match=r"expected more than 0, got 0 and 1\.0 m"):
        poses("loop", laps=0)
