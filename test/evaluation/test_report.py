# SPDX-License-Identifier: MIT
"""The files of a report hold what was found, and nothing that changes from one run to the next."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_extractors import MadeUpExtractor

from netvlad_ros.config import CandidateConfig, Config, DatabaseConfig, ExtractorConfig
from netvlad_ros.errors import NetVLADError
from netvlad_ros.evaluation.detection_log import DetectionLog
from netvlad_ros.evaluation.detections import ImageDetection
from netvlad_ros.evaluation.report import write_report
from netvlad_ros.evaluation.results import Results
from netvlad_ros.retrieval.loop_detector import LoopDetector

SECOND = 1_000_000_000
CONFIG = Config(
    extractor=ExtractorConfig(model="/somewhere/model.keras"),
    candidates=CandidateConfig(min_similarity=0.9),
    database=DatabaseConfig(exclude_recent_s=2.0, sequence_length=1),
)
# Three places, then the first two again.
PLACES = (0, 1, 2, 0, 1)
TRUTH = {4: frozenset({1}), 5: frozenset({2})}


class Places(MadeUpExtractor):
    """Takes the grey value of an image for the place that it shows."""

    dims = 3

    def extract(self, image: np.ndarray) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[image[0, 0]]


@pytest.fixture
def results() -> Results:
    detector, log = LoopDetector(Places(), CONFIG), DetectionLog()
    for number, place in enumerate(PLACES, start=1):
        image = np.full((48, 64), place, np.uint8)
        log.add(ImageDetection(number, image, detector.process(image, number * SECOND)))
    log.add(ImageDetection(6, problem="is too dark"))
    return Results(log, CONFIG, "made-up", "/camera", TRUTH)


def document(tmp_path: Path, results: Results) -> dict:
    return json.loads(write_report(tmp_path, results)[0].read_text(encoding="utf-8"))


def test_four_files_are_written(tmp_path: Path, results: Results) -> None:
    names = ["candidates.json", "candidates.csv", "similarity_matrix.png", "pairs.png"]
    assert write_report(tmp_path / "new" / "folder", results) == [
        tmp_path / "new" / "folder" / name for name in names
    ]
    assert sorted(file.name for file in (tmp_path / "new" / "folder").iterdir()) == sorted(names)


def test_the_json_file_holds_every_query_with_its_candidates_and_rejections(
    tmp_path: Path, results: Results
) -> None:
    queries = document(tmp_path, results)["queries"]
    assert [query["keyframe"] for query in queries] == [0, 1, 2, 3, 4]
    fourth = queries[3]
    assert (fourth["image"], fourth["session"], fourth["stamp_ns"]) == (4, 0, 4 * SECOND)
    assert fourth["candidates"] == [
        {
            "keyframe": 0,
            "image": 1,
            "stamp_ns": SECOND,
            "similarity": 1.0,
            "sequence_score": None,
            "margin": None,
            "rank": 0,
            "consistent_queries": 1,
        }
    ]
    reasons = {
        one["keyframe"]: (one["stage"], one["value"], one["limit"]) for one in fourth["rejections"]
    }
    assert reasons == {1: ("min_similarity", 0.0, 0.9), 2: ("exclude_recent", 1.0, 2.0)}


def test_the_json_file_says_what_was_run_and_counts(tmp_path: Path, results: Results) -> None:
    found = document(tmp_path, results)
    assert (found["fingerprint"], found["topic"]) == ("made-up", "/camera")
    assert found["config"]["candidates"]["min_similarity"] == 0.9
    assert found["counts"] == {
        "images": 6,
        "skipped": 1,
        "keyframes": 5,
        "queries_with_candidates": 2,
        "candidates": 2,
        "closures": 0,
    }
    assert found["skipped"] == [{"image": 6, "reason": "is too dark"}]


def test_the_json_file_holds_the_comparison_with_the_ground_truth(
    tmp_path: Path, results: Results
) -> None:
    counts = {"reported": 2, "right": 2, "loops": 2, "precision": 1.0, "recall": 1.0}
    evaluation = document(tmp_path, results)["evaluation"]
    assert evaluation["reported"] == counts
    assert evaluation["without_threshold"] == counts | {"reported": 3, "precision": 0.666667}
    assert evaluation["average_precision"] == 1.0
    assert "evaluation" not in document(tmp_path, replace(results, truth=None))


def test_no_file_depends_on_where_it_was_made(tmp_path: Path, results: Results) -> None:
    elsewhere = replace(CONFIG.extractor, model=f"{tmp_path}/model.keras")
    moved = replace(results, config=replace(CONFIG, extractor=elsewhere))
    first, second = write_report(tmp_path / "a", results), write_report(tmp_path / "b", moved)
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_the_csv_file_has_one_row_for_each_candidate(tmp_path: Path, results: Results) -> None:
    with write_report(tmp_path, results)[1].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["query_keyframe"], row["match_keyframe"]) for row in rows] == [
        ("3", "0"),
        ("4", "1"),
    ]
    assert rows[0] == {
        "query_keyframe": "3",
        "query_image": "4",
        "query_stamp_ns": str(4 * SECOND),
        "match_keyframe": "0",
        "match_image": "1",
        "match_stamp_ns": str(SECOND),
        "similarity": "1.000000",
        "sequence_score": "",
        "margin": "",
        "rank": "0",
    }


def test_sentences_name_the_counts(results: Results) -> None:
    text = "\n".join(results.sentences)
    assert "5 of 6 images are keyframes, 2 of them have loop-closure candidates" in text
    assert "precision 100.0%: 2 of 2" in text
    assert "recall 100.0%: 2 of 2" in text


def test_a_folder_that_can_not_be_made_is_an_error_of_ours(
    tmp_path: Path, results: Results
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(NetVLADError, match="can't make this folder"):
        write_report(tmp_path / "file", results)
