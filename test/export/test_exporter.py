# SPDX-License-Identifier: MIT
"""Files for other runtimes: the same descriptors as Keras, or no file."""

import re
from pathlib import Path

import numpy as np
import pytest
from tiny_networks import tiny_network

from netvlad_ros import cli
from netvlad_ros.calibration import Calibration, Curve
from netvlad_ros.config import ExtractorConfig
from netvlad_ros.data.image_files import image_paths, read_image
from netvlad_ros.errors import ModelError
from netvlad_ros.evaluation.ground_truth import GroundTruth, read_ground_truth
from netvlad_ros.export import exporter
from netvlad_ros.export.exporter import export_network, made_up_images
from netvlad_ros.export.formats import BARS, FORMATS
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.extraction.preprocessing import resize
from netvlad_ros.importers.detect import import_weights
from netvlad_ros.model import NetVLADNetwork, save_model
from netvlad_ros.model.forward import compile_forward

pytestmark = pytest.mark.needs("openvino", "nncf", "onnx", "onnxruntime", "ai_edge_litert")

SIZE_PX = (96, 64)
FILES = {"openvino": "m.xml", "onnx": "m.onnx", "litert": "m.tflite", "frozen-pb": "m.pb"} | {
    "savedmodel": "m"
}


@pytest.fixture(scope="module")
def network() -> NetVLADNetwork:
    return tiny_network(input_width_px=SIZE_PX[0], input_height_px=SIZE_PX[1])


@pytest.fixture(scope="module")
def original(network: NetVLADNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("original") / "model.keras"
    save_model(network, path)
    return path


TRAINED = {
    "mobilenetv2_color_1024": "cartwheel-centred",
    "mobilenetv2_gray_1024": "cartwheel-centred",
    "mobilenet_color_8192": "cartwheel-centred",
    "mobilenet_color_raw_8192": "cartwheel-raw",
}


def trained(shared: Path, name: str) -> NetVLADNetwork:
    return import_weights(shared / f"reference/cartwheel/{name}.h5", TRAINED[name])


@pytest.fixture(scope="session")
def genuine(shared: Path) -> NetVLADNetwork:
    """A trained network."""
    return trained(shared, "mobilenetv2_color_1024")


@pytest.fixture(scope="session")
def places(shared: Path) -> np.ndarray:
    """Real images, at the input size of the trained network."""
    paths = image_paths(shared / "data/rtabmap_samples/images")
    return np.stack([resize(read_image(path), (320, 240)) for path in paths])


@pytest.mark.parametrize("format", FILES)
def test_every_kind_of_file_gives_the_descriptors_of_the_original(
    format: str, network: NetVLADNetwork, original: Path, tmp_path: Path
) -> None:
    path = tmp_path / FILES[format]
    export = export_network(network, path, FORMATS[format], "fp32", SIZE_PX)
    exported, expected = NetVLADExtractor(path), NetVLADExtractor(original)
    image = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)
    images = [image, image[::-1].copy()]
    difference = exported.extract_batch(images) - expected.extract_batch(images)
    assert np.abs(difference).max() < 1e-5
    assert exported.fingerprint == expected.fingerprint
    assert export.is_interchangeable
    assert exported.size_px == SIZE_PX
    assert not list(tmp_path.glob(".export-*"))


@pytest.mark.parametrize("format", ["frozen-pb", "savedmodel"])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_tensorflow_multiplies_in_half_precision(
    format: str, precision: str, network: NetVLADNetwork, tmp_path: Path
) -> None:
    path = tmp_path / FILES[format]
    export = export_network(network, path, FORMATS[format], precision, SIZE_PX)
    assert 0.999 <= export.agreement.cosines.min() < 0.9999999
    assert NetVLADExtractor(path).description == export.description


@pytest.mark.parametrize(
    ("format", "model"),
    [
        ("openvino", "mobilenet_color_raw_8192"),
        *(
            pytest.param("openvino", model, marks=pytest.mark.slow)
            for model in sorted(TRAINED.keys() - {"mobilenet_color_raw_8192"})
        ),
        pytest.param("onnx", "mobilenetv2_color_1024", marks=pytest.mark.slow),
        pytest.param("litert", "mobilenetv2_color_1024", marks=pytest.mark.slow),
    ],
)
def test_a_trained_network_in_8_bits_recognises_as_many_places(
    format: str, model: str, shared: Path, places: np.ndarray, tmp_path: Path
) -> None:
    network, path = trained(shared, model), tmp_path / FILES[format]
    export = export_network(network, path, FORMATS[format], "int8", (320, 240), places)
    assert len(export.agreement.cosines) == len(places) // 2  # none that it was calibrated on
    files = path.parent.glob(f"{path.stem}.*")
    assert sum(file.stat().st_size for file in files) < 0.6 * 4 * network.count_params()
    truth = read_ground_truth(shared / "data/rtabmap_samples/loop_closures.csv")
    found = right_first_matches(NetVLADExtractor(path).extract_batch(list(places)), truth)
    expected = right_first_matches(compile_forward(network, "cpu")(places), truth)
    assert expected - found <= 0.01 * len(truth)  # at most one point of Recall@1


@pytest.mark.parametrize("format", ["onnx", "tensorrt"])
def test_values_that_are_nearly_the_same_for_all_images_have_a_range_in_8_bits(
    format: str, network: NetVLADNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Its rows of unit length add up to the number of its clusters, but for rounding.
    images = made_up_images(SIZE_PX)
    export = export_network(network, tmp_path / "m.onnx", FORMATS[format], "int8", SIZE_PX, images)
    assert export.agreement.cosines.mean() >= BARS["int8"]
    assert capsys.readouterr().out == ""


def test_a_network_without_ranges_of_values_is_refused_in_8_bits(tmp_path: Path) -> None:
    faint = tiny_network(input_scale=(1e-42,))
    with pytest.raises(ModelError, match=r"finds no ranges of values .* export to openvino"):
        export_network(
            faint, tmp_path / "m.onnx", FORMATS["onnx"], "int8", SIZE_PX, made_up_images(SIZE_PX)
        )
    assert not list(tmp_path.iterdir())


def right_first_matches(descriptors: np.ndarray, truth: GroundTruth) -> int:
    """How many queries find a true match first, among images that are more than ten images older."""
    best = {
        query: int(np.argmax(descriptors[: query - 11] @ descriptors[query - 1])) + 1
        for query in truth
    }
    return sum(best[query] in matches for query, matches in truth.items())


@pytest.mark.slow
def test_a_file_whose_similarities_move_needs_a_database_of_its_own(
    genuine: NetVLADNetwork, places: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "INTERCHANGEABLE_SHIFT", 1e-4)
    paths = [tmp_path / "a.xml", tmp_path / "b.xml"]
    for path, images in zip(paths, (places, places[:40]), strict=True):
        export = export_network(genuine, path, FORMATS["openvino"], "int8", (320, 240), images)
        assert not export.is_interchangeable
    prints = {NetVLADExtractor(path).fingerprint for path in paths}
    assert len(prints) == 2
    assert all(each.startswith(f"{genuine.fingerprint()}-int8-") for each in prints)


def test_made_up_images_do_not_prove_that_databases_can_be_shared(
    network: NetVLADNetwork, tmp_path: Path
) -> None:
    images = made_up_images(SIZE_PX)
    proven = export_network(network, tmp_path / "a.onnx", FORMATS["onnx"], "fp16", SIZE_PX, images)
    guessed = export_network(network, tmp_path / "b.onnx", FORMATS["onnx"], "fp16", SIZE_PX)
    assert proven.description.fingerprint == network.fingerprint()
    assert guessed.description.fingerprint.startswith(f"{network.fingerprint()}-fp16-")


def test_how_far_similarities_move_is_measured_with_one_and_with_both_images_from_the_other_model() -> (
    None
):
    def original(image: np.ndarray) -> np.ndarray:
        angle = float(image[0])
        return np.array([[np.cos(angle), np.sin(angle)]])

    def other(image: np.ndarray) -> np.ndarray:
        return original(2.0 * image)

    agreement = exporter.compare(original, other, np.array([0.0, 0.5]))
    assert agreement.cosines == pytest.approx([1.0, np.cos(0.5)])
    assert agreement.similarity_shift == pytest.approx(np.cos(0.5) - np.cos(1.0))
    assert agreement.own_shift == pytest.approx(np.cos(0.5) - np.cos(1.0))
    assert exporter.compare(original, other, np.array([0.3])).own_shift == pytest.approx(0.0)


@pytest.mark.parametrize(("most", "is_kept"), [(0.01, True), (1e-9, False)])
def test_a_calibration_is_kept_where_similarities_hardly_change(
    most: float, is_kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a file whose databases are its own, as made-up images prove too little to share them."""
    monkeypatch.setattr(exporter, "CALIBRATED_SHIFT", most)
    network = tiny_network(input_width_px=SIZE_PX[0], input_height_px=SIZE_PX[1])
    curves = {"similarity": Curve((0.2, 0.6), (0.1, 0.99), 300)}
    network.calibration = Calibration(curves, "two streets", f"{network.fingerprint()}@96x64")
    path = tmp_path / "b.onnx"
    export_network(network, path, FORMATS["onnx"], "fp16", SIZE_PX)
    extractor = NetVLADExtractor(path)
    assert "-fp16-" in extractor.fingerprint
    kept = Calibration(curves, "two streets", extractor.fingerprint)
    assert extractor.calibration == (kept if is_kept else None)


def test_a_file_that_is_too_far_off_is_not_written(
    network: NetVLADNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"what was there before")
    monkeypatch.setitem(BARS, "fp16", 1.1)
    with pytest.raises(
        ModelError, match=r"not written, as fp16 changes .* mean cosine 1\.0\d+ over"
    ):
        export_network(network, path, FORMATS["onnx"], "fp16", SIZE_PX)
    assert path.read_bytes() == b"what was there before"
    assert list(tmp_path.iterdir()) == [path]


def test_only_an_older_saved_model_is_replaced(network: NetVLADNetwork, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(ModelError, match="got another folder"):
        export_network(network, tmp_path / "photos", FORMATS["savedmodel"], "fp32", SIZE_PX)
    assert (tmp_path / "photos" / "mine.jpg").read_bytes() == b"mine"
    for _ in range(2):
        export_network(network, tmp_path / "m", FORMATS["savedmodel"], "fp32", SIZE_PX)
    assert NetVLADExtractor(tmp_path / "m").dims == network.descriptor_dims


def test_made_up_images_are_always_the_same_and_have_something_to_see() -> None:
    images = made_up_images((40, 30))
    assert images.shape == (8, 30, 40, 3)
    assert np.array_equal(images, made_up_images((40, 30)))
    assert images.std(axis=(1, 2, 3)).min() > 10


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-o", "m.pb", "--precision", "int8"], "int8 is to be had with litert, onnx, openvino"),
        (["-o", "m.onnx", "--precision", "bf16"], "onnx files have fp32, fp16, int8; bf16"),
        (["-o", "m.xml", "--precision", "int8"], "expected images of places"),
        (["-o", "m.bin"], "expected a name whose ending tells the format"),
        (
            ["-o", "m.onnx", "--format", "openvino"],
            r"expected a name ending in '\.xml' for openvino",
        ),
        (["-o", "m.xml", "--images", "nowhere"], "nowhere: there is no such folder"),
        (["-o", "no/such/folder/m.xml"], "can't write there"),
    ],
)
def test_what_can_not_be_exported_is_named(
    words: list[str],
    expected: str,
    original: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", str(original), *words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert re.search(expected, err)
    assert not list(tmp_path.iterdir())


def test_a_network_of_any_size_needs_to_be_told_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(tiny_network(), tmp_path / "any.keras")
    words = ["export", str(tmp_path / "any.keras"), "-o", str(tmp_path / "m.onnx")]
    assert cli.main(words) == 1
    assert (
        "expected WIDTHxHEIGHT in pixels, such as 640x480, as the model" in capsys.readouterr().err
    )
    assert cli.main([*words, "--size", "96x64"]) == 0
    out = capsys.readouterr().out
    assert "m.onnx: fp32; cosine to the original" in out
    sized = ExtractorConfig(input_width_px=96, input_height_px=64)
    expected = NetVLADExtractor(tmp_path / "any.keras", sized).fingerprint
    assert NetVLADExtractor(tmp_path / "m.onnx").fingerprint == expected


def test_tensorrt_gets_an_onnx_file_and_the_command_for_its_engine(
    original: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no trtexec there
    path = tmp_path / "m.onnx"
    words = [
        "export",
        str(original),
        "-o",
        str(path),
        "--format",
        "tensorrt",
        "--precision",
        "fp16",
    ]
    assert cli.main(words) == 0
    assert (
        f"trtexec --onnx={path} --saveEngine={tmp_path / 'm.engine'} --fp16"
        in capsys.readouterr().out
    )
    assert NetVLADExtractor(path).description.precision == "fp16"
