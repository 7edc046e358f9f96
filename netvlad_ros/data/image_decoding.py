# SPDX-License-Identifier: MIT
"""The only way from the bytes of an image file to its pixels: size first, and nothing that is damaged.

What can't be noticed is what the format can't tell: other values in files without compression (BMP, PNM, some
TIFF), anything that leaves the length of a JPEG 2000 as it was, and in a WebP all but holes of equal bytes
that are long for its size, as these codes have no wrong words. In a JPEG one hole in twenty, other than of
zeros, ends where the codes happen to fit again.
"""

import re

import cv2
import numpy as np

from netvlad_ros.data.decoder import decode_watched
from netvlad_ros.data.image_header import jpeg_segments, read_header, refuse_too_large
from netvlad_ros.errors import ImageError

# Complaints of libjpeg, libtiff and OpenJPEG that mean wrong pixels. Not those of odd but healthy files, such
# as a few bytes that many webcams leave in front of the end mark.
_DAMAGE = re.compile(
    r"Corrupt JPEG data: (?!\d extraneous|bad ICC).*|Premature end of JPEG file|"
    r"(?<=TIFF_Error ).*|(?<=OpenJPEG2000: ).*"
)
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
# A hole is not shorter.
_ZEROS, _ONES = bytes(64), b"\xff" * 64
# The longest run of equal bytes in a healthy WebP: 0.72 bytes for each block of 16 x 16 of one colour, and
# 0.026 for each of the others, in pictures made up to be flat and smooth.
_WEBP_FLAT_BYTES = 0.8
_WEBP_BYTES = 0.03
_ALWAYS_READ = ("JPEG", "PNG", "BMP", "TIFF", "WebP", "PNM")


def decode_image(content: bytes, max_pixels: int) -> np.ndarray:
    """Grey (H, W) or BGR (H, W, 3), uint8 or uint16, turned as the camera was held.

    max_pixels: more than this are refused by the header, before anything is decoded.
    Raises ImageError, in a sentence about the file.
    """
    kind, size_px = read_header(content)
    if size_px:
        refuse_too_large(*size_px, max_pixels)
    if kind == "JPEG" and content.rfind(_JPEG_END) < content.rfind(_JPEG_SCAN):
        raise ImageError(f"its {len(content)} bytes are a JPEG file that is cut off; skip it.")
    image, complaints = decode_watched(content, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise ImageError(_why_unreadable(kind))
    damage = _DAMAGE.search(complaints)
    if damage or _has_hole(kind, content, image):
        what = damage[0].strip() if damage else "it has a hole of equal bytes"
        raise ImageError(f"this {kind} file is damaged ({what}); copy or record it again.")
    if image.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            f"it holds measurements ({image.dtype}), expected a picture of 8 or 16 bits a colour."
        )
    return image


def _why_unreadable(kind: str) -> str:
    if not kind:
        return "expected an image, got a file of another kind or a damaged one."
    if kind in _ALWAYS_READ:
        return f"expected a whole {kind} file, got a damaged one."
    return (
        f"this {kind} file can't be decoded; it is damaged, or OpenCV {cv2.__version__} does not read "
        f"{kind}: convert it to JPEG or PNG."
    )


def _has_hole(kind: str, content: bytes, image: np.ndarray) -> bool:
    """Whether codes that no decoder finds wrong have a hole: of zeros in a JPEG, of equal bytes in a WebP."""
    if kind == "JPEG":
        return _ZEROS in content and _ZEROS in _codes_without_zeros(content)
    return kind == "WebP" and _has_webp_hole(content, image)


def _has_webp_hole(content: bytes, image: np.ndarray) -> bool:
    """Whether there are more equal bytes than what is flat in the picture can give."""
    if _ZEROS not in content and _ONES not in content:
        return False
    codes = re.search(rb"VP8[ L]....(.*)", content[12:], re.DOTALL)
    longest = max(
        map(len, re.findall(rb"\0{64,}|\xff{64,}", codes[1] if codes else b"")), default=0
    )
    rows, columns = image.shape[0] // 16, image.shape[1] // 16
    one_colour = image if image.ndim == 2 else image[:, :, 1]
    blocks = one_colour[: 16 * rows, : 16 * columns].reshape(rows, 16, columns, 16)
    flat = np.count_nonzero(np.ptp(blocks, axis=(1, 3)) <= 2)
    return longest > max(64, _WEBP_BYTES * rows * columns) + _WEBP_FLAT_BYTES * flat


def _codes_without_zeros(content: bytes) -> bytes:
    """The scan of a JPEG, empty if zeros in it may be flat blocks.

    They are where the shortest code of every table ends a block. Elsewhere, as with the usual tables, zeros
    would be blocks of equal coefficients, which no picture has. Progressive files and those of several scans
    are left out.
    """
    zeros_are_flat, components = True, 0
    for marker, segment, end in jpeg_segments(content):
        if marker in (0xC0, 0xC1):
            components = segment[5]
        elif marker == 0xC4:
            zeros_are_flat &= all(first == 0 for first in _first_ac_codes(segment))
        elif marker == 0xDA:
            if zeros_are_flat or segment[0] != components:
                break
            return content[end : content.find(_JPEG_END, end)]
    return b""


def _first_ac_codes(tables: bytes) -> list[int]:
    """What the shortest code of each Huffman table for AC coefficients means; 0 ends a block."""
    found = []
    while len(tables) > 17:
        if tables[0] >> 4 == 1:
            found.append(tables[17])
        tables = tables[17 + sum(tables[1:17]) :]
    return found
