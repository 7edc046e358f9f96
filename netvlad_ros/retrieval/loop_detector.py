# SPDX-License-Identifier: MIT
"""The whole way of an image, in one call: what replay and evaluation measure is what runs on the robot."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from netvlad_ros.config import Config
from netvlad_ros.extraction.protocol import Extractor
from netvlad_ros.image_data import ImageData
from netvlad_ros.retrieval.closures import ClosureSelection, ClosureSelector
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.retrieval.query import Query
from netvlad_ros.retrieval.selection import CandidateSelector, Selection
from netvlad_ros.verification.image_data_maker import ImageDataMaker
from netvlad_ros.verification.sensors import NO_SENSORS, Sensors


@dataclass(frozen=True)
class Detection:
    """What became of one image; query, selection and closures are None if it is no keyframe."""

    stamp_ns: int
    descriptor: np.ndarray
    query: Query | None
    selection: Selection | None
    closures: ClosureSelection | None = None


class LoopDetector:
    """Extracts, looks up, adds, selects and verifies; of keyframes it keeps what came with their images."""

    def __init__(
        self,
        extractor: Extractor,
        config: Config | None = None,
        database: KeyframeDatabase | None = None,
    ) -> None:
        config = config or Config()
        self.extractor = extractor
        self.database = KeyframeDatabase(config) if database is None else database
        self.selector = CandidateSelector(config.candidates)
        self.closures = ClosureSelector(config)
        self._maker = ImageDataMaker(config.verification)

    def process(
        self,
        image: np.ndarray,
        stamp_ns: int,
        received_ns: int | None = None,
        sensors: Callable[[], Sensors] = lambda: NO_SENSORS,
    ) -> Detection:
        """Takes in the next image of a drive.

        image:       uint8, RGB (H, W, 3) or grey (H, W).
        received_ns: when it arrived or was recorded, where that is known; tells a pause from a clock that was
                     set.
        sensors:     gives what came with the image; called only if it becomes a keyframe.
        Raises ImageError or DescriptorError, and CameraError for a camera that can't be.
        """
        descriptor = self.extractor.extract(image)
        return self.process_descriptor(
            descriptor, stamp_ns, received_ns, lambda: self.data_of(image, sensors())
        )

    def data_of(self, image: np.ndarray, sensors: Sensors = NO_SENSORS) -> ImageData:
        """What is kept of the next keyframe beside its descriptor. Raises CameraError."""
        return self._maker.make(image, sensors)

    def process_descriptor(
        self,
        descriptor: np.ndarray,
        stamp_ns: int,
        received_ns: int | None = None,
        data: Callable[[], ImageData] | None = None,
    ) -> Detection:
        """The same for a descriptor that the extractor made before.

        data: gives what else is known of the image, as data_of() does; called only if it becomes a keyframe.
        Raises DescriptorError.
        """
        query = self.database.observe(
            descriptor,
            stamp_ns,
            self.extractor.fingerprint,
            received_ns=received_ns,
            calibration=self.extractor.calibration,
            data=data,
        )
        selection = self.selector.select(query) if query else None
        closures = self.closures.select(query) if query else None
        for closure in closures.closures if closures else ():
            self.database.closed(closure.query.name, closure.match.keyframe.name)
        return Detection(stamp_ns, descriptor, query, selection, closures)
