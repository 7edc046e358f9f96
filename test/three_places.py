# SPDX-License-Identifier: MIT
"""A drive of five keyframes past three places, the first of which is seen again."""

from dataclasses import replace
from functools import partial

import numpy as np
from made_up_extractors import MadeUpExtractor
from made_up_views import Scene

from netvlad_ros.config import CandidateConfig, ClosureConfig, Config, DatabaseConfig
from netvlad_ros.evaluation.detection_log import DetectionLog
from netvlad_ros.evaluation.detections import ImageDetection
from netvlad_ros.evaluation.results import Results
from netvlad_ros.image_data import ImageData
from netvlad_ros.retrieval.loop_detector import LoopDetector
from netvlad_ros.verification.rigid import exp, rigid

SECOND = 1_000_000_000
CONFIG = Config(
    candidates=CandidateConfig(min_similarity=0.9, max_keyframe_gap=0),
    database=DatabaseConfig(exclude_recent_s=2.0, sequence_length=1),
    closures=ClosureConfig(min_agreeing=0),
)
# Three places, then the first two again, of which only one looks the same; where odometry has the base.
PLACES = (0, 1, 2, 0, 1)
AGAIN = exp(np.array([0.5, -0.2, 0.0, 0.0, 0.0, 0.2]))
BASES = [
    np.eye(4),
    rigid(np.eye(3), np.array([20.0, 0, 0])),
    rigid(np.eye(3), np.array([40.0, 0, 0])),
]
SCENES = (Scene(0), Scene(1), Scene(2), Scene(0), Scene(3))


class Places(MadeUpExtractor):
    """Takes the grey value of an image for the place that it shows."""

    dims = 3

    def extract(self, image: np.ndarray) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[image[0, 0]]


def made_up_drive(
    with_odometry: bool = True, mounted: bool = True, last: np.ndarray = AGAIN
) -> Results:
    """last: where odometry believes the base to be when the first place is seen again."""
    extractor, log = Places(), DetectionLog()
    detector = LoopDetector(extractor, CONFIG)
    bases = [*BASES, AGAIN, BASES[1]]
    believed = [*BASES, last, BASES[1]]
    for number, (place, base, scene) in enumerate(zip(PLACES, bases, SCENES, strict=True), start=1):
        image = np.full((480, 640), place, np.uint8)
        # Each scene is in front of its own place.
        local = base if place == 0 else np.eye(4)
        data = scene.seen_from(local, odometry=believed[number - 1] if with_odometry else None)
        if not mounted:
            assert data.camera is not None
            data = replace(data, camera=replace(data.camera, base_from_camera=None))
        detection = detector.process_descriptor(
            extractor.extract(image), number * SECOND, data=partial(ImageData, **vars(data))
        )
        log.add(ImageDetection(number, image, detection))
    return Results(log, CONFIG, "made-up", "/camera")
