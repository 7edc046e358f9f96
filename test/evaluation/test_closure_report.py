# SPDX-License-Identifier: MIT
"""The loop closures of a replay become files that other programs read, and a picture that people look at."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from three_places import AGAIN, SECOND, made_up_drive

from netvlad_ros.evaluation.closure_picture import choose_closures
from netvlad_ros.evaluation.closure_report import write_closures
from netvlad_ros.evaluation.detection_log import DetectionLog
from netvlad_ros.evaluation.results import Results
from netvlad_ros.verification.rigid import rigid, rotation_of


@pytest.fixture(scope="module")
def found() -> Results:
    return made_up_drive()


@pytest.fixture(scope="module")
def folder(found: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("closures")
    names = [path.name for path in write_closures(folder, found)]
    assert names == ["closures.json", "closures.csv", "closures.g2o", "closures.png"]
    return folder


def test_the_json_file_holds_each_edge_with_pose_and_covariance(folder: Path) -> None:
    document = json.loads((folder / "closures.json").read_text())
    (edge,) = document["closures"]
    assert (edge["match"]["keyframe"], edge["query"]["keyframe"]) == (0, 3)
    assert edge["match"] == {
        "keyframe": 0,
        "image": 1,
        "session": 0,
        "stamp_ns": SECOND,
        "frame_id": "camera",
    }
    pose = rigid(rotation_of(np.array(edge["orientation_xyzw"])), np.array(edge["position_m"]))
    np.testing.assert_allclose(pose, AGAIN, atol=2e-3)
    assert (edge["frame"], edge["method"], edge["scale_unknown"]) == ("base", "pnp_depth", False)
    assert (np.linalg.eigvalsh(np.array(edge["covariance"])) > 0).all()
    assert edge["odometry_deviation"] < 1
    assert "translation (m) before rotation (rad)" in document["covariance"]


def test_the_json_file_names_the_gate_of_each_match_that_was_compared(folder: Path) -> None:
    rejections = json.loads((folder / "closures.json").read_text())["rejections"]
    alike = next(each for each in rejections if (each["query"], each["match"]) == (4, 1))
    assert (alike["decision"], alike["stage"], alike["similarity"]) == ("reject", "geometry", 1.0)
    assert alike["limit"] == 20


def test_what_came_out_is_told_in_a_sentence(found: Results) -> None:
    said = found.closures_in_words
    assert said == (
        "keyframes with loop closures: 1 (1 of 6 matches that were compared by geometry; "
        "rejected by geometry 5)"
    )
    assert said in found.sentences
    (closure,) = found.log.closures
    line = found.log.closure_sentence(closure)
    assert line.startswith(
        "keyframe 3 (3.0 s) closes a loop with keyframe 0 (0.0 s): 0.54 m and 11.5"
    )


def test_the_csv_file_has_a_row_for_each_edge(folder: Path) -> None:
    with (folder / "closures.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["match_keyframe"], row["query_keyframe"]) == ("0", "3")
    at = [float(row[name]) for name in ("x_m", "y_m", "z_m")]
    np.testing.assert_allclose(at, AGAIN[:3, 3], atol=2e-3)
    assert 0.001 < float(row["sd_x_m"]) < 0.1


def g2o(folder: Path) -> tuple[dict[int, np.ndarray], dict[tuple[int, int], np.ndarray]]:
    """Vertices and edges with their numbers."""
    words = [line.split() for line in (folder / "closures.g2o").read_text().splitlines()]
    vertices = {int(w[1]): np.array(w[2:], float) for w in words if w[0] == "VERTEX_SE3:QUAT"}
    edges = {
        (int(w[1]), int(w[2])): np.array(w[3:], float) for w in words if w[0] == "EDGE_SE3:QUAT"
    }
    return vertices, edges


def test_the_g2o_file_has_keyframes_odometry_and_closures(folder: Path) -> None:
    vertices, edges = g2o(folder)
    assert list(vertices) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(vertices[2][:3], [40, 0, 0])
    assert list(edges) == [(0, 1), (1, 2), (2, 3), (3, 4), (0, 3)]
    np.testing.assert_allclose(edges[0, 1][:3], [20, 0, 0])
    # 1 % of 20 m, and 0.02 m of each pose.
    assert edges[0, 1][7] == pytest.approx(1 / 0.22**2, rel=0.2)
    np.testing.assert_allclose(edges[0, 3][:3], AGAIN[:3, 3], atol=2e-3)


def test_without_odometry_there_are_closures_only(tmp_path: Path) -> None:
    write_closures(tmp_path, made_up_drive(with_odometry=False))
    vertices, edges = g2o(tmp_path)
    assert all(not pose[:6].any() for pose in vertices.values())
    assert list(edges) == [(0, 3)]


def test_odometry_of_a_base_is_left_out_where_edges_are_of_the_camera(tmp_path: Path) -> None:
    write_closures(tmp_path, made_up_drive(mounted=False))
    _, edges = g2o(tmp_path)
    assert list(edges) == [(0, 3)]


def test_the_picture_has_lines_between_the_points_that_agree(folder: Path) -> None:
    picture = cv2.imread(str(folder / "closures.png"))
    assert picture is not None
    blue, green, red = picture.astype(int).transpose(2, 0, 1)
    assert (green - np.maximum(blue, red) > 60).sum() > 500


def test_of_many_closures_the_best_of_each_part_of_the_drive_are_drawn(found: Results) -> None:
    (closure,) = found.log.closures
    many = [
        replace(closure, geometry=replace(closure.geometry, inliers=inliers))
        for inliers in (30, 90, 20, 50, 60, 40)
    ]
    assert [each.geometry.inliers for each in choose_closures(many, 3)] == [90, 50, 60]
    assert choose_closures([]) == []


def test_a_replay_without_closures_has_all_files_too(tmp_path: Path, found: Results) -> None:
    log = DetectionLog()
    first = found.log.keyframes[0]
    log.keyframes.append(first)
    log._positions[first.query.keyframe.name] = 0
    without = replace(found, log=log)
    assert all(path.stat().st_size for path in write_closures(tmp_path, without))
    assert without.closures_in_words.startswith("no match was compared")


def test_the_files_are_the_same_in_each_run(tmp_path: Path, folder: Path) -> None:
    again = write_closures(tmp_path, made_up_drive())
    assert [path.read_bytes() for path in again] == [
        (folder / path.name).read_bytes() for path in again
    ]
