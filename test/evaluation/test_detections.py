# SPDX-License-Identifier: MIT
"""A recording goes through the detector image by image, and what can't be used stops nothing."""

import numpy as np
import pytest
from made_up_extractors import MadeUpExtractor
from recording import SECOND, drive, image

from netvlad_ros.data.bags import StampedMessage
from netvlad_ros.errors import CameraError, DescriptorError, ImageError, NetVLADError
from netvlad_ros.evaluation.detections import detect, detect_described
from netvlad_ros.retrieval.loop_detector import LoopDetector


class Refusing(MadeUpExtractor):
    """Has a descriptor for every image but a black one."""

    dims = 2

    def __init__(self, error: NetVLADError) -> None:
        self.error = error

    def extract(self, image: np.ndarray) -> np.ndarray:
        if not image.any():
            raise self.error
        return np.eye(2, dtype=np.float32)[0]


@pytest.mark.parametrize("kind", [ImageError, DescriptorError, CameraError])
def test_an_image_that_gives_no_descriptor_is_told_with_the_reason_and_stops_nothing(
    kind: type[NetVLADError],
):
    greys = [7, 0, 7]
    messages = [
        StampedMessage(i * SECOND, i * SECOND, image(i * SECOND, np.full((8, 8), g, np.uint8)))
        for i, g in enumerate(greys)
    ]
    first, second, third = detect(messages, LoopDetector(Refusing(kind("no good"))))
    assert (second.number, second.problem, second.detection) == (2, "no good", None)
    assert first.detection
    assert third.detection
    assert third.number == 3


def test_messages_that_can_not_be_decoded_are_skipped_too():
    (_, damaged), *_ = next(iter(drive(1).values()))
    damaged.encoding = "32FC1"
    (detected,) = detect(
        [StampedMessage(SECOND, SECOND, damaged)], LoopDetector(Refusing(ImageError("")))
    )
    assert "measurements such as depth" in detected.problem


def test_a_descriptor_that_does_not_fit_is_told_and_stops_nothing():
    descriptors = np.array([[1, 0], [3, 4], [0, 1]], np.float32)
    numbers, stamps_ns = np.array([4, 5, 7]), np.array([1, 2, 3]) * SECOND
    detector = LoopDetector(Refusing(ImageError("")))
    first, second, third = detect_described(descriptors, numbers, stamps_ns, None, detector)
    assert (second.number, second.detection) == (5, None)
    assert "expected a descriptor of unit length, got length 5" in second.problem
    assert [first.number, third.number] == [4, 7]
    assert third.detection is not None
    assert third.image is None
