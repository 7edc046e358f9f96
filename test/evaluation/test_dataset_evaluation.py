# SPDX-License-Identifier: MIT
"""An evaluation counts, continues where it was interrupted, and steps over what is broken."""

import base64
import json
import re
import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_up_extractors import MadeUpExtractor

from netvlad_ros.data.places import PlaceDataset
from netvlad_ros.data.read_places import read_places
from netvlad_ros.errors import DatasetError, ImageError
from netvlad_ros.evaluation.place_recognition import evaluate_places
from netvlad_ros.evaluation.place_report import write_place_report
from netvlad_ros.extraction.many_images import Extraction, all_descriptors

PLACES = 6


class GreyLevels(MadeUpExtractor):
    """Takes the grey level of an image for the place; refuses black ones."""

    dims = 256
    fingerprint = "grey"

    def __init__(self) -> None:
        self.seen = 0

    def extract(self, image: np.ndarray) -> np.ndarray:
        if not image.any():
            raise ImageError("expected an image with something to see.")
        self.seen += 1
        return np.eye(256, dtype=np.float32)[image[0, 0, 0]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six places 100 m apart; a query at each, of which two show another place."""
    for part, greys in (
        ("database", [10, 20, 30, 40, 50, 60]),
        ("queries", [10, 20, 30, 40, 60, 50]),
    ):
        (tmp_path / part).mkdir()
        for place, grey in enumerate(greys):
            image = np.full((8, 8, 3), grey, np.uint8)
            cv2.imwrite(str(tmp_path / part / f"@{100 * place}@0@{part}.png"), image)
    return tmp_path


def evaluate(folder: Path, extractor: GreyLevels | None = None):
    return evaluate_places(
        read_places(folder), extractor or GreyLevels(), folder / "cache", "grey", batch=2
    )


def test_right_first_matches_are_counted(folder: Path):
    results = evaluate(folder)
    assert results.recalls[1] == 4 / 6
    assert results.ranks.tolist()[:4] == [0, 0, 0, 0]
    assert results.localization_recall == 4 / 6
    assert results.similarities[0, 0] == pytest.approx(1.0)
    assert results.distances_m[4, 0] == 100.0
    assert set(results.worst().tolist()) == {4, 5}
    assert set(results.best().tolist()) == {0, 1, 2, 3}


def test_the_second_time_nothing_is_described(folder: Path):
    first, second = GreyLevels(), GreyLevels()
    results, again = evaluate(folder, first), evaluate(folder, second)
    assert (first.seen, second.seen) == (12, 0)
    assert (again.database.reused, again.query.reused) == (6, 6)
    assert again.to_json() == results.to_json()


def test_images_are_read_in_order_by_one_thread(folder: Path):
    """Of a bag, whatever comes out of order has to be searched for."""
    images = read_places(folder).database.images
    reads: list[tuple[int, int]] = []

    class Watched:
        root, names, file = images.root, images.names, images.file

        def read(self, index: int) -> np.ndarray:
            reads.append((index, threading.get_ident()))
            return images.read(index)

    all_descriptors(Watched(), GreyLevels(), folder / "cache", Extraction(), batch=1)
    assert [index for index, _ in reads] == list(range(6))
    assert len({thread for _, thread in reads}) == 1


def test_without_a_folder_for_them_descriptors_are_computed_each_time(folder: Path):
    before = sorted(folder.rglob("*"))
    extractor = GreyLevels()
    found = [evaluate_places(read_places(folder), extractor) for _ in range(2)]
    assert extractor.seen == 24
    assert [each.database.reused for each in found] == [0, 0]
    assert found[0].database.problem == ""
    assert found[0].recalls == evaluate_places(read_places(folder), extractor, folder / "c").recalls
    assert [
        each for each in sorted(folder.rglob("*")) if folder / "c" not in (each, each.parent)
    ] == before


def test_what_was_interrupted_continues(folder: Path):
    def stop_after(indices: Sequence[int]):
        for index in indices:
            if index == 4:
                raise KeyboardInterrupt
            yield index

    dataset = read_places(folder)
    with pytest.raises(KeyboardInterrupt):
        all_descriptors(
            dataset.database.images, GreyLevels(), folder / "cache", Extraction(), stop_after, 1
        )
    told = Extraction()
    all_descriptors(dataset.database.images, GreyLevels(), folder / "cache", told, batch=1)
    assert told.reused >= 1
    assert told.reused + told.extracted == 6


@pytest.mark.parametrize("batch", [1, 2, 4, 100])
def test_broken_missing_and_black_images_are_named_skipped_and_counted(folder: Path, batch: int):
    dataset = read_places(folder)
    cv2.imwrite(str(folder / "database" / "@0@0@database.png"), np.zeros((8, 8, 3), np.uint8))
    (folder / "database" / "@100@0@database.png").write_text("no image")
    (folder / "queries" / "@200@0@queries.png").unlink()
    results = evaluate_places(dataset, GreyLevels(), folder / "cache", batch=batch)
    assert [each.name for each in results.database.skipped] == [
        "@0@0@database.png",
        "@100@0@database.png",
    ]
    assert results.database.skipped[1].problem.startswith(
        "expected an image, got a file of another"
    )
    assert [each.name for each in results.query.skipped] == ["@200@0@queries.png"]
    assert results.queries.tolist() == [0, 1, 3, 4, 5]
    assert results.recalls[1] == 1 / 5  # the images that would have been right are broken
    assert "1 queries skipped; 4 database images, 2 skipped" in results.conditions


def test_queries_without_a_positive_are_misses_and_counted(folder: Path):
    (folder / "queries" / "@0@0@queries.png").rename(folder / "queries" / "@9999@0@queries.png")
    results = evaluate(folder)
    assert results.without_positives == 1
    assert results.recalls[1] == 3 / 6
    assert results.recalls[20] == 5 / 6


def test_a_set_of_which_nothing_can_be_used_is_an_error(folder: Path):
    dataset = read_places(folder)
    for file in (folder / "database").iterdir():
        file.write_text("no image")
    with pytest.raises(
        ImageError, match=r"database: none of 6 images can be used; the first: expected"
    ):
        evaluate_places(dataset, GreyLevels(), folder / "cache")
    for file in (folder / "queries").iterdir():
        file.write_text("no image")
    with pytest.raises(ImageError, match=r"queries: none of 6 images can be used"):
        evaluate_places(dataset, GreyLevels(), folder / "cache")


def test_a_sequence_is_no_dataset_of_queries(folder: Path):
    dataset = read_places(folder)
    sequence = PlaceDataset("drive", dataset.database, dataset.database)
    with pytest.raises(DatasetError, match="one sequence; give queries"):
        evaluate_places(sequence, GreyLevels(), folder / "cache")


def test_the_report_is_one_page_with_pictures_inside_and_figures_beside(folder: Path):
    page, data = write_place_report(folder / "out", evaluate(folder))
    text = page.read_text(encoding="utf-8")
    assert "Recall@1</td><td>66.67 %" in text
    assert 'src="data:' in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)  # needs no other file
    plots = re.findall(r"data:image/png;base64,([^\"]+)", text)
    assert len(plots) == 3
    for plot in plots:
        image = cv2.imdecode(np.frombuffer(base64.b64decode(plot), np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        assert image.std() > 5
    assert text.count('<div class="row">') == 6
    assert text.count('class="tile wrong"') >= 2
    document = json.loads(data.read_text())
    assert document["recall"]["1"] == 4 / 6
    assert document["results"][4]["match"] == "@500@0@database.png"
    assert document["conditions"] in text.replace("&lt;", "<")


def test_a_name_with_angle_brackets_is_only_text(folder: Path):
    (folder / "queries" / "@0@0@queries.png").rename(folder / "queries" / "@0@0@<b>&.png")
    page, _ = write_place_report(folder / "out", evaluate(folder))
    assert "<b>" not in page.read_text(encoding="utf-8")
