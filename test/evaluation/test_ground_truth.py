# SPDX-License-Identifier: MIT
"""A ground truth is read as it is written, and a wrong file is refused with what was expected."""

from pathlib import Path

import pytest

from netvlad_ros.errors import GroundTruthError
from netvlad_ros.evaluation.ground_truth import read_ground_truth

HEADER = "query_image,matching_images\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "truth.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_each_line_names_a_query_and_its_matches(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "41,1 2 3\n\n42,2\n")
    assert read_ground_truth(path) == {41: {1, 2, 3}, 42: {2}}


def test_lines_of_one_query_are_joined(tmp_path: Path) -> None:
    assert read_ground_truth(write(tmp_path, HEADER + "41,1\n41,2\n")) == {41: {1, 2}}


def test_recorded_ground_truth_is_read_whole(shared: Path) -> None:
    truth = read_ground_truth(shared / "data" / "rtabmap_samples" / "loop_closures.csv")
    assert (len(truth), sum(map(len, truth.values()))) == (44, 228)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "at least one query"),
        (HEADER, "at least one query"),
        ("a,b\n41,1\n", "expected the first line 'query_image,matching_images', got 'a,b'"),
        (HEADER + "41\n", "line 2: expected image numbers such as '41,1 2 3', got '41'"),
        (HEADER + "41,one\n", "line 2: expected image numbers"),
        (HEADER + "41,1\n42,\n", "line 3: expected images from 1 to 41"),
        (HEADER + "41,0 1\n", "is the first image number 1?"),
        (HEADER + "41,41\n", "earlier than their query 41"),
    ],
)
def test_a_wrong_file_is_refused_with_what_was_expected(
    tmp_path: Path, text: str, says: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(GroundTruthError) as error:
        read_ground_truth(path)
    assert says in str(error.value)
    assert str(path) in str(error.value)


def test_what_can_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xff")
    with pytest.raises(GroundTruthError, match="expected a CSV file"):
        read_ground_truth(tmp_path / "picture.png")
    with pytest.raises(GroundTruthError, match="No such file"):
        read_ground_truth(tmp_path / "absent.csv")
