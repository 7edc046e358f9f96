# SPDX-License-Identifier: MIT
"""How uncertain a pose is: the inverse of J'J of its residuals, scaled by what is left of them.

Hartley and Zisserman, Multiple View Geometry, section 5.2.
"""

from collections.abc import Sequence

import numpy as np

from netvlad_ros.image_data import CameraModel
from netvlad_ros.verification.rigid import adjoint, exp, hat, inverse, log

# No pose is better than this, however many points agree: calibration, stamps and depth are never perfect.
FLOOR_M, FLOOR_RAD = 0.005, 0.001
# Points are found to about this, however well a few of them happen to fit.
LEAST_ERROR_PX = 0.5
# Of a direction without length, along itself: nothing is known.
UNKNOWN_M2 = 1e6


def of_absolute_pose(
    camera_from_points: np.ndarray, points_m: np.ndarray, pixels: np.ndarray, camera: CameraModel
) -> np.ndarray:
    """(6, 6) of a small motion in the frame of the camera that sees the points.

    points_m: (n, 3); pixels: (n, 2) where they are seen.
    """
    seen = points_m @ camera_from_points[:3, :3].T + camera_from_points[:3, 3]
    focal, centre = np.diag(camera.k)[:2], camera.k[:2, 2]
    errors = seen[:, :2] / seen[:, 2:] * focal + centre - pixels
    # points_from_camera exp(xi) moves what the camera sees by exp(-xi).
    moved = np.concatenate([-np.broadcast_to(np.eye(3), (len(seen), 3, 3)), _hats(seen)], axis=2)
    jacobian = _projection_jacobian(seen, focal) @ moved  # (n, 2, 6)
    return _with_floor(_covariance(jacobian.reshape(-1, 6), errors.ravel(), 6))


def of_direction(
    query_from_match: np.ndarray,
    match_rays: np.ndarray,
    query_rays: np.ndarray,
    focal_px: float,
) -> tuple[np.ndarray, float]:
    """(6, 6) for a translation of length 1 without scale, and the root mean square error in pixels.

    Along the translation nothing is known.
    match_rays, query_rays: (n, 3) with depth 1.
    """
    match_from_query = inverse(query_from_match)

    def errors(xi: np.ndarray) -> np.ndarray:
        moved = match_from_query @ exp(xi)
        moved[:3, 3] /= np.linalg.norm(moved[:3, 3])
        return _sampson(moved, match_rays, query_rays) * focal_px

    step = 1e-6
    at_rest = errors(np.zeros(6))
    jacobian = np.stack([(errors(step * e) - errors(-step * e)) / (2 * step) for e in np.eye(6)], 1)
    direction = np.zeros(6)  # along the translation, in the query's frame
    direction[:3] = match_from_query[:3, :3].T @ match_from_query[:3, 3]
    across = np.linalg.svd(direction[None])[2][1:]  # (5, 6), what is not along it
    small = _covariance(jacobian @ across.T, at_rest, 5)
    covariance = across.T @ small @ across + UNKNOWN_M2 * np.outer(direction, direction)
    return _with_floor(covariance), _rms(at_rest[:, None])


def reversed_motion(covariance: np.ndarray, match_from_query: np.ndarray) -> np.ndarray:
    """Of a small motion in the query's frame, from one of the reverse pose, in the match's frame."""
    carried = adjoint(inverse(match_from_query))
    return carried @ covariance @ carried.T


def mean(solutions: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Of poses (4, 4) with covariances (6, 6), of the same pixels: each counts by its information.

    As they share their errors, the mean is no more certain than they are on average.
    """
    first = solutions[0][0]
    informations = [np.linalg.inv(spread) for _, spread in solutions]
    total = np.linalg.inv(sum(informations))
    steps = [
        information @ log(inverse(first) @ pose)
        for information, (pose, _) in zip(informations, solutions, strict=True)
    ]
    return first @ exp(total @ sum(steps)), len(solutions) * total


def _covariance(jacobian: np.ndarray, errors: np.ndarray, unknowns: int) -> np.ndarray:
    scale = max(LEAST_ERROR_PX**2, float(errors @ errors) / max(1, len(errors) - unknowns))
    return scale * np.linalg.pinv(jacobian.T @ jacobian)


def _with_floor(covariance: np.ndarray) -> np.ndarray:
    return covariance + np.diag([FLOOR_M**2] * 3 + [FLOOR_RAD**2] * 3)


def _projection_jacobian(points: np.ndarray, focal: np.ndarray) -> np.ndarray:
    """(n, 2, 3), of pixels by points in the camera's frame."""
    x, y, z = points.T
    zero = np.zeros(len(points))
    rows = [[focal[0] / z, zero, -focal[0] * x / z**2], [zero, focal[1] / z, -focal[1] * y / z**2]]
    return np.array(rows).transpose(2, 0, 1)


def _hats(vectors: np.ndarray) -> np.ndarray:
    """(n, 3, 3)."""
    return np.cross(vectors[:, None], np.eye(3)[None]).transpose(0, 2, 1)


def _sampson(
    match_from_query: np.ndarray, match_rays: np.ndarray, query_rays: np.ndarray
) -> np.ndarray:
    """(n,) signed distances from the epipolar constraint, to first order, in the plane of depth 1."""
    essential = hat(match_from_query[:3, 3]) @ match_from_query[:3, :3]
    lines_match, lines_query = query_rays @ essential.T, match_rays @ essential
    value = np.einsum("nd,nd->n", match_rays, lines_match)
    slope = (lines_match[:, :2] ** 2).sum(1) + (lines_query[:, :2] ** 2).sum(1)
    return value / np.sqrt(np.maximum(slope, 1e-18))


def _rms(errors: np.ndarray) -> float:
    """errors: (n, d) of n points."""
    return float(np.sqrt((errors**2).sum(1).mean())) if len(errors) else 0.0
