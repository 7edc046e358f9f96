# SPDX-License-Identifier: MIT
"""Depth and the right picture: against planes that are known, and against each other from two poses."""

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest

from netvlad_ros.errors import WorldError
from netvlad_ros.worlds.camera import Camera, Pose
from netvlad_ros.worlds.conditions import Conditions
from netvlad_ros.worlds.depth import colours_of, numbers_of
from netvlad_ros.worlds.scene import Paths, Scene
from netvlad_ros.worlds.world import World

pytestmark = pytest.mark.needs("panda3d")

CAMERA = Camera(160, 120)
DAY = Conditions(noise=0.0, blur_px=0.0, vignetting=0.0)
BASELINE_M = 0.3


@pytest.fixture(scope="module")
def street() -> Iterator[World]:
    with World(70001, "street", CAMERA) as world:
        yield world


def rays(camera: Camera) -> np.ndarray:
    """(H, W, 3) of each pixel in the optical frame, at a depth of 1."""
    x, y = np.meshgrid(np.arange(camera.width_px), np.arange(camera.height_px))
    pixels = np.stack([x, y], axis=-1).reshape(-1, 1, 2).astype(float)
    straight = cv2.undistortPoints(
        pixels, camera.matrix(), np.array([camera.k1, camera.k2, 0, 0])
    ).reshape(*x.shape, 2)
    return np.concatenate([straight, np.ones((*x.shape, 1))], axis=-1)


def points_m(camera: Camera, pose: Pose, depth_m: np.ndarray) -> np.ndarray:
    """(H, W, 3) in the world."""
    return rays(camera) * depth_m[..., None] @ pose.matrix()[:3, :3].T + pose.position_m


def plate(image: np.ndarray) -> Scene:
    """One of 4 x 4 m, leaning, in the middle of the view along x."""
    paths = Paths(np.array([[0.0, 0.0], [9.0, 0.0]]), np.array([[0, 1]]), 2.0)
    scene = Scene(paths, is_indoor=True)
    scene.mesh.material("plate", image)
    scene.mesh.patch("plate", (5, 2, -0.5), (0.5, -4, 0), (1, 0, 4), glow=1.0)
    return scene


@pytest.mark.parametrize("k1", [0.0, -0.2])
def test_every_pixel_of_a_plane_lies_on_it(k1):
    camera, pose = Camera(160, 120, k1=k1), Pose(0.3, -0.2, 1.4, 0.1, -0.1, 0.2)
    with World.of_scene("plate", plate(np.full((4, 4, 3), 255, np.uint8)), camera) as world:
        depth_m = world.depth_m(pose, DAY)
        image = world.render(pose, DAY)
    seen = points_m(camera, pose, depth_m)
    normal = np.cross((0.5, -4, 0), (1, 0, 4))
    distances_m = (seen - (5, 2, -0.5)) @ normal / np.linalg.norm(normal)
    hits = ~np.isnan(depth_m)
    assert 0.2 < hits.mean() < 0.9
    assert np.nanmax(np.abs(distances_m)) < 1e-4
    shown = cv2.erode((image[..., 0] > 0).astype(np.uint8), np.ones((3, 3))) > 0
    never = cv2.dilate((image[..., 0] > 0).astype(np.uint8), np.ones((3, 3))) == 0
    margin = np.isnan(world_margin(camera))
    assert hits[shown & ~margin].all()
    assert not hits[never].any()


def world_margin(camera: Camera) -> np.ndarray:
    """NaN where a distorted picture shows what was never drawn."""
    straight = rays(camera)[..., :2] * camera.focal_px + camera.matrix()[:2, 2]
    size = np.array([camera.width_px, camera.height_px])
    outside = (straight < -0.4) | (straight > size - 0.6)
    return np.where(outside.any(axis=-1), np.nan, 0.0)


def test_what_is_seen_through_a_hole_is_as_far_as_it_is():
    image = np.full((64, 64, 4), 255, np.uint8)
    image[16:48, 16:48, 3] = 0
    scene = plate(image)
    scene.mesh.material("wall", np.full((4, 4, 3), 99, np.uint8))
    scene.mesh.patch("wall", (9, 20, -20), (0, -40, 0), (0, 0, 40))
    with World.of_scene("hole", scene, CAMERA) as world:
        depth_m = world.depth_m(Pose(0, 0, 1.5), DAY)
    assert depth_m[60, 80] == pytest.approx(9.0, abs=1e-5)
    assert depth_m[60, 20] == pytest.approx(9.0, abs=1e-5)
    assert 5 < depth_m[60, 45] < 6


def test_the_sky_has_no_depth_and_depth_leaves_pictures_as_they_are(street):
    pose = street.trajectory("loop", laps=1)[0][3]
    before = street.render(pose, DAY)
    depth_m = street.depth_m(replace(pose, pitch_rad=0.3), DAY)
    assert np.array_equal(street.render(pose, DAY), before)
    assert np.isnan(depth_m[0]).any()
    assert np.nanmin(depth_m) > 0.1
    assert depth_m.dtype == np.float32
    assert depth_m.shape == before.shape[:2]


def test_depth_is_of_those_who_are_about_on_this_visit(street):
    pose, crowded = street.trajectory("loop", laps=1)[0][3], replace(DAY, fullness=1.0)
    empty_m = street.depth_m(pose, replace(DAY, fullness=0.0))
    first_m, second_m = (street.depth_m(pose, replace(crowded, visit=visit)) for visit in (1, 2))
    nearer_m = np.nan_to_num(empty_m, nan=200.0) - np.nan_to_num(first_m, nan=200.0)
    assert np.mean(nearer_m > 0.1) > 0.01
    assert np.mean(nearer_m < -1e-4) < 0.001  # a foot is drawn up to half a pixel into the ground
    assert not np.array_equal(first_m, second_m, equal_nan=True)
    again_m = street.depth_m(pose, replace(crowded, visit=1))
    assert np.array_equal(first_m, again_m, equal_nan=True)


@pytest.mark.parametrize("k1", [0.0, -0.15])
def test_points_of_one_picture_are_where_another_sees_them(street, k1):
    camera = replace(CAMERA, k1=k1)
    here = street.trajectory("loop", laps=1)[0][3]
    there = replace(here.beside(0.4), yaw_rad=here.yaw_rad + 0.1, roll_rad=0.05)
    depths_m = [street.depth_m(pose, DAY, camera) for pose in (here, there)]
    points = points_m(camera, here, depths_m[0]).reshape(-1, 3)
    points = points[~np.isnan(points).any(axis=1)]
    pixels, expected_m = camera.project(there, points)
    column, row = np.round(pixels).astype(int).T
    inside = (column >= 0) & (column < 160) & (row >= 0) & (row < 120) & (expected_m > 0)
    found = depths_m[1][row[inside], column[inside]]
    # What is seen at the nearest pixel, up to half a pixel away, is the same but for what is hidden.
    same = np.abs(found / expected_m[inside] - 1) < 0.02
    assert inside.mean() > 0.6
    assert same.mean() > 0.85


def test_a_point_of_the_left_picture_is_disparity_further_left_in_the_right_one(street):
    pose = street.trajectory("loop", laps=1)[0][3]
    left = street.render(pose, DAY).astype(np.float32)
    right = street.render_right(pose, DAY, BASELINE_M).astype(np.float32)
    depth_m = street.depth_m(pose, DAY)
    x, y = np.meshgrid(np.arange(160, dtype=np.float32), np.arange(120, dtype=np.float32))
    disparity_px = np.nan_to_num(CAMERA.focal_px * BASELINE_M / depth_m)

    def difference(shift_px: float) -> float:
        warped = cv2.remap(
            right, x - disparity_px.astype(np.float32) - shift_px, y, cv2.INTER_LINEAR
        )
        return float(np.median(np.abs(warped - left)[:, 40:]))

    shifts_px = np.arange(-1.5, 1.75, 0.25)
    best = shifts_px[np.argmin([difference(float(shift)) for shift in shifts_px])]
    assert abs(best) <= 0.25
    assert difference(0.0) < 0.5 * difference(1.5)


def test_both_pictures_of_a_pair_have_noise_of_their_own(street):
    pose, noisy = street.trajectory("loop", laps=1)[0][3], replace(DAY, noise=0.02)
    assert not np.array_equal(
        street.render(pose, noisy, 7), street.render_right(pose, noisy, 0.0, 7)
    )
    assert np.array_equal(street.render(pose, DAY, 7), street.render_right(pose, DAY, 0.0, 7))


def test_colours_stand_for_numbers_also_when_they_come_out_a_little_darker():
    numbers = np.array([0, 126, 127, 127**2 + 5, 127**3 - 1])
    colours = colours_of(numbers)[None, :, :3]
    assert numbers_of(colours)[0].tolist() == numbers.tolist()
    assert numbers_of(colours - 1)[0].tolist() == numbers.tolist()
    assert numbers_of(np.zeros((1, 1, 3), np.uint8)).tolist() == [[-1]]
    with pytest.raises(WorldError, match="at most 2048383 quads, got 2048384"):
        colours_of(np.array([127**3]))
