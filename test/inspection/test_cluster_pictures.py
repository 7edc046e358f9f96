# SPDX-License-Identifier: MIT
"""Each cell has the colour of its cluster, and clusters can be told apart."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from netvlad_ros.errors import NetVLADError
from netvlad_ros.inspection import cluster_pictures
from netvlad_ros.inspection.cluster_pictures import (
    View,
    cluster_name,
    draw_cluster_sheet,
    draw_clusters,
)
from netvlad_ros.inspection.colours import palette
from netvlad_ros.model.assignments import Assignments


def assignments(labels: list[list[int]], assigned: int, clusters: int) -> Assignments:
    """A hard assignment of cells to clusters."""
    weights = np.eye(assigned)[np.array(labels)]
    return Assignments(weights, np.arange(clusters, dtype=float))


def view(found: Assignments, height: int = 60, width: int = 80, name: str = "1.png") -> View:
    return View(name, np.full((height, width, 3), 128, np.uint8), found)


def picture(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return image[..., ::-1].astype(int)


def area_of(colour: np.ndarray, path: Path) -> int:
    """How many pixels have this colour over the grey of the image."""
    cover = cluster_pictures.MOST_COVER
    blended = (1.0 - cover) * 128 + cover * colour.astype(float)
    return int((np.abs(picture(path) - blended).max(axis=2) < 4).sum())


def lab(colours: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(colours[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]


def test_colours_of_sixty_four_clusters_and_more_can_be_told_apart():
    for count, least in ((16, 40.0), (64, 20.0), (128, 13.0)):
        colours = lab(palette(count))
        distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
        assert distances[~np.eye(count, dtype=bool)].min() > least
        assert np.linalg.norm(colours[:, 1:], axis=1).min() > 10.0  # none is grey


def test_a_colour_does_not_depend_on_how_many_there_are():
    np.testing.assert_array_equal(palette(70)[:16], palette(16))


def test_cells_have_the_colour_of_their_cluster(tmp_path: Path):
    found = assignments([[0, 0, 0, 2], [0, 0, 0, 2]], assigned=4, clusters=4)
    draw_clusters(tmp_path / "clusters.png", view(found), "title")
    areas = [area_of(colour, tmp_path / "clusters.png") for colour in palette(4)]
    assert areas[1] == areas[3] == 0
    assert 2.5 * areas[2] < areas[0] < 3.5 * areas[2]


def test_an_uncertain_cell_shows_more_of_the_image(tmp_path: Path):
    weights = np.full((2, 2, 4), 0.25)
    weights[..., 0] += 0.01
    draw_clusters(tmp_path / "pale.png", view(Assignments(weights, np.ones(4))), "title")
    assert area_of(palette(4)[0], tmp_path / "pale.png") == 0


def test_ghosts_are_striped_and_have_no_colour(tmp_path: Path):
    kept = assignments([[0, 1], [0, 1]], assigned=2, clusters=2)
    ghost = assignments([[0, 2], [0, 2]], assigned=4, clusters=2)
    draw_clusters(tmp_path / "kept.png", view(kept), "title")
    draw_clusters(tmp_path / "ghost.png", view(ghost), "title")
    assert area_of(palette(2)[1], tmp_path / "kept.png") > 1000
    assert area_of(palette(2)[1], tmp_path / "ghost.png") == 0
    stripes = [np.full(3, value) for value in (40, 230)]
    assert all(area_of(stripe, tmp_path / "ghost.png") > 1000 for stripe in stripes)
    assert [cluster_name(number, 2) for number in range(4)] == ["0", "1", "G1", "G2"]


def test_a_sheet_has_every_image(tmp_path: Path):
    found = [assignments([[number]], assigned=6, clusters=6) for number in range(6)]
    draw_cluster_sheet(tmp_path / "sheet.png", [view(each) for each in found], "title")
    areas = [area_of(colour, tmp_path / "sheet.png") for colour in palette(6)]
    assert min(areas) > 0.9 * max(areas) > 10_000


@pytest.mark.parametrize("shape", [(32, 1000), (1000, 32), (2000, 3000), (32, 32)])
def test_images_of_any_shape_are_drawn(tmp_path: Path, shape: tuple[int, int]):
    found = assignments([[0, 1, 2, 69] * 9] * 30, assigned=70, clusters=64)
    shown = view(found, *shape, name="a $strange$ 名.png")
    draw_clusters(tmp_path / "one.png", shown, "title")
    draw_cluster_sheet(tmp_path / "sheet.png", [shown, view(found)], "title")
    for name in ("one.png", "sheet.png"):
        assert max(picture(tmp_path / name).shape) < 3500


def test_the_same_input_gives_the_same_bytes(tmp_path: Path):
    for name in ("a.png", "b.png"):
        draw_clusters(tmp_path / name, view(assignments([[0, 1]], 2, 2)), "title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("name", ["absent/clusters.png", "clusters.keras"])
def test_a_picture_that_can_not_be_written_is_an_error_of_ours(tmp_path: Path, name: str):
    with pytest.raises(NetVLADError, match="can't write the picture") as error:
        draw_clusters(tmp_path / name, view(assignments([[0]], 1, 1)), "title")
    assert "\n" not in str(error.value)
