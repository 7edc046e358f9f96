# SPDX-License-Identifier: MIT
"""How weights follow their gradients: the rule, its learning rate over time, weight decay and clipping."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from netvlad_ros.training.config import OptimiserConfig


def make_optimiser(config: OptimiserConfig, precision: str) -> Any:
    """A Keras optimiser; with float16 it scales gradients so that none of them vanish."""
    rate = config.learning_rate
    optimiser: Any
    match config.name:
        case "sgd":
            optimiser = keras.optimizers.SGD(rate, momentum=config.momentum)
        case "adam":
            optimiser = keras.optimizers.Adam(rate)
        case _:
            optimiser = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    if precision == "mixed_float16":
        optimiser = keras.optimizers.LossScaleOptimizer(optimiser)
    return optimiser


def loss_scale(optimiser: Any) -> Any:
    """What the optimiser will divide gradients by."""
    return getattr(optimiser, "dynamic_scale", 1.0)


def set_learning_rate(optimiser: Any, rate: float) -> None:
    """For the steps to come."""
    inner = getattr(optimiser, "inner_optimizer", optimiser)
    inner.learning_rate = rate


def decayed_and_clipped(
    gradients: Sequence[Any], variables: Sequence[Any], config: OptimiserConfig, scale: Any
) -> list[Any]:
    """Gradients, which are scale times too long, with the decay of sgd and adam, none longer than allowed.

    Torch clips before its optimisers add the decay, and so is it here.
    """
    clipped = list(gradients)
    if config.clip_norm:
        clipped, _ = tf.clip_by_global_norm(clipped, config.clip_norm * scale)
    if config.name == "adamw" or not config.weight_decay:
        return clipped
    decay = config.weight_decay * scale
    return [g + decay * tf.cast(v, g.dtype) for g, v in zip(clipped, variables, strict=True)]


def learning_rate(
    config: OptimiserConfig, step: int, steps_per_epoch: int, epochs: int, plateaus: int
) -> float:
    """Of one step, from 0.

    plateaus: how many times lr_step_epochs have passed without a better Recall@5.
    """
    return (
        config.learning_rate
        * _warm_up(config, step)
        * _fall(config, step, steps_per_epoch, epochs, plateaus)
    )


def _warm_up(config: OptimiserConfig, step: int) -> float:
    return min(1.0, (step + 1) / config.warm_up_steps) if config.warm_up_steps else 1.0


def _fall(
    config: OptimiserConfig, step: int, steps_per_epoch: int, epochs: int, plateaus: int
) -> float:
    match config.schedule:
        case "step":
            return config.gamma ** (step // (steps_per_epoch * config.lr_step_epochs))
        case "plateau":
            return config.gamma**plateaus
        case "cosine":
            last = max(1, epochs * steps_per_epoch - config.warm_up_steps)
            passed = max(0, step - config.warm_up_steps) / last
            return 0.5 * (1.0 + math.cos(math.pi * min(1.0, passed)))
        case _:
            return 1.0
