# SPDX-License-Identifier: MIT
"""What is kept of a recording is what was found in it."""

import numpy as np
import pytest
from made_up_extractors import MadeUpExtractor
from recording import SECOND, image

from netvlad_ros.config import CandidateConfig, Config, DatabaseConfig, KeyframeConfig
from netvlad_ros.data.bags import StampedMessage
from netvlad_ros.errors import ImageError
from netvlad_ros.evaluation.detection_log import DetectionLog, sentence
from netvlad_ros.evaluation.detections import detect
from netvlad_ros.keyframe import Keyframe, Match, Session
from netvlad_ros.retrieval.loop_detector import LoopDetector

CONFIG = Config(
    candidates=CandidateConfig(min_similarity=0.9),
    database=DatabaseConfig(exclude_recent_s=2.0, sequence_length=1),
)


class Places(MadeUpExtractor):
    """Takes the grey value of an image for the place that it shows; black shows nothing."""

    dims = 10

    def extract(self, image: np.ndarray) -> np.ndarray:
        if not image.any():
            raise ImageError("too dark")
        return np.eye(10, dtype=np.float32)[image[0, 0]]


def run(*places: int, config: Config = CONFIG, stamps_s: tuple[int, ...] = ()) -> DetectionLog:
    """The log of a drive with an image of one of nine places every second."""
    stamps = stamps_s or range(1, len(places) + 1)
    pixels = [np.full((8, 8), place, np.uint8) for place in places]
    messages = [
        StampedMessage(s * SECOND, s * SECOND, image(s * SECOND, one))
        for s, one in zip(stamps, pixels, strict=True)
    ]
    log = DetectionLog()
    for detected in detect(messages, LoopDetector(Places(), config)):
        log.add(detected)
    return log


def candidates(log: DetectionLog) -> dict[int, list[int]]:
    """Keyframe -> the keyframes it was matched with, where there are any."""
    return {
        log.position(each.query.keyframe): [
            log.position(candidate.match.keyframe) for candidate in each.selection.candidates
        ]
        for each in log.keyframes
        if each.selection.candidates
    }


def test_a_place_seen_again_is_found():
    assert candidates(run(1, 2, 3, 4, 1, 2)) == {4: [0], 5: [1]}


def test_a_drive_without_a_loop_has_no_candidates():
    assert candidates(run(1, 2, 3, 4, 5, 6)) == {}


def test_images_are_numbered_by_their_messages_even_where_some_are_no_keyframes():
    log = run(1, 2, 3, 4, config=Config(keyframes=KeyframeConfig(min_interval_s=1.5)))
    assert [keyframe.number for keyframe in log.keyframes] == [1, 3]
    assert log.images == 4


def test_images_that_can_not_be_used_are_kept_with_the_reason():
    log = run(1, 0, 3, 0, 1)
    assert [(one.number, one.problem) for one in log.skipped] == [(2, "too dark"), (4, "too dark")]
    assert [keyframe.number for keyframe in log.keyframes] == [1, 3, 5]
    assert candidates(log) == {2: [0]}


def test_add_returns_the_keyframe_if_the_image_is_one():
    log = DetectionLog()
    stamps = (SECOND, SECOND + 1)
    pixels = np.full((8, 8), 1, np.uint8)
    messages = [StampedMessage(stamp, stamp, image(stamp, pixels)) for stamp in stamps]
    first, second = detect(messages, LoopDetector(Places()))
    assert log.add(first) is log.keyframes[0]
    assert log.add(second) is None


def test_what_is_kept_of_a_keyframe_is_enough_for_pictures():
    log = run(1, 2)
    assert log.descriptors.shape == (2, 10)
    assert log.times_s.tolist() == [0.0, 1.0]
    assert log.keyframes[0].picture.shape == (320, 320, 3)


def test_first_matches_are_the_best_that_were_old_enough():
    first = run(1, 2, 3, 1, 1).first_matches
    assert first.matches.tolist()[-2:] == [0, 0]  # not 3, which is as similar but too recent
    assert first.matches.tolist()[:2] == [-1, -1]
    assert first.similarities.tolist()[-1] == 1.0


def test_first_candidates_are_what_was_reported():
    first = run(1, 2, 3, 1, 4).first_candidates
    assert first.matches.tolist() == [-1, -1, -1, 0, -1]
    assert first.similarities.tolist() == [-np.inf] * 3 + [1.0, -np.inf]


@pytest.mark.parametrize(
    ("exclude_recent_s", "available"),
    [(2.0, [0, 0, 1, 2, 3]), (0.0, [0, 1, 2, 3, 4]), (9.0, [0, 0, 0, 0, 0])],
)
def test_keyframes_are_available_once_they_are_old_enough(
    exclude_recent_s: float, available: list[int]
):
    config = Config(database=DatabaseConfig(exclude_recent_s=exclude_recent_s))
    assert run(1, 2, 3, 4, 5, config=config).available.tolist() == available


def test_sessions_are_counted_in_their_order():
    log = run(1, 2, 3, 1, 2, stamps_s=(100, 101, 102, 1, 2))
    numbers = [log.session_number(each.query.keyframe) for each in log.keyframes]
    assert numbers == [0, 0, 0, 1, 1]
    assert candidates(log) == {3: [0], 4: [1]}


@pytest.mark.parametrize("start_s", [0, 10])
def test_a_sentence_tells_times_from_the_start(start_s: int) -> None:
    session = Session.new()
    query = Keyframe(session, 7, 50 * SECOND)
    match = Match(Keyframe(session, 2, 15 * SECOND), 0.87654)
    expected = f"keyframe 7 ({50 - start_s}.0 s) looks like keyframe 2 ({15 - start_s}.0 s)"
    assert sentence(query, match, start_s * SECOND) == f"{expected}, similarity 0.877"
