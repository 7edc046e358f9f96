# SPDX-License-Identifier: MIT
"""From the local features of two images, with cameras and depths where known, to the pose between them."""

import cv2
import numpy as np

from netvlad_ros.config import VerificationConfig
from netvlad_ros.image_data import CameraModel, ImageData, LocalFeatures
from netvlad_ros.verification import covariance, matching, solvers
from netvlad_ros.verification.camera import undistorted
from netvlad_ros.verification.geometry import Geometry
from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.rigid import inverse

# What PoseLib, OpenCV and NumPy raise where no pose follows from the points, such as all of them on one line.
_SOLVER_ERRORS = (RuntimeError, ValueError, cv2.error)


def verify(query: ImageData, match: ImageData, config: VerificationConfig) -> Geometry:
    """Compares two images by what is known of both.

    With points in metres of one of them: their pose. With cameras alone: its direction, scale unknown.
    Without cameras: how many points agree with a fundamental matrix. Raises CameraError without PoseLib.
    """
    if query.features is None or match.features is None:
        whose = "query" if query.features is None else "match"
        return Geometry(problem=f"the {whose} has no local features")
    kinds = [_kind(each) for each in (match.features, query.features)]
    if kinds[0] != kinds[1]:
        methods = "{} of the match and {} of the query".format(*kinds)
        return Geometry(problem=f"local features {methods} can't be compared")
    rows = matching.match(query.features, match.features, config.max_ratio)
    pair = _Pair(query.features, match.features, rows)
    try:
        if query.camera is None or match.camera is None:
            return _by_fundamental(pair, config.max_error_px)
        return _by_points(pair, query.camera, match.camera, config.max_error_px) or _by_directions(
            pair, query.camera, match.camera, config.max_error_px
        )
    except _SOLVER_ERRORS as error:
        return Geometry(problem=f"the {len(pair)} point matches can't be solved ({error})")


def _kind(features: LocalFeatures) -> str:
    """What only the same can be compared with."""
    descriptors = features.descriptors
    return f"{features.method} ({descriptors.shape[1]} x {descriptors.dtype})"


class _Pair:
    """Features of two images, and those of them (n, 2) that match."""

    def __init__(self, query: LocalFeatures, match: LocalFeatures, rows: np.ndarray) -> None:
        self.query, self.match = query, match
        self.query_px = query.keypoints_px[rows[:, 0]].astype(np.float64)
        self.match_px = match.keypoints_px[rows[:, 1]].astype(np.float64)
        self.query_m = _rows(query.points_m, rows[:, 0])
        self.match_m = _rows(match.points_m, rows[:, 1])

    def __len__(self) -> int:
        return len(self.query_px)

    def lines(self, inliers: np.ndarray) -> np.ndarray:
        """(n, 4) float32, from the match's image to the query's."""
        return np.hstack([self.match_px, self.query_px])[inliers].astype(np.float32)


def _rows(points_m: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    if points_m is None:
        return np.full((len(rows), 3), np.nan)
    return points_m[rows].astype(np.float64)


def _by_points(
    pair: _Pair, query_camera: CameraModel, match_camera: CameraModel, max_error_px: float
) -> Geometry | None:
    """Perspective-n-point from the match's points to the query's pixels and back, and the mean of both.

    None if neither has points.
    """
    if pair.query.points_m is None and pair.match.points_m is None:
        return None
    query_px = undistorted(query_camera, pair.query_px)
    match_px = undistorted(match_camera, pair.match_px)
    there = _Way(pair.match_m, query_px, query_camera, max_error_px, pair.match.points_from)
    back = _Way(pair.query_m, match_px, match_camera, max_error_px, pair.query.points_from)
    method = f"pnp_{pair.match.points_from or pair.query.points_from}"
    most = max(there.inliers, back.inliers)
    ways = [
        *([there.points_from_camera] if there.inliers > most / 2 else []),
        *([back.points_from_camera.inverse()] if back.inliers > most / 2 else []),
    ]
    if not ways:
        known = max(there.known, back.known)
        return Geometry(method, known, problem="no pose fits the points")
    motion = covariance.mean(ways)
    errors_px = np.stack([there.errors_px(inverse(motion.matrix)), back.errors_px(motion.matrix)])
    agreeing = errors_px <= max_error_px
    main, other = agreeing.sum(1).argsort()[::-1]
    inliers = agreeing[main]
    return Geometry(
        method,
        (there, back)[main].known,
        int(inliers.sum()),
        int(agreeing[other].sum()) if there.known and back.known else None,
        _rms(errors_px[main][inliers]),
        motion,
        pairs_px=pair.lines(inliers),
    )


class _Way:
    """Points (n, 3) of one image, NaN where unknown, and the pixels (n, 2) where the other camera sees them.

    known:              how many points there are.
    inliers:            how many agree with the pose; 0 if there is none.
    points_from_camera: the pose.
    """

    def __init__(
        self,
        points_m: np.ndarray,
        pixels: np.ndarray,
        camera: CameraModel,
        max_error_px: float,
        points_from: str,
    ) -> None:
        self._points_m, self._pixels, self._camera = points_m, pixels, camera
        known = np.flatnonzero(np.isfinite(points_m).all(1))
        self.known = len(known)
        self.inliers, self.points_from_camera = 0, Motion(np.eye(4), np.eye(6))
        found = solvers.absolute_pose(points_m[known], pixels[known], camera, max_error_px)
        if found is not None:
            pose, rows = found[0], known[found[1]]
            spread = covariance.of_absolute_pose(
                pose, points_m[rows], pixels[rows], camera, points_from
            )
            self.inliers, self.points_from_camera = len(rows), Motion(inverse(pose), spread)

    def errors_px(self, pose: np.ndarray) -> np.ndarray:
        """(n,) how far points are seen from where the pose puts them; infinite if behind it, or unknown."""
        seen = self._points_m @ pose[:3, :3].T + pose[:3, 3]
        k = self._camera.k
        with np.errstate(divide="ignore", invalid="ignore"):
            at_px = seen[:, :2] / seen[:, 2:] * np.diag(k)[:2] + k[:2, 2]
            is_seen = seen[:, 2] > 0
        return np.where(is_seen, np.linalg.norm(at_px - self._pixels, axis=1), np.inf)


def _by_directions(
    pair: _Pair, query_camera: CameraModel, match_camera: CameraModel, max_error_px: float
) -> Geometry:
    match_px, query_px = (
        undistorted(match_camera, pair.match_px),
        undistorted(query_camera, pair.query_px),
    )
    found = solvers.relative_pose(match_px, query_px, match_camera, query_camera, max_error_px)
    if found is None:
        return Geometry("essential", len(pair), problem="no essential matrix fits the points")
    query_from_match, inliers = found
    spread, errors_px = covariance.of_direction(
        query_from_match,
        pair.match_px[inliers],
        pair.query_px[inliers],
        (match_camera, query_camera),
    )
    return Geometry(
        "essential",
        len(pair),
        int(inliers.sum()),
        None,
        _rms(errors_px),
        Motion(inverse(query_from_match), spread),
        scale_unknown=True,
        pairs_px=pair.lines(inliers),
    )


def _by_fundamental(pair: _Pair, max_error_px: float) -> Geometry:
    inliers = solvers.fundamental(pair.match_px, pair.query_px, max_error_px)
    if inliers is None:
        return Geometry("fundamental", len(pair), problem="no fundamental matrix fits the points")
    return Geometry("fundamental", len(pair), int(inliers.sum()), pairs_px=pair.lines(inliers))


def _rms(errors_px: np.ndarray) -> float:
    return float(np.sqrt((errors_px**2).mean())) if len(errors_px) else 0.0
