# SPDX-License-Identifier: MIT
"""Samples of images come in a random order, each once, and broken ones are told and left out."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from netvlad_ros.data.image_sources import ImageFiles
from netvlad_ros.data.places import PlaceImages
from netvlad_ros.training.image_samples import SkippedImages, place_images, rendered_images
from netvlad_ros.worlds.camera import Camera
from netvlad_ros.worlds.groups import GroupConfig
from netvlad_ros.worlds.rendering import Rendering, render_missing, shards


def _places(folder: Path) -> PlaceImages:
    """Eight pictures, number n of brightness 20 n, of which the fourth is broken and the fifth black."""
    names = [f"{number}.png" for number in range(8)]
    checks = np.indices((40, 50)).sum(axis=0) % 2 * 10
    for number, name in enumerate(names):
        picture = np.repeat((20 * number + checks)[..., None], 3, axis=2).astype(np.uint8)
        cv2.imwrite(str(folder / name), picture * (number != 4))
    (folder / "3.png").write_bytes(b"no picture")
    return PlaceImages(ImageFiles(folder, names), np.full((8, 2), np.nan))


def test_images_of_places_come_once_each_in_a_random_order(tmp_path):
    places, skipped = _places(tmp_path), SkippedImages()
    order = [round((image.mean() - 5) / 20) for image in place_images(places, None, 1, skipped)]
    assert sorted(order) == [0, 1, 2, 5, 6, 7]
    assert order != sorted(order)
    assert skipped.count == 2
    assert any("3.png: expected an image" in problem for problem in skipped.problems)
    assert any("4.png: expected an image with something" in told for told in skipped.problems)
    sizes = {image.shape for image in place_images(places, (64, 48), 1, SkippedImages())}
    assert sizes == {(48, 64, 3)}


@pytest.mark.needs("panda3d")
def test_rendered_images_show_every_place_before_one_comes_again(tmp_path):
    config = GroupConfig(positives=1, negatives=1, conditions=1)
    rendering = Rendering(2, 2, ("room",), 0, Camera(64, 48), config)
    list(render_missing(rendering, tmp_path, 1))
    worlds = shards(rendering, tmp_path)
    pictures = {
        shard.images(group, [number])[0].tobytes(): (shard.world, group)
        for shard in worlds
        for group in range(2)
        for number in range(3)
    }
    places = [pictures[image.tobytes()] for image in rendered_images(worlds, 0)]
    assert len(places) == 12
    for turn in range(3):
        assert len(set(places[4 * turn : 4 * turn + 4])) == 4
