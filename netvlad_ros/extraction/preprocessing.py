# SPDX-License-Identifier: MIT
"""The only way from an image to the network's input: checked, resized, RGB, 0 to 255.

What differs from one set of weights to the next (channel order, offset, scale, grey) is not done here: it
is the first layer of the model and travels with its file.
"""

import cv2
import numpy as np

from netvlad_ros.config import ExtractorConfig
from netvlad_ros.errors import ImageError


def network_input(
    image: np.ndarray,
    size_px: tuple[int, int] | None,
    config: ExtractorConfig,
    interpolation: str = "area",
) -> np.ndarray:
    """The uint8 RGB array (height, width, 3) that the network sees.

    image:   uint8, RGB (H, W, 3) or grey (H, W).
    size_px: (width, height) to resize to; None keeps the image's own.
    interpolation: how, one of runtime.model.INTERPOLATIONS.
    Raises ImageError for anything that is no picture of a place.
    """
    _refuse_unusable_shape(image, config.min_side_px)
    resized = image if size_px is None else resize(image, size_px, interpolation)
    _refuse_flat(resized, config.min_contrast)
    return cv2.cvtColor(resized, cv2.COLOR_GRAY2RGB) if resized.ndim == 2 else resized


def resize(image: np.ndarray, size_px: tuple[int, int], interpolation: str = "area") -> np.ndarray:
    """image at (width, height); area: by averages, which do not alias, but bilinear where a side grows."""
    height, width = image.shape[:2]
    if (width, height) == size_px:
        return image
    grows = size_px[0] > width or size_px[1] > height
    how = "linear" if interpolation == "area" and grows else interpolation
    return cv2.resize(image, size_px, interpolation=getattr(cv2, f"INTER_{how.upper()}"))


def _refuse_unusable_shape(image: np.ndarray, min_side_px: int) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise ImageError(
            f"expected an image of uint8 values (0 to 255), got {kind}; convert it first."
        )
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ImageError(
            f"expected an image of shape (H, W, 3), RGB, or (H, W), grey; got {image.shape}."
        )
    if min(image.shape[:2]) < min_side_px:
        raise ImageError(
            f"expected an image of at least {min_side_px} pixels a side, got "
            f"{image.shape[1]}x{image.shape[0]}; is this the right topic? (extractor.min_side_px)"
        )


def _refuse_flat(image: np.ndarray, min_contrast: float) -> None:
    contrast = float(cv2.meanStdDev(image)[1].max())
    if contrast < min_contrast:
        raise ImageError(
            f"expected an image with something to see, got one of standard deviation {contrast:.2f} "
            f"(mean {float(image.mean()):.0f}, values {image.min()} to {image.max()} of 255), below "
            f"{min_contrast:g}: is the lens covered or the exposure wrong? (extractor.min_contrast)"
        )
