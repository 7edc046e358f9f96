# SPDX-License-Identifier: MIT
"""From images to candidates in one call, with an extractor that is made up."""

from pathlib import Path

import numpy as np
import pytest
from made_up_extractors import MadeUpExtractor

from netvlad_ros.config import CandidateConfig, Config, DatabaseConfig, KeyframeConfig
from netvlad_ros.errors import DescriptorError, ImageError
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.retrieval.loop_detector import Detection, LoopDetector
from netvlad_ros.store.sqlite_store import SqliteStore

SECOND = 1_000_000_000
CONFIG = Config(
    keyframes=KeyframeConfig(min_interval_s=1.0, min_descriptor_change=0.0),
    candidates=CandidateConfig(min_similarity=0.9),
    database=DatabaseConfig(exclude_recent_s=20.0),
)


class FourPixels(MadeUpExtractor):
    """Their grey levels are the descriptor."""

    dims = 4
    fingerprint = "four pixels"

    def extract(self, image: np.ndarray) -> np.ndarray:
        if not image.any():
            raise ImageError("nothing to see")
        descriptor = image.astype(np.float32).ravel()
        return descriptor / np.linalg.norm(descriptor)


KITCHEN = np.array([[200, 10], [0, 0]], np.uint8)
HALL = np.array([[0, 200], [10, 0]], np.uint8)
GARDEN = np.array([[0, 0], [10, 200]], np.uint8)


def drive(detector: LoopDetector, *stops: tuple[np.ndarray, int]) -> list[Detection]:
    return [detector.process(image, second * SECOND) for image, second in stops]


def found(detection: Detection) -> list[int]:
    """The numbers of the candidates."""
    assert detection.selection is not None
    return [each.match.keyframe.number for each in detection.selection.candidates]


def test_a_revisited_place_is_reported_once_it_is_old_enough():
    detections = drive(
        LoopDetector(FourPixels(), CONFIG),
        (KITCHEN, 0),
        (HALL, 10),
        (KITCHEN, 19),  # back, but it was here a moment ago
        (GARDEN, 20),
        (KITCHEN, 25),
    )
    assert [found(each) for each in detections] == [[], [], [], [], [0]]
    too_soon = detections[2].selection
    assert too_soon is not None
    assert [(each.verdict.stage, each.verdict.value) for each in too_soon.rejections] == [
        ("exclude_recent", 19.0)
    ]


def test_a_detection_holds_every_step():
    (detection,) = drive(LoopDetector(FourPixels(), CONFIG), (HALL, 3))
    assert detection.stamp_ns == 3 * SECOND
    np.testing.assert_array_equal(detection.descriptor, FourPixels().extract(HALL))
    assert detection.query is not None
    assert detection.query.keyframe.stamp_ns == 3 * SECOND


def test_an_image_between_keyframes_has_a_descriptor_only():
    detector = LoopDetector(FourPixels(), CONFIG)
    detector.process(HALL, 0)
    detection = detector.process(KITCHEN, SECOND // 2)
    assert detection.query is None
    assert detection.selection is None
    np.testing.assert_array_equal(detection.descriptor, FourPixels().extract(KITCHEN))


def test_an_image_that_is_refused_leaves_everything_as_it_was():
    detector = LoopDetector(FourPixels(), CONFIG)
    drive(detector, (KITCHEN, 0), (HALL, 10))
    with pytest.raises(ImageError):
        detector.process(np.zeros((2, 2), np.uint8), 20 * SECOND)
    assert len(detector.database) == 2
    assert found(*drive(detector, (KITCHEN, 30))) == [0]


def test_consecutive_queries_are_followed():
    config = Config(
        keyframes=CONFIG.keyframes,
        candidates=CandidateConfig(min_consistent_queries=2),
        database=CONFIG.database,
    )
    detections = drive(
        LoopDetector(FourPixels(), config),
        *[(KITCHEN, 0), (HALL, 1), (GARDEN, 40), (KITCHEN, 50), (HALL, 51)],
    )
    assert [found(each) for each in detections] == [[], [], [], [], [1]]


def test_a_map_is_recognised_from_the_first_image_on(tmp_path: Path):
    mapping = LoopDetector(FourPixels(), CONFIG)
    drive(mapping, (KITCHEN, 0), (HALL, 10))
    mapping.database.save(SqliteStore(tmp_path / "map.db"))
    database = KeyframeDatabase.load(SqliteStore(tmp_path / "map.db"), CONFIG)
    detector = LoopDetector(FourPixels(), CONFIG, database)
    assert found(*drive(detector, (HALL, 0))) == [1]


def test_a_database_that_is_still_empty_is_used_all_the_same():
    database = KeyframeDatabase(CONFIG)
    detector = LoopDetector(FourPixels(), CONFIG, database)
    detector.process(HALL, 0)
    assert len(database) == 1


def test_a_map_of_another_model_is_refused():
    database = KeyframeDatabase(CONFIG)
    database.observe(FourPixels().extract(HALL), 0, "other model")
    detector = LoopDetector(FourPixels(), CONFIG, database)
    with pytest.raises(DescriptorError, match="of model other model, got one of four pixels"):
        detector.process(HALL, 0)
