# SPDX-License-Identifier: MIT
"""The whole way of an image, in one call: what replay and evaluation measure is what runs on the robot."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from netvlad_ros.config import Config
from netvlad_ros.retrieval.candidates import CandidateSelector, Selection
from netvlad_ros.retrieval.database import KeyframeDatabase, Query


class Extractor(Protocol):
    """What turns an image into a descriptor: NetVLADExtractor, or anything with this method."""

    fingerprint: str

    def extract(self, image: np.ndarray) -> np.ndarray: ...


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

    def process(self, image: np.ndarray, stamp_ns: int) -> Detection:
        """image: uint8, RGB (H, W, 3) or grey (H, W). Raises ImageError or DescriptorError."""
        descriptor = self.extractor.extract(image)
        query = self.database.observe(descriptor, stamp_ns, self.extractor.fingerprint)
        selection = self.selector.select(query) if query else None
        return Detection(stamp_ns, descriptor, query, selection)
