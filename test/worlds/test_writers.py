# SPDX-License-Identifier: MIT
"""Walks in files: read back by the readers of this package and by rosbags, completed, never mixed up."""

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from netvlad_ros.commands import render
from netvlad_ros.data.bags import Bag, is_bag
from netvlad_ros.data.kitti import read_kitti
from netvlad_ros.data.pose_csv import read_pose_csv
from netvlad_ros.errors import WorldError
from netvlad_ros.image_data import Pose
from netvlad_ros.worlds.bag_messages import TOPICS
from netvlad_ros.worlds.camera import Camera
from netvlad_ros.worlds.odometry import Drift, matrix_of
from netvlad_ros.worlds.sensors import Sensors
from netvlad_ros.worlds.walks import Shot, walk
from netvlad_ros.worlds.world import World
from netvlad_ros.worlds.writers import write_bag, write_folder, write_kitti

pytestmark = pytest.mark.needs("panda3d")

CAMERA = Camera(80, 60, k1=-0.1)
SETTINGS = {"seed": 2, "laps": 2}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World(2, "room", CAMERA) as world:
        yield world


@pytest.fixture(scope="module")
def shots(world) -> list[Shot]:
    return walk(world, "loop", 2, ["day", "night"], step_m=4.0)


def test_each_lap_has_its_conditions_and_stamps_rise(world, shots):
    assert {(shot.lap, shot.conditions_name) for shot in shots} == {(0, "day"), (1, "night")}
    assert [shot.number for shot in shots] == list(range(len(shots)))
    assert (np.diff([shot.stamp_ns for shot in shots]) > 0).all()
    third = walk(world, "loop", 3, ["day", "night"], step_m=4.0)[-1]
    assert third.conditions_name == "day"
    assert third.conditions.visit != shots[0].conditions.visit  # other people are about


def test_a_folder_is_read_back_with_poses_and_pictures(world, shots, tmp_path):
    assert list(write_folder(world, shots, tmp_path / "out", SETTINGS)) == list(range(len(shots)))
    places = read_pose_csv(tmp_path / "out" / "poses.csv").database
    expected = np.array([shot.pose.position_m for shot in shots])
    assert np.allclose(places.positions_m[:, :2], expected[:, :2], atol=1e-5)
    assert places.headings_rad is not None
    assert places.stamps_ns is not None
    assert np.allclose(places.headings_rad, [shot.pose.yaw_rad for shot in shots], atol=1e-5)
    assert places.stamps_ns.tolist() == [shot.stamp_ns for shot in shots]
    rendered = world.render(shots[1].pose, shots[1].conditions, 1)
    assert np.abs(places.read(1).astype(int) - rendered).mean() < 6  # JPEG


def test_a_kitti_sequence_is_read_back_exactly(world, shots, tmp_path):
    list(write_kitti(world, shots, tmp_path / "00", SETTINGS))
    places = read_kitti(tmp_path / "00").database
    rendered = world.render(shots[2].pose, shots[2].conditions, 2)
    assert np.array_equal(places.read(2), rendered)
    lengths = np.linalg.norm(places.positions_m - places.positions_m[0], axis=1)
    expected = [np.linalg.norm(shot.pose.position_m - shots[0].pose.position_m) for shot in shots]
    assert np.allclose(lengths, expected, atol=1e-6)
    turns = np.array([shot.pose.yaw_rad - shots[0].pose.yaw_rad for shot in shots])
    assert np.cos(places.headings_rad - turns).min() > 0.99  # pitch and roll are in it too
    matrix = np.array((tmp_path / "00" / "calib.txt").read_text().split()[1:], float).reshape(3, 4)
    assert np.allclose(matrix[:, :3], CAMERA.matrix())


@pytest.mark.parametrize("compressed", [False, True])
def test_a_bag_holds_images_camera_info_and_odometry(world, shots, tmp_path, compressed):
    from rosbags.image import message_to_cvimage

    list(write_bag(world, shots, tmp_path / "bag", SETTINGS, compressed))
    store = get_typestore(Stores.LATEST)
    messages: dict[str, list[tuple[int, Any]]] = {}
    with Reader(tmp_path / "bag") as reader:
        for connection, stamp_ns, data in reader.messages():
            message = store.deserialize_cdr(data, connection.msgtype)
            messages.setdefault(connection.topic, []).append((stamp_ns, message))
    image_topic = "/camera/image_raw" + "/compressed" * compressed
    assert set(messages) == {"/odom", "/camera/camera_info", image_topic}
    assert all(len(each) == len(shots) for each in messages.values())
    for shot, (stamp_ns, odometry) in zip(shots, messages["/odom"], strict=True):
        position = odometry.pose.pose.position
        assert stamp_ns == shot.stamp_ns
        assert (position.x, position.y, position.z) == tuple(shot.pose.position_m)
    info = messages["/camera/camera_info"][0][1]
    assert np.allclose(info.k.reshape(3, 3), CAMERA.matrix())
    assert info.d.tolist() == [-0.1, 0, 0, 0, 0]
    pixels = message_to_cvimage(messages[image_topic][1][1], "rgb8")
    rendered = world.render(shots[1].pose, shots[1].conditions, 1)
    assert np.abs(pixels.astype(int) - rendered).mean() < (6 if compressed else 1e-9)
    with Bag(tmp_path / "bag") as bag:
        assert bag.image_topic() == image_topic


def read_bag(bag: Path) -> dict[str, list[Any]]:
    """The messages by topic."""
    store = get_typestore(Stores.LATEST)
    messages: dict[str, list[Any]] = {}
    with Reader(bag) as reader:
        for connection, _, data in reader.messages():
            messages.setdefault(connection.topic, []).append(
                store.deserialize_cdr(data, connection.msgtype)
            )
    return messages


def depth_m(message: Any) -> np.ndarray:
    kind, unit_m = {"32FC1": (np.float32, 1.0), "16UC1": (np.uint16, 0.001)}[message.encoding]
    return message.data.view(kind).reshape(message.height, message.width) * unit_m


def true_pose(message: Any) -> np.ndarray:
    """(4, 4) of the camera's optical frame in the map, of exact odometry."""
    position, turn = message.pose.pose.position, message.pose.pose.orientation
    matrix = matrix_of(
        Pose(
            *("map", "camera_link", np.array([position.x, position.y, position.z])),
            np.array([turn.x, turn.y, turn.z, turn.w]),
        )
    )
    matrix[:3, :3] = matrix[:3, :3] @ [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    return matrix


@pytest.mark.parametrize("depth", ["32FC1", "16UC1"])
def test_poses_depth_and_camera_info_of_a_bag_bring_points_to_where_they_are(
    world, tmp_path, depth
):
    near = walk(world, "loop", 1, ["day"], step_m=0.3)[4:6]
    list(write_bag(world, near, tmp_path / "bag", SETTINGS, sensors=Sensors(depth)))
    messages = read_bag(tmp_path / "bag")
    assert set(messages) == {TOPICS[name] for name in ("image", "info", "odometry", "depth")}
    depths_m = [depth_m(message) for message in messages[TOPICS["depth"]]]
    poses = [true_pose(message) for message in messages[TOPICS["odometry"]]]
    info = messages[TOPICS["info"]][0]
    matrix, coefficients = info.k.reshape(3, 3), info.d
    y, x = np.nonzero(np.nan_to_num(depths_m[0]) > 0)
    rays = cv2.undistortPoints(np.stack([x, y], 1)[:, None].astype(float), matrix, coefficients)
    points_m = np.column_stack([rays[:, 0], np.ones(len(x))]) * depths_m[0][y, x][:, None]
    between = np.linalg.inv(poses[1]) @ poses[0]
    expected_m = points_m @ between[:3, :3].T + between[:3, 3]
    pixels = cv2.projectPoints(expected_m, np.zeros(3), np.zeros(3), matrix, coefficients)[0]
    # On a plane the inverse of the depth is linear, so that it is exact between pixels too.
    inverse = (1 / np.where(depths_m[1] > 0, depths_m[1], np.nan)).astype(np.float32)
    at_px = pixels.astype(np.float32)
    found = cv2.remap(inverse, at_px, np.empty(0), cv2.INTER_LINEAR)[:, 0]
    low, high = np.zeros(2), np.array([79, 59])
    inside = ((pixels[:, 0] > low) & (pixels[:, 0] < high)).all(axis=1) & (expected_m[:, 2] > 0.2)
    seen = inside & (found > 0)
    off_m = np.abs(1 / found[seen] - expected_m[seen, 2])
    assert seen.mean() > 0.5
    assert np.median(off_m) < 0.002
    assert np.mean(off_m < 0.02) > 0.9  # the others are hidden from there


def test_a_bag_has_a_rectified_pair_and_odometry_that_drifts_beside_the_truth(
    world, shots, tmp_path
):
    sensors = Sensors(baseline_m=0.2, drift=Drift.of_share(0.05))
    list(write_bag(world, shots, tmp_path / "bag", SETTINGS, sensors=sensors))
    messages = read_bag(tmp_path / "bag")
    assert set(messages) == set(TOPICS.values()) - {TOPICS["depth"]}
    left, right = (messages[TOPICS[name]][0] for name in ("info", "right info"))
    assert left.p.tolist() == np.column_stack([CAMERA.matrix(), np.zeros(3)]).ravel().tolist()
    assert right.p[3] == pytest.approx(-0.2 * CAMERA.focal_px)
    assert right.d.tolist() == left.d.tolist() == [-0.1, 0, 0, 0, 0]
    assert right.header == left.header == messages[TOPICS["right"]][0].header
    pair = world.render_right(shots[1].pose, shots[1].conditions, 0.2, 1)
    assert np.array_equal(messages[TOPICS["right"]][1].data, pair.reshape(-1))
    truth, odometry = messages[TOPICS["truth"]], messages[TOPICS["odometry"]]
    assert np.allclose([true_pose(each) for each in truth], [shot.pose.matrix() for shot in shots])
    assert (odometry[0].header.frame_id, odometry[0].child_frame_id) == ("odom", "base_link")
    assert odometry[-1].pose.covariance[0] > 1e-4 > odometry[0].pose.covariance[0] > 0
    [static] = messages[TOPICS["static"]]
    names = [(each.header.frame_id, each.child_frame_id) for each in static.transforms]
    assert names == [("base_link", "camera_link"), ("camera_link", "camera_optical_frame")]
    with Bag(tmp_path / "bag") as bag:
        assert bag.topics[TOPICS["static"]].latched


def test_a_sequence_has_right_pictures_depth_and_odometry_beside_the_poses(world, shots, tmp_path):
    sensors = Sensors("32FC1", 0.2, Drift.of_share(0.0))
    assert len(list(write_kitti(world, shots, tmp_path / "00", SETTINGS, sensors))) == len(shots)
    lines = (tmp_path / "00" / "calib.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in lines] == ["P0", "P1"]
    assert float(lines[1].split()[4]) == pytest.approx(-0.2 * CAMERA.focal_px)
    right = cv2.imread(str(tmp_path / "00" / "image_1" / "000001.png"))
    pair = world.render_right(shots[1].pose, shots[1].conditions, 0.2, 1)
    assert right is not None
    assert np.array_equal(right[..., ::-1], pair)
    stored = cv2.imread(str(tmp_path / "00" / "depth_0" / "000001.png"), cv2.IMREAD_UNCHANGED)
    expected_m = np.nan_to_num(world.depth_m(shots[1].pose, shots[1].conditions))
    assert stored is not None
    assert np.abs(stored / 256 - expected_m).max() < 1 / 500
    poses, odometry = (
        np.loadtxt(tmp_path / "00" / f"{name}.txt") for name in ("poses", "odometry")
    )
    assert np.abs(poses - odometry).max() < 0.02  # without drift only the noise of reading
    assert not np.array_equal(poses, odometry)


def test_what_was_interrupted_is_completed_with_the_same_pixels(world, shots, tmp_path):
    list(write_kitti(world, shots, tmp_path / "whole", SETTINGS))
    begun = islice(write_kitti(world, shots, tmp_path / "part", SETTINGS), 3)
    assert list(begun) == [0, 1, 2]
    kept = (tmp_path / "part" / "image_0" / "000001.png").stat().st_mtime_ns
    list(write_kitti(world, shots, tmp_path / "part", SETTINGS))
    assert (tmp_path / "part" / "image_0" / "000001.png").stat().st_mtime_ns == kept
    for file in (tmp_path / "whole").rglob("*.*"):
        assert (
            tmp_path / "part" / file.relative_to(tmp_path / "whole")
        ).read_bytes() == file.read_bytes()


def test_the_files_of_a_bag_are_visible_and_named_as_rosbag2_names_them(world, shots, tmp_path):
    list(write_bag(world, shots, tmp_path / "town", SETTINGS))
    names = sorted(file.name for file in (tmp_path / "town").iterdir())
    assert names == ["metadata.yaml", "render.json", "town_0.db3"]
    (tmp_path / "copy").mkdir()
    for name in names:
        (tmp_path / "town" / name).rename(tmp_path / "copy" / name)
    with Bag(tmp_path / "copy") as bag:
        assert len(list(bag.images("/camera/image_raw"))) == len(shots)


def test_a_bag_that_was_interrupted_is_named_so_and_is_no_bag(world, shots, tmp_path):
    writing = write_bag(world, shots, tmp_path / "town", SETTINGS)
    next(writing)
    del writing
    assert [path.name for path in tmp_path.iterdir()] == ["town.unfinished"]
    assert not is_bag(tmp_path / "town.unfinished")
    list(write_bag(world, shots, tmp_path / "town", SETTINGS))
    assert [path.name for path in tmp_path.iterdir()] == ["town"]


@pytest.mark.parametrize("write", [write_folder, write_kitti, write_bag])
def test_other_files_and_other_settings_are_refused(world, shots, tmp_path, write):
    foreign, begun = tmp_path / "foreign", tmp_path / "begun"
    foreign.mkdir()
    (foreign / "diary.txt").touch()
    begun.mkdir()
    (begun / "render.json").write_text(json.dumps({"seed": 1, "laps": 2}))
    with pytest.raises(WorldError, match="got one with other files"):
        list(write(world, shots, foreign, SETTINGS))
    with pytest.raises(WorldError, match="another seed; choose another folder"):
        list(write(world, shots, begun, SETTINGS))


def test_the_command_writes_what_it_is_asked_for(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    render.add_arguments(parser)
    words = (
        f"room --seed 4 --laps 2 --conditions fog,random --step 5 --size 64x48 -o {tmp_path}/out"
    )
    assert render.run(parser.parse_args(words.split())) == 0
    images = sorted((tmp_path / "out" / "images").iterdir())
    assert f"{len(images)} images of room-4 in 2 laps" in capsys.readouterr().out
    picture = cv2.imread(str(images[0]))
    assert picture is not None
    assert picture.shape == (48, 64, 3)


def test_the_command_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "panda3d", None)
    parser = argparse.ArgumentParser()
    render.add_arguments(parser)
    with pytest.raises(WorldError, match="pip install panda3d"):
        render.run(parser.parse_args(["room", "-o", str(tmp_path / "out")]))


@pytest.mark.parametrize("word", ["", "0.1,0.2", "-0.1", "much"])
def test_a_drift_that_is_no_number_is_refused(tmp_path, word, capsys):
    parser = argparse.ArgumentParser()
    render.add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["room", "-o", str(tmp_path / "out"), f"--drift={word}"])
    assert "expected" in capsys.readouterr().err


def test_a_folder_has_no_place_for_other_sensors(tmp_path):
    parser = argparse.ArgumentParser()
    render.add_arguments(parser)
    words = f"room --size 64x48 --step 5 --depth -o {tmp_path}/out"
    with pytest.raises(WorldError, match="expected --format bag or kitti"):
        render.run(parser.parse_args(words.split()))
