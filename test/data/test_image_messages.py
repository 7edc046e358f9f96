# SPDX-License-Identifier: MIT
"""Image messages become the picture that the camera saw, or are refused in one sentence."""

import array
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from netvlad_ros.config import CameraConfig
from netvlad_ros.data.image_messages import ENCODINGS, to_image
from netvlad_ros.errors import ImageError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
THERMAL = CameraConfig(depth_is_picture=True)
PLANES = [name for name, pixel in ENCODINGS.items() if pixel.planes == 2]


def raw(
    encoding: str, pixels: Any, padding: int = 0, big_endian: bool = False, **fields: Any
) -> Any:
    """An Image message with these pixels, (H, W) or (H, W, channels)."""
    pixels = np.asarray(pixels)
    stored = pixels.astype(pixels.dtype.newbyteorder(">" if big_endian else "<"))
    rows = np.frombuffer(stored.tobytes(), np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    return SimpleNamespace(
        **{
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "encoding": encoding,
            "is_bigendian": int(big_endian),
            "step": rows.shape[1],
            "data": rows.tobytes(),
        }
        | fields
    )


def compressed(extension: str, image: np.ndarray, format: str = "jpeg") -> Any:
    """A CompressedImage message of an image in OpenCV's order of colours."""
    return SimpleNamespace(format=format, data=cv2.imencode(extension, image)[1].tobytes())


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, shape, np.uint8)


def smooth_picture() -> np.ndarray:
    return cv2.resize(picture(6, 8, 3), (64, 48), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(
    ("encoding", "pixel"),
    [
        ("rgb8", (255, 0, 0)),
        ("bgr8", (0, 0, 255)),
        ("8UC3", (0, 0, 255)),
        ("rgba8", (255, 0, 0, 7)),
        ("bgra8", (0, 0, 255, 7)),
        ("8UC4", (0, 0, 255, 7)),
    ],
)
def test_red_is_red_in_every_order_of_colours(encoding: str, pixel: tuple[int, ...]) -> None:
    image = to_image(raw(encoding, np.full((2, 3, len(pixel)), pixel, np.uint8)))
    assert image.shape == (2, 3, 3)
    assert (image == RED).all()


@pytest.mark.parametrize("encoding", ["rgb16", "bgr16", "16UC3", "rgba16", "bgra16", "16UC4"])
def test_sixteen_bit_colours_become_eight_bit(encoding: str) -> None:
    blue = {"r": (0, 0, 65535, 9), "b": (65535, 0, 0, 9), "1": (65535, 0, 0, 9)}[encoding[0]]
    pixels = np.full((2, 2, ENCODINGS[encoding].channels), blue[: ENCODINGS[encoding].channels])
    assert (to_image(raw(encoding, pixels.astype(np.uint16))) == BLUE).all()


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_images_stay_grey(encoding: str) -> None:
    pixels = picture(4, 6)
    assert np.array_equal(to_image(raw(encoding, pixels)), pixels)


@pytest.mark.parametrize("encoding", ["mono16", "16UC1"])
def test_sixteen_bit_grey_is_scaled_and_rounded(encoding: str) -> None:
    pixels = np.array([[0, 128, 129, 257, 40000, 65535]], np.uint16)
    assert to_image(raw(encoding, pixels), THERMAL).tolist() == [[0, 0, 1, 1, 156, 255]]


def test_sixteen_bit_grey_of_one_channel_is_depth_unless_somebody_says_that_it_is_a_picture() -> (
    None
):
    """The same in an image, and in what image_transport compresses of it."""
    pixels = picture(48, 64).astype(np.uint16) * 4 + 7000
    for message in (raw("16UC1", pixels), compressed(".png", pixels, "16UC1; png compressed ")):
        with pytest.raises(ImageError, match=r"usually holds depth.*set camera.depth_is_picture"):
            to_image(message)
        expected = to_image(raw("mono16", pixels))
        assert np.array_equal(to_image(message, THERMAL), expected)
    with pytest.raises(ImageError, match="measurements"):
        to_image(compressed(".png", pixels, "32FC1; png compressed "), THERMAL)


@pytest.mark.parametrize(
    ("encoding", "colours"),
    [
        ("bayer_rggb", (RED, GREEN, GREEN, BLUE)),
        ("bayer_bggr", (BLUE, GREEN, GREEN, RED)),
        ("bayer_gbrg", (GREEN, BLUE, RED, GREEN)),
        ("bayer_grbg", (GREEN, RED, BLUE, GREEN)),
    ],
)
@pytest.mark.parametrize("bits", [8, 16])
def test_a_red_wall_through_a_bayer_filter_is_red(
    encoding: str, colours: tuple[tuple[int, int, int], ...], bits: int
) -> None:
    tile = np.reshape([2**bits - 1 if colour == RED else 0 for colour in colours], (2, 2))
    mosaic = np.tile(tile, (4, 4)).astype(np.uint8 if bits == 8 else np.uint16)
    assert (to_image(raw(f"{encoding}{bits}", mosaic))[2:-2, 2:-2] == RED).all()


@pytest.mark.parametrize(
    ("encoding", "pair"),
    [
        ("yuv422", (90, 82, 240, 82)),
        ("uyvy", (90, 82, 240, 82)),
        ("yuv422_yuy2", (82, 90, 82, 240)),
        ("yuyv", (82, 90, 82, 240)),
    ],
)
def test_red_in_yuv422_is_red(encoding: str, pair: tuple[int, ...]) -> None:
    pixels = np.tile(np.array(pair, np.uint8).reshape(1, 2, 2), (2, 3, 1))
    image = to_image(raw(encoding, pixels))
    assert image.shape == (2, 6, 3)
    assert np.abs(image.astype(int) - RED).max() <= 2


@pytest.mark.parametrize("inside", ["", "bayer_rggb8"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_mosaic_that_was_compressed_as_it_is_becomes_the_picture_of_the_raw_one(
    bits: int, inside: str
) -> None:
    mosaic = smooth_picture()[..., 0].astype(np.uint8 if bits == 8 else np.uint16) * (
        1 if bits == 8 else 16
    )
    format = f"bayer_rggb{bits}; png compressed {inside}"
    expected = to_image(raw(f"bayer_rggb{bits}", mosaic))
    assert expected.ndim == 3
    assert np.array_equal(to_image(compressed(".png", mosaic, format)), expected)


@pytest.mark.parametrize(
    ("encoding", "colours"),
    [
        ("bayer_rggb8", (RED, GREEN, GREEN, BLUE)),
        ("bayer_bggr8", (BLUE, GREEN, GREEN, RED)),
        ("bayer_gbrg8", (GREEN, BLUE, RED, GREEN)),
        ("bayer_grbg8", (GREEN, RED, BLUE, GREEN)),
    ],
)
def test_a_red_wall_as_the_jpeg_of_a_mosaic_is_red(
    encoding: str, colours: tuple[tuple[int, int, int], ...]
) -> None:
    tile = np.reshape([255 if colour == RED else 0 for colour in colours], (2, 2))
    mosaic = np.tile(tile, (16, 16)).astype(np.uint8)
    image = to_image(compressed(".jpg", mosaic, f"{encoding}; jpeg compressed "))
    assert np.abs(image[2:-2, 2:-2].mean(axis=(0, 1)) - RED).max() < 12


@pytest.mark.parametrize("inside", ["mono8", "bgr8"])
def test_a_mosaic_that_became_a_picture_before_it_was_compressed_stays_one(inside: str) -> None:
    image = smooth_picture() if inside == "bgr8" else smooth_picture()[..., 0]
    message = compressed(".png", image, f"bayer_rggb8; png compressed {inside}")
    assert np.array_equal(to_image(message), image[..., ::-1] if inside == "bgr8" else image)


def two_planes(encoding: str, grey: np.ndarray, colour: tuple[int, int], padding: int = 0) -> Any:
    """An nv12, nv21 or nv24 message of a grey picture and one colour (U, V)."""
    height, width = grey.shape
    pixel = ENCODINGS[encoding]
    rows, columns = (-(-height // 2), -(-width // 2)) if pixel.halved else (height, width)
    plane = np.full((rows, columns, 2), colour[:: -1 if encoding == "nv21" else 1], np.uint8)
    step = width + padding
    colour_step = max(step, 2 * columns) if pixel.halved else 2 * step
    if not padding:
        colour_step = 2 * columns
    data = np.pad(grey, ((0, 0), (0, padding)), constant_values=99).tobytes()
    flat = plane.reshape(rows, -1)
    data += np.pad(flat, ((0, 0), (0, colour_step - flat.shape[1]))).tobytes()
    fields = {"height": height, "width": width, "encoding": encoding, "is_bigendian": 0}
    return SimpleNamespace(**fields, step=step, data=data)


@pytest.mark.parametrize("encoding", PLANES)
@pytest.mark.parametrize("shape", [(4, 6), (5, 6), (4, 7), (5, 7), (1, 1)])
@pytest.mark.parametrize("padding", [0, 10])
def test_red_in_two_planes_is_red_whatever_the_size(
    encoding: str, shape: tuple[int, int], padding: int
) -> None:
    image = to_image(two_planes(encoding, np.full(shape, 82, np.uint8), (90, 240), padding))
    assert image.shape == (*shape, 3)
    assert image.flags.c_contiguous
    assert np.abs(image.astype(int) - RED).max() <= 2


@pytest.mark.parametrize("encoding", PLANES)
def test_the_grey_of_two_planes_lies_where_it_was(encoding: str) -> None:
    grey = smooth_picture()[..., 0] // 2 + 40
    for padding in (0, 6):
        image = to_image(two_planes(encoding, grey, (128, 128), padding))
        expected = np.clip((grey.astype(float) - 16) * 255 / 219, 0, 255)
        assert np.abs(image - expected[..., None]).max() <= 1


@pytest.mark.parametrize(("encoding", "bytes_a_pixel"), [("nv12", 1.5), ("nv12", 2), ("nv24", 3)])
def test_step_may_be_a_share_of_all_bytes_where_nothing_is_padded(
    encoding: str, bytes_a_pixel: float
) -> None:
    message = two_planes(encoding, picture(6, 8), (90, 240))
    expected = to_image(message)
    message.step = int(8 * bytes_a_pixel)
    assert np.array_equal(to_image(message), expected)


@pytest.mark.parametrize("encoding", PLANES)
def test_two_planes_without_their_colours_are_refused(encoding: str) -> None:
    message = two_planes(encoding, picture(6, 8), (90, 240), 2)
    message.data = message.data[:-1]
    with pytest.raises(ImageError, match="rows of 10 bytes and their colours"):
        to_image(message)


def test_an_image_of_too_many_pixels_is_refused_before_anything_is_made_of_it() -> None:
    few = CameraConfig(max_pixels=4 * 5 - 1)
    for message in (
        raw("rgb8", picture(4, 5, 3)),
        compressed(".png", picture(4, 5, 3)),
        raw("mono8", picture(1, 1), width=2**32 - 1, height=2**32 - 1, step=2**32 - 1),
    ):
        with pytest.raises(
            ImageError, match=r"expected at most 19 in all.*raise camera.max_pixels"
        ):
            to_image(message, few)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (2, 9), (9, 2)])
@pytest.mark.parametrize("encoding", ["bayer_rggb8", "bayer_grbg16"])
def test_a_mosaic_without_each_colour_is_refused(encoding: str, shape: tuple[int, int]) -> None:
    pixels = picture(*shape).astype(np.uint16 if encoding.endswith("16") else np.uint8)
    for message in (
        raw(encoding, pixels),
        compressed(".png", pixels, f"{encoding}; png compressed "),
    ):
        with pytest.raises(ImageError, match="at least 3 x 3 pixels"):
            to_image(message)


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name not in PLANES])
@pytest.mark.parametrize("padding", [1, 16])
@pytest.mark.parametrize("big_endian", [False, True])
def test_padding_and_byte_order_do_not_change_the_picture(
    encoding: str, padding: int, big_endian: bool
) -> None:
    pixel = ENCODINGS[encoding]
    pixels = picture(6, 8, pixel.channels).astype(pixel.dtype) * (
        257 if pixel.dtype == np.uint16 else 1
    )
    plain = to_image(raw(encoding, pixels), THERMAL)
    image = to_image(raw(encoding, pixels, padding, big_endian), THERMAL)
    assert np.array_equal(image, plain)
    assert image.flags.c_contiguous
    assert image.dtype == np.uint8


@pytest.mark.parametrize("encoding", ["rgb8", "mono8"])
def test_nothing_is_copied_where_nothing_is_to_convert(encoding: str) -> None:
    message = raw(encoding, picture(4, 5, ENCODINGS[encoding].channels))
    message.data = array.array("B", message.data)
    image = to_image(message)
    message.data[0] ^= 255
    assert image.flat[0] == message.data[0]


@pytest.mark.parametrize("of", [bytes, lambda data: array.array("B", data), np.frombuffer])
def test_data_may_be_bytes_an_array_or_a_numpy_array(of: Any) -> None:
    pixels = picture(4, 5, 3)
    data = (
        np.frombuffer(pixels.tobytes(), np.uint8) if of is np.frombuffer else of(pixels.tobytes())
    )
    assert np.array_equal(to_image(raw("rgb8", pixels, data=data)), pixels)


def test_bytes_behind_the_last_row_are_ignored() -> None:
    pixels = picture(4, 5, 3)
    assert np.array_equal(to_image(raw("rgb8", pixels, data=pixels.tobytes() + b"more")), pixels)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (raw("rgb8", picture(4, 4, 3), width=0), "at least one pixel"),
        (raw("rgb8", picture(4, 4, 3), height=0), "at least one pixel"),
        (raw("rgb8", picture(4, 4, 3), step=0), "step is 0 bytes, expected at least 12"),
        (raw("rgb8", picture(4, 4)), "step is 4 bytes, expected at least 12"),
        (raw("mono8", picture(4, 4), data=b""), "0 bytes of data, expected 16"),
        (raw("mono8", picture(4, 4), data=bytes(15)), "15 bytes of data, expected 16"),
        (raw("mono8", picture(4, 4), height=5), "16 bytes of data, expected 20"),
        (raw("yuyv", picture(4, 3, 2)), "even width"),
        (raw("RGB8", picture(4, 4, 3)), "did you mean rgb8"),
        (raw("bayer_rgbg8", picture(4, 4)), "did you mean bayer_"),
        (raw("", picture(4, 4)), "supported are rgb8, bgr8"),
        (raw("32FC1", np.full((4, 4), np.nan, np.float32)), "depth, not a picture"),
        (raw("16SC1", picture(4, 4)), "depth, not a picture"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(message: Any, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        to_image(message)


@pytest.mark.parametrize(
    "format", ["jpeg", "bgr8; jpeg compressed bgr8", "rgb8; jpeg compressed bgr8", ""]
)
def test_a_jpeg_is_rgb_whatever_its_format_field_says(format: str) -> None:
    image = smooth_picture()
    decoded = to_image(compressed(".jpg", image, format))
    assert np.abs(decoded[..., ::-1].astype(int) - image).mean() < 5
    assert decoded.flags.c_contiguous


def test_a_png_is_exact_and_loses_its_transparency() -> None:
    image = picture(4, 5, 4)
    decoded = to_image(compressed(".png", image, "bgra8; png compressed bgra8"))
    assert np.array_equal(decoded, image[..., 2::-1])


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_grey_files_stay_grey(extension: str) -> None:
    image = smooth_picture()[..., 0]
    decoded = to_image(compressed(extension, image, "mono8; jpeg compressed"))
    assert np.abs(decoded.astype(int) - image).mean() < 5
    assert decoded.shape == image.shape


def test_a_sixteen_bit_png_is_scaled_and_rounded_as_a_raw_image_is() -> None:
    image = np.array([[0, 255, 256, 40000, 65535]], np.uint16)
    assert to_image(compressed(".png", image, "mono16; png compressed")).tolist() == [
        [0, 1, 1, 156, 255]
    ]


@pytest.mark.parametrize("extension", [".jpg", ".png"])
@pytest.mark.parametrize("padding", [0, 512])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_refused(extension: str, padding: int, share: float) -> None:
    message = compressed(extension, smooth_picture())
    message.data = message.data[: int(share * len(message.data))] + bytes(padding)
    with pytest.raises(ImageError, match=r"cut off|damaged"):
        to_image(message)


def test_a_cut_off_jpeg_with_a_thumbnail_is_refused() -> None:
    """The end mark of the thumbnail is not the end mark of the picture."""
    whole = compressed(".jpg", smooth_picture()).data
    thumbnail = b"\xff\xe1" + (len(whole) + 2).to_bytes(2, "big") + whole
    message = SimpleNamespace(format="jpeg", data=whole[:2] + thumbnail + whole[2:-100])
    with pytest.raises(ImageError, match="cut off"):
        to_image(message)


def test_padding_behind_a_jpeg_is_ignored() -> None:
    message = compressed(".jpg", smooth_picture())
    padded = SimpleNamespace(format="jpeg", data=message.data + bytes(100))
    assert np.array_equal(to_image(padded), to_image(message))


@pytest.mark.parametrize(
    ("format", "data", "says"),
    [
        ("jpeg", b"", "is empty"),
        ("jpeg", b"hello, this is no picture", "can't be decoded"),
        ("h264", b"\0\0\0\1" + bytes(500), "video codecs"),
        ("16UC1; compressedDepth png", b"12 bytes of header, then a PNG", "depth image"),
    ],
)
def test_what_is_no_picture_is_refused(format: str, data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        to_image(SimpleNamespace(format=format, data=data))
