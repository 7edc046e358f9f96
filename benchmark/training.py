# SPDX-License-Identifier: MIT
"""A training step beside a plain Keras loop, in time and peak memory; and how long it waits for images."""

import argparse
import json
import subprocess
import sys
import time
from typing import Any

from benchmark import idle
from benchmark.memory import memory_mb
from benchmark.tables import print_table

WIDTH_PX, HEIGHT_PX = 320, 240
TUPLES, POSITIVES, NEGATIVES = 2, 1, 10
REPEATS = 8
# Name, and images at once; None is the plain loop.
WAYS: dict[str, int | None] = {
    "plain Keras loop": None,
    "training step, all at once": 0,
    "training step, 8 images at once": 8,
    "training step, 2 images at once": 2,
}


def measure(arguments: argparse.Namespace) -> None:
    """Each way runs in a process of its own, because peak memory belongs to a process."""
    rows = []
    for way in WAYS:
        command = [sys.executable, "-m", "benchmark.training", way]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        result = json.loads(done.stdout.splitlines()[-1])
        rows.append([way, result["median_ms"], result["extra_mb"]])
    print_table(
        f"{TUPLES} tuples of {1 + POSITIVES + NEGATIVES} images of {WIDTH_PX}x{HEIGHT_PX}, MobileNet 0.5",
        ["way", "ms a step", "peak extra MB"],
        rows,
    )
    _show_waiting(arguments.cache or "")


def _show_waiting(cache: str) -> None:
    """cache: folder of rendered worlds; empty for the user's."""
    rows = []
    for source in ("worlds", "files"):
        command = [sys.executable, "-m", "benchmark.idle", source, cache]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        rows.append([source, found["step_ms"], f"{found['idle_share']:.1%}"])
    print_table(
        f"{idle.STEPS} steps of config/compact_training.yaml, read and augmented meanwhile",
        ["images from", "ms a step", "waiting for images"],
        rows,
    )


def _run(way: str) -> dict[str, float]:
    import numpy as np

    from netvlad_ros.training.batches import TrainingBatch, tuple_relation
    from netvlad_ros.training.config import load_training_config
    from netvlad_ros.training.initial import initial_network

    config = load_training_config(None, _settings(WAYS[way] or 0))
    model = initial_network(config)
    size = 1 + POSITIVES + NEGATIVES
    images = np.random.default_rng(0).integers(
        0, 256, (TUPLES, size, HEIGHT_PX, WIDTH_PX, 3), np.uint8
    )
    batch = TrainingBatch(images, tuple_relation(TUPLES, POSITIVES, NEGATIVES), POSITIVES)
    before_mb = memory_mb("VmRSS")
    step = _plain(model, config, batch) if WAYS[way] is None else _ours(model, config, batch)
    step()  # compiles
    times_ms = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        step()
        times_ms.append(1e3 * (time.perf_counter() - start))
    extra_mb = memory_mb("VmHWM") - before_mb
    return {"median_ms": float(np.median(times_ms)), "extra_mb": extra_mb}


def _settings(chunk: int) -> list[str]:
    return [
        "network.backbone=mobilenet",
        "network.backbone_width=0.5",
        "network.cut_layer=conv_pw_11_relu",
        "network.clusters=16",
        "network.input_scale=[0.01]",
        "optimiser.weight_decay=0.0",
        f"run.chunk_images={chunk}",
    ]


def _ours(model: Any, config: Any, batch: Any) -> Any:
    import tensorflow as tf

    from netvlad_ros.training.optimisers import make_optimiser
    from netvlad_ros.training.step import TrainingStep

    optimiser = make_optimiser(config.optimiser, config.run.precision)
    step = TrainingStep(model, optimiser, config, tf.distribute.get_strategy())
    return lambda: step(batch, config.optimiser.learning_rate)["loss"]


def _plain(model: Any, config: Any, batch: Any) -> Any:
    """What one writes without this package's training."""
    import keras
    import tensorflow as tf

    optimiser = keras.optimizers.SGD(config.optimiser.learning_rate, config.optimiser.momentum)

    @tf.function
    def step(images: Any) -> Any:
        with tf.GradientTape() as tape:
            x = model(tf.cast(images, tf.float32), training=False)
            x = tf.reshape(x, (TUPLES, batch.tuple_size, -1))
            squared = tf.reduce_sum((x[:, :1] - x[:, 1:]) ** 2, axis=-1)
            loss = tf.reduce_mean(tf.nn.relu(squared[:, :1] + 0.1 - squared[:, 1:][:, 1:]))
        optimiser.apply_gradients(
            zip(
                tape.gradient(loss, model.trainable_variables),
                model.trainable_variables,
                strict=True,
            )
        )
        return loss

    return lambda: float(step(tf.constant(batch.flat_images)))


if __name__ == "__main__":
    print(json.dumps(_run(sys.argv[1])))
