# SPDX-License-Identifier: MIT
"""Every runtime side by side: VGG16-NetVLAD-PCA at 300x200 on all cores, and a MobileNet at 320x240 on one.

The baseline of the first is the graph of netvlad_tf_open. Each runs in a process of its own, and all take
turns, one image at a time.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from tqdm import tqdm

from benchmark.models import compact_model, vgg16_netvlad_pca
from benchmark.tables import console, print_table

TURNS = 20
CHECKPOINT = "netvlad_tf_open's graph.ckpt"
# Ending of the file and precision of each row, after the .keras file and the baseline.
EXPORTS = (
    (".pb", "fp32"),
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
    path: Path
    process: subprocess.Popen[str]
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
        files = self.path.parent.glob(f"{self.path.stem}.*")
        return sum(file.stat().st_size for file in files) / 1e6


def measure(arguments: argparse.Namespace) -> None:
    """Two tables."""
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        _measure_vgg16(Path(folder), arguments.images)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        _measure_compact(Path(folder), arguments.images)


def _measure_vgg16(folder: Path, images: str | None) -> None:
    model = vgg16_netvlad_pca(folder)
    _in_new_process("checkpoint", model, folder / CHECKPOINT)
    files = _exported(model, folder, EXPORTS, (300, 200), images)
    cores = len(os.sched_getaffinity(0))
    workers = _run([folder / CHECKPOINT, model, *files], folder, (300, 200), cores)
    _print(f"VGG16-NetVLAD-PCA, 300x200, {cores} threads", workers)


def _measure_compact(folder: Path, images: str | None) -> None:
    model = compact_model(folder)
    files = _exported(model, folder, EXPORTS, (320, 240), images)
    _print("MobileNet-NetVLAD, 320x240, 1 thread", _run([model, *files], folder, (320, 240), 1))


def _exported(
    model: Path,
    folder: Path,
    wanted: tuple[tuple[str, str], ...],
    size: tuple[int, int],
    images: str | None,
) -> list[Path]:
    """Each in a process of its own, whose memory is free again afterwards; refused ones are left out."""
    files = []
    for suffix, precision in tqdm(wanted, desc="exporting", leave=False, disable=None):
        output = folder / precision / suffix[1:] / f"{precision}{suffix}"
        output.parent.mkdir(parents=True)
        if _in_new_process("export", model, output, precision, *size, images or ""):
            files.append(output)
    return files


def _in_new_process(job: str, *words: object) -> bool:
    command = [sys.executable, "-m", "benchmark.runtime_files", job, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        console.print(done.stderr.strip().splitlines()[-1])
    return done.returncode == 0


def _run(models: list[Path], folder: Path, size: tuple[int, int], threads: int) -> list[Worker]:
    image = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    np.save(folder / "image.npy", image)
    workers = [_start(model, folder, threads) for model in models]
    for _ in tqdm(range(TURNS), desc="measuring", leave=False, disable=None):
        for worker in workers:
            worker.times_ms.append(_turn(worker))
    for worker in workers:
        out, _ = worker.process.communicate()
        worker.peak_mb = float(out)
    return workers


def _start(model: Path, folder: Path, threads: int) -> Worker:
    output = folder / "descriptor.npy"
    words = ["-m", "benchmark.runtime_worker", model, folder / "image.npy", threads, output]
    started_s = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    line = _pipe(process.stdout).readline()
    if line != "ready\n":
        raise SystemExit(f"benchmark: {model} does not run")
    name = (
        model.stem if model.suffix == ".ckpt" else f"{_RUNTIMES[model.suffix]} {_precision(model)}"
    )
    return Worker(name, model, process, time.perf_counter() - started_s, np.load(output)[0])


def _turn(worker: Worker) -> float:
    pipe = _pipe(worker.process.stdin)
    pipe.write("\n")
    pipe.flush()
    return float(_pipe(worker.process.stdout).readline())


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


_RUNTIMES = {
    ".keras": "TensorFlow, .keras",
    ".pb": "TensorFlow, frozen",
    ".tflite": "LiteRT",
    ".onnx": "ONNX Runtime",
    ".xml": "OpenVINO",
}


def _precision(model: Path) -> str:
    return "fp32" if model.suffix == ".keras" else model.stem


def _print(title: str, workers: list[Worker]) -> None:
    base = workers[0]
    print_table(
        f"{title}; ratios to the first row",
        ["runtime", "ms", "speed", "peak MB", "memory", "first s", "start", "cosine", "file MB"],
        [
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
        ],
    )
