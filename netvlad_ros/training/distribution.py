# SPDX-License-Identifier: MIT
"""Devices and processes that learn together, by TensorFlow's strategies."""

import json
import os
from typing import Any

import tensorflow as tf

from netvlad_ros.errors import TrainingError

TF_CONFIG = "TF_CONFIG"


def open_strategy() -> Any:
    """Of all processes where TF_CONFIG lists them, else of all GPUs, or one device.

    Has to be called before TensorFlow does anything else. Raises TrainingError for an unusable TF_CONFIG.
    """
    if os.environ.get(TF_CONFIG):
        _refuse_unusable(os.environ[TF_CONFIG])
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def is_chief(strategy: Any) -> bool:
    """Whether this process writes files and talks; one does."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    return resolver.task_type == "chief" or (
        resolver.task_type == "worker"
        and resolver.task_id == 0
        and "chief" not in resolver.cluster_spec().as_dict()
    )


def task_name() -> str:
    """Of this process among those of TF_CONFIG, such as worker-1; empty where it is alone."""
    if not os.environ.get(TF_CONFIG):
        return ""
    task = json.loads(os.environ[TF_CONFIG])["task"]
    return f"{task['type']}-{task['index']}"


def of_first_replica(strategy: Any, value: float) -> float:
    """A number that all processes agree on: they might round differently, and must not decide differently."""
    if strategy.num_replicas_in_sync == 1:
        return value
    return float(_of_first(strategy, tf.constant(value, tf.float64)))


def share_variables(strategy: Any, variables: list[Any]) -> None:
    """Gives variables that each process has set by itself the values of the first one."""
    if strategy.num_replicas_in_sync == 1:
        return
    for variable in variables:
        variable.assign(_of_first(strategy, tf.convert_to_tensor(variable.numpy())))


def _of_first(strategy: Any, value: Any) -> Any:
    @tf.function
    def everywhere() -> Any:
        return strategy.run(_in_replica)

    def _in_replica() -> Any:
        context = tf.distribute.get_replica_context()
        is_first = tf.cast(context.replica_id_in_sync_group == 0, value.dtype)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, value * is_first)

    return strategy.experimental_local_results(everywhere())[0]


def _refuse_unusable(text: str) -> None:
    try:
        config = json.loads(text)
        task = config["task"]
        there = task["index"] < len(config["cluster"][task["type"]])
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{TF_CONFIG}: expected a cluster of workers and a task with type and index, as JSON ({error!r})."
        ) from None
    if not there:
        raise TrainingError(
            f"{TF_CONFIG}: expected a task of the cluster, got {task['type']} {task['index']}."
        )
