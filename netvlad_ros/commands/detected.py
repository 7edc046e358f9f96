# SPDX-License-Identifier: MIT
"""A sequence of images through the detector of a configuration, with descriptors that are made once."""

import argparse
import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from netvlad_ros.commands.images import (
    cache_of,
    progress,
    recorded_images,
    tell_extraction,
    tell_sensors,
    warn_uncalibrated,
)
from netvlad_ros.config import Config
from netvlad_ros.config.files import load_config
from netvlad_ros.data.bags import Bag
from netvlad_ros.data.image_messages import to_image
from netvlad_ros.data.image_sources import BagImages
from netvlad_ros.data.places import PlaceImages
from netvlad_ros.errors import DatasetError
from netvlad_ros.evaluation.detection_log import DetectionLog
from netvlad_ros.evaluation.detections import detect_described
from netvlad_ros.evaluation.extractors import open_extractor
from netvlad_ros.evaluation.sequences import ImageSequence
from netvlad_ros.extraction.many_images import Extraction, Skipped, all_descriptors
from netvlad_ros.extraction.protocol import Extractor
from netvlad_ros.image_data import NOTHING_KNOWN, ImageData
from netvlad_ros.retrieval.loop_detector import LoopDetector


@dataclasses.dataclass(frozen=True)
class Descriptors:
    """(N, D) descriptors, which images (N,) they are of, and what made them, if that is known."""

    model: str
    fingerprint: str
    descriptors: np.ndarray
    indices: np.ndarray
    extractor: Extractor | None = None
    skipped: list[Skipped] = dataclasses.field(default_factory=list)


def describe(arguments: argparse.Namespace, images: PlaceImages) -> Descriptors:
    """With the model of the arguments, or from the cache."""
    config = load_config(arguments.config, arguments.set)
    extractor, name = open_extractor(arguments.model, config.extractor, images)
    told = Extraction()
    cache = cache_of(arguments)
    found = all_descriptors(images.images, extractor, cache, told, progress, arguments.batch)
    tell_extraction("sequence", told)
    return Descriptors(name, extractor.fingerprint, *found, extractor, told.skipped)


def detections(
    arguments: argparse.Namespace,
    images: PlaceImages,
    found: Descriptors,
    sequence: ImageSequence,
) -> DetectionLog:
    """What the detector of the configuration makes of the images."""
    if found.extractor is None or sequence.stamps_ns is None:
        missing = "a model" if found.extractor is None else "images with times"
        raise DatasetError(
            f"--keyframes: expected {missing}; leave the option out to match all images."
        )
    config = load_config(arguments.config, arguments.set)
    warn_uncalibrated(config.candidates, found.extractor)
    source, log = images.images, DetectionLog()
    received_ns = source.received_ns[found.indices] if isinstance(source, BagImages) else None
    detector = LoopDetector(found.extractor, config)
    with _data_of(arguments, config, images, found.indices, detector) as data:
        for detected in detect_described(
            sequence.descriptors, sequence.numbers, sequence.stamps_ns, received_ns, detector, data
        ):
            log.add(detected)
    print(f"sequence: {len(log.keyframes)} of {log.images} images are keyframes")
    return log


@contextlib.contextmanager
def _data_of(
    arguments: argparse.Namespace,
    config: Config,
    images: PlaceImages,
    indices: np.ndarray,
    detector: LoopDetector,
) -> Iterator[Callable[[int], ImageData]]:
    """From a row, ascending, to what is known of its image: of a bag with what was recorded beside it."""
    source = images.images
    if config.verification.features == "none":
        yield lambda row: NOTHING_KNOWN
        return
    if not isinstance(source, BagImages):
        yield lambda row: detector.data_of(source.read(int(indices[row])))
        return
    with Bag(source.root) as bag:
        recorded = recorded_images(arguments, bag, source.topic, config)
        messages = enumerate(recorded)

        def data(row: int) -> ImageData:
            wanted = source.numbers[indices[row]]
            stamped = next(each for number, each in messages if number == wanted)
            image = to_image(stamped.message, config.camera)
            return detector.data_of(image, recorded.sensors(image, stamped.stamp_ns))

        yield data
        tell_sensors(recorded)


def image_sequence(images: PlaceImages, found: Descriptors) -> ImageSequence:
    """What is known of the images that could be used."""
    headings, stamps, kept = images.headings_rad, images.stamps_ns, found.indices
    source = images.images
    return ImageSequence(
        found.descriptors,
        (source.numbers[kept] if isinstance(source, BagImages) else kept) + 1,
        images.positions_m[kept] if images.has_positions else None,
        None if headings is None else headings[kept],
        None if stamps is None else stamps[kept],
    )
