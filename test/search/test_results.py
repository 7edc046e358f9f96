# SPDX-License-Identifier: MIT
"""What a search leaves in its folder: every query in results.json, and sheets that can be looked at."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from netvlad_ros.data.image_files import Picture
from netvlad_ros.errors import NetVLADError
from netvlad_ros.extraction.many_images import Skipped
from netvlad_ros.index.exact import ExactIndex
from netvlad_ros.search import results, sheets
from netvlad_ros.search.gallery import Answer, Gallery, GalleryMatch
from netvlad_ros.search.results import SearchResults

GREEN = (20, 230, 40)


def colour(rgb: tuple[int, int, int], height: int = 60, width: int = 80) -> np.ndarray:
    return np.full((height, width, 3), rgb, np.uint8)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """One green image."""
    (tmp_path / "gallery").mkdir()
    cv2.imwrite(str(tmp_path / "gallery" / "green.png"), colour(GREEN)[..., ::-1])
    return Gallery(tmp_path / "gallery", "abc@4x4", ExactIndex(4))


def answer(gallery: Gallery, name: str, matches: int = 3, time_s: float | None = None) -> Answer:
    """A blue query whose matches are all the green image."""
    found = [
        GalleryMatch(rank, "green.png", 1.0 / rank, gallery.folder / "green.png")
        for rank in range(1, matches + 1)
    ]
    return Answer(Picture(name, colour((0, 0, 255)), time_s=time_s), found)


def sheet(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return image[..., ::-1]


def area_of(rgb: tuple[int, int, int], path: Path) -> int:
    return int((np.abs(sheet(path).astype(int) - rgb).max(axis=2) < 3).sum())


def document(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_one_query_has_a_sheet_of_large_pictures(gallery: Gallery, tmp_path: Path):
    found = SearchResults(gallery, tmp_path / "out")
    found.add(answer(gallery, "1.png", matches=7))
    assert found.finish() == [tmp_path / "out" / "results.json", tmp_path / "out" / "matches.png"]
    width, height = sheets.SINGLE_PX
    inside = (width - 8) * (height - 8)
    assert 6.9 * inside < area_of(GREEN, tmp_path / "out" / "matches.png") < 7.1 * width * height


def test_many_queries_have_sheets_of_a_row_each_drawn_as_they_come(
    gallery: Gallery, tmp_path: Path
):
    found = SearchResults(gallery, tmp_path / "out")
    for number in range(7):
        found.add(answer(gallery, f"{number}.png", matches=2))
        assert (tmp_path / "out" / "matches_001.png").exists() == (number >= 5)
    assert len(found.finish()) == 3
    width, height = sheets.ROW_PX
    for name, rows in {"matches_001.png": 6, "matches_002.png": 1}.items():
        area = area_of(GREEN, tmp_path / "out" / name)
        assert rows * 1.8 * width * height < area < rows * 2.0 * width * height


def test_every_query_is_in_the_file_with_its_matches(gallery: Gallery, tmp_path: Path):
    found = SearchResults(gallery, tmp_path / "out")
    found.add(answer(gallery, "frame 0", matches=2, time_s=0.0))
    found.add(Answer(Picture("frame 9", None), [], Skipped("frame 9", "is dark.")))
    found.finish()
    written = document(tmp_path / "out")
    assert written["fingerprint"] == "abc@4x4"
    assert written["queries"] == [
        {
            "query": "frame 0",
            "time_s": 0.0,
            "matches": [
                {"rank": 1, "path": "green.png", "similarity": 1.0},
                {"rank": 2, "path": "green.png", "similarity": 0.5},
            ],
        }
    ]
    assert written["skipped"] == [{"image": "frame 9", "reason": "is dark."}]


def test_a_search_of_days_draws_only_so_many_sheets(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(results, "MAX_SHEETS", 1)
    found = SearchResults(gallery, tmp_path / "out")
    for number in range(13):
        found.add(answer(gallery, f"{number}.png", matches=1))
    assert [path.name for path in found.finish()] == ["results.json", "matches_001.png"]
    assert len(document(tmp_path / "out")["queries"]) == 13


def test_pictures_of_any_shape_and_names_of_any_letters_and_length_are_drawn(
    gallery: Gallery, tmp_path: Path, recwarn: pytest.WarningsRecorder
):
    names = ["x" * 300 + ".png", "$\\frac{1$ 東京.png", ""]
    shapes = [(4000, 3), (3, 4000), (1, 1)]
    answers = [
        Answer(Picture(name, colour(GREEN, *shape)), answer(gallery, name).matches)
        for name, shape in zip(names, shapes, strict=True)
    ]
    sheets.draw_queries(tmp_path / "sheet.png", answers, "title")
    assert area_of(GREEN, tmp_path / "sheet.png") > 0
    assert not [each for each in recwarn if each.category is UserWarning]


def test_an_image_that_is_gone_leaves_its_place_grey(gallery: Gallery, tmp_path: Path):
    (gallery.folder / "green.png").unlink()
    sheets.draw_query(tmp_path / "sheet.png", answer(gallery, "1.png", matches=1), gallery)
    width, height = sheets.SINGLE_PX
    assert area_of(sheets.ABSENT_COLOUR, tmp_path / "sheet.png") > 0.9 * width * height


def test_a_query_without_matches_is_drawn_alone(gallery: Gallery, tmp_path: Path):
    sheets.draw_query(tmp_path / "sheet.png", answer(gallery, "1.png", matches=0), gallery)
    assert area_of((0, 0, 255), tmp_path / "sheet.png") > 0


def test_the_same_answers_give_the_same_bytes(gallery: Gallery, tmp_path: Path):
    for name in ("a.png", "b.png"):
        sheets.draw_query(tmp_path / name, answer(gallery, "1.png"), gallery)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_without_a_folder_nothing_is_written(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    found = SearchResults(gallery, None)
    found.add(answer(gallery, "1.png"))
    assert found.finish() == []
    assert [path.name for path in tmp_path.iterdir()] == ["gallery"]


def test_a_folder_that_can_not_be_written_is_an_error_of_ours(gallery: Gallery, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NetVLADError, match="can't make this folder"):
        SearchResults(gallery, tmp_path / "file")
    found = SearchResults(gallery, tmp_path / "out")
    found.add(answer(gallery, "1.png"))
    (tmp_path / "out").rmdir()
    with pytest.raises(NetVLADError, match="can't write the picture"):
        found.finish()
