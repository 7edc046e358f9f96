# SPDX-License-Identifier: MIT
"""Pictures show what they are given, whatever its size, and are the same for the same input."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from netvlad_ros.errors import NetVLADError
from netvlad_ros.evaluation import plots
from netvlad_ros.evaluation.plots import (
    PicturePair,
    Recording,
    choose_pairs,
    draw_pairs,
    draw_similarity_matrix,
)


def recording(count: int) -> Recording:
    """A drive of two laps, with keyframes a second apart of which the last five are too recent."""
    angles = np.arange(count) * 4.0 * np.pi / max(count, 1)
    descriptors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    times_s = np.arange(count, dtype=float)
    return Recording(descriptors, times_s, np.maximum(0, np.arange(count) - 5))


def picture(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return image


def has_colour(path: Path, colour: str, tolerance: int = 12) -> bool:
    """Whether some pixels have this colour."""
    bgr = np.array(to_rgb(colour))[::-1] * 255
    return bool((np.abs(picture(path) - bgr).max(axis=2) < tolerance).sum() > 4)


def pairs_of(*verdicts: bool | None) -> list[PicturePair]:
    return [PicturePair(i + 10, i, 0.9, right) for i, right in enumerate(verdicts)]


def image(value: int) -> np.ndarray:
    return np.full((48, 64, 3), value, np.uint8)


@pytest.mark.parametrize("count", [1, 2, 40])
def test_a_matrix_is_drawn_of_any_number_of_keyframes(tmp_path: Path, count: int) -> None:
    draw_similarity_matrix(tmp_path / "matrix.png", recording(count), [], "title")
    assert min(picture(tmp_path / "matrix.png").shape[:2]) > 500


def test_a_matrix_of_more_keyframes_than_pixels_is_thinned_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "MAX_CELLS", 10)
    draw_similarity_matrix(tmp_path / "matrix.png", recording(95), pairs_of(True), "title")
    assert has_colour(tmp_path / "matrix.png", plots.RIGHT)


def test_candidates_have_the_colour_of_their_verdict(tmp_path: Path) -> None:
    path = tmp_path / "matrix.png"
    draw_similarity_matrix(path, recording(40), pairs_of(True, False), "title")
    assert has_colour(path, plots.RIGHT)
    assert has_colour(path, plots.WRONG)
    draw_similarity_matrix(path, recording(40), pairs_of(None), "title")
    assert has_colour(path, plots.UNKNOWN)
    assert not has_colour(path, plots.WRONG)


def test_the_ground_truth_is_outlined(tmp_path: Path) -> None:
    path = tmp_path / "matrix.png"
    draw_similarity_matrix(path, recording(40), [], "title")
    assert not has_colour(path, plots.TRUTH)
    draw_similarity_matrix(path, recording(40), [], "title", np.array([[20, 0], [21, 1]]))
    assert has_colour(path, plots.TRUTH)


def test_pairs_have_frames_of_the_colour_of_their_verdict(tmp_path: Path) -> None:
    path = tmp_path / "pairs.png"
    draw_pairs(path, pairs_of(False), [(image(40), image(90))], np.arange(40.0), "title")
    assert has_colour(path, plots.WRONG)
    assert has_colour(path, "#282828")
    assert not has_colour(path, plots.RIGHT)


def test_no_pairs_give_an_empty_sheet(tmp_path: Path) -> None:
    draw_pairs(tmp_path / "pairs.png", [], [], np.arange(3.0), "no candidates")
    assert picture(tmp_path / "pairs.png").shape[1] > 500


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_similarity_matrix(tmp_path / name, recording(20), pairs_of(True), "title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_few_pairs_are_all_chosen_in_their_order():
    pairs = pairs_of(True, False, True)
    assert choose_pairs(pairs, 3) == pairs


def test_wrong_pairs_are_chosen_first_but_leave_half_of_the_places_to_others():
    pairs = pairs_of(*[True] * 20, False)
    assert pairs[-1] in choose_pairs(pairs, 4)
    chosen = choose_pairs(pairs_of(*[False] * 10, *[True] * 10), 4)
    assert [pair.right for pair in chosen] == [False, False, True, True]
    assert len(choose_pairs(pairs_of(*[False] * 10, True), 4)) == 4


def test_a_picture_that_can_not_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(NetVLADError, match="can't write the picture"):
        draw_pairs(tmp_path / "absent" / "pairs.png", [], [], np.arange(3.0), "title")
