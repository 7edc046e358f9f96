# SPDX-License-Identifier: MIT
"""From a 640x480 array to a descriptor, beside the bare network and Keras's predict."""

import argparse

import numpy as np

from benchmark.tables import interleaved_medians_ms, print_table


def measure(arguments: argparse.Namespace) -> None:
    """The model that comes with the package, at 320x240, in TensorFlow."""
    from netvlad_ros.config import ExtractorConfig
    from netvlad_ros.extraction.extractor import NetVLADExtractor
    from netvlad_ros.model import load_model
    from netvlad_ros.model.forward import compile_forward
    from netvlad_ros.shipped import model_path

    extractor = NetVLADExtractor("", ExtractorConfig(runtime="tensorflow"))
    model = load_model(model_path(""))
    forward = compile_forward(model, "auto")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    batch = rng.integers(0, 256, (1, 240, 320, 3), dtype=np.uint8)
    calls = {
        "bare network, compiled, 320x240": lambda: forward(batch),
        "extract() from 640x480": lambda: extractor.extract(image),
        "Keras call": lambda: np.asarray(model(batch.astype(np.float32))),
        "Keras predict": lambda: model.predict(batch, verbose=0),
    }
    medians = interleaved_medians_ms(calls, repeats=50)
    bare = medians["bare network, compiled, 320x240"]
    print_table(
        "Extractor", ["way", "ms", "ratio"], [[name, ms, ms / bare] for name, ms in medians.items()]
    )
