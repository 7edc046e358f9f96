# SPDX-License-Identifier: MIT
"""Every runtime side by side: VGG16-NetVLAD-PCA on all cores; a MobileNet and the shipped model on one.

The first is compared with the graph of netvlad_tf_open, restored in a session of TensorFlow 1 as there, and
as the same graph made with Keras. Each runs in a process of its own, and all take turns, one image at a time.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from tqdm import tqdm

from benchmark.models import mobilenet_model
from benchmark.tables import console, print_table
from netvlad_ros.shipped import model_path

TURNS = 20
IMAGE = "image.npy"
RUNTIME_NAMES = {
    ".keras": "TensorFlow, .keras",
    "": "TensorFlow, SavedModel",
    ".tflite": "LiteRT",
    ".onnx": "ONNX Runtime",
    ".xml": "OpenVINO",
}
# Ending of the file and precision of each row after the .keras file.
EXPORTS = (
    ("", "fp32"),
    (".tflite", "fp32"),
    (".tflite", "int8"),
    (".onnx", "fp32"),
    (".onnx", "int8"),
    (".xml", "fp32"),
    (".xml", "bf16"),
    (".xml", "int8"),
)


@dataclass
class Worker:
    """A runtime in its process, after its first descriptor."""

    name: str
    path: Path  # of what it loaded, a file or a folder
    process: "subprocess.Popen[str]"
    first_s: float
    descriptor: np.ndarray
    times_ms: list[float] = field(default_factory=list)
    peak_mb: float = 0.0

    @property
    def ms(self) -> float:
        """Median of its calls."""
        return statistics.median(self.times_ms)

    @property
    def file_mb(self) -> float:
        """The size of what it loaded."""
        return sum(file.stat().st_size for file in self._files() if file.is_file()) / 1e6

    def _files(self) -> Iterator[Path]:
        if self.path.is_dir():
            return self.path.rglob("*")
        return self.path.parent.glob(f"{self.path.stem}.*")


def measure(arguments: argparse.Namespace) -> None:
    """Three tables."""
    for table in (_measure_vgg16, _measure_mobilenet, _measure_compact):
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
            table(Path(folder), arguments.images or "")


def _measure_vgg16(folder: Path, images: str) -> None:
    model, checkpoint, size = folder / "vgg16.keras", folder / "netvlad_tf.ckpt", (300, 200)
    _in_new_process("vgg16", model)
    _in_new_process("checkpoint", model, checkpoint)
    files = _exported(model, folder, size, images)
    cores = len(os.sched_getaffinity(0))
    workers = _run([checkpoint, f"naive:{model}", model, *files], folder, cores)
    _print(f"VGG16-NetVLAD-PCA, 300x200, {cores} threads", workers)


def _measure_mobilenet(folder: Path, images: str) -> None:
    _measure_on_one("MobileNet-NetVLAD", mobilenet_model(folder), folder, images)


def _measure_compact(folder: Path, images: str) -> None:
    _measure_on_one("The model of this package", model_path(""), folder, images)


def _measure_on_one(name: str, model: Path, folder: Path, images: str) -> None:
    files = _exported(model, folder, (320, 240), images)
    _print(f"{name}, 320x240, 1 thread", _run([model, *files], folder, 1))


def _exported(model: Path, folder: Path, size: tuple[int, int], images: str) -> list[Path]:
    """Each in a process of its own, whose memory is free again afterwards; refused ones are left out."""
    _in_new_process("image", folder / IMAGE, *size, images)
    files = []
    for suffix, precision in tqdm(EXPORTS, desc="exporting", leave=False, disable=None):
        output = folder / f"{precision}{suffix}" / f"{precision}{suffix}"
        output.parent.mkdir()
        if _in_new_process("export", model, output, *size, images, precision):
            files.append(output)
    return files


def _in_new_process(job: str, *words: object) -> bool:
    command = [sys.executable, "-m", "benchmark.runtime_files", job, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = [line for line in done.stderr.splitlines() if line.startswith("benchmark: ")]
        console.print(*(reason or [f"benchmark: {job} {words[0]} ended with {done.returncode}"]))
    return done.returncode == 0


def _run(models: Sequence[str | Path], folder: Path, threads: int) -> list[Worker]:
    workers = [_start(str(model), folder, threads) for model in models]
    for _ in tqdm(range(TURNS), desc="measuring", leave=False, disable=None):
        for worker in workers:
            worker.times_ms.append(_turn(worker))
    for worker in workers:
        out, _ = worker.process.communicate()
        worker.peak_mb = float(out)
    return workers


def _start(model: str, folder: Path, threads: int) -> Worker:
    output = folder / "descriptor.npy"
    words = ["-m", "benchmark.runtime_worker", model, folder / IMAGE, threads, output]
    started_s = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    if _pipe(process.stdout).readline() != "ready\n":
        raise SystemExit(f"benchmark: {model} does not run")
    first_s = time.perf_counter() - started_s
    path = Path(model.removeprefix("naive:"))
    return Worker(_name(model), path, process, first_s, np.load(output)[0])


def _name(model: str) -> str:
    if model.endswith(".ckpt"):
        return "netvlad_tf_open's graph"
    if model.startswith("naive:"):
        return "the same in Keras"
    path = Path(model)
    return f"{RUNTIME_NAMES[path.suffix]} {'' if path.suffix == '.keras' else path.stem}"


def _turn(worker: Worker) -> float:
    pipe = _pipe(worker.process.stdin)
    pipe.write("\n")
    pipe.flush()
    return float(_pipe(worker.process.stdout).readline())


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _print(title: str, workers: list[Worker]) -> None:
    base = workers[0]
    header = [
        "runtime",
        "ms",
        "speed",
        "peak MB",
        "memory",
        "first s",
        "start",
        "cosine",
        "file MB",
    ]
    rows = [
        [
            worker.name,
            worker.ms,
            f"{base.ms / worker.ms:.2f}x",
            worker.peak_mb,
            f"{worker.peak_mb / base.peak_mb:.2f}",
            worker.first_s,
            f"{worker.first_s / base.first_s:.2f}",
            f"{float(worker.descriptor @ base.descriptor):.6f}",
            worker.file_mb,
        ]
        for worker in workers
    ]
    print_table(f"{title}; ratios to the first row", header, rows)
