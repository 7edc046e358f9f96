# SPDX-License-Identifier: MIT
"""A recording through the loop detector, image by image."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from netvlad_ros.config import DEFAULT_CAMERA, CameraConfig
from netvlad_ros.data.bags import StampedMessage
from netvlad_ros.data.image_messages import to_image
from netvlad_ros.errors import CameraError, DescriptorError, ImageError
from netvlad_ros.image_data import ImageData
from netvlad_ros.retrieval.loop_detector import Detection, LoopDetector
from netvlad_ros.verification.sensors import NO_SENSORS, Sensors

# From an image and its stamp to what came with it.
Collect = Callable[[np.ndarray, int], Sensors]


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
    collect: Collect = lambda image, stamp_ns: NO_SENSORS,
) -> Iterator[ImageDetection]:
    """Puts each image into the detector; one that gives no descriptor is told, not fatal.

    messages: as Bag.stamped() gives them, with the stamp and the time of recording.
    camera:   what is taken for a picture, and how many pixels it may have.
    collect:  asked for keyframes only, before the next message is taken.
    """
    for number, stamped in enumerate(messages, start=1):
        try:
            image = to_image(stamped.message, camera)
            sensors = partial(collect, image, stamped.stamp_ns)
            detection = detector.process(image, stamped.stamp_ns, stamped.received_ns, sensors)
        except (CameraError, DescriptorError, ImageError) as error:
            yield ImageDetection(number, problem=str(error))
        else:
            yield ImageDetection(number, image, detection)


def detect_described(
    descriptors: np.ndarray,
    numbers: np.ndarray,
    stamps_ns: np.ndarray,
    received_ns: np.ndarray | None,
    detector: LoopDetector,
    data: Callable[[int], ImageData] | None = None,
) -> Iterator[ImageDetection]:
    """The same for images whose descriptors (N, D) were made before, in the order in which they were taken.

    numbers:     (N,) of the images.
    received_ns: (N,) when they were recorded, where that is known.
    data:        from a row to what else is known of its image; asked for keyframes only, in their order.
    """
    for row, (number, stamp_ns) in enumerate(
        zip(numbers.tolist(), stamps_ns.tolist(), strict=True)
    ):
        received = None if received_ns is None else int(received_ns[row])
        try:
            known = None if data is None else partial(data, row)
            detection = detector.process_descriptor(descriptors[row], stamp_ns, received, known)
        except DescriptorError as error:
            yield ImageDetection(number, problem=str(error))
        else:
            yield ImageDetection(number, detection=detection)
