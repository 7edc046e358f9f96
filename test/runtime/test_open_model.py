# SPDX-License-Identifier: MIT
"""Model files of every runtime: what can't run is named in one sentence, and nothing else happens."""

import builtins
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_networks import tiny_network

from netvlad_ros.calibration import Calibration, Curve
from netvlad_ros.config import ExtractorConfig
from netvlad_ros.errors import ModelError
from netvlad_ros.export.exporter import export_network
from netvlad_ros.export.formats import format_of
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.runtime.model import ModelDescription, read_description
from netvlad_ros.runtime.runtimes import open_model

pytestmark = pytest.mark.needs("openvino", "onnx", "onnxruntime", "ai_edge_litert")

SIZE_PX = (96, 64)
CALIBRATION = Calibration(
    {"similarity": Curve((0.2, 0.6), (0.1, 0.99), 300)}, "two streets", "abc@320x240"
)
NAMES = ("model.xml", "model.onnx", "model.tflite", "model.pb", "model")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small network in all kinds of files."""
    folder = tmp_path_factory.mktemp("exported")
    network = tiny_network()
    measured = f"{network.fingerprint()}@{SIZE_PX[0]}x{SIZE_PX[1]}"
    network.calibration = replace(CALIBRATION, fingerprint=measured)
    for name in NAMES:
        export_network(network, folder / name, format_of(folder / name, None), "fp32", SIZE_PX)
    return folder


@pytest.fixture
def files(exported: Path, tmp_path: Path) -> Path:
    """A copy of them to be spoiled."""
    return shutil.copytree(exported, tmp_path / "files")


def refusal(path: Path, **config: Any) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(ModelError) as error:
        NetVLADExtractor(path, ExtractorConfig(**config))
    sentence = str(error.value)
    assert "\n" not in sentence
    assert sentence[-1] == "."
    return sentence


def weights_file(path: Path) -> Path:
    """The file that holds the weights, where they are not in the model file itself."""
    if path.is_dir():
        return path / "variables/variables.data-00000-of-00001"
    return path.with_suffix(".bin") if path.suffix == ".xml" else path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_that_is_cut_off_is_refused(name: str, share: float, files: Path) -> None:
    file = weights_file(files / name)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    assert refusal(files / name).startswith(f"{files / name}: ")


@pytest.mark.parametrize("name", ["model.xml", "model.onnx", "model.tflite", "model.pb"])
def test_a_file_of_noise_is_refused(name: str, files: Path) -> None:
    (files / name).write_bytes(np.random.default_rng(0).bytes(5000))
    assert refusal(files / name).startswith(f"{files / name}: ")


def test_what_is_not_there_is_named(files: Path) -> None:
    (files / "model.bin").unlink()
    assert "copy model.bin beside it" in refusal(files / "model.xml")
    assert "there is no such model file" in refusal(files / "other.onnx")
    assert "got another kind of file" in refusal(files / "model.h5")


@pytest.mark.parametrize(
    ("name", "forget"),
    [
        ("model.xml", lambda path: path.write_text(path.read_text().replace("netvlad_ros", "x"))),
        ("model", lambda path: shutil.rmtree(path / "assets.extra")),
    ],
)
def test_a_file_of_another_program_is_refused(
    name: str, forget: Callable[[Path], None], files: Path
) -> None:
    forget(files / name)
    assert "does not say whose descriptors it makes" in refusal(files / name)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "can't be read"),
        ("[1]", "can't be read"),
        ('{"fingerprint": "a"}', "can't be read"),
        ('{"fingerprint": "a", "descriptor_dims": "many"}', "is damaged (descriptor_dims)"),
        (
            '{"fingerprint": "a", "descriptor_dims": 4, "calibration": 7}',
            "calibration of the model is",
        ),
        ('{"fingerprint": "a", "descriptor_dims": 4, "precision": 7}', "is damaged (precision)"),
        ('{"fingerprint": "a", "descriptor_dims": 4, "precision": "int3"}', "precision int3"),
    ],
)
def test_a_damaged_description_is_refused(text: str, reason: str, files: Path) -> None:
    (files / "model/assets.extra/netvlad_ros").write_text(text)
    assert reason in refusal(files / "model")


def test_an_exported_file_takes_its_one_size_only(files: Path) -> None:
    path = files / "model.onnx"
    assert "for 96x64 pixels only, got 320x64" in refusal(path, input_width_px=320)
    assert "got the images' own size" in refusal(path, resize=False)
    own = ExtractorConfig(input_width_px=96, input_height_px=64)
    assert NetVLADExtractor(path, own).size_px == SIZE_PX


@pytest.mark.parametrize("name", NAMES)
def test_a_calibration_comes_along_in_every_file(name: str, files: Path) -> None:
    extractor = NetVLADExtractor(files / name)
    expected = replace(CALIBRATION, fingerprint=f"{tiny_network().fingerprint()}@96x64")
    assert extractor.calibration == expected
    truncated = NetVLADExtractor(files / name, ExtractorConfig(descriptor_dims=5))
    assert truncated.calibration is None


def test_the_first_dimensions_can_be_taken_of_every_file(files: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8)
    descriptors = [
        NetVLADExtractor(files / name, ExtractorConfig(descriptor_dims=5)).extract(image)
        for name in NAMES
    ]
    assert np.abs(np.linalg.norm(descriptors, axis=1) - 1).max() < 1e-6
    assert np.ptp(descriptors, axis=0).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("model.xml", "openvino", "openvino"),
        ("model.onnx", "onnxruntime", "onnxruntime"),
        ("model.tflite", "ai_edge_litert", "ai-edge-litert"),
    ],
)
def test_a_runtime_that_is_not_installed_is_named_with_what_to_install(
    name: str, module: str, package: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = {"model.xml": "openvino", "model.onnx": "onnxruntime", "model.tflite": "litert"}[name]
    monkeypatch.delitem(sys.modules, f"netvlad_ros.runtime.{runtime}_model", raising=False)
    import_as_usual = builtins.__import__

    def without(wanted: str, *rest: Any, **more: Any) -> Any:
        if wanted.partition(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return import_as_usual(wanted, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert f"pip install {package}." in refusal(files / name)


@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_that_is_not_there_is_named(name: str, files: Path) -> None:
    sentence = refusal(files / name, device="gpu")
    assert "extractor.device is gpu" in sentence
    assert "auto" in sentence


@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_threads_gives_the_same_descriptor(name: str, files: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 64, 96, 3), np.uint8)
    threads = (0,) if name in ("model.pb", "model") else (0, 1, 2)  # TensorFlow's are set once
    found = [open_model(files / name, threads=each).forward(images) for each in threads]
    assert found[0].shape == (3, 4 * 64 // 2)
    assert np.ptp(found, axis=0).max() < 1e-6


@pytest.mark.parametrize("calibration", [None, CALIBRATION])
def test_a_description_survives_its_file(calibration: Calibration | None) -> None:
    description = ModelDescription("abc", 128, 320, 240, True, "int8", 0.993, calibration)
    assert read_description(description.to_json(), "m.xml") == description


def test_a_file_without_a_calibration_says_nothing_that_older_versions_do_not_know() -> None:
    assert "calibration" not in json.loads(ModelDescription("abc", 128).to_json())


def test_a_calibration_is_true_of_the_descriptors_that_it_was_measured_with() -> None:
    description = ModelDescription("abc", 128, 320, 240, calibration=CALIBRATION)
    assert description.calibration_at("abc@320x240") == CALIBRATION
    for other in ("abc@640x480", "abc@own size", "abc@320x240/64", "abd@320x240"):
        assert description.calibration_at(other) is None
    assert ModelDescription("abc", 128).calibration_at("abc@320x240") is None
