# SPDX-License-Identifier: MIT
"""Rendered worlds: the same pixels for the same seed, cameras that are where they say, time and weather."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from netvlad_ros.errors import WorldError
from netvlad_ros.worlds import renderer
from netvlad_ros.worlds.camera import Camera, Pose, overlap
from netvlad_ros.worlds.conditions import NAMED, Conditions, named, random_conditions
from netvlad_ros.worlds.scene import Paths, Scene
from netvlad_ros.worlds.sky import haze
from netvlad_ros.worlds.world import KINDS, World

pytestmark = pytest.mark.needs("panda3d")

SMALL = Camera(160, 120)
PLAIN = Conditions(noise=0.0, blur_px=0.0, vignetting=0.0)


@pytest.fixture(scope="module")
def street() -> Iterator[World]:
    with World(3, "street", SMALL) as world:
        yield world


def checksum(world: World) -> str:
    poses = world.trajectory("loop", laps=1)[0]
    images = [world.render(poses[5 * n], named(name), n) for n, name in enumerate(("day", "night"))]
    return hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()


@pytest.mark.parametrize("kind", ["street", "room"])
def test_the_same_seed_gives_the_same_pixels_in_another_process(kind):
    code = f"""if True:
        import sys
        sys.path.insert(0, {str(__file__).rpartition("/")[0]!r})
        from test_world import SMALL, World, checksum
        print(checksum(World(3, {kind!r}, SMALL)))"""
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    first, second = (process.communicate()[0] for process in processes)
    assert len(first) == 65
    assert first == second


def test_other_worlds_before_change_next_to_no_pixel():
    pose, images = Pose(0, 0), []
    for size in ((64, 48), (96, 72)):
        with World(5, "corridor", Camera(*size)) as before:
            before.render(before.trajectory("loop", laps=1)[0][0], named("day"))
        with World(3, "room", SMALL) as world:
            pose = world.trajectory("loop", laps=1)[0][3]
            images.append(world._renderer.draw(pose, named("day")))
    assert (images[0] != images[1]).any(axis=2).mean() < 0.001


def test_pixels_do_not_depend_on_what_was_rendered_before(street):
    pose = street.trajectory("loop", laps=1)[0][3]
    first = street.render(pose, named("rain"), 7)
    street.render(pose, named("snow"))
    assert np.array_equal(street.render(pose, named("rain"), 7), first)


@pytest.mark.parametrize("kind", list(KINDS))
def test_worlds_of_every_kind_are_rich_and_differ(kind):
    images = []
    for seed in (1, 2):
        with World(seed, kind, SMALL) as world:
            images.append(world.render(world.trajectory("loop", laps=1)[0][4], named("day")))
    for image in images:
        assert image.shape == (120, 160, 3)
        assert image.dtype == np.uint8
        assert image.std() > 20
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 1000
    assert np.abs(images[0].astype(int) - images[1]).mean() > 10


def one_light(at_m: np.ndarray) -> Scene:
    """Darkness with one shining plate that looks back along x."""
    scene = Scene(
        Paths(np.array([[0.0, 0.0], [9.0, 0.0]]), np.array([[0, 1]]), 2.0), is_indoor=True
    )
    scene.mesh.material("white", np.full((4, 4, 3), 255, np.uint8))
    corner = np.add(at_m, (0, 0.1, -0.1))
    scene.mesh.patch("white", corner, (0, -0.2, 0), (0, 0, 0.2), glow=1.0)
    return scene


@pytest.mark.parametrize("k1", [0.0, -0.15])
def test_a_known_point_appears_where_the_camera_projects_it(k1):
    point, camera = np.array([6.0, 1.2, 2.1]), Camera(320, 240, 75.0, k1)
    world = World.of_scene("plate", one_light(point), camera)
    for pose in (
        Pose(0, 0, 1.5),
        Pose(1.0, -0.5, 1.0, 0.3, 0.1, 0.2),
        Pose(2.0, 0.3, 2.0, -0.2, -0.15, -0.3),
    ):
        [pixel], [depth] = camera.project(pose, point)
        image = world.render(pose, PLAIN)[..., 1].astype(float)
        weights = image - image.min()
        y, x = np.mgrid[:240, :320]
        seen = np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()
        assert depth > 0
        assert np.abs(seen - pixel).max() < 0.5
    world.close()


def test_the_matrix_and_the_quaternion_of_a_pose_say_the_same():
    pose = Pose(1, 2, 3, 0.7, -0.2, 0.4)
    x, y, z, w = pose.quaternion()
    turned = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    assert np.allclose(turned, pose.rotation())
    assert np.allclose(pose.matrix()[:3, 2], pose.rotation()[:, 0])  # the optical axis looks ahead
    assert np.allclose(pose.matrix()[:3, 3], (1, 2, 3))


def test_views_of_the_same_place_overlap_and_others_do_not():
    here = Pose(0, 0, yaw_rad=0.2)
    assert overlap(SMALL, here, here) == 1.0
    assert overlap(SMALL, here, Pose(2, 0.5, yaw_rad=0.3)) > 0.5
    assert overlap(SMALL, here, replace(here, yaw_rad=0.2 + np.pi)) == 0.0
    assert overlap(SMALL, here, Pose(200, 0, yaw_rad=0.2)) == 0.0


def test_night_is_darker_than_day_and_snow_is_whiter(street):
    pose = street.trajectory("loop", laps=1)[0][3]
    drawn = {name: street._renderer.draw(pose, NAMED[name]) for name in ("day", "night", "snow")}
    assert drawn["night"].mean() < 0.6 * drawn["day"].mean()
    ground = {name: image[-20:].astype(int) for name, image in drawn.items()}
    assert ground["snow"].mean() > ground["day"].mean() + 30


def test_fog_hides_a_wall_the_more_the_farther_it_is():
    scene = Scene(Paths(np.array([[0.0, 0.0], [9.0, 0.0]]), np.array([[0, 1]]), 2.0))
    scene.mesh.material("black", np.zeros((4, 4, 3), np.uint8))
    for distance_m, left_m in ((4.0, 0.0), (44.0, 40.0)):  # to the right and to the left
        scene.mesh.patch("black", (distance_m, left_m, -50), (0, -40, 0), (0, 0, 100))
    conditions = NAMED["fog"]
    with World.of_scene("walls", scene, SMALL) as world:
        drawn = world._renderer.draw(Pose(0, 0, 1.5), conditions)
    for column, distance_m in ((120, 4.0), (40, 44.0)):
        clear = np.exp(-distance_m / conditions.visibility_m)
        assert np.allclose(drawn[60, column], haze(conditions) * (1 - clear), atol=4)


def test_another_visit_meets_others(street):
    pose = street.trajectory("loop", laps=1)[0][3]
    crowded = replace(PLAIN, fullness=1.0)
    first, second = (street.render(pose, replace(crowded, visit=visit)) for visit in (1, 2))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, street.render(pose, replace(crowded, visit=1)))


def test_unknown_kinds_weathers_and_names_are_refused():
    with pytest.raises(WorldError, match="expected one of town, street, corridor, room, got 'sea'"):
        World(1, "sea")
    with pytest.raises(WorldError, match=r"weather: expected one of clear, .* got 'hail'"):
        Conditions(weather="hail")
    with pytest.raises(WorldError, match=r"conditions: expected one of day, .* got 'noon'"):
        named("noon")


def test_random_conditions_are_possible_and_diverse():
    rng = np.random.default_rng(0)
    found = [random_conditions(rng) for _ in range(200)]
    assert {each.weather for each in found} >= {"clear", "cloudy", "rain", "fog", "snowfall"}
    assert 20 < sum(each.is_dark for each in found) < 100
    assert all(each.season == "winter" for each in found if each.snow)


def memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.slow
def test_a_closed_world_gives_back_its_memory():
    conditions, used_mb = (named("day"), named("night")), []
    for _ in range(7):
        with World(0, "town", SMALL) as world:
            pose = world.random_pose(np.random.default_rng(0))
            for each in conditions:
                world.render(pose, each)
        used_mb.append(memory_mb())
    # While its textures stayed, each town took 100 MB for good.
    assert used_mb[-1] - used_mb[1] < 150


def test_without_panda3d_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "panda3d", None)
    with pytest.raises(WorldError, match="pip install panda3d"):
        renderer.panda()
