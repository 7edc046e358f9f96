# SPDX-License-Identifier: MIT
"""A runtime, OpenCV and Faiss in one process: threads as each library takes them, and as we set them.

One image is resized from 1280x720, described and looked up among 2,000 keyframes. CPU time counts what
threads that spin take from others.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmark.models import mobilenet_model
from benchmark.tables import print_table

KEYFRAMES, IMAGES = 2_000, 60
FILES = ("compact.keras", "m.tflite", "m.onnx", "m.xml")
SETTINGS = {"left alone": -1, "all cores": 0, "1 thread": 1}


def measure(arguments: argparse.Namespace) -> None:
    """Each row is a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            [file, setting, *_row(Path(folder) / file, threads)]
            for file in _made(Path(folder))
            for setting, threads in SETTINGS.items()
        ]
    header = ["model", "threads", "ms", "CPU ms", "threads of the process"]
    print_table("Extract and search, 1280x720, 2,000 keyframes", header, rows)


def _made(folder: Path) -> tuple[str, ...]:
    from netvlad_ros.export.exporter import export_network
    from netvlad_ros.export.formats import format_of
    from netvlad_ros.model import load_model

    network = load_model(mobilenet_model(folder))
    for file in FILES[1:]:
        export_network(network, folder / file, format_of(folder / file, None), "fp32", (320, 240))
    return FILES


def _row(model: Path, threads: int) -> list[float]:
    command = [sys.executable, "-m", "benchmark.threads", str(model), str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def _run(model: str, threads: int) -> list[float]:
    from netvlad_ros.config import ExtractorConfig
    from netvlad_ros.extraction import extractor as module
    from netvlad_ros.index.exact import ExactIndex

    if threads < 0:
        _leave_alone(module)
    extractor = module.NetVLADExtractor(model, ExtractorConfig(threads=max(threads, 0)))
    rng = np.random.default_rng(0)
    index = ExactIndex(extractor.dims)
    for number in range(KEYFRAMES):
        vector = rng.standard_normal(extractor.dims, np.float32)
        index.add(np.array([number]), (vector / np.linalg.norm(vector))[None])
    image = rng.integers(0, 256, (720, 1280, 3), np.uint8)
    times, cpu = [], []
    for _ in range(IMAGES):
        start, cpu_start = time.perf_counter(), time.process_time()
        index.search(extractor.extract(image), 20)
        times.append(1e3 * (time.perf_counter() - start))
        cpu.append(1e3 * (time.process_time() - cpu_start))
    tasks = len(list(Path("/proc/self/task").iterdir()))
    return [float(np.median(times)), float(np.median(cpu)), tasks]


def _leave_alone(module: object) -> None:
    """Every library with its own defaults."""
    import faiss

    faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))
    setattr(module, "limit_opencv", lambda threads: None)  # noqa: B010
    try:
        import onnxruntime

        onnxruntime.SessionOptions.add_session_config_entry = lambda *entry: None
    except ModuleNotFoundError:
        pass


if __name__ == "__main__":
    print(json.dumps(_run(sys.argv[1], int(sys.argv[2]))))
