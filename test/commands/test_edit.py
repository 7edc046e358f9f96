# SPDX-License-Identifier: MIT
"""`netvlad edit` says what it changed, and writes nothing where it can't do what it was told."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest
from tiny_networks import save_tiny_network

from netvlad_ros import cli
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.model import load_model

Run = Callable[..., tuple[int, str, str]]
DIMS = 4 * 32


@pytest.fixture
def edit(netvlad: Run) -> Run:
    return partial(netvlad, "edit")


def saved(path: Path, **values: Any) -> Path:
    """A small model with made-up weights."""
    own: dict[str, Any] = {
        "input_width_px": 64,
        "input_height_px": 48,
        "input_offset": (120.0, 110.0, 100.0),
        "input_scale": (2 / 255,),
    }
    return save_tiny_network(path, **own | values)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Without whitening."""
    return saved(tmp_path / "model.keras")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A dozen places, and a file that is none."""
    folder = tmp_path / "images"
    folder.mkdir()
    for place in range(12):
        blocks = np.random.default_rng(place).integers(0, 256, (6, 8, 3), np.uint8)
        image = cv2.resize(blocks, (64, 48), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / f"{place}.png"), image)
    (folder / "broken.png").write_text("no image")
    return folder


def read(path: Path, grey: bool = False) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
    assert image is not None
    return image if grey else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def test_input_size_and_channels_are_changed_together(
    edit: Run, model: Path, images: Path, tmp_path: Path
):
    out = tmp_path / "edited.keras"
    code, said, _ = edit(model, "-o", out, "--input-size", "any", "--channels", "grey")
    assert code == 0
    assert "\n  input_width_px: 64 -> 0\n" in said
    assert "\n  channel_order: rgb -> grey\n" in said
    old, new = NetVLADExtractor(model), NetVLADExtractor(out)
    assert new.fingerprint.partition("@")[0] in said
    assert new.size_px is None
    grey = read(images / "3.png", grey=True)
    np.testing.assert_allclose(new.extract(grey), old.extract(grey), atol=3e-6)


def test_a_whitening_is_fitted_on_images_then_shortened_then_dropped(
    edit: Run, model: Path, images: Path, tmp_path: Path
):
    white, short, plain = (tmp_path / f"{name}.keras" for name in ("white", "short", "plain"))
    code, said, _ = edit(model, "-o", white, "--fit-whitening", images, "--dims", 4)
    assert code == 0
    assert "12 images, 1 skipped" in said
    assert f"\n  dimensions: {DIMS} -> 4\n" in said
    inside = keras.Model(
        (network := load_model(white)).input, network.get_layer("whitening").output
    )
    pictures = np.stack([read(images / f"{i}.png") for i in range(12)]).astype(np.float32)
    whitened = keras.ops.convert_to_numpy(inside(pictures, training=False))
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(4), atol=0.02)

    assert edit(white, "-o", short, "--dims", 2)[0] == 0
    first = NetVLADExtractor(white).extract(read(images / "3.png"))[:2]
    wanted = first / np.linalg.norm(first)
    got = NetVLADExtractor(short).extract(read(images / "3.png"))
    np.testing.assert_allclose(got, wanted, atol=1e-5)

    assert edit(short, "-o", plain, "--drop-whitening")[0] == 0
    assert load_model(plain).fingerprint() == load_model(model).fingerprint()


def test_a_whitening_is_taken_from_a_file(edit: Run, model: Path, images: Path, tmp_path: Path):
    rng = np.random.default_rng(4)
    mean, components = rng.normal(size=DIMS), rng.normal(size=(6, DIMS))
    np.savetxt(tmp_path / "pca.csv", np.vstack([mean, components]), delimiter=",")
    out = tmp_path / "edited.keras"
    assert edit(model, "-o", out, "--whitening", tmp_path / "pca.csv", "--dims", 5)[0] == 0
    image = read(images / "3.png")
    y = components[:5] @ (NetVLADExtractor(model).extract(image) - mean)
    got = NetVLADExtractor(out).extract(image)
    np.testing.assert_allclose(got, y / np.linalg.norm(y), atol=1e-5)


def test_a_truncation_after_the_whitening_can_be_undone(edit: Run, tmp_path: Path):
    model = saved(tmp_path / "cut.keras", whitening_dims=9, descriptor_dims=3)
    code, said, _ = edit(model, "-o", tmp_path / "all.keras", "--dims", "all")
    assert code == 0
    assert "dimensions: 3 -> 9" in said


def test_a_model_can_take_the_place_of_the_one_it_was_made_of(edit: Run, model: Path):
    before = load_model(model).fingerprint()
    assert edit(model, "-o", model, "--input-size", "320x240")[0] == 0
    assert load_model(model).fingerprint() != before


def test_what_can_not_be_done_is_one_sentence_and_writes_nothing(
    edit: Run, model: Path, images: Path, tmp_path: Path
):
    (tmp_path / "pca.csv").write_text("1,2\n3,4\n")
    out = tmp_path / "edited.keras"
    for words, says in (
        ((), "expected something to change"),
        (("--dims", 3), "expected a model with a whitening"),
        (("--fit-whitening", images), "expected the number of dimensions with it, --dims N"),
        (("--fit-whitening", images, "--dims", "all"), "expected the number of dimensions"),
        (("--fit-whitening", images, "--dims", 12), "expected more than 12 images, got 12"),
        (("--fit-whitening", tmp_path / "absent", "--dims", 3), "no such file or folder"),
        (("--whitening", tmp_path / "pca.csv"), "expected one that takes 128 dimensions"),
        (("--whitening", tmp_path / "absent.npz"), "no such file of a whitening"),
    ):
        code, _, err = edit(model, "-o", out, *words)
        assert (code, err.count("\n"), says in err) == (1, 1, True), err
        assert not out.exists()
    assert "ending in .keras" in edit(model, "-o", "edited.onnx", "--channels", "grey")[2]
    assert "no such model file" in edit("absent.keras", "-o", out, "--channels", "grey")[2]


@pytest.mark.parametrize(
    "words", [("--input-size", "320"), ("--input-size", "0x240"), ("--dims", 0), ("--dims", "few")]
)
def test_values_that_can_not_be_are_refused(edit: Run, model: Path, words: tuple[Any, ...]):
    with pytest.raises(SystemExit) as end:
        edit(model, "-o", "edited.keras", *words)
    assert end.value.code == 2


def test_a_trained_colour_network_made_grey_sees_grey_images_as_before(
    edit: Run, shared: Path, tmp_path: Path
):
    source = shared / "reference" / "cartwheel" / "mobilenet_color_8192.h5"
    model, out = tmp_path / "colour.keras", tmp_path / "grey.keras"
    words = ["import-weights", str(source), "--input", "cartwheel-centred", "-o", str(model)]
    assert cli.main(words) == 0
    assert edit(model, "-o", out, "--channels", "grey")[0] == 0
    old, new = NetVLADExtractor(model), NetVLADExtractor(out)
    for number in (1, 41, 84):
        path = shared / "data" / "rtabmap_samples" / "images" / f"{number}.jpg"
        grey = read(path, grey=True)
        np.testing.assert_allclose(new.extract(grey), old.extract(grey), atol=1e-6)
        np.testing.assert_allclose(new.extract(read(path)), new.extract(grey), atol=2e-3)
