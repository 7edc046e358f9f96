# SPDX-License-Identifier: MIT
"""The threads of all libraries of a process, in whatever order they are imported."""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from tiny_networks import tiny_network

from netvlad_ros.export.exporter import export_network
from netvlad_ros.export.formats import format_of
from netvlad_ros.model import save_model

pytestmark = pytest.mark.needs("openvino", "onnxruntime", "ai_edge_litert")

SIZE_PX = (96, 64)
NAMES = ("m.keras", "m.xml", "m.onnx", "m.tflite")
FIRST = ("import netvlad_ros.index.exact", "import faiss, cv2", "")
PROGRAM = """
import sys
from pathlib import Path
from netvlad_ros.config import ExtractorConfig
{first}
from netvlad_ros.extraction.extractor import NetVLADExtractor
extractor = NetVLADExtractor(sys.argv[1], ExtractorConfig(threads={threads}))
extractor.warm_up()
import cv2, faiss
import netvlad_ros.index.exact
print(cv2.getNumThreads(), faiss.omp_get_max_threads())
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small network for several runtimes."""
    folder = tmp_path_factory.mktemp("models")
    network = tiny_network(input_width_px=SIZE_PX[0], input_height_px=SIZE_PX[1])
    save_model(network, folder / "m.keras")
    for name in NAMES[1:]:
        export_network(network, folder / name, format_of(folder / name, None), "fp32", SIZE_PX)
    return folder


@pytest.mark.parametrize(
    ("name", "first", "threads"),
    [
        pytest.param(*case, marks=pytest.mark.slow if case[0] == "m.keras" and case[1] else ())
        for case in product(NAMES, FIRST, (0, 1))
    ],
)
def test_each_library_gets_its_number_whatever_is_imported_first(
    name: str, first: str, threads: int, models: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first=first, threads=threads), str(models / name)],
        capture_output=True,
        text=True,
        check=True,
    )
    count = threads or len(os.sched_getaffinity(0))
    assert done.stdout.split() == [str(count), "1"]
