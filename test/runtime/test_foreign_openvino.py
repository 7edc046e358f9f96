# SPDX-License-Identifier: MIT
"""OpenVINO files of other projects: run as they are, fed with what they expect."""

from pathlib import Path

import keras
import numpy as np
import openvino as ov
import pytest
from tiny_networks import tiny_network

from netvlad_ros import cli
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.model import NetVLADNetwork
from netvlad_ros.model.forward import compile_forward

HEIGHT, WIDTH = 64, 96
pytestmark = [
    pytest.mark.needs("openvino"),
    pytest.mark.filterwarnings("ignore:The structure of `inputs`"),  # of ov.convert_model
]


@pytest.fixture(scope="module")
def network() -> NetVLADNetwork:
    return tiny_network()


def convert(
    network: NetVLADNetwork, path: Path, layout: str = "NHWC", is_bgr: bool = False
) -> None:
    """Writes a file as a model converter would: float input called Placeholder, nothing else."""
    shape = (1, HEIGHT, WIDTH, 3) if layout == "NHWC" else (1, 3, HEIGHT, WIDTH)
    image = keras.Input(batch_shape=shape, name="Placeholder")
    x = image if layout == "NHWC" else keras.ops.transpose(image, (0, 2, 3, 1))
    x = keras.ops.flip(x, axis=-1) if is_bgr else x
    model = ov.convert_model(keras.Model(image, network(x)))
    model.reshape(list(shape))
    ov.save_model(model, path, compress_to_fp16=False)


def run(*words: object) -> int:
    return cli.main(["import-weights", *map(str, words)])


@pytest.mark.parametrize(
    ("layout", "colours"),
    [
        ("NHWC", "rgb"),
        ("NCHW", "bgr"),
        pytest.param("NHWC", "bgr", marks=pytest.mark.slow),
        pytest.param("NCHW", "rgb", marks=pytest.mark.slow),
    ],
)
def test_a_converted_network_gives_its_descriptors(
    layout: str, colours: str, network: NetVLADNetwork, tmp_path: Path
) -> None:
    convert(network, tmp_path / "theirs.xml", layout, colours == "bgr")
    words = ("--input", f"openvino-{colours}", "-o", tmp_path / "ours.xml")
    assert run(tmp_path / "theirs.xml", *words) == 0
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    extractor = NetVLADExtractor(tmp_path / "ours.xml")
    expected = compile_forward(network, "cpu")(image[None])[0]
    assert np.abs(extractor.extract(image) - expected).max() < 1e-5
    assert extractor.size_px == (WIDTH, HEIGHT)


def test_the_order_of_colours_is_part_of_the_fingerprint(
    network: NetVLADNetwork, tmp_path: Path
) -> None:
    convert(network, tmp_path / "theirs.xml")
    prints = set()
    for colours in ("rgb", "bgr"):
        output = tmp_path / f"{colours}.xml"
        assert run(tmp_path / "theirs.xml", "--input", f"openvino-{colours}", "-o", output) == 0
        prints.add(NetVLADExtractor(output).fingerprint)
    assert len(prints) == 2


def test_what_can_not_be_run_is_named(
    network: NetVLADNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, output = tmp_path / "theirs.xml", tmp_path / "ours.xml"
    convert(network, theirs)
    assert run(theirs, "-o", output) == 1
    assert "expected --input openvino-bgr" in capsys.readouterr().err
    assert run(theirs, "--input", "openvino-rgb", "-o", tmp_path / "ours.keras") == 1
    assert "expected the name of another .xml file" in capsys.readouterr().err
    theirs.with_suffix(".bin").write_bytes(b"")
    assert run(theirs, "--input", "openvino-rgb", "-o", output) == 1
    assert "OpenVINO can't load this file" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("shape", "scale", "reason"),
    [
        ((1, 64, 96, 4), 1.0, "expected one input of shape"),
        ((1, 64, 96, 3), 2.0, "expected descriptors of unit length, got one of length 2"),
    ],
)
def test_another_network_is_refused(
    shape: tuple[int, ...],
    scale: float,
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = keras.Input(batch_shape=shape)
    means = keras.layers.GlobalAveragePooling2D()(image)
    output = scale * keras.layers.UnitNormalization()(means)
    model = ov.convert_model(keras.Model(image, output))
    model.reshape(list(shape))
    ov.save_model(model, tmp_path / "theirs.xml")
    words = ("--input", "openvino-rgb", "-o", tmp_path / "ours.xml")
    assert run(tmp_path / "theirs.xml", *words) == 1
    assert reason in capsys.readouterr().err
