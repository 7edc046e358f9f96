# SPDX-License-Identifier: MIT
"""sensor_msgs images as 8-bit RGB or grey arrays, with OpenCV and numpy only."""

import difflib
import re
from typing import Any, NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np

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
    """How a pixel lies in memory, and the OpenCV code that makes RGB of it."""

    dtype: type[np.unsignedinteger]
    channels: int
    to_rgb: int | None  # None: it is RGB or grey already

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
}

_MEASUREMENTS = re.compile(r"(8S|16S|32S|32F|64F)(C\d+)?")
_TO_8_BIT = 255.0 / 65535.0
_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"


def to_image(message: RawImage | CompressedImage) -> np.ndarray:
    """The picture of a message: (H, W, 3) RGB or (H, W) grey, uint8, C-contiguous.

    Grey stays grey, since the extractor takes it as it is. 16 bits are scaled from 0..65535 to 0..255
    as cv_bridge does; a 16-bit PNG keeps its high bytes. Where nothing is to convert (rgb8 and mono8
    without padding) the array is a view of the message's own memory. Raises ImageError.
    """
    if isinstance(message, CompressedImage):
        return _decode(message)
    check(message)
    pixel = ENCODINGS[message.encoding]
    image = _pixels(message, pixel)
    if pixel.to_rgb is not None:
        image = cv2.cvtColor(image, pixel.to_rgb)
    return _eight_bit(image)


def check(message: RawImage) -> None:
    """Raises ImageError unless the fields of a raw image agree with each other."""
    pixel = _known(message.encoding)
    width, height, step, size = message.width, message.height, message.step, len(message.data)
    what = f"{width} x {height} {message.encoding} image"
    if width < 1 or height < 1:
        raise ImageError(f"{what}: expected at least one pixel; does the camera deliver yet?")
    if step < width * pixel.size:
        raise ImageError(
            f"{what}: its step is {step} bytes, expected at least {width * pixel.size} for a row; "
            "the program that publishes it sets step or encoding wrongly."
        )
    if size < height * step:
        raise ImageError(
            f"{what}: it has {size} bytes of data, expected {height * step} for {height} rows of "
            f"{step} bytes; the program that publishes it cuts it off or sets height wrongly."
        )
    if pixel.channels == 2 and width % 2:
        raise ImageError(f"{what}: two pixels share their colour, so expected an even width.")


def _known(encoding: str) -> Pixel:
    """The entry of an encoding, or an ImageError with what is nearest to it."""
    if encoding in ENCODINGS:
        return ENCODINGS[encoding]
    if _MEASUREMENTS.fullmatch(encoding):
        raise ImageError(
            f"image encoding {encoding!r} holds measurements such as depth, not a picture; "
            "expected a colour or grey image: choose another topic of this camera."
        )
    near = difflib.get_close_matches(encoding.lower(), ENCODINGS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ImageError(
        f"image encoding {encoding!r} is not supported; {hint}Supported are {', '.join(ENCODINGS)}."
    )


def _pixels(message: RawImage, pixel: Pixel) -> np.ndarray:
    """The data as (H, W) or (H, W, channels): a view, or a copy without padding in native order."""
    dtype = np.dtype(pixel.dtype).newbyteorder(">" if message.is_bigendian else "<")
    shape = (message.height, message.width, pixel.channels)
    strides = (message.step, pixel.size, dtype.itemsize)
    view: np.ndarray = np.ndarray(shape, dtype, message.data, strides=strides)
    image = np.ascontiguousarray(view, pixel.dtype)
    return image[:, :, 0] if pixel.channels == 1 else image


def _eight_bit(image: np.ndarray) -> np.ndarray:
    return image if image.dtype == np.uint8 else cv2.convertScaleAbs(image, alpha=_TO_8_BIT)


def _decode(message: CompressedImage) -> np.ndarray:
    """The picture in a JPEG or PNG file, or in any other that OpenCV knows.

    Of `format` ("rgb8; jpeg compressed bgr8") only depth is looked at: what is inside, and in which
    order its colours are, the file says itself.
    """
    what = f"compressed image of format {message.format!r}"
    if "compressedDepth" in message.format:
        raise ImageError(
            f"{what} is a depth image; expected a colour or grey one: choose another topic."
        )
    data = np.frombuffer(message.data, np.uint8)
    if not data.size:
        raise ImageError(f"{what} is empty; does the camera deliver yet?")
    if _is_cut_off_jpeg(data.tobytes()):
        raise ImageError(f"{what}: its {data.size} bytes are a JPEG file that is cut off; skip it.")
    image = _imdecode(data)
    if image is None:
        raise ImageError(
            f"{what}: its {data.size} bytes can't be decoded, expected a whole JPEG or PNG file; "
            "video codecs have to be turned into images first, with image_transport's republish."
        )
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _imdecode(data: np.ndarray) -> np.ndarray | None:
    try:
        return cv2.imdecode(data, cv2.IMREAD_ANYCOLOR)
    except cv2.error:
        return None


def _is_cut_off_jpeg(data: bytes) -> bool:
    """True if no end mark follows the last scan; OpenCV would fill the missing rows with grey.

    Inside a scan the two marks can't occur, and padding after the end is common.
    """
    return data.startswith(_JPEG_START) and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN)
