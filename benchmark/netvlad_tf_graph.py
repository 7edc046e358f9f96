# SPDX-License-Identifier: MIT
"""The graph that uzh-rpg/netvlad_tf_open defines, in TensorFlow 1: what runtimes are compared with.

Its NetVLAD layer builds the N x K x D tensor of residuals. It is fed and restored as there: a session, a
placeholder of float32 values, variables from a checkpoint.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_ros.constants import EPSILON
from netvlad_ros.model.network import NetVLADNetwork

CLUSTERS, DIMS = 64, 4096
BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
SCOPE = "vgg16_netvlad_pca"


def open_checkpoint(prefix: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The restored graph: uint8 RGB (B, H, W, 3) -> (B, 4096)."""
    import tensorflow as tf

    tf1 = tf.compat.v1
    tf1.disable_eager_execution()
    image = tf1.placeholder(tf.float32, (None, None, None, 3))
    output = _descriptor(tf1, image)
    session = tf1.Session()
    tf1.train.Saver().restore(session, str(prefix))
    return lambda images: session.run(output, {image: images.astype(np.float32)})


def write_checkpoint(network: NetVLADNetwork, prefix: Path) -> None:
    """The weights of a VGG16 with NetVLAD and whitening, in their names, order and signs."""
    import tensorflow as tf

    ours = {weight.path: weight.numpy() for weight in network.weights}
    theirs = {"average_rgb": np.array(network.network.input_offset, np.float32)}
    for block, filters in enumerate(BLOCKS, start=1):
        for number in range(1, len(filters) + 1):
            for part in ("kernel", "bias"):
                theirs[f"conv{block}_{number}/{part}"] = ours[f"block{block}_conv{number}/{part}"]
    theirs["assignment/kernel"] = ours["netvlad/assignment"][None, None]
    theirs["cluster_centers"] = -ours["netvlad/centres"].T[None, None, None]
    rows = ours["whitening/kernel"].reshape(CLUSTERS, -1, DIMS).transpose(1, 0, 2)
    theirs["WPCA/kernel"] = rows.reshape(1, 1, -1, DIMS)
    theirs["WPCA/bias"] = ours["whitening/bias"]
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=[f"{SCOPE}/{name}" for name in theirs],
        shape_and_slices=[""] * len(theirs),
        tensors=list(theirs.values()),
    )


def _descriptor(tf1: Any, image: Any) -> Any:
    with tf1.variable_scope(SCOPE):
        x = image - tf1.get_variable("average_rgb", (3,))
        for block, filters in enumerate(BLOCKS, start=1):
            for number, depth in enumerate(filters, start=1):
                x = _convolution(tf1, x, f"conv{block}_{number}", 3, depth)
                is_last = number == len(filters)
                if is_last and block < len(BLOCKS):
                    x = tf1.nn.max_pool2d(x, 2, 2, "VALID")
                if not (is_last and block == len(BLOCKS)):
                    x = tf1.nn.relu(x)
        x = _netvlad(tf1, tf1.nn.l2_normalize(x, -1))
        x = _convolution(tf1, x[:, None, None, :], "WPCA", 1, DIMS)
        return tf1.nn.l2_normalize(x[:, 0, 0, :], -1)


def _convolution(tf1: Any, x: Any, name: str, side: int, depth: int) -> Any:
    with tf1.variable_scope(name):
        kernel = tf1.get_variable("kernel", (side, side, x.shape[-1], depth))
        bias = tf1.get_variable("bias", (depth,))
        return tf1.nn.bias_add(tf1.nn.conv2d(x, kernel, 1, "SAME"), bias)


def _netvlad(tf1: Any, x: Any) -> Any:
    depth = x.shape[-1]
    with tf1.variable_scope("assignment"):
        kernel = tf1.get_variable("kernel", (1, 1, depth, CLUSTERS))
    a = tf1.nn.softmax(tf1.nn.conv2d(x, kernel, 1, "SAME"))  # (B, h, w, K)
    centres = tf1.get_variable("cluster_centers", (1, 1, 1, depth, CLUSTERS))  # negated
    residuals = (x[..., None] + centres) * a[..., None, :]  # (B, h, w, D, K)
    vlad = _normalised(tf1, tf1.reduce_sum(residuals, (1, 2)), 1)  # (B, D, K)
    return _normalised(tf1, tf1.reshape(vlad, (-1, int(depth) * CLUSTERS)), 1)


def _normalised(tf1: Any, x: Any, axis: int) -> Any:
    return x / tf1.sqrt(tf1.reduce_sum(x * x, axis, keepdims=True) + EPSILON)
