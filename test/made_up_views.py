# SPDX-License-Identifier: MIT
"""Images of made-up points, which are known to the last digit, as local features with camera and odometry."""

import numpy as np

from netvlad_ros.image_data import CameraModel, ImageData, LocalFeatures, Pose
from netvlad_ros.verification.rigid import inverse, quaternion_of, rigid

K = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
# From the optical frame (x right, y down, z ahead) to a base that looks ahead along x, with z up.
MOUNT = rigid(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.array([0.2, 0.0, 0.5]))
CAMERA = CameraModel(640, 480, "plumb_bob", K, np.zeros(5), None, "camera", MOUNT)


class Scene:
    """Points in front of a base that stands at the origin and looks along x, each of its own look."""

    def __init__(self, seed: int = 0, count: int = 300) -> None:
        rng = np.random.default_rng(seed)
        low, high = [4.0, -5.0, -2.0], [12.0, 5.0, 4.0]
        self.points_m = rng.uniform(low, high, (count, 3))
        self.looks = rng.integers(0, 256, (count, 32), np.uint8)

    def seen_from(
        self,
        base: np.ndarray,
        points_from: str = "depth",
        camera: CameraModel | None = CAMERA,
        noise_px: float = 0.0,
        odometry: np.ndarray | None = None,
        seed: int = 0,
    ) -> ImageData:
        """The image of a base at a pose (4, 4).

        points_from: empty gives features without points in metres.
        odometry:    (4, 4) of the base; None gives none.
        """
        rng = np.random.default_rng(seed)
        to_camera = inverse(base @ MOUNT)
        local = self.points_m @ to_camera[:3, :3].T + to_camera[:3, 3]
        ahead = local[:, 2] > 0.1
        pixels = local[:, :2] / local[:, 2:] * 500 + K[:2, 2]
        seen = ahead & ((pixels >= 0) & (pixels < [640, 480])).all(1)
        noisy = (
            pixels[seen] + rng.normal(0, noise_px, (seen.sum(), 2)) if noise_px else pixels[seen]
        )
        features = LocalFeatures(
            "orb",
            noisy.astype(np.float32),
            self.looks[seen],
            local[seen].astype(np.float32) if points_from else None,
            points_from,
        )
        return ImageData(features, camera, None if odometry is None else pose(odometry))


def pose(base: np.ndarray) -> Pose:
    """As odometry reports it."""
    return Pose("odom", "base_link", base[:3, 3].copy(), quaternion_of(base[:3, :3]))


def standing(x_m: float = 0.0, y_m: float = 0.0, yaw_deg: float = 0.0) -> np.ndarray:
    """Where a base stands on the ground (4, 4)."""
    cos, sin = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    return rigid(np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]]), np.array([x_m, y_m, 0.0]))
