# SPDX-License-Identifier: MIT
"""Writes what TensorFlow makes: SavedModel folders, frozen graphs and LiteRT files."""

import tempfile
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from netvlad_ros.errors import ModelError
from netvlad_ros.export.formats import Request
from netvlad_ros.model.network import NetVLADNetwork, build_network
from netvlad_ros.runtime.tensorflow_model import INPUT, OUTPUT

MIXED = {"fp16": "mixed_float16", "bf16": "mixed_bfloat16"}
# What holds most of the weights and takes most of the time; norms and sums stay in single precision.
WEIGHTED = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


def write_savedmodel(network: NetVLADNetwork, path: Path, request: Request) -> None:
    """A folder whose signature serving_default takes image_rgb and returns descriptor."""
    network = _in_precision(network, request.precision)
    function = _function(network, request)
    module = tf.Module()
    module.network = network  # whose variables are to be saved
    module.run = function
    tf.saved_model.save(module, str(path), signatures=function)


def write_frozen_pb(network: NetVLADNetwork, path: Path, request: Request) -> None:
    """A GraphDef with the placeholder image_rgb and the operation descriptor."""
    network = _in_precision(network, request.precision)
    path.write_bytes(_frozen(network, request).graph.as_graph_def().SerializeToString())


def write_litert(network: NetVLADNetwork, path: Path, request: Request) -> None:
    """One image at a time; fp16 is how weights are stored, int8 how they are multiplied.

    The range of the values that they are multiplied with is found anew for each image: as fast for these
    networks as a range from calibration, which would also hold for norms and sums that 8 bits can't hold.
    """
    width, height = request.size_px
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        frozen = Path(folder) / "frozen.pb"
        frozen.write_bytes(_frozen(network, request).graph.as_graph_def().SerializeToString())
        # TensorFlow 1's converter: that of TensorFlow 2 takes 14 GB for a VGG16 with whitening, and longer.
        converter = tf.compat.v1.lite.TFLiteConverter.from_frozen_graph(
            str(frozen), [INPUT], [OUTPUT], {INPUT: [1, height, width, 3]}
        )
        if request.precision != "fp32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if request.precision == "fp16":
            converter.target_spec.supported_types = [tf.float16]
        path.write_bytes(converter.convert())


def _function(network: NetVLADNetwork, request: Request) -> Any:
    if keras.backend.backend() != "tensorflow":
        raise ModelError(
            f"Keras runs on {keras.backend.backend()} (KERAS_BACKEND); only on tensorflow it can export to "
            "savedmodel, frozen-pb and litert."
        )
    width, height = request.size_px
    image = tf.TensorSpec([None, height, width, 3], tf.uint8, name=INPUT)

    @tf.function(input_signature=[image])
    def run(image_rgb: Any) -> dict[str, Any]:
        descriptor = network(tf.cast(image_rgb, tf.float32), training=False)
        return {OUTPUT: tf.cast(descriptor, tf.float32)}

    return run


def _in_precision(network: NetVLADNetwork, precision: str) -> NetVLADNetwork:
    """The same network, which multiplies in half precision if that is wanted."""
    if precision == "fp32":
        return network
    mixed = build_network(network.network)
    for layer in mixed.layers:
        if isinstance(layer, WEIGHTED):
            layer.dtype_policy = MIXED[precision]
    mixed.set_weights(network.get_weights())
    return mixed


def _frozen(network: NetVLADNetwork, request: Request) -> Any:
    """The function with its variables as constants, whose output operation is called descriptor."""
    run = _function(network, request)

    @tf.function(input_signature=run.input_signature)
    def named(image_rgb: Any) -> Any:
        return tf.identity(run(image_rgb)[OUTPUT], name=OUTPUT)

    return convert_variables_to_constants_v2(named.get_concrete_function())
