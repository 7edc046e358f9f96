# SPDX-License-Identifier: MIT
"""Where a camera is, where it looks, and which pixel sees what."""

import functools
from dataclasses import dataclass, replace

import cv2
import numpy as np

# From a camera that looks along x with z upwards to the optical frame: x right, y down, z ahead.
_OPTICAL = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])


@dataclass(frozen=True)
class Pose:
    """Position and heading in the world: x east, y north, z up, in metres.

    yaw_rad:   heading, counter-clockwise from x; pitch_rad: upwards; roll_rad: clockwise as seen from behind.
    """

    x_m: float
    y_m: float
    z_m: float = 1.5
    yaw_rad: float = 0.0
    pitch_rad: float = 0.0
    roll_rad: float = 0.0

    @property
    def position_m(self) -> np.ndarray:
        """(3,)."""
        return np.array([self.x_m, self.y_m, self.z_m])

    def rotation(self) -> np.ndarray:
        """(3, 3) from the camera's body (x ahead, y left, z up) to the world."""
        (cy, sy), (cp, sp), (cr, sr) = (
            (np.cos(a), np.sin(a)) for a in (self.yaw_rad, self.pitch_rad, self.roll_rad)
        )
        yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        pitch = np.array([[cp, 0, -sp], [0, 1, 0], [sp, 0, cp]])
        roll = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
        return yaw @ pitch @ roll

    def beside(self, right_m: float) -> "Pose":
        """The same view from so many metres further to the right, as the other camera of a pair has it."""
        x, y, z = (self.position_m - right_m * self.rotation()[:, 1]).tolist()
        return replace(self, x_m=x, y_m=y, z_m=z)

    def matrix(self) -> np.ndarray:
        """(4, 4) from the optical frame (x right, y down, z ahead) to the world."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.rotation() @ _OPTICAL.T
        matrix[:3, 3] = self.position_m
        return matrix

    def quaternion(self) -> np.ndarray:
        """(4,) x, y, z, w of the rotation from body to world."""
        halves = np.array([self.roll_rad, -self.pitch_rad, self.yaw_rad]) / 2
        (cr, cp, cy), (sr, sp, sy) = np.cos(halves), np.sin(halves)
        return np.array(
            [
                sr * cp * cy - cr * sp * sy,
                cr * sp * cy + sr * cp * sy,
                cr * cp * sy - sr * sp * cy,
                cr * cp * cy + sr * sp * sy,
            ]
        )


@dataclass(frozen=True)
class Camera:
    """A camera with radial distortion: k1, k2 of OpenCV's plumb_bob model around the middle of the image."""

    width_px: int = 320
    height_px: int = 240
    fov_deg: float = 75.0
    k1: float = 0.0
    k2: float = 0.0

    @property
    def focal_px(self) -> float:
        return float(self.width_px / 2 / np.tan(np.radians(self.fov_deg) / 2))

    def matrix(self) -> np.ndarray:
        """(3, 3) intrinsics; pixel centres have whole numbers."""
        f = self.focal_px
        centre = ((self.width_px - 1) / 2, (self.height_px - 1) / 2)
        return np.array([[f, 0, centre[0]], [0, f, centre[1]], [0, 0, 1.0]])

    def projection(self, baseline_m: float = 0.0) -> np.ndarray:
        """(3, 4) of a camera so far to the right of the one in whose frame the points are."""
        projection = np.hstack([self.matrix(), np.zeros((3, 1))])
        projection[0, 3] -= self.focal_px * baseline_m
        return projection

    def project(self, pose: Pose, points_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (n, 2) and depths in metres (n,) of points (n, 3); behind the camera depths are negative."""
        local = (np.atleast_2d(points_m) - pose.position_m) @ pose.rotation() @ _OPTICAL.T
        depth = local[:, 2]
        ahead = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
        x, y = local[:, 0] / ahead, local[:, 1] / ahead
        r2 = x**2 + y**2
        stretch = self.focal_px * (1 + self.k1 * r2 + self.k2 * r2**2)
        centre = self.matrix()[:2, 2]
        return np.stack([x * stretch, y * stretch], axis=1) + centre, depth


@functools.lru_cache(64)
def straight_pixels(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel would be without distortion: x and y, float32 (height_px, width_px) each."""
    x, y = np.meshgrid(np.arange(camera.width_px), np.arange(camera.height_px))
    pixels = np.stack([x, y], axis=-1).reshape(-1, 1, 2).astype(np.float64)
    coefficients = np.array([camera.k1, camera.k2, 0, 0])
    straight = cv2.undistortPoints(pixels, camera.matrix(), coefficients, P=camera.matrix())
    maps = straight.reshape(camera.height_px, camera.width_px, 2).astype(np.float32)
    return np.ascontiguousarray(maps[..., 0]), np.ascontiguousarray(maps[..., 1])


def overlap(camera: Camera, a: Pose, b: Pose, far_m: float = 25.0) -> float:
    """Share of what one camera may see up to far_m that the other may see too, 0 to 1, the smaller of both.

    Walls between them are not looked at: the two have to be in the same street or room.
    """
    return min(_seen_by(camera, a, b, far_m), _seen_by(camera, b, a, far_m))


def _seen_by(camera: Camera, viewer: Pose, other: Pose, far_m: float) -> float:
    depths = np.geomspace(2.0, far_m, 6)
    side = np.tan(np.radians(camera.fov_deg) / 2) * np.linspace(-0.95, 0.95, 9)
    across, ahead = (grid.ravel() for grid in np.meshgrid(side, depths))
    cos, sin = np.cos(viewer.yaw_rad), np.sin(viewer.yaw_rad)
    x = viewer.x_m + ahead * cos - across * ahead * sin
    y = viewer.y_m + ahead * sin + across * ahead * cos
    dx, dy = x - other.x_m, y - other.y_m
    cos, sin = np.cos(other.yaw_rad), np.sin(other.yaw_rad)
    depth, left = dx * cos + dy * sin, dy * cos - dx * sin
    half = np.tan(np.radians(camera.fov_deg) / 2)
    seen = (depth > 0.5) & (depth < 1.3 * far_m) & (np.abs(left) < half * depth)
    return float(seen.mean())
