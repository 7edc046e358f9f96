# SPDX-License-Identifier: MIT
"""Points of an image that are found again in another image of the place, and what they look like."""

from collections.abc import Callable
from typing import Any, Protocol

import cv2
import numpy as np

from netvlad_ros.config import VerificationConfig
from netvlad_ros.image_data import LocalFeatures

# Contrast is made equal in each of 8 x 8 tiles, up to this slope (CLAHE; Zuiderveld, Graphics Gems IV, 1994):
# by night that gives twice as many points that agree, by day a tenth more.
CONTRAST_LIMIT = 3.0


class FeatureExtractor(Protocol):
    """From an image to its local features."""

    method: str

    def extract(self, image: np.ndarray, equalise: bool = True) -> LocalFeatures:
        """The best features, without their depth.

        image:    uint8, RGB (H, W, 3) or grey (H, W).
        equalise: contrast first, so that dark parts have features too.
        """


class OpenCVFeatures:
    """Features of one of OpenCV's detectors.

    method: orb, Rublee et al., ICCV 2011; sift, Lowe, IJCV 2004; rootsift, Arandjelovic and Zisserman,
            CVPR 2012.
    """

    def __init__(self, method: str, max_features: int) -> None:
        self.method = method
        self._max_features = max_features
        self._detector: Any = _DETECTORS[method](max_features)
        self._equalizer = cv2.createCLAHE(CONTRAST_LIMIT)

    def extract(self, image: np.ndarray, equalise: bool = True) -> LocalFeatures:
        """See FeatureExtractor."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
        if equalise:
            grey = self._equalizer.apply(grey)
        keypoints, descriptors = self._detector.detectAndCompute(grey, None)
        if descriptors is None:
            empty = np.zeros((0, self._detector.descriptorSize()), _DTYPES[self.method])
            return LocalFeatures(self.method, np.zeros((0, 2), np.float32), empty)
        best = slice(self._max_features)  # SIFT gives more where several have the same response
        points_px = np.array([each.pt for each in keypoints[best]], np.float32)
        descriptors = descriptors[best]
        if self.method == "rootsift":
            descriptors = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-7))
        return LocalFeatures(self.method, points_px, descriptors)


_DETECTORS: dict[str, Callable[[int], cv2.Feature2D]] = {
    "orb": cv2.ORB.create,
    "sift": cv2.SIFT.create,
    "rootsift": cv2.SIFT.create,
}
_DTYPES = {"orb": np.uint8, "sift": np.float32, "rootsift": np.float32}


def feature_extractor(config: VerificationConfig) -> FeatureExtractor | None:
    """What the configuration asks for; None if it asks for none."""
    if config.features == "none":
        return None
    return OpenCVFeatures(config.features, config.max_features)
