# SPDX-License-Identifier: MIT
"""`netvlad info`: what a model file is, on a terminal and as JSON."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from netvlad_ros import cli
from netvlad_ros.calibration import Calibration, Curve
from netvlad_ros.config import NetworkConfig
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.inspection import timing
from netvlad_ros.inspection.model_info import input_in_words
from netvlad_ros.inspection.timing import LEAST_RUNS, time_sizes
from netvlad_ros.model import build_network, load_model, save_model


def saved(path: Path, **values: Any) -> Path:
    small = {"backbone": "mobilenet", "backbone_width": 0.25, "cut_layer": "conv_pw_3_relu"}
    save_model(build_network(NetworkConfig(**{**small, "clusters": 4, **values})), path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(
        tmp_path_factory.mktemp("info") / "small.keras",
        input_width_px=96,
        input_height_px=64,
        input_offset=(128.0,),
        channel_order="bgr",
    )


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = cli.main(["info", *map(str, words)])
    return code, *capsys.readouterr()


@pytest.mark.parametrize("columns", [80, 120])
def test_the_command_tells_what_a_model_is(
    columns: int,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, err = run(capsys, model, "--json", tmp_path / "info.json")
    assert (code, err) == (0, "")
    network = load_model(model)
    assert f"fingerprint  {network.fingerprint()}\n" in out
    assert "descriptor   128 dimensions\n" in out
    assert "input        BGR, 0 to 255, minus 128\n" in out
    assert "input size   96x64 pixels (width x height)\n" in out
    table = out[out.index("layer ") : out.index(" M parameters")]
    assert max(map(len, table.splitlines())) <= columns
    for layer in network.layers:
        assert f"\n{layer.name} " in out
    assert f"{network.count_params() / 1e6:.4f} M parameters" in out
    found = json.loads((tmp_path / "info.json").read_text(encoding="utf-8"))
    assert found["network"]["channel_order"] == "bgr"
    assert found["calibration"] is None
    assert [each["name"] for each in found["cost"]["layers"]] == [x.name for x in network.layers]
    assert found["timings"] == []


@pytest.mark.parametrize(
    ("precisions", "words"),
    [
        ((0.5, 1.0), "0.520 for 80%, 0.560 for 90%, 0.596 for 99%"),
        ((0.5, 0.7), "at most 70% right"),
    ],
)
def test_the_command_tells_from_which_similarity_on_matches_are_right(
    precisions: tuple[float, float],
    words: str,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    network = load_model(model)
    curves = {"similarity": Curve((0.4, 0.6), precisions, 1300)}
    measured = Calibration(curves, "two streets", f"{network.fingerprint()}@96x64")
    path = tmp_path / "calibrated.keras"
    for calibration in (measured, replace(measured, fingerprint="another@96x64")):
        network.calibration = calibration
        save_model(network, path)
        _, out, _ = run(capsys, path)
        line = f"calibration  similarity {words} (1,300 matches); two streets\n"
        assert (line in out) == (calibration is measured)
        assert ("calibration" in out) == (calibration is measured)


def test_the_cost_is_that_of_the_size_that_is_asked_for(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run(capsys, model, "--size", "192x64", "--json", tmp_path / "wide.json")
    layers = json.loads((tmp_path / "wide.json").read_text(encoding="utf-8"))["cost"]["layers"]
    assert layers[0]["output"] == [64, 192, 3]


def test_a_model_of_any_size_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    _, out, _ = run(capsys, saved(tmp_path / "any.keras"))
    assert "input size   any; below, 640x480 pixels (width x height)\n" in out


def test_timing_tells_the_median_at_half_to_four_times_the_sides(
    model: Path, capsys: pytest.CaptureFixture[str]
):
    code, out, _ = run(capsys, model, "--timing")
    assert code == 0
    rows = out[out.index("sides") :].splitlines()[1:]
    sizes = [tuple(row.split()[:2]) for row in rows]
    assert sizes == [("0.5x", "48x32"), ("1x", "96x64"), ("2x", "192x128"), ("4x", "384x256")]
    assert all(float(row.split()[2]) >= float(row.split()[4]) > 0.0 for row in rows)


def test_sizes_that_are_too_small_are_not_timed(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(timing, "TIME_S", 0.0)
    timings = list(time_sizes(NetVLADExtractor(model), 96, 40, (0.5, 1.0)))
    assert [(each.scale, each.runs) for each in timings] == [(1.0, LEAST_RUNS)]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "RGB, 0 to 255"),
        ({"channel_order": "grey", "input_scale": (0.5,)}, "grey, 0 to 255, times 0.5"),
        ({"input_offset": (1.5, 2.0, 3.0)}, "RGB, 0 to 255, minus (1.5, 2, 3)"),
    ],
)
def test_the_input_is_said_in_words(values: dict[str, Any], words: str):
    assert input_in_words(NetworkConfig(**values)) == words


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("absent.keras",), "absent.keras: there is no such model file"),
        (("notes.txt",), "expected a model file"),
        (("notes.keras",), "expected a .keras file that this package saved"),
        (("small.keras", "--json", "no/such/folder.json"), "can't write the figures"),
    ],
)
def test_wrong_input_is_one_sentence(
    words: tuple[str, ...],
    says: str,
    model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(model.parent)
    for name in ("notes.txt", "notes.keras"):
        (model.parent / name).write_text("some text")
    code, _, err = run(capsys, *words)
    assert (code, err.count("\n")) == (1, 1)
    assert says in err
