# SPDX-License-Identifier: MIT
"""How uncertain a pose is: the inverse of J'J of its residuals, scaled by what is left of them.

Hartley and Zisserman, Multiple View Geometry, section 5.2.
"""

from collections.abc import Sequence

import numpy as np

from netvlad_ros.image_data import CameraModel
from netvlad_ros.verification.camera import rays
from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.rigid import exp, hat, inverse, log

# No pose is better than this, however many points agree: calibration, stamps and depth are never perfect.
FLOOR_M, FLOOR_RAD = 0.005, 0.001
# Points nearer to each other than this share of the image's width err together: one corner is found on
# several scales, and a surface moves as a whole. Errors of depths that are measured by pixels reach further.
TOGETHER = {"depth": 1 / 40, "stereo": 1 / 20, "motion": 1 / 20}
# Points are found to about this, however well a few of them happen to fit.
LEAST_ERROR_PX = 0.5
# A translation moves points by more than so many times their errors, or is none.
LEAST_PARALLAX = 3.0
# Variance (also in rad2) of what the points do not tell at all, such as the length of a direction.
UNKNOWN_M2 = 1e6

Cameras = tuple[CameraModel, CameraModel]


def of_absolute_pose(
    camera_from_points: np.ndarray,
    points_m: np.ndarray,
    pixels: np.ndarray,
    camera: CameraModel,
    points_from: str,
) -> np.ndarray:
    """(6, 6) of a small motion in the frame of the camera that sees the points.

    points_m: (n, 3), known from points_from; pixels: (n, 2) where they are seen.
    """
    seen = points_m @ camera_from_points[:3, :3].T + camera_from_points[:3, 3]
    focal, centre = np.diag(camera.k)[:2], camera.k[:2, 2]
    errors = seen[:, :2] / seen[:, 2:] * focal + centre - pixels
    # points_from_camera exp(xi) moves what the camera sees by exp(-xi).
    moved = np.concatenate([-np.broadcast_to(np.eye(3), (len(seen), 3, 3)), _hats(seen)], axis=2)
    jacobian = _projection_jacobian(seen, focal) @ moved  # (n, 2, 6)
    together = _together(pixels, camera, points_from)
    return _with_floor(_covariance(jacobian.reshape(-1, 6), errors.ravel(), 6, together))


def of_direction(
    query_from_match: np.ndarray, match_px: np.ndarray, query_px: np.ndarray, cameras: Cameras
) -> tuple[np.ndarray, np.ndarray]:
    """(6, 6) for a translation of length 1 without scale, and the errors (n,) in pixels.

    Along the translation nothing is known; across it neither, where the camera did little but turn.
    match_px, query_px: (n, 2) of the two cameras, in this order.
    """
    match_from_query = inverse(query_from_match)
    match_rays, query_rays = rays(cameras[0], match_px), rays(cameras[1], query_px)
    focal_px = float(np.diag(cameras[1].k)[:2].mean())

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
    together = _together(query_px, cameras[1], "depth")
    small = _covariance(jacobian @ across.T, at_rest, 5, together)
    covariance = across.T @ small @ across + UNKNOWN_M2 * np.outer(direction, direction)
    turned = query_rays @ match_from_query[:3, :3].T
    parallax = np.linalg.norm(turned[:, :2] / turned[:, 2:] - match_rays[:, :2], axis=1)
    error_px = max(LEAST_ERROR_PX, float(np.sqrt((at_rest**2).mean())))
    if np.median(parallax) * focal_px < LEAST_PARALLAX * error_px:
        covariance[:3, :3] += UNKNOWN_M2 * np.eye(3)
    return _with_floor(covariance), at_rest


def mean(motions: Sequence[Motion]) -> Motion:
    """Of measurements by the same pixels, each counting by its information.

    As they share their errors, the mean is no more certain than they are on average.
    """
    first = inverse(motions[0].matrix)
    informations = [np.linalg.inv(motion.covariance) for motion in motions]
    total = np.linalg.inv(sum(informations))
    steps = [
        information @ log(first @ motion.matrix)
        for information, motion in zip(informations, motions, strict=True)
    ]
    return Motion(motions[0].matrix @ exp(total @ sum(steps)), len(motions) * total)


def _covariance(
    jacobian: np.ndarray, errors: np.ndarray, unknowns: int, together: float
) -> np.ndarray:
    """together: how many points err as one, on average."""
    independent = len(errors) / together
    scale = max(LEAST_ERROR_PX**2, float(errors @ errors) / max(1.0, independent - unknowns))
    information = jacobian.T @ jacobian / (scale * together)
    return np.linalg.inv(information + np.eye(unknowns) / UNKNOWN_M2)


def _together(pixels: np.ndarray, camera: CameraModel, points_from: str) -> float:
    """How many of the points (n, 2) are in one cell of the image, on average."""
    cells = np.floor(pixels / (TOGETHER[points_from] * camera.width_px))
    return len(pixels) / max(1, len(np.unique(cells, axis=0)))


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
