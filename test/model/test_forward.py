# SPDX-License-Identifier: MIT
"""The compiled network: traced once a shape, set up before it runs."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from netvlad_ros.config import NetworkConfig
from netvlad_ros.errors import ModelError
from netvlad_ros.model import NetVLADNetwork, build_network
from netvlad_ros.model.forward import compile_forward, prepare_runtime

SMALL = NetworkConfig(
    backbone="mobilenet", backbone_width=0.25, cut_layer="conv_pw_1_relu", clusters=2
)


def images(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_compiled_network_gives_what_the_network_gives(device: str):
    model = build_network(SMALL)
    result = compile_forward(model, device)(images(2, 33, 40))
    assert result.dtype == np.float32
    wanted = keras.ops.convert_to_numpy(model(images(2, 33, 40).astype(np.float32)))
    np.testing.assert_allclose(result, wanted, atol=1e-6)


def test_a_size_that_comes_again_is_not_traced_again(monkeypatch: pytest.MonkeyPatch):
    traced = []
    call = NetVLADNetwork.call

    def counted(self: NetVLADNetwork, inputs: Any, *arguments: Any, **options: Any) -> Any:
        traced.append(tuple(inputs.shape))
        return call(self, inputs, *arguments, **options)

    forward = compile_forward(build_network(SMALL), "auto")
    monkeypatch.setattr(NetVLADNetwork, "call", counted)
    sizes = [(1, 32, 40), (1, 48, 32), (2, 32, 40)]
    for size in sizes * 3:
        forward(images(*size))
    assert traced == [(*size, 3) for size in sizes]


def test_threads_that_are_asked_for_too_late_are_refused():
    tf.constant(0) + 1  # TensorFlow runs
    with pytest.raises(
        ModelError, match=r"^extractor\.threads: must be set before TensorFlow runs"
    ):
        prepare_runtime("auto", threads=17)


@pytest.mark.parametrize(("device", "hidden"), [("cpu", [([], "GPU")]), ("auto", [])])
def test_on_the_cpu_tensorflow_does_not_see_a_gpu(
    device: str, hidden: list, monkeypatch: pytest.MonkeyPatch
):
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *words: asked.append(words))
    prepare_runtime(device, threads=0)
    assert asked == hidden


def test_a_cpu_that_is_asked_for_after_tensorflow_has_run_is_taken_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
):
    def too_late(*_: Any) -> None:
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", too_late)
    prepare_runtime("cpu", threads=0)


def test_a_gpu_that_is_in_use_already_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch):
    def too_late(*_: Any) -> None:
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["GPU:0"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", too_late)
    prepare_runtime("auto", threads=0)
