# SPDX-License-Identifier: MIT
"""One model file means the same in another process, on any Keras backend."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from netvlad_ros.config import NetworkConfig
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.model import build_network, load_model, save_model

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = {
    "netvlad": NetworkConfig(
        backbone="mobilenet",
        backbone_width=0.25,
        cut_layer="conv_pw_2_relu",
        clusters=4,
        ghost_clusters=1,
        assignment_bias=True,
        channel_order="bgr",
        input_offset=(103.5, 116.75, 123.5),
        input_scale=(1 / 128,),
        whitening_dims=20,
        descriptor_dims=16,
    ),
    "gem": NetworkConfig(
        backbone="alexnet",
        cut_layer="conv2",
        pooling="gem",
        channel_order="grey",
        input_scale=(1 / 255,),
        norm_safeguard="clamped_norm",
    ),
}
EXTRACT = """
import sys
from pathlib import Path
import numpy as np
import netvlad_ros
folder = Path(sys.argv[1])
for model in sorted(folder.glob("*.keras")):
    extractor = netvlad_ros.NetVLADExtractor(model)
    np.save(model.with_suffix(".npy"), extractor.extract_batch(np.load(folder / "images.npy")))
    print(extractor.fingerprint)
"""
ASK_FOR_A_GPU = """
from netvlad_ros.errors import ModelError
from netvlad_ros.model.forward import prepare_runtime
try:
    prepare_runtime("gpu", threads=0)
except ModelError as error:
    print(error)
"""


def in_another_process(script: str, backend: str, *arguments: str | Path) -> list[str]:
    """The lines that a script prints on a Keras backend, without a GPU."""
    package = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}.get(backend, "keras")
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    environment = os.environ | {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "-1"}
    result = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model files, and images to describe."""
    folder = tmp_path_factory.mktemp("models")
    for name, config in NETWORKS.items():
        save_model(build_network(config), folder / f"{name}.keras")
    np.save(folder / "images.npy", np.random.default_rng(4).integers(0, 256, (2, 49, 64, 3), "u1"))
    return folder


@pytest.mark.parametrize(
    ("backend", "tolerance"),
    [
        ("tensorflow", 0.0),
        pytest.param("jax", 1e-5, marks=pytest.mark.slow),
        pytest.param("torch", 1e-5, marks=pytest.mark.slow),
    ],
)
def test_another_process_makes_the_same_descriptors_of_the_file(
    backend: str, tolerance: float, folder: Path
):
    fingerprints = in_another_process(EXTRACT, backend, folder)
    images = np.load(folder / "images.npy")
    for name, fingerprint in zip(sorted(NETWORKS), fingerprints, strict=True):
        extractor = NetVLADExtractor(folder / f"{name}.keras")
        assert fingerprint == extractor.fingerprint
        result, wanted = np.load(folder / f"{name}.npy"), extractor.extract_batch(images)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, wanted, rtol=0.0, atol=tolerance)


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_gpu_that_is_not_there_is_refused_with_what_to_do(backend: str):
    (sentence,) = in_another_process(ASK_FOR_A_GPU, backend)
    assert sentence == (
        f"extractor.device is gpu, but {backend} sees none; install its GPU build and driver, or set "
        "extractor.device to auto."
    )


def test_a_backend_that_is_not_supported_is_refused():
    (sentence,) = in_another_process(ASK_FOR_A_GPU, "numpy")
    assert sentence == "KERAS_BACKEND: expected one of tensorflow, jax, torch; got numpy."


def test_keras_itself_loads_the_file_once_the_package_is_imported_after_it(folder: Path):
    script = (
        "import sys, keras, netvlad_ros\nprint(keras.saving.load_model(sys.argv[1]).fingerprint())"
    )
    (fingerprint,) = in_another_process(script, "numpy", folder / "netvlad.keras")
    assert fingerprint == load_model(folder / "netvlad.keras").fingerprint()
