# SPDX-License-Identifier: MIT
"""What the first bytes of an image file say: its kind, and how many pixels it has."""

import re
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from netvlad_ros.errors import ImageError

Size = tuple[int, int]


class Header(NamedTuple):
    """The kind of an image file, such as JPEG, and its (width, height) in pixels, None if it does not say."""

    kind: str
    size_px: Size | None


def read_header(content: bytes) -> Header:
    """The header of an image file; its kind is empty if it is none that is known."""
    for kind, start, size in _KINDS:
        if start.match(content):
            try:
                return Header(kind, size(content))
            except (struct.error, IndexError, ValueError):
                return Header(kind, None)
    return Header("", None)


def refuse_too_large(width: int, height: int, max_pixels: int) -> None:
    """Raises ImageError for more pixels than camera.max_pixels."""
    if width * height > max_pixels:
        raise ImageError(
            f"it has {width} x {height} pixels, expected at most {max_pixels} in all; scale it down, or "
            "raise camera.max_pixels if there is memory for it."
        )


def _png(content: bytes) -> Size:
    return struct.unpack_from(">II", content, 16)


def _gif(content: bytes) -> Size:
    return struct.unpack_from("<HH", content, 6)


def _bmp(content: bytes) -> Size:
    """A negative height means that rows go from top to bottom."""
    is_old = struct.unpack_from("<I", content, 14)[0] == 12
    width, height = struct.unpack_from("<HH" if is_old else "<ii", content, 18)
    return abs(width), abs(height)


def _pnm(content: bytes) -> Size:
    """Words between white space and comments: P5, the width, the height."""
    words = re.sub(rb"#[^\n]*", b"", content[:4096]).split(maxsplit=3)
    return int(words[1]), int(words[2])


def jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Marker, content and end of each segment of a JPEG up to its first scan; a thumbnail is part of one."""
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xFF:  # fills up
            place += 1
            continue
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        yield marker, content[place + 4 : end], end
        if marker == 0xDA:
            return
        place = end


def _jpeg(content: bytes) -> Size | None:
    for marker, segment, _ in jpeg_segments(content):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", segment, 1)
            return width, height
    return None


def _webp(content: bytes) -> Size | None:
    kind = content[12:16]
    if kind == b"VP8X":
        width, height = content[24:27], content[27:30]
        return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", content, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", content, 26)
    return width & 0x3FFF, height & 0x3FFF


def _tiff(content: bytes) -> Size | None:
    """Tags 256 and 257 of the first directory, which are 16, 32 or, in a BigTIFF, 64 bits."""
    order = "<" if content[:2] == b"II" else ">"
    is_big = struct.unpack_from(order + "H", content, 2)[0] == 43
    number, entry, offset = ("Q", "HHQ", 8) if is_big else ("I", "HHI", 4)
    place = struct.unpack_from(order + number, content, offset)[0]
    count = struct.unpack_from(order + ("Q" if is_big else "H"), content, place)[0]
    place += 8 if is_big else 2
    found: dict[int, int] = {}
    for _ in range(min(count, 4096)):
        tag, kind, _ = struct.unpack_from(order + entry, content, place)
        place += struct.calcsize(order + entry)
        value = {3: "H", 4: "I", 16: "Q"}.get(kind)
        if tag in (256, 257) and value:
            found[tag] = struct.unpack_from(order + value, content, place)[0]
        place += struct.calcsize(number)
    return (found[256], found[257]) if len(found) == 2 else None


def _jpeg_2000(content: bytes) -> Size | None:
    """From the marker SIZ that begins the codestream, inside of a JP2 file or alone."""
    place = content.index(b"\xff\x4f\xff\x51")
    right, bottom, left, top = struct.unpack_from(">IIII", content, place + 8)
    return right - left, bottom - top


def _heif(content: bytes) -> Size | None:
    """The largest of the boxes that tell a size; there is one for each tile and thumbnail, too."""
    sizes = [
        struct.unpack_from(">II", content, found.end() + 4)
        for found in re.finditer(b"ispe", content[:65536])
    ]
    return max(sizes, default=None)


_KINDS: tuple[tuple[str, re.Pattern[bytes], Callable[[bytes], Size | None]], ...] = (
    ("JPEG", re.compile(rb"\xff\xd8\xff"), _jpeg),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    ("WebP", re.compile(rb"RIFF....WEBP", re.DOTALL), _webp),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]"), _tiff),
    ("BMP", re.compile(rb"BM"), _bmp),
    ("GIF", re.compile(rb"GIF8"), _gif),
    ("PNM", re.compile(rb"P[1-6]\s"), _pnm),
    ("JPEG 2000", re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), _jpeg_2000),
    ("AVIF", re.compile(rb"....ftypavi[fs]", re.DOTALL), _heif),
    ("HEIC", re.compile(rb"....ftyp(hei|hev|mif1|msf1)", re.DOTALL), _heif),
    ("JPEG XL", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), lambda _: None),
    ("Photoshop", re.compile(rb"8BPS"), lambda _: None),
)
