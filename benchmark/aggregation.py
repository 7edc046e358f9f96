# SPDX-License-Identifier: MIT
"""Memory and time of the NetVLAD layer at 480x640, K = 64, D = 512, beside the naive residual tensor."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmark.memory import memory_mb
from benchmark.naive import naive_residuals
from benchmark.tables import print_table

CLUSTERS, DEPTH, ROWS, COLUMNS = 64, 512, 480 // 16, 640 // 16
NAIVE_TENSOR_MB = ROWS * COLUMNS * CLUSTERS * DEPTH * 4 / 1e6
REPEATS = 20


def measure(arguments: argparse.Namespace) -> None:
    """Each way runs in a process of its own, because peak memory belongs to a process."""
    rows = []
    for way in ("two matrix products", "naive residuals"):
        command = [sys.executable, "-m", "benchmark.aggregation", way]
        result = json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout
        )
        rows.append(
            [way, result["extra_mb"], result["extra_mb"] / NAIVE_TENSOR_MB, result["median_ms"]]
        )
    header = ["aggregation of 30x40 features", "peak extra MB", "share of N x K x D tensor", "ms"]
    print_table(
        f"NetVLAD layer, K={CLUSTERS}, D={DEPTH}; N x K x D takes {NAIVE_TENSOR_MB:.0f} MB",
        header,
        rows,
    )


def _run(way: str) -> dict[str, float]:
    import numpy as np
    import tensorflow as tf

    from netvlad_ros.model.layers import NetVLAD

    layer = NetVLAD(CLUSTERS)
    layer.build((None, None, None, DEPTH))
    function = tf.function(
        layer if way == "two matrix products" else lambda x: naive_residuals(layer, x)
    )
    features = tf.constant(
        np.random.default_rng(0).standard_normal((1, ROWS, COLUMNS, DEPTH)), tf.float32
    )
    function(features[:, :2, :2])  # loads the code
    function.get_concrete_function(features)
    before_mb = memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    function(features)
    extra_mb = memory_mb("VmHWM") - before_mb
    times_ms = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function(features).numpy()
        times_ms.append(1e3 * (time.perf_counter() - start))
    return {"extra_mb": extra_mb, "median_ms": float(np.median(times_ms))}


if __name__ == "__main__":
    print(json.dumps(_run(sys.argv[1])))
