# SPDX-License-Identifier: MIT
"""One runtime in a process of its own: python -m benchmark.runtime_worker MODEL IMAGE.npy THREADS OUT.npy.

MODEL is a model file, the prefix of a checkpoint (.ckpt), or naive:NAME.keras for a NetVLAD layer that
builds the tensor of residuals.

Prints a line when the first descriptor is there, then one with the milliseconds of a call for each line
that it reads, and at the end its peak memory in MB. The image is at the network's input size.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmark.memory import memory_mb
from benchmark.naive import naive_residuals


def main() -> None:
    """Runs until its input ends."""
    model, image, threads, output = sys.argv[1:]
    images = np.load(image)[None]
    forward = _open(model, images.shape[2], images.shape[1], int(threads))
    np.save(output, forward(images))
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        forward(images)
        print(1e3 * (time.perf_counter() - start), flush=True)
    print(memory_mb("VmHWM"), flush=True)  # getrusage() would begin with what its parent had


def _open(model: str, width: int, height: int, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    if model.endswith(".ckpt"):
        from benchmark.netvlad_tf_graph import open_checkpoint

        return open_checkpoint(Path(model))
    if model.startswith("naive:"):
        from netvlad_ros.model.layers import NetVLAD

        NetVLAD.call = naive_residuals  # type: ignore[assignment]
        model = model.removeprefix("naive:")
    from netvlad_ros.config import ExtractorConfig
    from netvlad_ros.extraction.extractor import NetVLADExtractor

    config = ExtractorConfig(
        runtime="tensorflow" if model.endswith(".keras") else "auto",
        input_width_px=width,
        input_height_px=height,
        threads=threads,
    )
    extractor = NetVLADExtractor(model, config)
    return lambda images: extractor.extract_batch(list(images))


if __name__ == "__main__":
    main()
