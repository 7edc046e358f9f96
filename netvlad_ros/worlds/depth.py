# SPDX-License-Identifier: MIT
"""How far away is what each pixel shows: a drawing in numbers says which quad, the quad's plane says how far.

So only which surface is seen depends on the renderer, whose own depths can't be had; the depth is exact.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from netvlad_ros.errors import WorldError
from netvlad_ros.worlds.camera import Camera, Pose, straight_pixels

# Of the digits in red, green and blue. The renderer may darken a colour by 1 of 255, so each digit has two.
_BASE = 127


def colours_of(numbers: np.ndarray) -> np.ndarray:
    """uint8 RGBA (n, 4) that stand for numbers (n,) from 0. Raises WorldError for more than 2 million."""
    if numbers.max(initial=0) >= _BASE**3:
        raise WorldError(
            f"depth: expected a world of at most {_BASE**3} quads, got {numbers.max() + 1}; "
            "simplify the model or cut it into parts."
        )
    digits = [numbers // _BASE**place % _BASE * 2 + 3 for place in range(3)]
    return np.stack([*digits, np.full_like(numbers, 255)], axis=1).astype(np.uint8)


def numbers_of(image: np.ndarray) -> np.ndarray:
    """int32 (H, W) of a picture in such colours, uint8 RGB (H, W, 3); -1 where it is black."""
    red, green, blue = (image[..., channel].astype(np.int32) // 2 - 1 for channel in range(3))
    return np.where(red < 0, -1, red + _BASE * (green + _BASE * blue))


@dataclass(frozen=True)
class Planes:
    """The quads of a world: corners_m (n, 4, 3), normals (n, 3) of any length."""

    corners_m: np.ndarray
    normals: np.ndarray

    @classmethod
    def of(cls, positions_m: np.ndarray) -> "Planes":
        """positions_m: (4 n, 3), the corners of flat quads; those of a triangle name one twice."""
        corners_m = positions_m.reshape(-1, 4, 3)
        diagonals = corners_m[:, 2:] - corners_m[:, :2]
        return cls(corners_m, np.cross(diagonals[:, 0], diagonals[:, 1]))


def depth_of(
    image: np.ndarray, planes: Planes, camera: Camera, pose: Pose, near_m: float
) -> np.ndarray:
    """float32 (height_px, width_px), metres along the optical axis; NaN where there is no quad.

    image: uint8 RGB (s height_px, s width_px, 3), each quad in the colour of its number, without distortion.
    """
    x, y = straight_pixels(camera)
    quads = numbers_of(_colours_at(image, x, y, camera))
    rotation, centre = pose.matrix()[:3, :3], camera.matrix()[:2, 2]
    offsets_m = planes.corners_m - pose.position_m
    # On a plane n.p = h, the inverse of the depth is linear in the pixel: n.(x, y, 1) / h.
    heights = np.einsum("ni,ni->n", planes.normals, offsets_m[:, 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b, c = (planes.normals @ rotation / heights[:, None]).T
        across, down = ((x - centre[0]) / camera.focal_px, (y - centre[1]) / camera.focal_px)
        depth_m = 1 / (a[quads] * across + b[quads] * down + c[quads])
    # A quad is drawn a little larger than it is; its plane goes on there, but not farther than its corners.
    corners = offsets_m @ rotation[:, 2]
    depth_m = depth_m.clip(corners.min(1).clip(near_m)[quads], corners.max(1)[quads])
    return np.where(quads < 0, np.nan, depth_m).astype(np.float32)


def _colours_at(image: np.ndarray, x: np.ndarray, y: np.ndarray, camera: Camera) -> np.ndarray:
    """uint8 RGB of each pixel, black beyond the image; x, y: where the pixel is without distortion."""
    height, width = image.shape[:2]
    # Panda's software renderer draws half a pixel of its own smaller, from the upper left corner.
    column = np.floor((x + 0.5) / camera.width_px * (width - 0.5))
    row = np.floor((y + 0.5) / camera.height_px * (height - 0.5))
    return cv2.remap(image, column, row, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)


def sixteen_bits(depth_m: np.ndarray, unit_m: float) -> np.ndarray:
    """uint16 in a unit, rounded; 0 where there is no depth, or more of it than 65535 units."""
    units = np.nan_to_num(np.round(depth_m / unit_m))
    return np.where(units <= np.iinfo(np.uint16).max, units, 0).astype(np.uint16)
