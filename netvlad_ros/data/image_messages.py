# SPDX-License-Identifier: MIT
"""sensor_msgs images as 8-bit RGB or grey arrays, with OpenCV and numpy only."""

import difflib
import re
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import cv2
import numpy as np

from netvlad_ros.config import DEFAULT_CAMERA, CameraConfig
from netvlad_ros.data.image_decoding import decode_image
from netvlad_ros.data.image_header import read_header, refuse_too_large
from netvlad_ros.data.sixteen_bit import eight_bit
from netvlad_ros.errors import ImageError


class RawImage(Protocol):
    """What is used of sensor_msgs/Image, whoever made the object: rclpy, rosbags, a test."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any  # bytes, array("B") or a uint8 array


@runtime_checkable
class CompressedImage(Protocol):
    """What is used of sensor_msgs/CompressedImage."""

    format: str
    data: Any


class Pixel(NamedTuple):
    """How a pixel lies in memory, and the OpenCV code that makes RGB of it.

    planes: 1 where pixels lie one after the other. 2 where grey comes first and then, in a plane of its own,
            the colour: for each pixel, or with `halved` for each square of four.
    """

    dtype: type[np.unsignedinteger]
    channels: int
    to_rgb: int | None  # None: it is RGB or grey already
    planes: int = 1
    halved: bool = False

    @property
    def size(self) -> int:
        """Bytes from one pixel to the next."""
        return self.channels * np.dtype(self.dtype).itemsize


# The generic OpenCV names (8UC3) do not say a colour order; OpenCV's own is BGR. Bayer patterns are
# named after the first row in ROS and after the second row in OpenCV.
ENCODINGS: dict[str, Pixel] = {
    "rgb8": Pixel(np.uint8, 3, None),
    "bgr8": Pixel(np.uint8, 3, cv2.COLOR_BGR2RGB),
    "8UC3": Pixel(np.uint8, 3, cv2.COLOR_BGR2RGB),
    "rgba8": Pixel(np.uint8, 4, cv2.COLOR_RGBA2RGB),
    "bgra8": Pixel(np.uint8, 4, cv2.COLOR_BGRA2RGB),
    "8UC4": Pixel(np.uint8, 4, cv2.COLOR_BGRA2RGB),
    "rgb16": Pixel(np.uint16, 3, None),
    "bgr16": Pixel(np.uint16, 3, cv2.COLOR_BGR2RGB),
    "16UC3": Pixel(np.uint16, 3, cv2.COLOR_BGR2RGB),
    "rgba16": Pixel(np.uint16, 4, cv2.COLOR_RGBA2RGB),
    "bgra16": Pixel(np.uint16, 4, cv2.COLOR_BGRA2RGB),
    "16UC4": Pixel(np.uint16, 4, cv2.COLOR_BGRA2RGB),
    "mono8": Pixel(np.uint8, 1, None),
    "8UC1": Pixel(np.uint8, 1, None),
    "mono16": Pixel(np.uint16, 1, None),
    "16UC1": Pixel(np.uint16, 1, None),
    "bayer_rggb8": Pixel(np.uint8, 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": Pixel(np.uint8, 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": Pixel(np.uint8, 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": Pixel(np.uint8, 1, cv2.COLOR_BayerGB2RGB),
    "bayer_rggb16": Pixel(np.uint16, 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr16": Pixel(np.uint16, 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg16": Pixel(np.uint16, 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg16": Pixel(np.uint16, 1, cv2.COLOR_BayerGB2RGB),
    "yuv422": Pixel(np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": Pixel(np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": Pixel(np.uint8, 2, cv2.COLOR_YUV2RGB_YUYV),
    "yuyv": Pixel(np.uint8, 2, cv2.COLOR_YUV2RGB_YUYV),
    "nv12": Pixel(np.uint8, 1, cv2.COLOR_YUV2RGB_NV12, planes=2, halved=True),
    "nv21": Pixel(np.uint8, 1, cv2.COLOR_YUV2RGB_NV21, planes=2, halved=True),
    "nv24": Pixel(np.uint8, 1, cv2.COLOR_YUV2RGB_NV12, planes=2),
}

_MEASUREMENTS = re.compile(r"(8S|16S|32S|32F|64F)(C\d+)?")
_DEPTH_OR_PICTURE = "16UC1"
# What stands before the semicolon in the format of a compressed image, and the colours of the file behind it.
_FORMAT = re.compile(r"\s*(?P<encoding>\w+)\s*;\s*\w+ compressed\s*(?P<inside>\w*)")


def to_image(
    message: RawImage | CompressedImage, camera: CameraConfig = DEFAULT_CAMERA
) -> np.ndarray:
    """The picture of a message: (H, W, 3) RGB or (H, W) grey, uint8, C-contiguous.

    Grey stays grey, since the extractor takes it as it is. Of 16 bits the range in use becomes 0 to 255.
    Where nothing is to convert (rgb8 and mono8 without padding) the array is a view of the message's own
    memory.
    camera: how many pixels it may have, and whether 16UC1 is depth. Raises ImageError.
    """
    if isinstance(message, CompressedImage):
        return _decode(message, camera)
    check(message, camera)
    pixel = ENCODINGS[message.encoding]
    if pixel.planes == 2:
        return _of_two_planes(message, pixel)
    return _picture(_pixels(message, pixel), pixel)


def check(message: RawImage, camera: CameraConfig = DEFAULT_CAMERA) -> None:
    """Raises ImageError unless the fields of a raw image agree with each other."""
    pixel = _known(message.encoding, camera)
    width, height, step, size = message.width, message.height, message.step, len(message.data)
    what = f"{width} x {height} {message.encoding} image"
    if width < 1 or height < 1:
        raise ImageError(f"{what}: expected at least one pixel; does the camera deliver yet?")
    refuse_too_large(width, height, camera.max_pixels)
    if step < width * pixel.size:
        raise ImageError(
            f"{what}: its step is {step} bytes, expected at least {width * pixel.size} for a row; "
            "the program that publishes it sets step or encoding wrongly."
        )
    expected = _needed_bytes(message, pixel)
    if size < expected:
        colour = " and their colours" if pixel.planes == 2 else ""
        raise ImageError(
            f"{what}: it has {size} bytes of data, expected {expected} for {height} rows of "
            f"{step} bytes{colour}; the program that publishes it cuts it off or sets height wrongly."
        )
    if pixel.channels == 2 and width % 2:
        raise ImageError(f"{what}: two pixels share their colour, so expected an even width.")
    _refuse_part_of_mosaic(message.encoding, width, height)


def _known(encoding: str, camera: CameraConfig) -> Pixel:
    """The entry of an encoding, or an ImageError with what is nearest to it."""
    if encoding == _DEPTH_OR_PICTURE and not camera.depth_is_picture:
        raise ImageError(
            f"image encoding {encoding!r} usually holds depth, not a picture; choose another topic of this "
            "camera, or set camera.depth_is_picture if it is one, such as of a thermal camera."
        )
    if encoding in ENCODINGS:
        return ENCODINGS[encoding]
    if _MEASUREMENTS.fullmatch(encoding):
        raise ImageError(
            f"image encoding {encoding!r} holds measurements such as depth, not a picture; "
            "expected a colour or grey image: choose another topic of this camera."
        )
    near = difflib.get_close_matches(encoding.lower(), ENCODINGS, n=1)
    hint = f"did you mean {near[0]}? Supported" if near else "supported"
    raise ImageError(
        f"image encoding {encoding[:40]!r} is not supported; {hint} are {', '.join(ENCODINGS)}."
    )


def _refuse_part_of_mosaic(encoding: str, width: int, height: int) -> None:
    if encoding.startswith("bayer_") and min(width, height) < 3:
        raise ImageError(
            f"{width} x {height} {encoding} image: expected at least 3 x 3 pixels, to have each colour twice."
        )


def _pixels(message: RawImage, pixel: Pixel) -> np.ndarray:
    """The data as (H, W) or (H, W, channels): a view, or a copy without padding in native order."""
    dtype = np.dtype(pixel.dtype).newbyteorder(">" if message.is_bigendian else "<")
    shape = (message.height, message.width, pixel.channels)
    strides = (message.step, pixel.size, dtype.itemsize)
    view: np.ndarray = np.ndarray(shape, dtype, message.data, strides=strides)
    image = np.ascontiguousarray(view, pixel.dtype)
    return image[:, :, 0] if pixel.channels == 1 else image


def _picture(pixels: np.ndarray, pixel: Pixel) -> np.ndarray:
    """RGB or grey, uint8."""
    if pixel.to_rgb is None:
        return eight_bit(pixels)
    if pixel.channels == 4:  # what makes it transparent is not part of the range of 16 bits
        return eight_bit(cv2.cvtColor(pixels, pixel.to_rgb))
    return cv2.cvtColor(eight_bit(pixels), pixel.to_rgb)


class _Planes(NamedTuple):
    """Bytes from row to row of the grey plane and of that of colours, and how large the latter is.

    Each of its columns is two bytes.
    """

    grey_step: int
    colour_step: int
    rows: int
    columns: int


def _planes(message: RawImage, pixel: Pixel) -> _Planes:
    """As step says, or without padding where the data have just that size.

    Some publishers set step to a row of grey, some to the bytes of the whole image divided by its height.
    """
    width, height = message.width, message.height
    rows, columns = ((height + 1) // 2, (width + 1) // 2) if pixel.halved else (height, width)
    if len(message.data) == width * height + 2 * columns * rows:
        return _Planes(width, 2 * columns, rows, columns)
    padded = max(message.step, 2 * columns) if pixel.halved else 2 * message.step
    return _Planes(message.step, padded, rows, columns)


def _needed_bytes(message: RawImage, pixel: Pixel) -> int:
    if pixel.planes == 1:
        return message.height * message.step
    planes = _planes(message, pixel)
    return message.height * planes.grey_step + planes.rows * planes.colour_step


def _of_two_planes(message: RawImage, pixel: Pixel) -> np.ndarray:
    """RGB of a grey plane and one of colours. Odd sides are lengthened meanwhile, since OpenCV takes none."""
    width, height = message.width, message.height
    planes = _planes(message, pixel)
    grey: np.ndarray = np.ndarray(
        (height, width), np.uint8, message.data, strides=(planes.grey_step, 1)
    )
    colours: np.ndarray = np.ndarray(
        (planes.rows, planes.columns, 2),
        np.uint8,
        message.data,
        height * planes.grey_step,
        (planes.colour_step, 2, 1),
    )
    if not pixel.halved:
        colours = colours[::2, ::2]
    if width % 2 or height % 2:
        grey = cv2.copyMakeBorder(grey, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    rgb = cv2.cvtColorTwoPlane(grey, np.ascontiguousarray(colours), cast(int, pixel.to_rgb))
    return np.ascontiguousarray(rgb[:height, :width])


def _decode(message: CompressedImage, camera: CameraConfig) -> np.ndarray:
    """The picture in a JPEG or PNG file, or in any other that OpenCV knows.

    `format` ("rgb8; jpeg compressed bgr8") says what the pixels were before: depth is refused, and a Bayer
    mosaic that was compressed as it is becomes a picture here. The order of colours the file says itself.
    """
    what = f"compressed image of format {message.format[:80]!r}"
    if "compressedDepth" in message.format:
        raise ImageError(
            f"{what} is a depth image; expected a colour or grey one: choose another topic."
        )
    content = bytes(message.data)
    if not content:
        raise ImageError(f"{what} is empty; does the camera deliver yet?")
    if not read_header(content).kind:
        raise ImageError(
            f"{what}: its {len(content)} bytes can't be decoded, expected a whole JPEG or PNG file; "
            "video codecs have to be turned into images first, with image_transport's republish."
        )
    try:
        mosaic = _mosaic(message.format, camera)
        image = decode_image(content, camera.max_pixels)
        if image.ndim == 3:
            return cv2.cvtColor(eight_bit(image), cv2.COLOR_BGR2RGB)
        if mosaic is None:
            return eight_bit(image)
        _refuse_part_of_mosaic("bayer_", image.shape[1], image.shape[0])
        return cv2.cvtColor(eight_bit(image), mosaic)
    except ImageError as error:
        raise ImageError(f"{what}: {error}") from None


def _mosaic(format: str, camera: CameraConfig) -> int | None:
    """How a mosaic that was compressed as it is becomes RGB; None if it is none, or was one before that."""
    found = _FORMAT.match(format)
    if not found:
        return None
    encoding, inside = found["encoding"], found["inside"]
    if encoding == _DEPTH_OR_PICTURE or _MEASUREMENTS.fullmatch(encoding):
        _known(encoding, camera)
    became_picture = inside in ENCODINGS and not inside.startswith("bayer_")
    is_mosaic = encoding.startswith("bayer_") and not became_picture
    return _known(encoding, camera).to_rgb if is_mosaic else None
