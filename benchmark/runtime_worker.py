# SPDX-License-Identifier: MIT
"""One runtime in a process of its own: python -m benchmark.runtime_worker MODEL IMAGE.npy THREADS OUT.npy.

Prints a line when the first descriptor is there, then one with the milliseconds of a call for each line
that it reads, and at the end its peak memory in MB. The image is at the network's input size.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def main() -> None:
    """Runs until its input ends."""
    model, image, threads, output = sys.argv[1:]
    images = np.load(image)[None]
    forward = _open(Path(model), images.shape[2], images.shape[1], int(threads))
    np.save(output, forward(images))
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        forward(images)
        print(1e3 * (time.perf_counter() - start), flush=True)
    print(_peak_mb(), flush=True)


def _open(model: Path, width: int, height: int, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    if model.suffix == ".ckpt":
        from benchmark.netvlad_tf_graph import open_checkpoint

        return open_checkpoint(model)
    from netvlad_ros.config import ExtractorConfig
    from netvlad_ros.extractor import NetVLADExtractor

    config = ExtractorConfig(input_width_px=width, input_height_px=height, threads=threads)
    extractor = NetVLADExtractor(model, config)
    return lambda images: extractor.extract_batch(list(images))


def _peak_mb() -> float:
    """Of this program only; what getrusage() says begins with what its parent had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    main()
