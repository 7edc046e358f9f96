# SPDX-License-Identifier: MIT
"""Damaged files are refused though decoders fill them in, large ones before that, and healthy ones never."""

import contextlib
import os
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from netvlad_ros.data.image_decoding import decode_image
from netvlad_ros.data.image_header import read_header
from netvlad_ros.errors import ImageError

RNG = np.random.default_rng(9)
MAX_PIXELS = 10**8
NAMES = {
    ".jpg": "JPEG",
    ".png": "PNG",
    ".webp": "WebP",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".ppm": "PNM",
    ".pgm": "PNM",
    ".jp2": "JPEG 2000",
    ".avif": "AVIF",
}


def photo(height: int = 480, width: int = 640) -> np.ndarray:
    """Something smooth with a little noise, as photos are."""
    coarse = RNG.integers(0, 256, (30, 40, 3), np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.add(smooth, RNG.integers(0, 12, smooth.shape, np.uint8))


def encoded(extension: str, image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(extension, image, options)[1].tobytes()


PHOTO = photo()
KINDS: dict[str, tuple[str, list[int]]] = {
    "jpeg": (".jpg", []),
    "jpeg of other tables": (".jpg", [cv2.IMWRITE_JPEG_OPTIMIZE, 1]),
    "jpeg with restart marks": (".jpg", [cv2.IMWRITE_JPEG_RST_INTERVAL, 4]),
    "webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 80]),
    "webp without loss": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
    "tiff of lzw": (".tiff", [cv2.IMWRITE_TIFF_COMPRESSION, 5]),
    "tiff of deflate": (".tiff", [cv2.IMWRITE_TIFF_COMPRESSION, 8]),
    "png": (".png", []),
    "avif": (".avif", []),
}


def damaged(content: bytes, kind: str, place: int, size: int = 200) -> bytes:
    filling = {"zeros": bytes(size), "ones": b"\xff" * size, "taken out": b""}[kind]
    return content[:place] + filling + content[place + size :]


@pytest.mark.parametrize("hole", ["zeros", "ones", "taken out"])
@pytest.mark.parametrize("name", KINDS)
def test_a_file_with_a_hole_is_refused_wherever_it_lies(name: str, hole: str, capfd: Any):
    extension, options = KINDS[name]
    content = encoded(extension, PHOTO, *options)
    places = np.linspace(0.2, 0.8, 12) * len(content)
    seen = 0
    for place in places.astype(int):
        with contextlib.suppress(ImageError):
            image = decode_image(damaged(content, hole, place), MAX_PIXELS)
            # What is not noticed may be a last strip or a code that changes next to nothing.
            seen -= np.abs(image.astype(int) - PHOTO).mean() > 1
        seen += 1
    # By chance the codes behind a hole may fit again; then nobody can notice it.
    assert seen >= len(places) - 2
    assert capfd.readouterr().err == ""


def test_what_is_wrong_is_told_in_one_sentence():
    content = damaged(encoded(".jpg", PHOTO), "ones", 30000)
    with pytest.raises(ImageError) as error:
        decode_image(content, MAX_PIXELS)
    assert str(error.value) == (
        "this JPEG file is damaged (Corrupt JPEG data: premature end of data segment); copy or record it "
        "again."
    )


def made_up() -> dict[str, np.ndarray]:
    """Pictures whose codes are as regular as a hole."""
    rows, columns = np.indices((480, 640))
    flat = {str(level): np.full((480, 640, 3), level, np.uint8) for level in (0, 128, 255)}
    half = PHOTO.copy()
    half[:240] = 255
    patch = np.zeros_like(PHOTO)
    patch[100:140, 200:300] = PHOTO[100:140, 200:300]
    return flat | {
        "white sky": half,
        "patch": patch,
        "ramp": np.dstack([(columns * 255 // 639).astype(np.uint8)] * 3),
        "chessboard": np.dstack([((rows + columns) % 2 * 255).astype(np.uint8)] * 3),
        "tiles": np.dstack([((rows // 8 + columns // 8) % 2 * 255).astype(np.uint8)] * 3),
        "noise": RNG.integers(0, 256, (480, 640, 3), np.uint8),
    }


@pytest.mark.parametrize("name", KINDS)
def test_no_healthy_file_is_refused_however_regular(name: str):
    extension, options = KINDS[name]
    for picture in made_up().values():
        for image in (picture, picture[:, :, 0]):
            content = encoded(extension, image, *options)
            assert decode_image(content, MAX_PIXELS).shape[:2] == (480, 640)


def test_a_few_bytes_before_the_end_mark_are_no_damage():
    """Many webcams leave some."""
    content = encoded(".jpg", PHOTO)
    padded = content[:-2] + b"\0\0" + content[-2:]
    np.testing.assert_array_equal(
        decode_image(padded, MAX_PIXELS), decode_image(content, MAX_PIXELS)
    )


def test_a_complaint_belongs_to_one_image_though_many_are_decoded_at_once():
    whole = encoded(".jpg", PHOTO)
    broken = damaged(whole, "ones", 30000)

    def is_refused(number: int) -> bool:
        try:
            decode_image(broken if number % 3 == 0 else whole, MAX_PIXELS)
        except ImageError:
            return True
        return False

    with ThreadPoolExecutor(6) as threads:
        refused = list(threads.map(is_refused, range(120)))
    assert refused == [number % 3 == 0 for number in range(120)]


def test_what_others_write_to_stderr_meanwhile_arrives(capfd: Any):
    broken = damaged(encoded(".jpg", PHOTO), "ones", 30000)
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            os.write(2, b"mine\n")
            time.sleep(0.0002)

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(30):
        with pytest.raises(ImageError, match="damaged"):
            decode_image(broken, MAX_PIXELS)
    done.set()
    writer.join()
    lines = capfd.readouterr().err.splitlines()
    assert set(lines) == {"mine"}


def test_images_are_decoded_in_a_forked_process_too():
    content = encoded(".jpg", PHOTO)
    decode_image(content, MAX_PIXELS)
    child = os.fork()
    if child == 0:
        os._exit(0 if decode_image(content, MAX_PIXELS).shape == PHOTO.shape else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_no_file_stays_open_because_a_decoder_has_a_copy(tmp_path: Path):
    reading, writing = os.pipe()
    decode_image(encoded(".jpg", PHOTO), MAX_PIXELS)
    os.close(writing)
    assert os.read(reading, 1) == b""  # the end, as nobody else can write
    os.close(reading)


@pytest.mark.parametrize("extension", NAMES)
@pytest.mark.parametrize("size_px", [(64, 48), (37, 33), (301, 40)])
def test_the_header_tells_kind_and_size(extension: str, size_px: tuple[int, int]):
    width, height = size_px
    image = cv2.resize(PHOTO, size_px)
    content = encoded(extension, image[:, :, 0] if extension == ".pgm" else image)
    assert read_header(content) == (NAMES[extension], size_px)
    with pytest.raises(ImageError, match=f"it has {width} x {height} pixels"):
        decode_image(content, width * height - 1)
    assert decode_image(content, width * height).shape[:2] == (height, width)


@pytest.mark.parametrize("quality", [50, 101])
def test_the_header_of_a_transparent_webp_tells_its_size(quality: int):
    content = encoded(
        ".webp", np.dstack([PHOTO, PHOTO[:, :, 0]]), cv2.IMWRITE_WEBP_QUALITY, quality
    )
    assert read_header(content) == ("WebP", (640, 480))


def test_the_thumbnail_in_a_jpeg_is_not_its_size():
    whole, small = encoded(".jpg", PHOTO), encoded(".jpg", PHOTO[:48, :64])
    content = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small + whole[2:]
    assert read_header(content) == ("JPEG", (640, 480))


def big_png(side: int) -> bytes:
    """A black PNG of a few megabytes that would be gigabytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    packer = zlib.compressobj(1)
    row = bytes(1 + 3 * side)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def test_a_small_file_of_enormous_size_is_refused_at_once():
    content = big_png(10_001)
    start_s = time.perf_counter()
    with pytest.raises(ImageError, match=r"it has 10001 x 10001 pixels.*raise camera\.max_pixels"):
        decode_image(content, MAX_PIXELS)
    assert time.perf_counter() - start_s < 0.5


@pytest.mark.parametrize("extension", NAMES)
def test_the_beginning_of_a_file_alone_is_refused(extension: str, capfd: Any):
    image = PHOTO[:48, :64]
    content = encoded(extension, image[:, :, 0] if extension == ".pgm" else image)
    for size in (*range(40), 100, 200, 500, len(content) // 2):
        with pytest.raises(ImageError):
            decode_image(content[: min(size, len(content) * 3 // 4)], MAX_PIXELS)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("extension", NAMES)
def test_bytes_changed_at_random_are_read_or_refused(extension: str):
    image = PHOTO[:48, :64]
    content = encoded(extension, image[:, :, 0] if extension == ".pgm" else image)
    for _ in range(150):
        changed = bytearray(content)
        for place in RNG.integers(0, min(len(content), 400), 3):
            changed[place] = RNG.integers(256)
        try:
            assert decode_image(bytes(changed), 10**6).dtype in (np.uint8, np.uint16)
        except ImageError:
            continue
