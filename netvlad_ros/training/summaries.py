# SPDX-License-Identifier: MIT
"""Curves and pictures in the files that TensorBoard reads, without needing it to be installed.

The functions of tf.summary would call TensorBoard's; what they write is a tensor with the name of the plug-in
that shows it.
"""

from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import summary_pb2

from netvlad_ros.errors import TrainingError


class Summaries:
    """A file of events in a folder; a resumed run adds another one."""

    def __init__(self, folder: Path) -> None:
        self._writer = tf.summary.create_file_writer(str(folder))

    def scalar(self, name: str, value: float, step: int) -> None:
        """A point of a curve."""
        kind = summary_pb2.DATA_CLASS_SCALAR
        self._write(name, tf.constant(value, tf.float32), step, "scalars", kind)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """image: (H, W, 3) uint8 RGB."""
        done, data = cv2.imencode(".png", image[..., ::-1])
        if not done:
            raise TrainingError(f"{name}: a picture of shape {image.shape} can't be compressed.")
        height, width = (str(side).encode() for side in image.shape[:2])
        values = tf.constant([width, height, data.tobytes()])
        kind = summary_pb2.DATA_CLASS_BLOB_SEQUENCE
        self._write(name, values, step, "images", kind)

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()

    def _write(self, name: str, value: tf.Tensor, step: int, plugin: str, kind: int) -> None:
        metadata = summary_pb2.SummaryMetadata(
            plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name=plugin), data_class=kind
        )
        with self._writer.as_default():
            tf.summary.write(name, value, step, metadata)
