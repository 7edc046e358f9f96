# SPDX-License-Identifier: MIT
"""Two models side by side: what differs is found, where it begins, and what would explain it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest

from netvlad_ros import cli
from netvlad_ros.config import NetworkConfig
from netvlad_ros.errors import DescriptorError, ModelError
from netvlad_ros.inspection.comparison import Comparison, Side, compare, open_side
from netvlad_ros.model import NetVLADNetwork, build_network, save_model

RNG = np.random.default_rng(11)
# Soft pictures with some colour: noise looks the same in every order of its channels.
IMAGES = [
    cv2.resize(RNG.integers(0, 256, (5, 6, 3), np.uint8), (96, 80), interpolation=cv2.INTER_CUBIC)
    for _ in range(2)
]
NAMES = ["first.png", "second.png"]
CLUSTERS, DEPTH = 4, 64


def network(**values: Any) -> NetVLADNetwork:
    """Always the same weights for a tensor of the same name and shape; images of colours differ widely."""
    given: dict[str, Any] = {
        "backbone": "mobilenet",
        "backbone_width": 0.25,
        "cut_layer": "conv_pw_4_relu",
        "clusters": CLUSTERS,
        "input_offset": (100.0, 120.0, 140.0),
        "input_scale": (1 / 60,),
        "assignment_bias": True,
    }
    model = build_network(NetworkConfig(**given | values))
    for weight in model.weights:
        rng = np.random.default_rng(sum(weight.path.encode()))
        if weight.path.endswith(("gamma", "variance")):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        else:
            fan_in = np.prod(weight.shape[:-1]) if len(weight.shape) > 1 else 4.0
            weight.assign(rng.normal(size=weight.shape) * np.sqrt(2 / fan_in))
    return model


def copy_weights(source: NetVLADNetwork, target: NetVLADNetwork) -> NetVLADNetwork:
    known = {weight.path: weight for weight in source.weights}
    for weight in target.weights:
        if weight.path in known:
            weight.assign(known[weight.path])
    return target


def outputs(model: NetVLADNetwork, images: list[np.ndarray] = IMAGES) -> np.ndarray:
    """By the whole network at once."""
    return keras.ops.convert_to_numpy(model(np.stack(images).astype(np.float32)))


def side(name: str, model: NetVLADNetwork) -> Side:
    return Side(name, model, lambda images: outputs(model, list(images)))


def expect(descriptors: np.ndarray) -> Side:
    return Side("expected", None, lambda images: descriptors)


def compared(a: NetVLADNetwork, b: NetVLADNetwork | np.ndarray) -> Comparison:
    other = expect(b) if isinstance(b, np.ndarray) else side("B", b)
    return compare(side("A", a), other, IMAGES, NAMES)


# --- Two networks -------------------------------------------------------------------------------------


def test_a_network_equals_itself():
    found = compared(network(), network())
    assert found.equal
    assert found.conclusion.startswith("Equal within 1e-05")
    assert found.explanations == []
    assert found.inside is not None
    assert found.inside.first_difference is None
    assert not any(pair.differs for pair in [*found.inside.layers, *found.inside.weights])
    assert [pair.image for pair in found.descriptors] == NAMES
    for pair in found.descriptors:
        assert pair.cosine == pytest.approx(1.0)
        assert (pair.dims_a, pair.dims_b) == (CLUSTERS * DEPTH, CLUSTERS * DEPTH)
        assert pair.norm_a == pytest.approx(1.0)


def test_the_first_layer_that_differs_is_the_one_with_another_weight():
    other = network()
    [kernel] = [weight for weight in other.weights if weight.path == "conv_pw_2/kernel"]
    kernel.assign(kernel * 1.25)
    found = compared(network(), other)
    assert not found.equal
    assert found.inside is not None
    assert found.inside.first_difference is not None
    assert found.inside.first_difference.name == "conv_pw_2"
    assert [pair.name for pair in found.inside.weights if pair.differs] == ["conv_pw_2/kernel"]
    assert "conv_pw_2: up to" in found.conclusion
    assert "so do its weights (conv_pw_2/kernel)" in found.conclusion
    [pair] = [pair for pair in found.inside.layers if pair.name == "conv_pw_2"]
    assert pair.difference is not None
    assert pair.difference.relative == pytest.approx(0.25, rel=1e-4)
    assert pair.difference.cosine == pytest.approx(1.0)


def test_figures_are_the_worst_of_all_images():
    """The second network sees 10 more of everything, and the second image is white in one place."""
    a, b = network(), network(input_offset=(90.0, 110.0, 130.0))
    found = compared(a, b)
    assert found.inside is not None
    for channel in found.inside.input_channels:
        assert channel.max_abs == pytest.approx(10 / 60, rel=1e-5)
        assert channel.mean_abs == pytest.approx(10 / 60, rel=1e-5)
    largest = max(abs(image - np.array([100, 120, 140])).max() / 60 for image in IMAGES)
    [pair] = [pair for pair in found.inside.layers if pair.name == "input_normalisation"]
    assert pair.difference is not None
    assert pair.difference.relative == pytest.approx(10 / 60 / largest, rel=0.35)


def test_another_input_is_where_the_difference_begins():
    found = compared(network(), network(input_scale=(1 / 50,)))
    assert found.inside is not None
    assert [s.name for s in found.inside.settings if s.a != s.b] == ["input_scale"]
    assert "input_normalisation: up to" in found.conclusion
    assert "settings" not in found.conclusion


def test_networks_of_other_input_sizes_are_compared_by_their_descriptors():
    found = compared(
        network(input_width_px=64, input_height_px=48),
        network(input_width_px=96, input_height_px=80),
    )
    assert found.inside is not None
    assert found.inside.input_channels == []
    assert "image_rgb: its output is (48, 64, 3) in A and (80, 96, 3) in B" in found.conclusion
    assert all(pair.cosine is not None for pair in found.descriptors)


def test_networks_of_other_backbones_are_aligned_where_they_can_be():
    b = network(backbone="mobilenet_v2", backbone_width=0.35, cut_layer="block_2_add")
    found = compared(network(), b)
    assert found.inside is not None
    by_name = {pair.name: pair for pair in found.inside.layers}
    assert by_name["conv1"].shape_b is None
    assert by_name["Conv1"].shape_a is None
    assert by_name["netvlad"].shape_a == (CLUSTERS, DEPTH)
    assert by_name["netvlad"].shape_b == (CLUSTERS, 8)
    assert {setting.name for setting in found.inside.settings} >= {"backbone", "cut_layer"}
    assert found.descriptors[0].cosine is None
    assert "conv1: only A has it" in found.conclusion


def test_nan_is_a_difference():
    other = network()
    [kernel] = [weight for weight in other.weights if weight.path == "conv_pw_4/kernel"]
    kernel.assign(kernel * np.nan)
    found = compared(network(), other)
    assert not found.equal
    assert found.inside is not None
    assert found.inside.first_difference is not None
    assert found.inside.first_difference.name == "conv_pw_4"


# --- Explanations -------------------------------------------------------------------------------------


def with_negative_centres(model: NetVLADNetwork) -> np.ndarray:
    layer = model.get_layer("netvlad")
    layer.centres.assign(-layer.centres)
    descriptors = outputs(model)
    layer.centres.assign(-layer.centres)
    return descriptors


def dimension_major(model: NetVLADNetwork) -> np.ndarray:
    rows = outputs(model).reshape(-1, CLUSTERS, DEPTH)
    return rows.transpose(0, 2, 1).reshape(len(rows), -1)


def unit(descriptors: np.ndarray) -> np.ndarray:
    return descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)


def variant(**values: Any) -> Callable[[NetVLADNetwork], np.ndarray]:
    return lambda model: outputs(copy_weights(model, network(**values)))


EXPLAINED: dict[str, Callable[[NetVLADNetwork], np.ndarray]] = {
    "red and blue exchanged in the input": lambda model: outputs(
        model, [image[..., ::-1] for image in IMAGES]
    ),
    "the vector in the order d * K + k instead of k * D + d": dimension_major,
    "the sign of the cluster centres turned": with_negative_centres,
    "local features not normalised": variant(normalise_features=False),
    "the input's offset left out": variant(input_offset=(0.0,)),
    "the input as 0 to 1 (x / 255)": variant(input_offset=(0.0,), input_scale=(1 / 255,)),
    "the input as PyTorch has it": variant(
        input_offset=(123.675, 116.28, 103.53), input_scale=(1 / 58.395, 1 / 57.12, 1 / 57.375)
    ),
    "the other vectors brought to unit length": lambda model: 3 * outputs(model),
    "only the first 10 dimensions kept": lambda model: unit(outputs(model)[:, :10]),
    "only the first 10 dimensions kept and the other vectors brought": lambda model: outputs(model)[
        :, :10
    ],
}


@pytest.mark.parametrize("what", EXPLAINED)
def test_a_mistake_that_is_easily_made_is_explained(what: str):
    model = network()
    found = compared(model, EXPLAINED[what](model))
    assert not found.equal
    assert len(found.explanations) == 1
    assert what in found.explanations[0]
    assert found.explanations[0].endswith("both are equal within 1e-05.")


def test_channels_are_exchanged_in_the_known_inputs_of_bgr_networks():
    model = network(channel_order="bgr")
    other = variant(
        channel_order="bgr", input_offset=(103.939, 116.779, 123.68), input_scale=(1.0,)
    )(model)
    assert ["the input as VGG has it" in each for each in compared(model, other).explanations] == [
        True
    ]


def test_missing_whitening_is_explained_in_both_orders():
    whitened = network(whitening_dims=CLUSTERS * DEPTH)
    plain = copy_weights(whitened, network())
    for other, what in (
        (outputs(plain), "With the whitening left out in A, both are equal"),
        (dimension_major(plain), "With the whitening left out and the vector in the order d * K"),
    ):
        found = compared(whitened, other)
        assert [what in each for each in found.explanations] == [True]


def test_whitening_rows_in_the_other_order_are_explained():
    whitened = network(whitening_dims=8)
    expected = outputs(whitened)
    kernel = whitened.get_layer("whitening").kernel
    rows = keras.ops.convert_to_numpy(kernel).reshape(CLUSTERS, DEPTH, 8)
    kernel.assign(rows.transpose(1, 0, 2).reshape(-1, 8))
    found = compared(whitened, expected)
    assert ["order d * K + k" in each for each in found.explanations] == [True]


def test_a_relu_after_the_last_convolution_is_explained():
    values = {"backbone": "alexnet", "backbone_width": 1.0, "assignment_bias": False}
    model = network(**values, cut_layer="conv3")
    with_relu = variant(**values, cut_layer="relu3")(model)
    found = compared(model, with_relu)
    assert ["a ReLU after the last convolution (conv3)" in e for e in found.explanations] == [True]


def test_images_in_their_own_size_are_explained(tmp_path: Path):
    model = network(input_width_px=64, input_height_px=48)
    save_model(model, tmp_path / "model.keras")
    resizes = open_side(str(tmp_path / "model.keras"))
    found = compare(resizes, expect(outputs(model)), IMAGES, NAMES)
    assert ["images kept in their own size" in each for each in found.explanations] == [True]


def test_what_the_first_network_does_not_explain_the_second_may():
    model = network()
    found = compare(expect(3 * outputs(model)), side("B", model), IMAGES, NAMES)
    assert ["brought to unit length" in each for each in found.explanations] == [True]


def test_something_else_is_not_explained():
    found = compared(network(), unit(RNG.normal(size=(2, CLUSTERS * DEPTH))))
    assert found.explanations == []
    assert not found.equal


def test_zeros_are_not_explained():
    assert compared(network(), np.zeros((2, CLUSTERS * DEPTH), np.float32)).explanations == []


# --- Files and the command ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.keras, b.keras of which one convolution differs, images/, expected descriptors of a."""
    path = tmp_path_factory.mktemp("compare")
    model = network()
    save_model(model, path / "a.keras")
    expected = outputs(model)
    np.save(path / "expected.npy", expected)
    np.savez(path / "one.npz", descriptors=expected)
    np.savez(path / "several.npz", wrong=expected + 1, right=expected)
    (path / "images").mkdir()
    for name, image in zip(NAMES, IMAGES, strict=True):
        cv2.imwrite(str(path / "images" / name), image[..., ::-1])
    [kernel] = [weight for weight in model.weights if weight.path == "conv_pw_3/kernel"]
    kernel.assign(kernel * 1.5)
    save_model(model, path / "b.keras")
    return path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = cli.main(["compare", *map(str, words)])
    return code, *capsys.readouterr()


@pytest.mark.parametrize(
    "file", ["expected.npy", "one.npz", "one.npz:descriptors", "several.npz:right"]
)
def test_the_command_compares_with_a_file_of_descriptors(
    file: str, folder: Path, capsys: pytest.CaptureFixture[str]
):
    code, out, err = run(capsys, folder / "a.keras", folder / file, folder / "images")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("Equal within 1e-05")


@pytest.mark.parametrize("columns", [80, 120])
def test_the_command_shows_what_differs_and_passes_what_does_not(
    columns: int,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("COLUMNS", str(columns))
    words = (folder / "a.keras", folder / "b.keras", folder / "images" / NAMES[0])
    code, out, _ = run(capsys, *words, "--json", tmp_path / "all.json")
    assert code == 1
    tables = out[out.index("settings") : out.index("The descriptors differ")]
    assert max(map(len, tables.splitlines())) <= columns
    assert "…" not in out
    assert "image_rgb ... conv_dw_3_relu" in out
    assert "conv_dw_2_bn " not in out
    assert "the first layer that differs is conv_pw_3" in out.splitlines()[-1]
    everything = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert "conv_dw_2_bn" in [layer["name"] for layer in everything["inside"]["layers"]]
    assert everything["conclusion"] == out.splitlines()[-1]
    assert "conv_dw_2_bn " in run(capsys, *words, "--all")[1]


def test_json_has_no_numbers_that_json_does_not_know(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    np.save(tmp_path / "nan.npy", np.full((1, CLUSTERS * DEPTH), np.nan))
    words = (folder / "a.keras", tmp_path / "nan.npy", folder / "images" / NAMES[0])
    assert run(capsys, *words, "--json", tmp_path / "all.json")[0] == 1
    text = (tmp_path / "all.json").read_text(encoding="utf-8")
    assert json.loads(text)["descriptors"][0]["max_abs"] is None
    assert "NaN" not in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("absent.keras", "b.keras", "images"), "absent.keras: there is no such model file"),
        (("a.keras", "absent.npy", "images"), "absent.npy: can't read the descriptors"),
        (("a.keras", "absent.npz:x", "images"), "absent.npz:x: can't read the descriptors"),
        (("a.keras", "several.npz", "images"), "one of the arrays in it (wrong, right), got none"),
        (("a.keras", "several.npz:x", "images"), "one of the arrays in it (wrong, right), got 'x'"),
        (("a.keras", "text.npy", "images"), "text.npy: expected arrays of numbers; got"),
        (("a.keras", "text.npz", "images"), "text.npz: expected arrays of numbers; got"),
        (("a.keras", "flat.npy", "images"), "expected numbers of shape (images, dimensions)"),
        (
            ("a.keras", "expected.npy", "images/first.png"),
            "each of 1 images, got 2; name the images",
        ),
        (("a.keras", "b.keras", "absent.png"), "absent.png: can't read the image"),
        (("a.keras", "b.keras", "text.npy"), "text.npy: expected an image"),
        (("a.keras", "b.keras", "empty"), "empty: expected images"),
        (("text.keras", "b.keras", "images"), "text.keras: expected a .keras file"),
        (("a.keras", "b.keras", "images", "--json", "no/x"), "can't write the figures"),
    ],
)
def test_wrong_input_is_one_sentence(
    words: tuple[str, ...],
    says: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir(exist_ok=True)
    for name in ("text.npy", "text.npz", "text.keras"):
        (folder / name).write_text("some text")
    np.save("flat.npy", np.zeros((2, 3, 4)))
    code, _, err = run(capsys, *words)
    assert (code, err.count("\n")) == (1, 1)
    assert says in err


def test_a_pickle_among_the_descriptors_is_not_opened(tmp_path: Path):
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DescriptorError, match="expected arrays of numbers"):
        open_side(str(tmp_path / "pickle.npy"))


def test_what_is_no_model_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("some text")
    with pytest.raises(ModelError, match="expected a model file"):
        open_side(str(tmp_path / "notes.txt"))


@pytest.mark.parametrize(
    ("model", "preset"),
    [
        pytest.param("mobilenetv2_color_1024", "cartwheel-centred", marks=pytest.mark.slow),
        ("mobilenet_color_raw_8192", "cartwheel-raw"),
    ],
)
def test_a_genuine_model_equals_the_descriptors_of_its_authors_code(
    model: str, preset: str, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    expected = shared / "reference/cartwheel/expected.npz"
    for number, image in enumerate(np.load(expected)["images_bgr_uint8"]):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    source = str(shared / f"reference/cartwheel/{model}.h5")
    imported = str(tmp_path / "model.keras")
    assert cli.main(["import-weights", source, "--input", preset, "-o", imported]) == 0
    code, out, _ = run(capsys, imported, f"{expected}:{model}", *sorted(tmp_path.glob("*.png")))
    assert code == 0, out
    words = ["import-weights", source, "--input", "cartwheel-half-centred", "-o", imported]
    assert cli.main(words) == 0
    code, out, _ = run(capsys, imported, f"{expected}:{model}", *sorted(tmp_path.glob("*.png")))
    assert code == 1
    known = "-1 to 1 ((x - 128) * 2 / 255)" if preset == "cartwheel-centred" else "0 to 255 (x)"
    assert f"With the input as {known} in {imported}, both are equal within 1e-05." in out
