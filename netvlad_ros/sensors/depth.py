# SPDX-License-Identifier: MIT
"""Depth images as metres, out of sensor_msgs/Image and compressedDepth."""

import struct
from typing import Any

import cv2
import numpy as np

from netvlad_ros.data.decoder import decode_watched
from netvlad_ros.data.image_header import read_header, refuse_too_large
from netvlad_ros.data.image_messages import CompressedImage
from netvlad_ros.errors import CameraError

# REP 118; some drivers call millimetres mono16.
METRES = {"16UC1": 1e-3, "mono16": 1e-3, "32FC1": 1.0}
# compressed_depth_image_transport puts a header before the PNG: int32 and two float32.
_HEADER = struct.Struct("<iff")
_PNG = b"\x89PNG"
# A median outside of this is of another unit: what a robot has before it is neither nearer nor further.
MEDIAN_M = (0.05, 300.0)
# Below this share of known pixels there is nothing to use.
LEAST_KNOWN = 1e-3
# Sides in another proportion than those of the image by more than this are of another view.
PROPORTION_TOLERANCE = 0.01


def to_depth_m(message: Any, max_pixels: int) -> np.ndarray:
    """(H, W) float32 along the optical axis, NaN where it is not known.

    message: of rclpy or rosbags; 16UC1 in millimetres, 32FC1 in metres, or compressedDepth of either.
    Raises CameraError, also where depth is of another unit or nowhere known.
    """
    is_compressed = isinstance(message, CompressedImage)
    depth_m = (_decompressed if is_compressed else _raw)(message, max_pixels)
    depth_m[~((depth_m > 0.0) & (depth_m < np.inf))] = np.nan
    known = depth_m[np.isfinite(depth_m)]
    if known.size < LEAST_KNOWN * depth_m.size:
        raise CameraError(
            f"{known.size} of {depth_m.size} pixels have a depth; is the sensor covered, or too near to "
            "something?"
        )
    median_m = float(np.median(known))
    if not MEDIAN_M[0] <= median_m <= MEDIAN_M[1]:
        raise CameraError(
            f"its median is {median_m:.3g} m, which is of another unit; 16UC1 has to be in millimetres and "
            "32FC1 in metres (REP 118)."
        )
    return depth_m


def fitted(depth_m: np.ndarray, image: np.ndarray) -> np.ndarray:
    """At the size of the image, by nearest neighbours: depth in between is of nothing.

    Raises CameraError if it is of other proportions, so that it shows something else.
    """
    (height, width), (rows, columns) = image.shape[:2], depth_m.shape
    if (height, width) == (rows, columns):
        return depth_m
    if abs(columns * height / (rows * width) - 1.0) > PROPORTION_TOLERANCE:
        raise CameraError(
            f"it has {columns} x {rows} pixels and the image {width} x {height}, so it is not aligned with "
            "it; subscribe to the depth that is registered to the colour camera."
        )
    return cv2.resize(depth_m, (width, height), interpolation=cv2.INTER_NEAREST)


def _raw(message: Any, max_pixels: int) -> np.ndarray:
    encoding, width, height, step = message.encoding, message.width, message.height, message.step
    if encoding not in METRES:
        raise CameraError(
            f"its encoding is {encoding[:40]!r}, expected 16UC1 (millimetres) or 32FC1 (metres)."
        )
    refuse_too_large(width, height, max_pixels)
    dtype = np.dtype("f4" if encoding == "32FC1" else "u2")
    needed = height * step
    if min(width, height) < 1 or step < width * dtype.itemsize or len(message.data) < needed:
        raise CameraError(
            f"{len(message.data)} bytes in rows of {step} are no {width} x {height} {encoding} image; the "
            "program that publishes it sets its fields wrongly."
        )
    dtype = dtype.newbyteorder(">" if message.is_bigendian else "<")
    values: np.ndarray = np.ndarray(
        (height, width), dtype, message.data, strides=(step, dtype.itemsize)
    )
    return values.astype(np.float32) * np.float32(METRES[encoding])


def _decompressed(message: Any, max_pixels: int) -> np.ndarray:
    content = bytes(message.data)
    encoding = message.format.partition(";")[0].strip()
    if encoding not in METRES:
        raise CameraError(
            f"its format is {message.format[:80]!r}, expected `16UC1; compressedDepth png` or `32FC1; ...`."
        )
    start = 0 if content.startswith(_PNG) else _HEADER.size
    if not content[start:].startswith(_PNG):
        raise CameraError(
            f"its {len(content)} bytes of format {message.format[:80]!r} hold no PNG file; set the "
            "publisher's parameter `format` to png."
        )
    values = _decoded(content[start:], max_pixels)
    if encoding != "32FC1":
        return values.astype(np.float32) * np.float32(METRES[encoding])
    if not start:
        raise CameraError(
            "32FC1 as a PNG file without compressedDepth's header has no unit; publish it as compressedDepth."
        )
    _, factor, offset = _HEADER.unpack(content[:start])
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 stands for what is not known
        return np.where(values > 0, factor / (values - np.float32(offset)), np.nan).astype(
            np.float32
        )


def _decoded(png: bytes, max_pixels: int) -> np.ndarray:
    """(H, W) uint16."""
    _, size_px = read_header(png)
    if size_px:
        refuse_too_large(*size_px, max_pixels)
    image, _ = decode_watched(png, cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint16 or image.ndim != 2:
        raise CameraError("expected a whole PNG file of 16-bit grey, got a damaged or another one.")
    return image
