# SPDX-License-Identifier: MIT
"""Absolute trajectory errors are those of evo, and so are the files."""

from pathlib import Path

import numpy as np
import pytest
from made_up_drives import ODOMETRY, TRUTH

from netvlad_ros.evaluation.trajectories import Trajectory, aligned, ate_m, write_tum
from netvlad_ros.verification.rigid import exp

TRUE_M, DRIFTED_M = (np.array(poses)[:, :3, 3] for poses in (TRUTH, ODOMETRY))


def test_a_way_that_is_only_elsewhere_has_no_error():
    moved = exp(np.array([5.0, -3, 2, 0.3, 0.4, 2.0]))
    elsewhere_m = TRUE_M @ moved[:3, :3].T + moved[:3, 3]
    np.testing.assert_allclose(aligned(elsewhere_m, TRUE_M), TRUE_M, atol=1e-9)
    assert ate_m(elsewhere_m, TRUE_M) == pytest.approx(0, abs=1e-9)


def test_the_error_is_what_evo_says():
    """evo_ape tum truth.tum odometry.tum -a, version 1.38.1."""
    assert ate_m(DRIFTED_M, TRUE_M) == pytest.approx(1.046377, abs=1e-6)


def test_a_file_has_one_line_for_each_pose(tmp_path: Path):
    stamps_ns = np.array([1_700_000_000_000_000_001, 1_700_000_000_500_000_000])
    write_tum(tmp_path / "way.tum", Trajectory(stamps_ns, np.array(TRUTH[:2])))
    assert (tmp_path / "way.tum").read_text().splitlines() == [
        "1700000000.000000001 0 0 0 0 0 0 1",
        "1700000000.500000000 2 0 0 0 0 0 1",
    ]
