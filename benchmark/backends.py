# SPDX-License-Identifier: MIT
"""Keras backends on whatever is here, GPU or CPU: batch 1 and 16, single and half precision.

Each backend that is installed runs in a process of its own. The limit is what the same backend reaches on the
same device: the time for as many operations in one large matrix product, or for reading the weights as often
as a large array, whichever is longer.
"""

import argparse
import functools
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmark.models import vgg16_netvlad_pca
from benchmark.tables import console, print_table

BACKENDS = ("tensorflow", "jax", "torch")
BATCHES = (1, 16)
POLICIES = {"fp32": "float32", "fp16": "mixed_float16", "bf16": "mixed_bfloat16"}
WIDTH, HEIGHT = 300, 200
PRODUCT_SIDE = 4096
ARRAY_BYTES = 512 << 20
REPEATS = 10


def measure(arguments: argparse.Namespace) -> None:
    """VGG16-NetVLAD-PCA at 300x200."""
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        model = Path(folder) / "vgg16.keras"
        vgg16_netvlad_pca(model)
        rows = []
        for backend in BACKENDS:
            if importlib.util.find_spec(backend):
                rows += _rows(backend, model)
            else:
                console.print(f"{backend} is not installed")
    header = [
        "backend",
        "device",
        "precision",
        "batch",
        "ms",
        "images/s",
        "GFLOP/s",
        "of the limit",
    ]
    print_table(f"VGG16-NetVLAD-PCA at {WIDTH}x{HEIGHT} by Keras backend", header, rows)


def _rows(backend: str, model: Path) -> list[list[Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmark.backends", str(model)],
        env=os.environ | {"KERAS_BACKEND": backend},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [[backend, *row] for row in json.loads(done.stdout.splitlines()[-1])]


def _run(path: str) -> list[list[Any]]:
    import keras
    import numpy as np

    from netvlad_ros.inspection.cost import network_cost
    from netvlad_ros.model import load_model
    from netvlad_ros.model.forward import compile_forward, prepare_runtime

    prepare_runtime("auto", 0)
    network = load_model(path)
    flops = network_cost(network, WIDTH, HEIGHT).total("flops")
    weight_bytes = 4 * network.count_params()
    device = keras.distribution.list_devices()[0]
    rows = []
    for precision, policy in POLICIES.items():
        if precision == "fp16" and "cpu" in device:
            continue  # processors have no units for it, and take seconds
        for layer in network.layers:
            if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
                layer.dtype_policy = policy
        forward = compile_forward(network, "auto")
        flops_s, bytes_s = _limits(policy)
        for batch in BATCHES:
            images = np.random.default_rng(0).integers(0, 256, (batch, HEIGHT, WIDTH, 3), np.uint8)
            seconds = _median_s(functools.partial(forward, images))
            limit_s = max(batch * flops / flops_s, weight_bytes / bytes_s)
            figures = [1e3 * seconds, batch / seconds, batch * flops / seconds / 1e9]
            rows.append([device, precision, batch, *figures, limit_s / seconds])
    return rows


def _limits(policy: str) -> tuple[float, float]:
    """Operations and bytes a second that this device reaches at its best."""
    import keras
    from keras import ops

    kind = keras.dtype_policies.get(policy).compute_dtype
    square = ops.ones((PRODUCT_SIDE, PRODUCT_SIDE), kind)
    array = ops.ones((ARRAY_BYTES // 4,), "float32")
    product_s = _median_s(
        lambda: ops.convert_to_numpy(ops.cast(ops.matmul(square, square)[0, 0], "float32"))
    )
    sum_s = _median_s(lambda: ops.convert_to_numpy(ops.sum(array)))
    return 2.0 * PRODUCT_SIDE**3 / product_s, ARRAY_BYTES / sum_s


def _median_s(call: Callable[[], Any]) -> float:
    call()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    print(json.dumps(_run(sys.argv[1])))
