# SPDX-License-Identifier: MIT
"""The whole way of an image, in one call: what replay and evaluation measure is what runs on the robot."""

from dataclasses import dataclass

import numpy as np

from netvlad_ros.config import Config
from netvlad_ros.extraction.protocol import Extractor
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.retrieval.query import Query
from netvlad_ros.retrieval.selection import CandidateSelector, Selection


@dataclass(frozen=True)
class Detection:
    """What became of one image; query and selection are None if it is no keyframe."""

    stamp_ns: int
    descriptor: np.ndarray
    query: Query | None
    selection: Selection | None


class LoopDetector:
    """Extracts, looks up, adds and selects."""

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

    def process(
        self, image: np.ndarray, stamp_ns: int, received_ns: int | None = None
    ) -> Detection:
        """Takes in the next image of a drive.

        image:       uint8, RGB (H, W, 3) or grey (H, W).
        received_ns: when it arrived or was recorded, where that is known; tells a pause from a clock that was
                     set.
        Raises ImageError or DescriptorError.
        """
        return self.process_descriptor(self.extractor.extract(image), stamp_ns, received_ns)

    def process_descriptor(
        self, descriptor: np.ndarray, stamp_ns: int, received_ns: int | None = None
    ) -> Detection:
        """The same for a descriptor that the extractor made before. Raises DescriptorError."""
        query = self.database.observe(
            descriptor,
            stamp_ns,
            self.extractor.fingerprint,
            received_ns=received_ns,
            calibration=self.extractor.calibration,
        )
        selection = self.selector.select(query) if query else None
        return Detection(stamp_ns, descriptor, query, selection)
