# SPDX-License-Identifier: MIT
"""A step follows the plain gradient of the whole batch, however few images fit into memory."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_networks import tiny_network

from netvlad_ros.config import NetworkConfig
from netvlad_ros.errors import ModelError, TrainingError
from netvlad_ros.training import losses
from netvlad_ros.training.batches import TrainingBatch, tuple_relation
from netvlad_ros.training.config import (
    InitialConfig,
    LossConfig,
    OptimiserConfig,
    RunConfig,
    TrainingConfig,
)
from netvlad_ros.training.freezing import freeze
from netvlad_ros.training.initial import fit_batch_statistics, initial_network
from netvlad_ros.training.optimisers import learning_rate, make_optimiser
from netvlad_ros.training.step import TrainingStep

TUPLES, POSITIVES, NEGATIVES = 2, 2, 2
RATE = 1.0  # so that rounding of weights doesn't hide gradients
LOSSES = (
    "triplet",
    "triplet_distance",
    "best_positive",
    "all_pairs",
    "all_pairs_deviation",
    "multi_similarity",
)


@pytest.fixture
def batch() -> TrainingBatch:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (TUPLES, 1 + POSITIVES + NEGATIVES, 32, 32, 3), np.uint8)
    return TrainingBatch(images, tuple_relation(TUPLES, POSITIVES, NEGATIVES), POSITIVES)


def config_of(loss: str = "triplet", chunk: int = 0, **optimiser: Any) -> TrainingConfig:
    values: dict[str, Any] = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0} | optimiser
    return TrainingConfig(
        loss=LossConfig(name=loss),
        optimiser=OptimiserConfig(**values),
        run=RunConfig(chunk_images=chunk),
    )


def stepped(batch: TrainingBatch, config: TrainingConfig, **network: Any) -> tuple[Any, Any]:
    """The network after one step, and the figures of it."""
    model = tiny_network(**network)
    optimiser = make_optimiser(config.optimiser, config.run.precision)
    step = TrainingStep(model, optimiser, config, tf.distribute.get_strategy())
    return model, step(batch, RATE)


def plain_gradients(batch: TrainingBatch, loss: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights and gradients of one GradientTape over everything."""
    model = tiny_network()
    loss_of = losses.make_loss(LossConfig(name=loss), batch.tuple_size, batch.positives)
    with tf.GradientTape() as tape:
        descriptors = model(batch.flat_images.astype(np.float32), training=False)
        value = loss_of(descriptors, batch.relation)
    variables = [variable.value for variable in model.trainable_variables]
    gradients = tape.gradient(value, variables, unconnected_gradients="zero")
    return [v.numpy() for v in variables], [g.numpy() for g in gradients]


@pytest.mark.parametrize("chunk", [0, 3])  # 3 does not divide the 10 images
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_follows_the_gradient_of_the_whole_batch(batch, loss, chunk):
    weights, gradients = plain_gradients(batch, loss)
    model, figures = stepped(batch, config_of(loss, chunk))
    length = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients))
    assert figures["gradient_norm"] == pytest.approx(length, rel=1e-3)
    for before, gradient, after in zip(weights, gradients, model.trainable_variables, strict=True):
        moved = before - after.numpy()
        np.testing.assert_allclose(
            moved, RATE * gradient, rtol=2e-2, atol=2e-5 * length * RATE + 1e-7
        )


@pytest.mark.parametrize("loss", LOSSES)
def test_the_slope_agrees_with_finite_differences(loss):
    rng = np.random.default_rng(2)
    x = tf.constant(rng.normal(0.5, 0.4, (10, 6)), tf.float64)
    x = tf.math.l2_normalize(x, axis=1)
    relation = tuple_relation(TUPLES, POSITIVES, NEGATIVES)
    loss_of = losses.make_loss(LossConfig(name=loss), 5, POSITIVES)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss_of(x, relation)
    slope = tape.gradient(value, x)
    direction = rng.normal(size=(10, 6))
    difference = loss_of(x + 1e-6 * direction, relation) - loss_of(x - 1e-6 * direction, relation)
    assert float(difference) / 2e-6 == pytest.approx(
        float(tf.reduce_sum(slope * direction)), rel=1e-4
    )


def test_a_step_is_no_longer_than_the_gradient_is_allowed_to_be(batch):
    before = [variable.numpy() for variable in tiny_network().trainable_variables]
    model, _ = stepped(batch, config_of(clip_norm=0.1))
    moved = [v.numpy() - b for v, b in zip(model.trainable_variables, before, strict=True)]
    assert np.sqrt(sum((m**2).sum() for m in moved)) == pytest.approx(0.1 * RATE, rel=1e-2)


def test_weights_decay_with_sgd_as_with_torch(batch):
    decayed, _ = stepped(batch, config_of(weight_decay=0.5))
    plain, _ = stepped(batch, config_of())
    before = tiny_network().trainable_variables
    for one, other, weight in zip(
        decayed.trainable_variables, plain.trainable_variables, before, strict=True
    ):
        expected = other.numpy() - RATE * 0.5 * weight.numpy()
        np.testing.assert_allclose(one.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_short_numbers_give_nearly_the_same_loss_and_whole_weights(batch, precision):
    def figures(name: str) -> dict[str, float]:
        config = TrainingConfig(
            network=NetworkConfig(
                backbone="mobilenet", backbone_width=0.25, cut_layer="conv_pw_3_relu", clusters=4
            ),
            run=RunConfig(precision=name, chunk_images=4),
        )
        model = initial_network(config)
        assert all(variable.dtype == "float32" for variable in model.weights)
        optimiser = make_optimiser(config.optimiser, name)
        step = TrainingStep(model, optimiser, config, tf.distribute.get_strategy())
        return step(batch, RATE)

    exact, short = figures("float32"), figures(precision)
    assert short["loss"] == pytest.approx(exact["loss"], abs=0.02)
    assert np.isfinite(short["gradient_norm"])
    assert keras.config.dtype_policy().name == "float32"


def test_frozen_layers_keep_their_weights_and_the_others_move(batch):
    model, config = tiny_network(), config_of(chunk=4)
    freeze(model, "conv_pw_2_relu")
    before = {v.path: v.numpy() for v in model.weights}
    optimiser = make_optimiser(config.optimiser, "float32")
    TrainingStep(model, optimiser, config, tf.distribute.get_strategy())(batch, 0.1)
    moved = {v.path for v in model.weights if not np.array_equal(v.numpy(), before[v.path])}
    assert "netvlad/centres" in moved
    assert any("conv_pw_3" in path for path in moved)
    assert not any("_1" in path or "_2" in path for path in moved)


def test_a_layer_that_is_not_there_can_t_be_frozen():
    with pytest.raises(ModelError, match="there is no layer 'block9'"):
        freeze(tiny_network(), "block9")
    with pytest.raises(ModelError, match="nothing would be left to learn"):
        freeze(tiny_network(), "flatten")


def test_a_loss_that_is_no_number_is_told(batch):
    model, config = tiny_network(), config_of()
    model.get_layer("netvlad").centres.assign(np.full((4, 32), np.nan, np.float32))
    step = TrainingStep(
        model, make_optimiser(config.optimiser, "float32"), config, tf.distribute.get_strategy()
    )
    with pytest.raises(TrainingError, match=r"lower optimiser\.learning_rate"):
        step(batch, RATE)


def test_learning_rates_fall_as_scheduled():
    def rates(**values: Any) -> list[float]:
        config = OptimiserConfig(learning_rate=1.0, **values)
        return [learning_rate(config, step, 10, 4, plateaus=2) for step in (0, 4, 19, 20, 39)]

    assert rates(schedule="constant") == [1.0] * 5
    assert rates(schedule="step", lr_step_epochs=2, gamma=0.5) == [1.0, 1.0, 1.0, 0.5, 0.5]
    assert rates(schedule="plateau", gamma=0.5) == [0.25] * 5
    assert rates(schedule="cosine")[0] == 1.0
    assert rates(schedule="cosine")[3] == pytest.approx(0.5)
    assert rates(schedule="cosine")[4] == pytest.approx(0.5 * (1 + np.cos(np.pi * 39 / 40)))
    assert rates(schedule="constant", warm_up_steps=8)[:2] == [1 / 8, 5 / 8]


def test_a_backbone_is_taken_with_the_input_that_its_weights_need(tmp_path):
    given = tiny_network(input_offset=(100.0,))
    path = tmp_path / "given.keras"
    given.save(path)
    network = NetworkConfig(clusters=7, cut_layer="conv_pw_2_relu")
    config = TrainingConfig(
        network=network, initial=InitialConfig(model=str(path), take="backbone")
    )
    model = initial_network(config)
    assert model.network.clusters == 7
    assert model.network.input_offset == (100.0,)
    kernel = model.get_layer("conv_pw_1").kernel.numpy()
    np.testing.assert_array_equal(kernel, given.get_layer("conv_pw_1").kernel.numpy())


def test_batch_statistics_are_those_of_the_images():
    model = tiny_network(input_scale=(0.01,))
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), np.uint8)
    fit_batch_statistics(model, images)
    first = model.get_layer("conv1_bn")
    inside = keras.Model(model.input, first.input)
    expected = np.mean([inside(one.astype(np.float32)) for one in images], axis=(0, 1, 2, 3))
    np.testing.assert_allclose(first.moving_mean.numpy(), expected, rtol=1e-3, atol=1e-5)
    assert first.momentum == keras.layers.BatchNormalization().momentum
