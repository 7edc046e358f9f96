# SPDX-License-Identifier: MIT
"""Which runtime runs a model: what auto takes and why, and what a file is not made for."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_networks import save_tiny_network

from netvlad_ros.config import ExtractorConfig
from netvlad_ros.errors import ModelError
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.runtime import choice
from netvlad_ros.runtime.choice import choose, gpu_device
from netvlad_ros.shipped import SHIPPED_LITERT, SHIPPED_MODEL

pytestmark = pytest.mark.needs("ai_edge_litert")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The GPU of this machine; there is none until one is put in."""
    there: list[str] = []
    monkeypatch.setattr(choice, "gpu_device", lambda: there[0] if there else "")
    return there


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    packages = {"ai_edge_litert", "tensorflow"}
    monkeypatch.setattr(choice, "is_installed", lambda name: name in packages)
    return packages


def taken(**config: object) -> tuple[Path, str, str]:
    chosen = choose("", ExtractorConfig(**config))  # type: ignore[arg-type]
    return chosen.path, chosen.runtime, chosen.why


def test_without_a_gpu_the_shipped_model_runs_in_litert(
    device: list[str], installed: set[str]
) -> None:
    assert taken() == (SHIPPED_LITERT, "litert", "no GPU is to be used")
    device.append("/dev/nvidia0")
    assert taken() == (SHIPPED_MODEL, "tensorflow", "there is /dev/nvidia0")
    assert taken(device="cpu")[0] == SHIPPED_LITERT
    installed.remove("tensorflow")
    assert taken() == (SHIPPED_LITERT, "litert", "TensorFlow is not installed")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"device": "gpu"}, "extractor.device is gpu"),
        ({"input_width_px": 640}, "the file for LiteRT takes 320x240 pixels only"),
        ({"resize": False}, "the file for LiteRT takes 320x240 pixels only"),
        ({"runtime": "tensorflow"}, "extractor.runtime says so"),
    ],
)
def test_what_litert_can_not_do_is_for_tensorflow(
    config: dict[str, object], why: str, device: list[str], installed: set[str]
) -> None:
    assert taken(**config) == (SHIPPED_MODEL, "tensorflow", why)


def test_without_litert_auto_says_how_to_install_it(device: list[str], installed: set[str]) -> None:
    installed.remove("ai_edge_litert")
    assert taken()[1:] == ("tensorflow", "LiteRT is not installed: pip install ai-edge-litert")


def test_a_gpu_is_seen_without_importing_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(choice, "GPU_DEVICES", ("nul[l]",))
    assert gpu_device() == "/dev/null"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert gpu_device() == ""


@pytest.mark.parametrize(
    ("name", "runtime"),
    [("m.keras", "tensorflow"), ("m.tflite", "litert"), ("m.xml", "openvino"), ("m.onnx", "onnx")],
)
def test_the_kind_of_another_file_says_what_runs_it(name: str, runtime: str) -> None:
    assert choose(name, ExtractorConfig()).runtime == runtime
    assert choose(name, ExtractorConfig(runtime=runtime)).path == Path(name)


@pytest.mark.parametrize(
    ("model", "runtime", "command"),
    [
        ("a/own.keras", "litert", "`netvlad export a/own.keras -o own.tflite`"),
        ("a/own.onnx", "openvino", "`netvlad export a/own.keras -o own.xml`"),
        ("", "onnx", "`netvlad export -o compact.onnx`"),
    ],
)
def test_a_runtime_that_the_file_is_not_made_for_is_refused(
    model: str, runtime: str, command: str
) -> None:
    with pytest.raises(ModelError, match=f"extractor.runtime is {runtime}") as error:
        NetVLADExtractor(model, ExtractorConfig(runtime=runtime))
    assert command in str(error.value)


def test_where_litert_can_not_run_tensorflow_does_and_the_log_says_why(
    device: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "noise.tflite").write_bytes(np.random.default_rng(0).bytes(5000))
    monkeypatch.setattr(choice, "SHIPPED_LITERT", tmp_path / "noise.tflite")
    with caplog.at_level(logging.WARNING, "netvlad_ros"):
        extractor = NetVLADExtractor()
    assert extractor.choice.runtime == "tensorflow"
    assert "noise.tflite" in caplog.text
    with pytest.raises(ModelError, match=r"noise\.tflite"):
        NetVLADExtractor("", ExtractorConfig(runtime="litert"))


def test_a_gpu_that_tensorflow_does_not_see_is_none(
    device: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    device.append("/dev/dxg")
    with caplog.at_level(logging.WARNING, "netvlad_ros"):
        extractor = NetVLADExtractor()
    assert extractor.choice.runtime == "litert"
    assert "as TensorFlow finds no GPU behind /dev/dxg" in caplog.text


def test_the_shipped_model_runs_without_tensorflow() -> None:
    code = """if True:
        import sys
        import numpy as np
        from netvlad_ros import LoopDetector, NetVLADExtractor
        detector = LoopDetector(NetVLADExtractor())
        detector.process(np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8), 1)
        print(*{"keras", "tensorflow"} & set(sys.modules))"""
    environment = {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == []


def test_threads_are_those_that_were_asked_for(tmp_path: Path) -> None:
    code = """if True:
        import os, sys
        import numpy as np
        from netvlad_ros.config import ExtractorConfig
        from netvlad_ros.extraction.extractor import NetVLADExtractor
        before = len(os.listdir("/proc/self/task"))
        extractor = NetVLADExtractor("", ExtractorConfig(runtime="litert", threads=int(sys.argv[1])))
        extractor.warm_up()
        print(len(os.listdir("/proc/self/task")) - before)"""
    started = [
        int(
            subprocess.run(
                [sys.executable, "-c", code, threads], check=True, capture_output=True
            ).stdout
        )
        for threads in ("1", "3")
    ]
    assert started[1] - started[0] == 2


def test_a_file_of_ones_own_says_why_it_runs_where_it_does(tmp_path: Path) -> None:
    extractor = NetVLADExtractor(save_tiny_network(tmp_path / "own.keras"))
    assert extractor.choice.why == "own.keras is a file for it"
