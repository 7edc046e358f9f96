# SPDX-License-Identifier: MIT
"""How far odometry may have drifted between two keyframes of a drive, and whether a loop closure fits it."""

from bisect import bisect_left
from dataclasses import dataclass, field

import numpy as np

from netvlad_ros.config import OdometryConfig
from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.image_data import CameraModel, ImageData, Pose
from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.rigid import inverse, of_pose

# Nothing that drives goes faster: odometry was set anew. Between keyframes it may have been corrected so far.
MAX_SPEED_M_S, MAX_STEP_M = 50.0, 5.0
# From keyframes that are so near to each other is known how far it is from one to the next.
NEAR_KEYFRAMES = 5
COLUMNS = 8  # of what is kept of a step
# What a level odometry says of roll and pitch is good to this.
LEVEL_RAD = np.radians(1.0)


@dataclass(eq=False)
class OdometryTrack:
    """The odometry of one session's keyframes, in driving order.

    is_level: whether its roll and pitch do not drift.
    """

    is_level: bool = False
    _numbers: list[int] = field(default_factory=list)
    _stamps_ns: list[int] = field(default_factory=list)
    _poses: list[Pose] = field(default_factory=list)
    _matrices: list[np.ndarray] = field(default_factory=list)
    # Of each pose: where it is; of the step from the one before, its length, by how much it turned, how many
    # keyframes it is, whether it was none, as odometry began anew, and its turn about z. Longer than needed.
    _steps: np.ndarray = field(default_factory=lambda: np.zeros((0, COLUMNS)))

    def add(self, number: int, stamp_ns: int, pose: Pose) -> str:
        """The odometry of a keyframe, nearly always the next. Returns what is wrong with it, or nothing."""
        if not (np.isfinite(pose.position_m).all() and np.isfinite(pose.orientation_xyzw).all()):
            return "odometry: its pose is not a number; the keyframe goes without"
        if abs(np.linalg.norm(pose.orientation_xyzw) - 1) > 1e-3:
            return "odometry: its orientation is no unit quaternion; the keyframe goes without"
        row, count = bisect_left(self._numbers, number), len(self._numbers)
        if self._row(number) is not None:
            return ""
        self._numbers.insert(row, number)
        self._stamps_ns.insert(row, stamp_ns)
        self._poses.insert(row, pose)
        self._matrices.insert(row, of_pose(pose))
        if row < count:
            self._steps = np.insert(self._steps, row, 0.0, axis=0)
            self._measure(row + 1)
        elif row == len(self._steps):
            self._steps = np.concatenate([self._steps, np.zeros((max(16, row), COLUMNS))])
        return self._measure(row)

    def between(self, earlier: int, later: int, config: OdometryConfig) -> Motion | None:
        """From the later keyframe's base to the earlier one's; None if odometry does not connect them."""
        first, last = self._row(earlier), self._row(later)
        if first is None or last is None or self._steps[first + 1 : last + 1, 6].any():
            return None
        variances = self._variances(first, last, config)
        if variances is None:
            return None
        motion = inverse(self._matrices[first]) @ self._matrices[last]
        turned = self._matrices[last][:3, :3].T
        carried = np.zeros((6, 6))
        carried[:3, :3] = carried[3:, 3:] = turned
        return Motion(motion, carried @ variances @ carried.T)

    def matrix(self, number: int) -> np.ndarray:
        """(4, 4) the odometry of a keyframe that was added."""
        return self._matrices[bisect_left(self._numbers, number)]

    @property
    def runs(self) -> list[list[int]]:
        """The numbers of keyframes, parted wherever odometry began anew."""
        if not self._numbers:
            return []
        begins = np.flatnonzero(self._steps[1 : len(self._numbers), 6]) + 1
        return [run.tolist() for run in np.split(np.array(self._numbers, int), begins)]

    def _row(self, number: int) -> int | None:
        row = bisect_left(self._numbers, number)
        found = row < len(self._numbers) and self._numbers[row] == number
        return row if found else None

    def _measure(self, row: int) -> str:
        """The step that leads to a pose. Returns why it was none, as a sentence."""
        here, before = self._matrices[row], self._matrices[max(0, row - 1)]
        step_m = np.linalg.norm(here[:3, 3] - before[:3, 3])
        cosine = (np.sum(before[:3, :3] * here[:3, :3]) - 1) / 2
        keyframes = self._numbers[row] - self._numbers[max(0, row - 1)]
        problem = self._jump(row) if row else ""
        turned_rad = np.arccos(np.clip(cosine, -1, 1))
        turn = here[:3, :3] @ before[:3, :3].T
        yaw_rad = np.arctan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1])
        self._steps[row] = *here[:3, 3], step_m, turned_rad, keyframes, bool(problem), yaw_rad
        return problem

    def _jump(self, row: int) -> str:
        before, pose = self._poses[row - 1], self._poses[row]
        if (before.frame_id, before.child_frame_id) != (pose.frame_id, pose.child_frame_id):
            return (
                f"odometry is of {pose.child_frame_id} in {pose.frame_id} from here on; what was driven "
                "before is not compared"
            )
        passed_s = max(0.0, (self._stamps_ns[row] - self._stamps_ns[row - 1]) / NANOSECONDS)
        step_m = float(np.linalg.norm(pose.position_m - before.position_m))
        if step_m > MAX_STEP_M + MAX_SPEED_M_S * passed_s:
            return (
                f"odometry jumped by {step_m:.1f} m within {passed_s:.1f} s; did it begin anew? What was "
                "driven before is not compared"
            )
        return ""

    def _variances(self, first: int, last: int, config: OdometryConfig) -> np.ndarray | None:
        """(6, 6), of the position and of rotations about the axes of the odometry's frame.

        None if too little is known of the way.
        """
        poses = self._poses[first], self._poses[last]
        if config.drift == "message" and all(map(has_covariance, poses)):
            return np.asarray(poses[0].covariance) + np.asarray(poses[1].covariance)
        positions = self._steps[first : last + 1, :3]
        away_m = positions[-1] - positions[:-1]
        steps_m, turns_rad, keyframes, _, yaws_rad = self._steps[first + 1 : last + 1, 3:].T
        if (keyframes > 1).any():  # what is not known in between may have been elsewhere
            of_one = self._step_of_one_keyframe()
            if of_one is None:
                return None
            unknown = np.where(keyframes > 1, keyframes, 0)
            driven_m = np.maximum(steps_m, unknown * of_one[0])
            turns_rad = np.maximum(turns_rad, unknown * of_one[1])
            yaws_rad = np.where(keyframes > 1, turns_rad, yaws_rad)
            away_m = away_m + np.copysign((driven_m - steps_m)[:, None] / 2, away_m)
            steps_m = driven_m
        along_m = config.drift_m_per_m * steps_m.sum() + config.noise_m
        if self.is_level:
            across_m, turned_rad = _of_heading(away_m, steps_m, yaws_rad, config)
            turns = np.array([LEVEL_RAD, LEVEL_RAD, turned_rad])
        else:
            across_m, turned_rad = _of_rotation(away_m, steps_m, turns_rad, config)
            turns = np.full(3, turned_rad)
        turns[2 if self.is_level else slice(3)] += np.radians(config.noise_deg)
        return np.diag([*(along_m**2 + across_m**2), *turns**2])

    def _step_of_one_keyframe(self) -> np.ndarray | None:
        """(2,) how far one keyframe is from the next on average, and how much it turned; None if unknown."""
        steps = self._steps[1 : len(self._numbers)]
        near = steps[(steps[:, 5] <= NEAR_KEYFRAMES) & (steps[:, 6] == 0)]
        if not len(near):
            return None
        return np.asarray(near[:, 3:5].sum(0) / near[:, 5].sum())


def _of_heading(
    away_m: np.ndarray, steps_m: np.ndarray, yaws_rad: np.ndarray, config: OdometryConfig
) -> tuple[np.ndarray, float]:
    """How far a drifting heading moves the last pose (3,), and turns it; roll and pitch do not drift.

    The rate per radian errs twice: by one amount for the whole drive, so that turns to the left and to the
    right cancel, and at random, which grows with the root. The rate per metre always errs to one side.
    away_m: (n, 3) from the beginning of each step to the last pose.
    """
    across = away_m[
        :, [1, 0]
    ]  # about z, what is away along y is moved along x, and the other way round
    per_metre = np.radians(config.drift_deg_per_m) * steps_m
    per_turn = config.drift_rad_per_rad * yaws_rad
    at_random = config.drift_rad_per_rad * np.sqrt(np.abs(yaws_rad))
    moved_m = [
        _weighed(per_metre, np.abs(across)),
        _weighed(per_turn, across),
        np.linalg.norm(at_random[:, None] * across, axis=0),
    ]
    turned = [per_metre.sum(), per_turn.sum(), np.sqrt((at_random**2).sum())]
    return np.append(np.linalg.norm(moved_m, axis=0), 0.0), float(np.linalg.norm(turned))


def _of_rotation(
    away_m: np.ndarray, steps_m: np.ndarray, turns_rad: np.ndarray, config: OdometryConfig
) -> tuple[np.ndarray, float]:
    """The same where all three axes drift, as if errors of all steps had one sign."""
    drift_rad = np.radians(config.drift_deg_per_m) * steps_m + config.drift_rad_per_rad * turns_rad
    x_m, y_m, z_m = np.abs(away_m).T
    # A turn moves what is away along two axes by the third; it moves nothing along its own.
    across = np.column_stack([np.hypot(y_m, z_m), np.hypot(x_m, z_m), np.hypot(x_m, y_m)])
    return _weighed(drift_rad, across), float(drift_rad.sum())


def _weighed(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """weights @ rows, without BLAS, which starts threads for ten thousand of them: ten times the time."""
    return np.einsum("i,ij->j", weights, rows)


def has_covariance(pose: Pose) -> bool:
    """Whether it says how uncertain each of its six numbers is."""
    covariance = pose.covariance
    return (
        covariance is not None
        and bool(np.isfinite(covariance).all())
        and np.diag(covariance).min() > 0
    )


def tilt_deg(match: Pose, query: Pose, match_from_query: np.ndarray) -> float:
    """By how much a closure of the base disagrees with level odometry about what is upright."""
    up_match, up_query = of_pose(match)[2, :3], of_pose(query)[2, :3]
    cosine = float(up_match @ match_from_query[:3, :3] @ up_query)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def least_rise_m(motion: Motion, match: Pose, deviations: float) -> float:
    """How far above or below the match the query is at least, within so many standard deviations."""
    up = of_pose(match)[2, :3]  # in the match's frame
    up_query = motion.matrix[:3, :3].T @ up
    spread_m = float(np.sqrt(up_query @ motion.covariance[:3, :3] @ up_query))
    return max(0.0, abs(float(up @ motion.matrix[:3, 3])) - deviations * spread_m)


def is_level(config: OdometryConfig, data: ImageData) -> bool:
    """Whether the odometry of an image is level: as configured, or else unless it is of the camera itself."""
    if config.is_level != "auto":
        return config.is_level == "yes"
    return not is_of_camera(data.odometry, data.camera)


def is_of_camera(odometry: Pose | None, camera: CameraModel | None) -> bool:
    """Whether odometry is of the camera's own optical frame; frames without names say nothing."""
    if odometry is None or camera is None:
        return False
    return bool(camera.frame_id) and odometry.child_frame_id == camera.frame_id
