# SPDX-License-Identifier: MIT
"""Odometry at the stamps of images, and what is wrong with it."""

from bisect import bisect_left
from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.errors import MessageError
from netvlad_ros.image_data import Pose
from netvlad_ros.verification.odometry import MAX_SPEED_M_S

# Nothing is interpolated over a longer gap, nor carried on beyond the last pose for longer.
MAX_GAP_NS = NANOSECONDS
MAX_BEYOND_NS = NANOSECONDS // 20
# From one pose to the next nothing turns faster; what does was set anew.
MAX_TURN_RAD_S = 20.0
# So much may be a correction or noise, however short the time between.
SLACK_M, SLACK_RAD = 0.5, 0.5
# A stamp that is earlier by more than this is of a recording that begins anew.
LATE_NS = NANOSECONDS
# Quaternions that are rounded to a few digits differ from length one by less.
LENGTH_TOLERANCE = 0.05
# So many of the last poses are kept: 10 s of 200 Hz.
KEPT = 2000


def pose_of(message: Any) -> Pose:
    """The pose of a nav_msgs/Odometry of rclpy or rosbags, without its covariance.

    Raises MessageError for a pose that is not finite or no rotation.
    """
    pose = message.pose.pose
    position_m = np.array([pose.position.x, pose.position.y, pose.position.z], np.float64)
    turned = pose.orientation
    orientation_xyzw = np.array([turned.x, turned.y, turned.z, turned.w], np.float64)
    if not (np.isfinite(position_m).all() and np.isfinite(orientation_xyzw).all()):
        raise MessageError("odometry has a pose that is not finite; did its filter diverge?")
    length = float(np.linalg.norm(orientation_xyzw))
    if abs(length - 1.0) > LENGTH_TOLERANCE:
        raise MessageError(
            f"odometry has an orientation of length {length:.3g}, expected a quaternion of unit length."
        )
    return Pose(
        str(message.header.frame_id),
        str(message.child_frame_id),
        position_m,
        orientation_xyzw / length,
    )


def covariance_of(message: Any) -> np.ndarray | None:
    """(6, 6) of a nav_msgs/Odometry; None where it gives none: all zero, as most drivers do, or -1 first.

    Raises MessageError for what is no covariance.
    """
    covariance: np.ndarray = np.array(message.pose.covariance, np.float64).reshape(-1)
    if covariance.size != 36 or not np.isfinite(covariance).all():
        raise MessageError(
            "odometry has a covariance that is not finite, or not 6 x 6; did its filter diverge?"
        )
    if not covariance.any() or covariance[0] == -1.0:
        return None
    covariance = covariance.reshape(6, 6)
    tolerance = 1e-6 * float(np.abs(covariance).max())
    if np.abs(covariance - covariance.T).max() > tolerance:
        raise MessageError("odometry has a covariance that is not symmetric.")
    if np.linalg.eigvalsh(covariance)[0] < -tolerance:
        raise MessageError("odometry has a covariance with a negative variance.")
    return (covariance + covariance.T) / 2.0


class OdometryBuffer:
    """The last poses of one topic.

    jumps: how often it, or its clock, was set anew. Poses before and after are not of one frame any more, so
           that from the first jump on this number stands behind the name of the frame.
    """

    def __init__(self) -> None:
        self.jumps = 0
        self._poses: deque[tuple[int, Pose]] = deque(maxlen=KEPT)

    def add(self, stamp_ns: int, pose: Pose) -> str:
        """Returns what happened to it as a sentence, if it jumped; empty otherwise."""
        problem = ""
        if self._poses:
            last_ns, last = self._poses[-1]
            if last_ns - LATE_NS < stamp_ns <= last_ns:
                return ""
            begins_anew = stamp_ns <= last_ns
            if not begins_anew:
                problem = _jump(last, pose, (stamp_ns - last_ns) / NANOSECONDS)
            if begins_anew or problem:
                self._poses.clear()
                self.jumps += 1
        self._poses.append((stamp_ns, pose))
        return problem

    def at(self, stamp_ns: int) -> Pose:
        """At a moment, between the poses before and after. Raises MessageError if there are none near."""
        before, after = self._around(stamp_ns)
        if after[0] == before[0]:
            return self._of_this_frame(before[1])
        share = (stamp_ns - before[0]) / (after[0] - before[0])
        return self._of_this_frame(interpolated(before[1], after[1], share))

    def _around(self, stamp_ns: int) -> tuple[tuple[int, Pose], tuple[int, Pose]]:
        """Two poses to go by, or one twice."""
        poses = list(self._poses)
        if not poses:
            raise MessageError("no odometry has come yet")
        stamps = [each for each, _ in poses]
        at = bisect_left(stamps, stamp_ns)
        if at < len(poses) and stamps[at] == stamp_ns:
            return poses[at], poses[at]
        first = min(max(at - 1, 0), max(len(poses) - 2, 0))
        pair = poses[first], poses[min(first + 1, len(poses) - 1)]
        beyond_ns = max(stamps[0] - stamp_ns, stamp_ns - stamps[-1])
        if beyond_ns > MAX_BEYOND_NS:
            side = "earlier" if stamp_ns > stamps[-1] else "later"
            raise MessageError(
                f"the nearest odometry is {beyond_ns / NANOSECONDS:.3f} s {side} than the image; has it "
                "stopped, or does it go by another clock?"
            )
        if beyond_ns <= 0 and pair[1][0] - pair[0][0] > MAX_GAP_NS:
            gap_s = (pair[1][0] - pair[0][0]) / NANOSECONDS
            raise MessageError(f"odometry has a gap of {gap_s:.1f} s around the image")
        return pair

    def _of_this_frame(self, pose: Pose) -> Pose:
        return replace(pose, frame_id=f"{pose.frame_id}+{self.jumps}") if self.jumps else pose


def interpolated(before: Pose, after: Pose, share: float) -> Pose:
    """A pose between two, or a little beyond: on a straight line, by the shortest turn at even speed."""
    covariance = before.covariance
    if before.covariance is not None and after.covariance is not None:
        within = min(max(share, 0.0), 1.0)
        covariance = (1.0 - within) * before.covariance + within * after.covariance
    return replace(
        before,
        position_m=(1.0 - share) * before.position_m + share * after.position_m,
        orientation_xyzw=_slerp(before.orientation_xyzw, after.orientation_xyzw, share),
        covariance=covariance,
    )


def _slerp(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    cosine = float(before @ after)
    if cosine < 0.0:  # the same rotation, written the other way
        after, cosine = -after, -cosine
    angle = np.arccos(min(cosine, 1.0))
    if angle < 1e-6:
        mixed = (1.0 - share) * before + share * after
    else:
        mixed = np.sin((1.0 - share) * angle) * before + np.sin(share * angle) * after
    return np.asarray(mixed / np.linalg.norm(mixed))


def _jump(before: Pose, after: Pose, seconds: float) -> str:
    """What no robot does, as a sentence; empty otherwise."""
    if (before.frame_id, before.child_frame_id) != (after.frame_id, after.child_frame_id):
        return (
            f"odometry is now of {after.child_frame_id} in {after.frame_id}, before it was of "
            f"{before.child_frame_id} in {before.frame_id}; do two nodes publish it?"
        )
    from_origin_m = [float(np.linalg.norm(each.position_m)) for each in (before, after)]
    if seconds * NANOSECONDS > MAX_GAP_NS and from_origin_m[1] < SLACK_M < from_origin_m[0] / 2:
        return (
            f"odometry is at its origin again after {seconds:.1f} s without any, {from_origin_m[0]:.1f} m "
            "from where it was; it is taken to have begun anew, so that the two are not compared"
        )
    moved_m = float(np.linalg.norm(after.position_m - before.position_m))
    cosine = min(abs(float(before.orientation_xyzw @ after.orientation_xyzw)), 1.0)
    turned_rad = 2.0 * float(np.arccos(cosine))
    if (
        moved_m <= SLACK_M + MAX_SPEED_M_S * seconds
        and turned_rad <= SLACK_RAD + MAX_TURN_RAD_S * seconds
    ):
        return ""
    return (
        f"odometry jumped by {moved_m:.1f} m and {np.degrees(turned_rad):.0f} deg within {seconds:.3f} s; "
        "what was before is not compared with what comes now"
    )
