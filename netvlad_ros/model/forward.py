# SPDX-License-Identifier: MIT
"""A network as a plain function on any Keras backend: uint8 images in, float32 descriptors out."""

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from netvlad_ros.errors import ModelError

Forward = Callable[[np.ndarray], np.ndarray]


def prepare_runtime(device: str, threads: int) -> None:
    """Settings that the runtime takes before its first operation only: GPUs, memory growth and threads.

    device: auto, cpu or gpu. Raises ModelError if a GPU is asked for and there is none, or if threads
    are asked for too late.
    """
    match keras.backend.backend():
        case "tensorflow":
            prepare_tensorflow(device, threads)
        case "torch" if threads:
            import torch

            torch.set_num_threads(threads)
        case other if other not in _RUNNERS:
            raise ModelError(f"KERAS_BACKEND: expected one of {', '.join(_RUNNERS)}; got {other}.")
    if device == "gpu" and not _gpus():
        raise ModelError(
            f"extractor.device is gpu, but {keras.backend.backend()} sees none; install its GPU build and "
            "driver, or set extractor.device to auto."
        )


def compile_forward(model: keras.Model, device: str) -> Forward:
    """(B, H, W, 3) uint8 -> (B, D) float32. Each new shape is compiled once and remembered."""
    run = _RUNNERS[keras.backend.backend()](model)

    def forward(images: np.ndarray) -> np.ndarray:
        with contextlib.nullcontext() if device == "auto" else keras.device(f"{device}:0"):
            return keras.ops.convert_to_numpy(run(images))

    return forward


def prepare_tensorflow(device: str, threads: int) -> None:
    """prepare_runtime() for TensorFlow, whether Keras uses it or not."""
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # it has run before and taken what it wants
        if device == "cpu":
            tf.config.set_visible_devices([], "GPU")
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
    try:
        if threads and tf.config.threading.get_intra_op_parallelism_threads() != threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise ModelError(
            "extractor.threads: must be set before TensorFlow runs for the first time in a process "
            f"({error})."
        ) from None


def _gpus() -> list[Any]:
    if keras.backend.backend() == "torch":  # Keras knows devices of the other two only
        import torch

        return list(range(torch.cuda.device_count()))
    try:
        return list(keras.distribution.list_devices("gpu"))
    except (RuntimeError, ValueError):  # JAX raises where it has no such platform
        return []


def _tensorflow(model: keras.Model) -> Callable[[np.ndarray], Any]:
    import tensorflow as tf

    @tf.function
    def run(images: Any) -> Any:
        return model(tf.cast(images, tf.float32), training=False)

    # A NumPy array would be taken for a constant to trace; a tensor is keyed by shape alone.
    return lambda images: run(tf.convert_to_tensor(images))


def _jax(model: keras.Model) -> Callable[[np.ndarray], Any]:
    import jax

    @jax.jit
    def run(trainable: Any, fixed: Any, images: Any) -> Any:
        return model.stateless_call(trainable, fixed, images.astype("float32"), training=False)[0]

    trainable = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]
    return lambda images: run(trainable, fixed, images)


def _torch(model: keras.Model) -> Callable[[np.ndarray], Any]:
    import torch

    @torch.inference_mode()
    def run(images: np.ndarray) -> Any:
        return model(keras.ops.convert_to_tensor(images, "float32"), training=False)

    return run


_RUNNERS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
