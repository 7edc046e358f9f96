# SPDX-License-Identifier: MIT
"""Pictures come from files, folders, videos and cameras in the same way, and what is none is refused."""

import itertools
import os
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from netvlad_ros.data import image_files
from netvlad_ros.data.image_files import (
    Picture,
    camera_number,
    image_paths,
    pictures,
    read_image,
    refuse_unusable,
)
from netvlad_ros.errors import ImageError

RED = (250, 10, 10)


def write(path: Path, rgb: tuple[int, int, int] = RED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((32, 48, 3), rgb[::-1], np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path


def write_video(path: Path, frames: int, rate: float = 10.0) -> str:
    """Frame i has the grey value 10 * i."""
    fourcc = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), fourcc, rate, (64, 48))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 10 * number, np.uint8))
    writer.release()
    return str(path)


def test_an_image_is_rgb(tmp_path: Path):
    [picture] = pictures(str(write(tmp_path / "red.png")))
    assert picture.image is not None
    assert (picture.name, picture.path) == ("red.png", tmp_path / "red.png")
    assert picture.image.shape == (32, 48, 3)
    assert tuple(picture.image[0, 0]) == RED


@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".JPEG", ".png", ".ppm", ".tiff", ".webp"])
def test_every_usual_kind_of_image_is_read(tmp_path: Path, suffix: str):
    image = read_image(write(tmp_path / f"red{suffix}"))
    np.testing.assert_allclose(image.mean(axis=(0, 1)), RED, atol=6)


def test_grey_deep_and_transparent_images_become_eight_bit_rgb(tmp_path: Path):
    grey = np.linspace(0, 255, 72).astype(np.uint8).reshape(8, 9)
    images: dict[str, np.ndarray] = {
        "grey.png": grey,
        "deep.png": grey.astype(np.uint16) * 257,
        "clear.png": np.dstack([grey, grey, grey, grey]),
        "ten_bits.png": grey.astype(np.uint16) * 4,
        "thermal.tiff": 7000 + grey.astype(np.uint16) * 4,
        "deep_colours.tiff": np.dstack([grey, grey, grey]).astype(np.uint16) * 16,
    }
    for name, image in images.items():
        cv2.imwrite(str(tmp_path / name), image)
        np.testing.assert_array_equal(read_image(tmp_path / name), np.dstack([grey] * 3), name)


def test_pictures_of_kinds_that_cannot_be_read_are_named_in_a_folder(tmp_path: Path):
    write(tmp_path / "1.jpg")
    write(tmp_path / "2.avif")
    (tmp_path / "3.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (tmp_path / "4.dng").write_bytes(b"II*\0")
    write(tmp_path / "5.gif")
    found = list(pictures(str(tmp_path)))
    assert [each.name for each in found] == ["1.jpg", "2.avif", "3.HEIC", "4.dng", "5.gif"]
    assert [each.image is not None for each in found] == [True, True, False, False, True]
    assert "convert it to JPEG or PNG" in found[2].problem
    assert "convert it to JPEG or PNG" in found[3].problem
    with pytest.raises(
        ImageError, match=r"3.HEIC: OpenCV does not read this kind of image; convert"
    ):
        next(pictures(str(tmp_path / "3.HEIC")))


def test_what_a_file_holds_counts_not_its_name(tmp_path: Path):
    (tmp_path / "1.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(ImageError, match=r"this HEIC file can't be decoded; .*convert it to JPEG"):
        read_image(tmp_path / "1.jpg")
    write(tmp_path / "2.png").rename(tmp_path / "2.jpg")
    assert tuple(read_image(tmp_path / "2.jpg")[0, 0]) == RED


def test_files_of_measurements_are_no_pictures(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "depth.tiff"), np.ones((8, 9), np.float32))
    with pytest.raises(ImageError, match=r"measurements \(float32\)"):
        read_image(tmp_path / "depth.tiff")


def test_a_file_of_too_many_pixels_is_refused_in_a_folder_too(tmp_path: Path):
    write(tmp_path / "1.png")
    assert read_image(tmp_path / "1.png", 32 * 48).shape == (32, 48, 3)
    [found] = pictures(str(tmp_path), max_pixels=32 * 48 - 1)
    assert found.problem.startswith("it has 48 x 32 pixels, expected at most 1535 in all")


def test_a_folder_is_read_with_its_folders_and_numbers_in_their_order(tmp_path: Path):
    for name in ("10.jpg", "2.jpg", "rear/1.PNG", "rear/left/0.jpg", ".hidden.jpg"):
        write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    names = [picture.name for picture in pictures(str(tmp_path))]
    assert names == ["2.jpg", "10.jpg", "rear/1.PNG", "rear/left/0.jpg"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path):
    write(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "folder" / "back").symlink_to(tmp_path / "folder")
    (tmp_path / "folder" / "gone.png").symlink_to(tmp_path / "absent.png")
    found = list(pictures(str(tmp_path / "folder")))
    assert [(each.name, bool(each.problem)) for each in found] == [
        ("gone.png", True),
        ("link/1.png", False),
    ]


def test_in_a_folder_a_broken_image_is_a_picture_with_a_problem(tmp_path: Path):
    whole = write(tmp_path / "1.jpg").read_bytes()
    (tmp_path / "2.jpg").write_bytes(whole[:40])
    (tmp_path / "3.jpg").write_bytes(b"")
    write(tmp_path / "4.jpg")
    found = list(pictures(str(tmp_path)))
    assert [each.image is None for each in found] == [False, True, True, False]
    assert found[1].problem == "expected a whole JPEG file, got a damaged one."
    assert found[2].problem == "expected an image, got a file of another kind or a damaged one."


def test_a_name_that_is_no_unicode_can_be_printed(tmp_path: Path):
    strange = os.fsdecode(b"caf\xe9.png")
    try:
        write(tmp_path / strange)
    except OSError:
        pytest.skip("this file system takes Unicode only")
    [picture] = pictures(str(tmp_path))
    assert picture.name == r"caf\xe9.png"
    assert picture.image is not None


def test_a_video_gives_each_frame_with_its_time(tmp_path: Path):
    found = list(pictures(write_video(tmp_path / "drive.avi", 6)))
    assert [each.name for each in found] == [f"frame {i}" for i in range(6)]
    assert [each.time_s for each in found] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    values = [float(each.image.mean()) for each in found if each.image is not None]
    assert values == pytest.approx([0, 10, 20, 30, 40, 50], abs=2)


@pytest.mark.parametrize(
    ("every_s", "frames"), [(0.3, [0, 3, 6, 9]), (0.25, [0, 3, 5, 8, 10]), (9.0, [0])]
)
def test_of_a_video_one_frame_in_so_many_seconds_is_taken(
    tmp_path: Path, every_s: float, frames: list[int]
):
    found = pictures(write_video(tmp_path / "drive.avi", 11), every_s)
    assert [each.name for each in found] == [f"frame {i}" for i in frames]


class FakeCamera:
    """Delivers a frame every eighth of a second of its own clock, up to so many."""

    def __init__(self, frames: int) -> None:
        self.left = frames
        self.now_s = 0.0
        self.released = False

    def grab(self) -> bool:
        self.left -= 1
        self.now_s += 0.125
        return self.left >= 0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((4, 4, 3), (1, 2, 3), np.uint8)

    def release(self) -> None:
        self.released = True


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> FakeCamera:
    """Stands for what OpenCV makes of /dev/video7."""
    fake = FakeCamera(25)
    monkeypatch.setattr(image_files, "_open", lambda source: fake if source == 7 else None)
    monkeypatch.setattr(time, "monotonic", lambda: fake.now_s)
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/dev/video7" or exists(path))
    return fake


@pytest.mark.parametrize("source", ["7", "/dev/video7"])
def test_a_camera_is_read_until_it_stops(camera: FakeCamera, source: str):
    found = list(pictures(source, 1.0))
    assert [each.name for each in found] == ["frame 0", "frame 7", "frame 15", "frame 23"]
    assert found[0].image is not None
    assert tuple(found[0].image[0, 0]) == (3, 2, 1)
    assert camera.released


def test_a_camera_is_let_go_when_nobody_reads_on(camera: FakeCamera):
    found = pictures("7")
    assert isinstance(next(found), Picture)
    found.close()
    assert camera.released


def test_a_camera_that_is_not_there_or_gives_nothing_is_refused(camera: FakeCamera):
    with pytest.raises(ImageError, match=r"^camera 98: there is no /dev/video98; expected one of"):
        next(pictures("98"))
    camera.left = 0
    with pytest.raises(ImageError, match=r"^camera 7: gives no images"):
        next(pictures("7"))


def test_a_folder_named_like_a_number_is_a_folder(tmp_path: Path, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "0" / "1.png")
    assert camera_number("0") is None
    assert camera_number("1") == 1
    assert [each.name for each in pictures("0")] == ["1.png"]


def test_what_is_no_source_of_pictures_is_refused_in_one_sentence(tmp_path: Path, capfd: Any):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "text.jpg").write_text("hello")
    whole = Path(write_video(tmp_path / "drive.avi", 3)).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[:100])
    for name, says in {
        "absent": "no such file or folder; expected an image, a folder",
        "empty": "expected images (avif, bmp, gif, jp2,",
        "text.txt": "expected an image or a video",
        "text.jpg": "expected an image, got a file of another kind",
        "cut.avi": "expected an image or a video",
    }.items():
        for refuse in (refuse_unusable, lambda source: list(itertools.islice(pictures(source), 1))):
            with pytest.raises(ImageError) as error:
                refuse(str(tmp_path / name))
            assert says in str(error.value)
            assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_a_folder_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: Any):
    write(tmp_path / "1.png")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ImageError, match="permissions forbid it"):
        image_paths(tmp_path)
