# SPDX-License-Identifier: MIT
"""A recording through the loop detector, image by image."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from netvlad_ros.config import DEFAULT_CAMERA, CameraConfig
from netvlad_ros.data.bags import StampedMessage
from netvlad_ros.data.image_messages import to_image
from netvlad_ros.errors import DescriptorError, ImageError
from netvlad_ros.retrieval.loop_detector import Detection, LoopDetector


@dataclass(frozen=True)
class ImageDetection:
    """What became of one image.

    number:    1 for the first message of the topic.
    image:     uint8, RGB or grey; None if the message could not be used, or only its descriptor is known.
    detection: None if the image could not be used.
    problem:   why it could not be used; empty if it could.
    """

    number: int
    image: np.ndarray | None = None
    detection: Detection | None = None
    problem: str = ""


def detect(
    messages: Iterable[StampedMessage],
    detector: LoopDetector,
    camera: CameraConfig = DEFAULT_CAMERA,
) -> Iterator[ImageDetection]:
    """Puts each image into the detector; one that gives no descriptor is told, not fatal.

    messages: as Bag.stamped() gives them, with the stamp and the time of recording.
    camera:   what is taken for a picture, and how many pixels it may have.
    """
    for number, stamped in enumerate(messages, start=1):
        try:
            image = to_image(stamped.message, camera)
            detection = detector.process(image, stamped.stamp_ns, stamped.received_ns)
        except (ImageError, DescriptorError) as error:
            yield ImageDetection(number, problem=str(error))
        else:
            yield ImageDetection(number, image, detection)


def detect_described(
    descriptors: np.ndarray,
    numbers: np.ndarray,
    stamps_ns: np.ndarray,
    received_ns: np.ndarray | None,
    detector: LoopDetector,
) -> Iterator[ImageDetection]:
    """The same for images whose descriptors (N, D) were made before, in the order in which they were taken.

    numbers:     (N,) of the images.
    received_ns: (N,) when they were recorded, where that is known.
    """
    for row, (number, stamp_ns) in enumerate(
        zip(numbers.tolist(), stamps_ns.tolist(), strict=True)
    ):
        received = None if received_ns is None else int(received_ns[row])
        try:
            detection = detector.process_descriptor(descriptors[row], stamp_ns, received)
        except DescriptorError as error:
            yield ImageDetection(number, problem=str(error))
        else:
            yield ImageDetection(number, detection=detection)
