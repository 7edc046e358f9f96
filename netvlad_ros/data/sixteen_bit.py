# SPDX-License-Identifier: MIT
"""16-bit pixels as 8-bit ones: the range of values that a picture uses becomes 0 to 255.

Cameras put 10, 12 or 14 bits into 16, thermal ones a few hundred counts somewhere in the middle, and no
message says which. The range is taken from the picture itself and from nothing else, so that a picture has
the same descriptor live, in a replay and in an evaluation, whatever came before it. It is steady all the
same: hot or dead pixels lie outside of it, lamps widen it by a little only, and as it follows the picture
without steps, similar pictures have similar ranges.
"""

import cv2
import numpy as np

from netvlad_ros.errors import ImageError

# This share of the darkest pixels, and of the brightest, may lie outside the range.
OUTLIERS = 0.002
# This share, such as lamps or an engine in a thermal picture, widens it on either side by the margin at most.
FEW = 0.02
MARGIN = 0.25
# Fewer different values than this are no picture, whatever they are stretched to.
LEAST_STEPS = 8
# About so many pixels tell the range.
SAMPLES = 1 << 15
# A picture that scaled as a whole would have less contrast than one grey level may be the noise of a dark
# sensor, which stretching makes visible. The means of blocks of it hardly differ: by 1/8 of what pixels do.
BLOCK_PX = 8
LEAST_STRUCTURE = 0.25
_GREY_LEVEL = 65535 / 255


def eight_bit(image: np.ndarray) -> np.ndarray:
    """uint8 of the same shape, from uint16 (H, W) or (H, W, 3) with one range for all colours.

    uint8 stays as it is. A count, which is what the lowest bit in use stands for, never becomes more than one
    grey level: 8 bits in 16 have no more contrast than 8 bits alone. Raises ImageError, naming the range, if
    there is nothing in it but noise.
    """
    if image.dtype == np.uint8:
        return image
    low, high, step = _range(image)
    if high - low < LEAST_STEPS * step:
        raise ImageError(
            f"expected a picture, got 16-bit values from {low} to {high}, which are too few different ones: "
            "is the lens covered, or the exposure wrong?"
        )
    if _is_noise(image):
        raise ImageError(
            f"expected a picture, got 16-bit values from {low} to {high} that differ from pixel to pixel "
            "only, as noise does: is the lens covered, or the exposure wrong?"
        )
    spare = max(255 * step - (high - low), 0)
    black = np.uint16(max(low - spare // 2, 0))
    counts = np.maximum(image, black) - black
    return cv2.convertScaleAbs(counts, alpha=255.0 / (high - low + spare))


def _range(image: np.ndarray) -> tuple[int, int, int]:
    """Lowest and highest value but for outliers, and the least difference of two values."""
    # Odd, so that a mosaic is sampled in all of its colours.
    stride = int(np.sqrt(image.shape[0] * image.shape[1] / SAMPLES)) | 1
    values = image[::stride, ::stride].ravel()
    bits = int(np.bitwise_or.reduce(values))
    step = bits & -bits or 1
    up_to = np.cumsum(np.bincount(values))
    outliers, few = int(OUTLIERS * len(values)), int(FEW * len(values))
    low, most_low = np.searchsorted(up_to, (outliers, few), "right").tolist()
    high, most_high = np.searchsorted(up_to, len(values) - np.array((outliers, few))).tolist()
    margin = max(int(MARGIN * (most_high - most_low)), LEAST_STEPS * step)
    return max(low, most_low - margin), min(high, most_high + margin), step


def _is_noise(image: np.ndarray) -> bool:
    image = np.ascontiguousarray(image[::2, ::2])  # of a mosaic, one colour
    deviation = float(cv2.meanStdDev(image)[1].max())
    width, height = image.shape[1] // BLOCK_PX, image.shape[0] // BLOCK_PX
    if deviation >= _GREY_LEVEL or min(width, height) < 2:
        return False
    blocks = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return float(cv2.meanStdDev(blocks)[1].max()) < LEAST_STRUCTURE * deviation
