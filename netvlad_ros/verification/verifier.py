# SPDX-License-Identifier: MIT
"""From the local features of two images, with cameras and depths where known, to the pose between them."""

import numpy as np

from netvlad_ros.config import VerificationConfig
from netvlad_ros.image_data import CameraModel, ImageData, LocalFeatures
from netvlad_ros.verification import covariance, matching, solvers
from netvlad_ros.verification.camera import rays, undistorted
from netvlad_ros.verification.geometry import Geometry
from netvlad_ros.verification.rigid import inverse


def verify(query: ImageData, match: ImageData, config: VerificationConfig) -> Geometry:
    """Compares two images by what is known of both.

    With points in metres of one of them: their pose. With cameras alone: its direction, scale unknown.
    Without cameras: how many points agree with a fundamental matrix.
    """
    if query.features is None or match.features is None:
        whose = "query" if query.features is None else "match"
        return Geometry(problem=f"the {whose} has no local features")
    if query.features.method != match.features.method:
        methods = f"{match.features.method} of the match and {query.features.method} of the query"
        return Geometry(problem=f"local features {methods} can't be compared")
    rows = matching.match(query.features, match.features, config.max_ratio)
    pair = _Pair(query.features, match.features, rows)
    if query.camera is None or match.camera is None:
        return _by_fundamental(pair, config.max_error_px)
    geometry = _by_points(pair, query.camera, match.camera, config.max_error_px)
    if geometry is None or (geometry.method == "pnp_motion" and not geometry.is_metric):
        return _by_directions(pair, query.camera, match.camera, config.max_error_px)
    return geometry


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

    None if no point of either is known.
    """
    if not np.isfinite([*pair.match_m[:, 2], *pair.query_m[:, 2]]).any():
        return None
    there = _Way(pair.match_m, undistorted(query_camera, pair.query_px), query_camera, max_error_px)
    back = _Way(pair.query_m, undistorted(match_camera, pair.match_px), match_camera, max_error_px)
    method = f"pnp_{pair.match.points_from or pair.query.points_from}"
    solutions = []
    if there.pose is not None:
        solutions.append((inverse(there.pose), there.covariance(there.pose)))
    if back.pose is not None:
        spread = covariance.reversed_motion(back.covariance(back.pose), back.pose)
        solutions.append((back.pose, spread))
    if not solutions:
        return Geometry(method, len(pair), problem="no pose fits the points")
    match_from_query, spread = covariance.mean(solutions)
    inliers, inliers_back = (
        there.agreeing(inverse(match_from_query)),
        back.agreeing(match_from_query),
    )
    if inliers_back.sum() > inliers.sum():
        main, other, rms_px = inliers_back, inliers, back.rms_px(match_from_query, inliers_back)
    else:
        main, other = inliers, inliers_back
        rms_px = there.rms_px(inverse(match_from_query), inliers)
    return Geometry(
        method,
        len(pair),
        int(main.sum()),
        int(other.sum()),
        rms_px,
        match_from_query,
        spread,
        pairs_px=pair.lines(main),
    )


class _Way:
    """Points (n, 3) of one image, and the pixels (n, 2) where the other camera sees them.

    pose: camera_from_points (4, 4), if there is one.
    """

    def __init__(
        self, points_m: np.ndarray, pixels: np.ndarray, camera: CameraModel, max_error_px: float
    ) -> None:
        self._points_m, self._pixels, self._camera = points_m, pixels, camera
        self._max_error_px = max_error_px
        known = np.isfinite(points_m[:, 2])
        found = solvers.absolute_pose(points_m[known], pixels[known], camera, max_error_px)
        self.pose = None if found is None else found[0]

    def agreeing(self, pose: np.ndarray) -> np.ndarray:
        """Which points (n,) are seen where the pose puts them; unknown ones are not."""
        depth, errors_px = self._errors(pose)
        with np.errstate(invalid="ignore"):
            return (depth > 0) & (np.linalg.norm(errors_px, axis=1) <= self._max_error_px)

    def rms_px(self, pose: np.ndarray, inliers: np.ndarray) -> float:
        """Root mean square error of these points."""
        errors_px = self._errors(pose)[1][inliers]
        return float(np.sqrt((errors_px**2).sum(1).mean())) if len(errors_px) else 0.0

    def covariance(self, pose: np.ndarray) -> np.ndarray:
        """(6, 6) of a small motion in the frame of the points."""
        inliers = self.agreeing(pose)
        return covariance.of_absolute_pose(
            pose, self._points_m[inliers], self._pixels[inliers], self._camera
        )

    def _errors(self, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Depths (n,) in metres and errors (n, 2) in pixels."""
        seen = self._points_m @ pose[:3, :3].T + pose[:3, 3]
        k = self._camera.k
        with np.errstate(divide="ignore", invalid="ignore"):
            at_px = seen[:, :2] / seen[:, 2:] * np.diag(k)[:2] + k[:2, 2]
        return seen[:, 2], at_px - self._pixels


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
    match_rays, query_rays = (
        rays(match_camera, pair.match_px[inliers]),
        rays(query_camera, pair.query_px[inliers]),
    )
    focal_px = float(np.diag(query_camera.k)[:2].mean())
    spread, rms_px = covariance.of_direction(query_from_match, match_rays, query_rays, focal_px)
    return Geometry(
        "essential",
        len(pair),
        int(inliers.sum()),
        0,
        rms_px,
        inverse(query_from_match),
        spread,
        scale_unknown=True,
        pairs_px=pair.lines(inliers),
    )


def _by_fundamental(pair: _Pair, max_error_px: float) -> Geometry:
    inliers = solvers.fundamental(pair.match_px, pair.query_px, max_error_px)
    if inliers is None:
        return Geometry("fundamental", len(pair), problem="no fundamental matrix fits the points")
    return Geometry("fundamental", len(pair), int(inliers.sum()), pairs_px=pair.lines(inliers))
