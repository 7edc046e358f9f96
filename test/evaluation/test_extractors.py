# SPDX-License-Identifier: MIT
"""What is evaluated is the file that was named, not another one of the same model."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_networks import tiny_network

from netvlad_ros.config import ExtractorConfig
from netvlad_ros.data.image_sources import ImageFiles
from netvlad_ros.data.places import PlaceImages
from netvlad_ros.evaluation.extractors import open_extractor, some_images
from netvlad_ros.export.exporter import export_network
from netvlad_ros.export.formats import FORMATS
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.model import load_model, save_model

NOTHING = PlaceImages(ImageFiles(Path(), []), np.empty((0, 2)))
CONFIG = ExtractorConfig(device="cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    save_model(tiny_network(input_width_px=64, input_height_px=48), path)
    return path


def test_a_keras_model_shares_its_cached_descriptors_with_other_commands(model: Path):
    extractor, name = open_extractor(str(model), CONFIG, NOTHING)
    assert name == "tiny.keras"
    assert extractor.fingerprint == NetVLADExtractor(model, CONFIG).fingerprint


def test_an_exported_file_is_not_taken_for_its_model(model: Path, tmp_path: Path):
    exported = tmp_path / "tiny.tflite"
    export_network(load_model(model), exported, FORMATS["litert"], "fp32", (64, 48))
    first, _ = open_extractor(str(exported), CONFIG, NOTHING)
    original, _ = open_extractor(str(model), CONFIG, NOTHING)
    assert first.fingerprint.startswith(f"{original.fingerprint} in tiny.tflite:")
    again, _ = open_extractor(str(exported), CONFIG, NOTHING)
    assert again.fingerprint == first.fingerprint


def test_images_for_a_vocabulary_are_spread_over_all_and_broken_ones_left_out(tmp_path: Path):
    names = [f"{i}.png" for i in range(10)]
    for i, name in enumerate(names):
        cv2.imwrite(str(tmp_path / name), np.full((4, 4), i, np.uint8))
    (tmp_path / "9.png").write_text("no image")
    images = PlaceImages(ImageFiles(tmp_path, names), np.zeros((10, 2)))
    assert [int(image[0, 0, 0]) for image in some_images(images, 4)] == [0, 3, 6]
