# SPDX-License-Identifier: MIT
"""Pictures one after another, whether they come from a file, a folder, a video or a camera."""

import os
import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from netvlad_ros.config import DEFAULT_CAMERA
from netvlad_ros.data.image_decoding import decode_image
from netvlad_ros.data.sixteen_bit import eight_bit
from netvlad_ros.errors import ImageError

SUFFIXES = {
    *(
        ".avif",
        ".bmp",
        ".gif",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".jp2",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
    ),
    *(".tif", ".tiff", ".webp"),
}
# Pictures too, but none that OpenCV reads: in a folder each is a picture with a problem, not passed over.
UNREADABLE = {
    *(
        ".arw",
        ".cr2",
        ".cr3",
        ".dng",
        ".heic",
        ".heif",
        ".jxl",
        ".nef",
        ".orf",
        ".psd",
        ".raf",
        ".rw2",
    ),
}
_CAMERA_FILE = re.compile(r"/dev/video(\d+)")
# What FFmpeg calls quiet. OpenCV reads it when a video is opened.
_FFMPEG_QUIET = "-8"


@dataclass(frozen=True)
class Picture:
    """One picture of a source.

    name:    its file relative to the folder, or which picture of a video or camera it is.
    image:   uint8 RGB (H, W, 3); None if it can't be read.
    problem: why not, in one sentence, else empty.
    path:    its file; None if it is part of a video or from a camera.
    time_s:  since the beginning of the video or since the camera was opened; None for files.
    """

    name: str
    image: np.ndarray | None
    problem: str = ""
    path: Path | None = None
    time_s: float | None = None


def pictures(
    source: str, every_s: float = 0.0, max_pixels: int = DEFAULT_CAMERA.max_pixels
) -> Generator[Picture, None, None]:
    """All pictures of an image file, a folder (with its folders), a video file or a camera.

    source:  a path, or a camera as /dev/videoN or as its number.
    every_s: of a video or camera, take one picture in so many seconds; 0 takes them all.
    max_pixels: image files of more are not decoded.
    Raises ImageError, at the first picture, if there is no such thing or nothing in it.
    """
    camera = camera_number(source)
    if camera is not None:
        yield from _camera_pictures(camera, every_s)
    elif Path(source).is_dir():
        paths = image_paths(source)
        yield from (
            read_picture(path, shown_name(path, Path(source)), max_pixels) for path in paths
        )
    elif not Path(source).is_file():
        raise ImageError(
            f"{source}: no such file or folder; expected an image, a folder of images, a video or a camera "
            "(its number or /dev/videoN)."
        )
    elif Path(source).suffix.lower() in (SUFFIXES | UNREADABLE) - {".gif"}:  # which may move
        path = Path(source)
        yield Picture(shown_name(path, path.parent), read_image(path, max_pixels), path=path)
    else:
        yield from _video_pictures(source, every_s)


def refuse_unusable(source: str) -> None:
    """Raises the ImageError that pictures() would raise, by taking the first picture."""
    with closing(pictures(source)) as found:
        next(found)


def camera_number(source: str) -> int | None:
    """Which camera is meant by 0 or /dev/video0; None if it is something else, such as a folder named 0."""
    named = _CAMERA_FILE.fullmatch(source)
    if named:
        return int(named[1])
    return int(source) if source.isdecimal() and not Path(source).exists() else None


def image_paths(folder: str | Path) -> list[Path]:
    """The image files in a folder and in its folders, 2.jpg before 10.jpg; links are followed, once.

    Among them those of kinds that can't be read, for somebody to be told of them. Raises ImageError if it is
    no folder that can be read, or holds none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"{folder}: there is no such folder; expected one with images.")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ImageError(f"{folder}: this folder can't be read; its permissions forbid it.")
    paths = [
        path
        for path in _files(folder)
        if path.suffix.lower() in SUFFIXES | UNREADABLE and not path.name.startswith(".")
    ]
    if not paths:
        kinds = ", ".join(sorted(suffix.removeprefix(".") for suffix in SUFFIXES))
        raise ImageError(f"{folder}: expected images ({kinds}) in this folder, got none.")
    return sorted(paths, key=lambda path: _natural(str(path)))


def shown_name(path: Path, folder: Path) -> str:
    """A file relative to a folder, as it can be printed: names of files need not be valid Unicode."""
    name = path.relative_to(folder).as_posix()
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def read_picture(path: Path, name: str, max_pixels: int = DEFAULT_CAMERA.max_pixels) -> Picture:
    """The picture in a file; one that can't be read has a problem instead of an image."""
    try:
        return Picture(name, read_image(path, max_pixels), path=path)
    except ImageError as error:
        return Picture(name, None, str(error).removeprefix(f"{path}: "), path)


def read_image(path: str | Path, max_pixels: int = DEFAULT_CAMERA.max_pixels) -> np.ndarray:
    """uint8 RGB (H, W, 3), turned as its camera was held; of 16 bits the range in use becomes 0 to 255.

    Raises ImageError if it can't be read, is damaged, or has more than max_pixels.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: can't read the image ({error.strerror}).") from None
    try:
        if Path(path).suffix.lower() in UNREADABLE:
            raise ImageError(
                "OpenCV does not read this kind of image; convert it to JPEG or PNG, such as with "
                "`heif-convert` or ImageMagick's `convert`."
            )
        image = eight_bit(decode_image(content, max_pixels))
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)


def decode(content: np.ndarray) -> np.ndarray | None:
    """uint8 RGB (H, W, 3) from an image file that was made here; None if it is none."""
    try:
        image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    except cv2.error:
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _files(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above it would go round for ever
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place, name) for name in names)


def _natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in names by their value."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)
    ]


def _video_pictures(path: str, every_s: float) -> Iterator[Picture]:
    capture = _open(path)
    rate = capture.get(cv2.CAP_PROP_FPS)
    frames = _frames(capture, lambda number: _video_time_s(capture, number, rate), every_s)
    with closing(frames):
        first = next(frames, None)
        if first is None:
            raise ImageError(f"{path}: expected an image or a video, got a file of another kind.")
        yield first
        yield from frames


def _camera_pictures(number: int, every_s: float) -> Iterator[Picture]:
    if not Path(f"/dev/video{number}").exists():
        present = sorted(file.name for file in Path("/dev").glob("video*"))
        raise ImageError(
            f"camera {number}: there is no /dev/video{number}; expected one of those that are connected: "
            f"{', '.join(present) or 'none'}."
        )
    start_s = time.monotonic()
    frames = _frames(_open(number), lambda _: time.monotonic() - start_s, every_s)
    with closing(frames):
        first = next(frames, None)
        if first is None:
            raise ImageError(
                f"camera {number}: gives no images; does another program use it, or do its permissions "
                "forbid it?"
            )
        yield first
        yield from frames


def _open(source: str | int) -> cv2.VideoCapture:
    """A file or a camera, without what OpenCV and FFmpeg write to stderr."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _FFMPEG_QUIET)
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(source)
    finally:
        cv2.utils.logging.setLogLevel(level)


def _frames(
    capture: cv2.VideoCapture, time_of: Callable[[int], float], every_s: float
) -> Generator[Picture, None, None]:
    """Of each so many seconds the first frame; the others are passed over without converting them."""
    number, due_s = 0, 0.0
    try:
        while capture.grab():
            now_s = time_of(number)
            if now_s >= due_s:
                readable, frame = capture.retrieve()
                if readable:
                    image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
                    yield Picture(f"frame {number}", image, time_s=now_s)
                due_s = max(due_s + every_s, now_s)
            number += 1
    finally:
        capture.release()


def _video_time_s(capture: cv2.VideoCapture, number: int, rate: float) -> float:
    """From the file; where it says nothing, from the number of the frame."""
    stamp_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
    return stamp_s if stamp_s > 0.0 or number == 0 or rate <= 0.0 else number / rate
