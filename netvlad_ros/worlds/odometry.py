# SPDX-License-Identifier: MIT
"""What a robot on the walk takes for its way: odometry that is exact, or drifts as much as it says."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from netvlad_ros.errors import WorldError
from netvlad_ros.image_data import Pose as Reported
from netvlad_ros.worlds.camera import Pose

MAP, CAMERA_BODY, ODOM, BASE = "map", "camera_link", "odom", "base_link"
# From the base (x ahead, y left, z up) to the camera, which looks ahead.
MOUNT_M = (0.3, 0.0, 0.5)
# Each pose is read with this noise, which does not add up: it is all that roll and pitch have.
READING_M, READING_RAD = 0.001, 0.0005
_DRIFTING = [0, 1, 2, 5]  # of the six of a covariance: x, y, z and the rotation about z


@dataclass(frozen=True)
class Drift:
    """Standard deviations of the rates at which odometry errs.

    m_per_m:     of the way; 0.01 is 1 %.
    rad_per_m:   of the heading, per metre of the way.
    rad_per_rad: of the heading, per radian turned.

    Each rate errs twice: by an amount drawn once for the whole drive, which grows with the way, and by white
    noise of the same size after the first metre or radian, which grows with its root. Roll and pitch don't
    drift, as gravity shows them.
    """

    m_per_m: float
    rad_per_m: float
    rad_per_rad: float

    def __post_init__(self) -> None:
        """Raises WorldError for negative values."""
        values = (self.m_per_m, self.rad_per_m, self.rad_per_rad)
        if not all(np.isfinite(values)) or min(values) < 0:
            raise WorldError(f"drift: expected numbers from 0, got {', '.join(map(str, values))}.")

    @classmethod
    def of_share(cls, share: float) -> "Drift":
        """As a drift of so much of the way goes with turns: 0.01 has 0.57 degrees in 100 m, 1 % of turns."""
        return cls(share, 0.01 * share, share)


def exact(pose: Pose) -> Reported:
    """Of the camera's body (x ahead, y left, z up) in the map."""
    return Reported(MAP, CAMERA_BODY, pose.position_m, pose.quaternion())


def base_from_camera() -> np.ndarray:
    """(4, 4) from the camera's optical frame to the base."""
    return Pose(*MOUNT_M).matrix()


def base_of(camera: Pose) -> Pose:
    """Where the base is when the camera is here."""
    x, y, z = (camera.position_m - camera.rotation() @ MOUNT_M).tolist()
    return replace(camera, x_m=x, y_m=y, z_m=z)


def drifted(poses: Sequence[Pose], drift: Drift, seed: int) -> list[Reported]:
    """Of the base in `odom`, which is where the base was first, level, along its heading.

    poses: of the camera, in driving order.
    The covariances are of the position in odom, and of rotations about its axes: they grow from the first
    pose on, and follow from the drift by the error's first order. The same seed drifts the same way.
    """
    rng = np.random.default_rng([seed, 6])
    bases = [base_of(pose) for pose in poses]
    rates = np.array([drift.m_per_m, drift.rad_per_m, drift.rad_per_rad])
    scale, per_m, per_rad = rng.normal(0, rates)
    position_m, heading_rad = np.zeros(3), 0.0
    spread = np.diag([0, 0, 0, 0, *rates**2])
    reports = [_reported(rng, bases[0], position_m, heading_rad, spread)]
    for last, base in pairwise(bases):
        moved_m = about_z(-last.yaw_rad) @ (base.position_m - last.position_m)
        turned_rad = (base.yaw_rad - last.yaw_rad + np.pi) % (2 * np.pi) - np.pi
        way_m = float(np.linalg.norm(moved_m))
        noise_m = drift.m_per_m * np.sqrt(way_m)
        noise_rad = np.sqrt(drift.rad_per_m**2 * way_m + drift.rad_per_rad**2 * abs(turned_rad))
        moved_m = (1 + scale) * moved_m + rng.normal(0, noise_m, 3)
        turned_rad += per_m * way_m + per_rad * turned_rad + rng.normal(0, noise_rad)
        step_m = about_z(heading_rad) @ moved_m
        spread = _grown(spread, step_m, turned_rad, noise_m, noise_rad)
        position_m, heading_rad = position_m + step_m, heading_rad + turned_rad
        reports.append(_reported(rng, base, position_m, heading_rad, spread))
    return reports


def cameras_of(reports: Sequence[Reported]) -> list[np.ndarray]:
    """(4, 4) each: the camera's optical frame, in that of the first, as reports of the base have it."""
    mount = base_from_camera()
    cameras = [matrix_of(report) @ mount for report in reports]
    first = np.linalg.inv(cameras[0])
    return [first @ camera for camera in cameras]


def matrix_of(report: Reported) -> np.ndarray:
    """(4, 4) from the child frame to the frame."""
    x, y, z, w = report.orientation_xyzw
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = report.position_m
    return matrix


def about_z(angle_rad: float) -> np.ndarray:
    """(3, 3) rotation by an angle, counter-clockwise as seen from above."""
    return Pose(0, 0, yaw_rad=angle_rad).rotation()


def _grown(
    spread: np.ndarray, step_m: np.ndarray, turned_rad: float, noise_m: float, noise_rad: float
) -> np.ndarray:
    """(7, 7) covariance of position, heading and the three rates, after a step (3,) in odom."""
    grown = np.eye(7)
    grown[:3, 3] = (-step_m[1], step_m[0], 0)
    grown[:3, 4] = step_m
    grown[3, 5:] = np.linalg.norm(step_m), turned_rad
    return grown @ spread @ grown.T + np.diag([*[noise_m**2] * 3, noise_rad**2, 0, 0, 0])


def _reported(
    rng: np.random.Generator,
    base: Pose,
    position_m: np.ndarray,
    heading_rad: float,
    spread: np.ndarray,
) -> Reported:
    """What the odometry says of a base, whose roll and pitch are taken as they are."""
    read_m = rng.normal(position_m, READING_M)
    read_rad = rng.normal([heading_rad, base.pitch_rad, base.roll_rad], READING_RAD)
    covariance = np.diag([READING_M**2] * 3 + [READING_RAD**2] * 3)
    covariance[np.ix_(_DRIFTING, _DRIFTING)] += spread[:4, :4]
    orientation = Pose(*read_m, *read_rad).quaternion()
    return Reported(ODOM, BASE, read_m, orientation, covariance)
