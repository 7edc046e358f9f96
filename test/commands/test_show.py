# SPDX-License-Identifier: MIT
"""`netvlad show` draws a picture of an image's clusters and tells the same in words."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_networks import save_tiny_network

from netvlad_ros import cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def show(netvlad: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the command in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return partial(netvlad, "show")


def saved(path: Path, **values: Any) -> Path:
    """A small model with made-up weights; its cells are eight pixels wide."""
    own: dict[str, Any] = {
        "cut_layer": "conv_pw_4_relu",
        "input_width_px": 64,
        "input_height_px": 48,
        "input_scale": (2 / 255,),
    }
    return save_tiny_network(path, **own | values)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path / "model.keras")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Thirty pictures, a broken and a black one."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(30):
        pixels = np.random.default_rng(number).integers(0, 256, (96, 128, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
    (folder / "broken.png").write_text("no image")
    cv2.imwrite(str(folder / "black.png"), np.zeros((96, 128, 3), np.uint8))
    return folder


def test_an_image_becomes_a_picture_and_a_line(
    show: Run, model: Path, images: Path, tmp_path: Path
):
    code, out, err = show(model, images / "3.png")
    assert (code, err) == (0, "")
    assert out.startswith("3.png: 8x6 cells; most of it in clusters ")
    assert out.endswith("\n3_clusters.png\n")
    assert cv2.imread(str(tmp_path / "here" / "3_clusters.png")) is not None


def test_the_input_size_can_be_chosen(show: Run, model: Path, images: Path):
    assert "3.png: 12x10 cells" in show(model, images / "3.png", "--input-size", "96x80")[1]
    assert "3.png: 16x12 cells" in show(model, images / "3.png", "--input-size", "any")[1]


def test_ghosts_are_named_as_such(show: Run, images: Path, tmp_path: Path):
    model = saved(tmp_path / "ghosts.keras", clusters=1, ghost_clusters=2)
    out = show(model, images / "3.png")[1]
    assert {"0", "G1", "G2"} == set(out.partition("clusters ")[2].partition(";")[0].split()[::2])


def test_of_a_folder_some_images_become_a_sheet(
    show: Run, model: Path, images: Path, tmp_path: Path
):
    code, out, err = show(model, images, "-o", tmp_path / "sheet.png")
    assert code == 0
    assert "24 of 32 images are shown" in err
    assert "skipped: black.png: expected an image with something to see" in err
    assert "skipped: broken.png: expected an image" in err
    assert out.count(" cells; ") == 22
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None


def test_what_can_not_be_shown_is_one_sentence(
    show: Run, model: Path, images: Path, tmp_path: Path
):
    (tmp_path / "exported.onnx").write_bytes(b"\x08\x08")
    (tmp_path / "empty").mkdir()
    image = images / "3.png"
    for words, says in (
        (
            (saved(tmp_path / "gem.keras", pooling="gem"), image),
            "gem.keras: expected a model with NetVLAD",
        ),
        ((tmp_path / "exported.onnx", image), "expected a .keras model, whose layers"),
        ((tmp_path / "absent.keras", image), "there is no such model file"),
        ((model, tmp_path / "absent.png"), "can't read the image (No such file or directory)"),
        ((model, images / "broken.png"), "expected an image, got a file of another kind"),
        ((model, images / "black.png"), "expected an image with something to see"),
        ((model, tmp_path / "empty"), "expected images (avif, bmp"),
        ((model, image, "-o", tmp_path / "absent" / "out.png"), "can't write the picture"),
    ):
        code, out, err = show(*words)
        assert (code, out, err.count("\n"), says in err) == (1, "", 1, True), err


def test_a_trained_network_is_shown(show: Run, shared: Path, tmp_path: Path):
    """Its clusters differ in what they take, and most cells are quite sure."""
    source = shared / "reference" / "cartwheel" / "mobilenetv2_gray_1024.h5"
    model = tmp_path / "trained.keras"
    words = ["import-weights", str(source), "--input", "cartwheel-centred", "-o", str(model)]
    assert cli.main(words) == 0
    image = shared / "data" / "rtabmap_samples" / "images" / "60.jpg"
    code, out, _ = show(model, image)
    assert code == 0
    assert "60.jpg: 20x15 cells" in out
    assert float(out.partition("largest weight is ")[2].split()[0]) > 0.8
