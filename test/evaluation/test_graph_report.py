# SPDX-License-Identifier: MIT
"""A replay's keyframes put right by a pose graph: what is said of it, and the files that it becomes."""

from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest
from three_places import AGAIN, BASES, CONFIG, SECOND, made_up_drive

from netvlad_ros.evaluation.graph_report import (
    GraphReport,
    corrected_poses,
    graph_report,
    solved,
    write_graph,
)
from netvlad_ros.evaluation.trajectories import Truth
from netvlad_ros.image_data import Pose
from netvlad_ros.verification.rigid import exp, quaternion_of

pytestmark = pytest.mark.needs("gtsam")

# After 120 m of way odometry is off by this.
DRIFTED = exp(np.array([1.2, 0.4, 0.0, 0.0, 0.0, 0.02])) @ AGAIN


class Known:
    """The truth of the made-up drive."""

    def at(self, stamp_ns: int) -> Pose:
        base = [*BASES, AGAIN, BASES[1]][stamp_ns // SECOND - 1]
        return Pose("map", "base_link", base[:3, 3], quaternion_of(base[:3, :3]))


def report(truth: bool = True, with_odometry: bool = True) -> GraphReport:
    log = made_up_drive(with_odometry, last=DRIFTED).log
    known = cast(Truth, Known()) if truth else None
    return graph_report(log, CONFIG, solved(log, CONFIG), known)


def test_a_closure_puts_the_keyframe_that_saw_the_place_again_where_it_was() -> None:
    found = report()
    assert found.corrected.poses[3][:3, 3] == pytest.approx(AGAIN[:3, 3], abs=0.1)
    assert found.odometry.poses[3][:3, 3] == pytest.approx(DRIFTED[:3, 3])
    assert found.ate_m is not None
    before_m, after_m = found.ate_m
    assert f"{before_m:.3f} m by odometry, {after_m:.3f} m corrected" in found.sentences[-1]


def test_files_are_for_evo_g2o_and_people(tmp_path: Path) -> None:
    names = [path.name for path in write_graph(tmp_path, report())]
    assert names == ["graph.g2o", "odometry.tum", "corrected.tum", "truth.tum", "map.png"]
    lines = [(tmp_path / f"{name}.tum").read_text().split() for name in ("odometry", "truth")]
    assert [len(words) for words in lines] == [5 * 8, 5 * 8]
    picture = cv2.imread(str(tmp_path / "map.png"))
    assert picture is not None
    assert picture.std() > 10


def test_without_truth_nothing_is_said_of_errors(tmp_path: Path) -> None:
    found = report(truth=False)
    assert found.ate_m is None
    assert "truth.tum" not in [path.name for path in write_graph(tmp_path, found)]


def test_a_drive_without_odometry_says_that_there_is_no_trajectory(tmp_path: Path) -> None:
    found = report(with_odometry=False)
    assert any("no keyframe has both a corrected pose and odometry" in s for s in found.sentences)
    write_graph(tmp_path, found)
    assert (tmp_path / "corrected.tum").read_text() == ""


def test_corrected_poses_are_kept_as_a_map_keeps_them() -> None:
    log = made_up_drive(last=DRIFTED).log
    poses = corrected_poses(log, solved(log, CONFIG), CONFIG)
    again = poses[log.keyframes[3].query.keyframe.name]
    assert again.pose.position_m == pytest.approx(AGAIN[:3, 3], abs=0.1)
    assert (again.pose.frame_id, again.graph) == ("map", "replay")
    assert again.solved_ns == 5 * SECOND
