# SPDX-License-Identifier: MIT
"""The network that a training run starts from."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np

from netvlad_ros.config import NetworkConfig
from netvlad_ros.errors import ModelError
from netvlad_ros.model.network import NetVLADNetwork, build_network, load_model
from netvlad_ros.training.config import TrainingConfig

# What the weights of a backbone can't do without.
_OF_BACKBONE = ("backbone", "backbone_width", "channel_order", "input_offset", "input_scale")
_FULL = "float32"
# From here on, short numbers would lose what tells places apart, and 1e-12 is 0 in float16.
_FIRST_EXACT = ("feature_norm", "netvlad", "max_pooling", "average_pooling", "gem_pooling")


def initial_network(config: TrainingConfig) -> NetVLADNetwork:
    """With random weights, or those of a model. Raises ModelError."""
    keras.utils.set_random_seed(config.run.seed)
    keras.config.set_dtype_policy(config.run.precision)
    try:
        network = _network(config)
    finally:
        keras.config.set_dtype_policy(_FULL)
    _make_end_exact(network)
    return network


def fit_batch_statistics(network: NetVLADNetwork, batches: Iterable[np.ndarray]) -> None:
    """Sets the statistics of batch normalisation to the means over some images.

    Random weights come with those of no image at all: features then shrink from layer to layer, until the
    first step moves them all to the same place.
    batches: each (B, H, W, 3) uint8.
    """
    kind = keras.layers.BatchNormalization
    normalisations = [layer for layer in network.layers if isinstance(layer, kind)]
    usual = [layer.momentum for layer in normalisations]
    for number, images in enumerate(batches):
        for layer in normalisations:
            layer.momentum = number / (number + 1)
        network(images.astype(np.float32), training=True)
    for layer, momentum in zip(normalisations, usual, strict=True):
        layer.momentum = momentum


def _network(config: TrainingConfig) -> NetVLADNetwork:
    if not config.initial.model:
        return build_network(_at_size(config.network, config))
    given = load_model(Path(config.initial.model))
    if config.initial.take == "all":
        network = build_network(_at_size(given.network, config))
        network.set_weights(given.get_weights())
        return network
    values = {name: getattr(given.network, name) for name in _OF_BACKBONE}
    network = build_network(_at_size(dataclasses.replace(config.network, **values), config))
    _take_backbone(network, given)
    return network


def _at_size(network: NetworkConfig, config: TrainingConfig) -> NetworkConfig:
    """The model file says which size its weights were trained at."""
    width_px, height_px = config.data.image_width_px, config.data.image_height_px
    return dataclasses.replace(network, input_width_px=width_px, input_height_px=height_px)


def _take_backbone(network: NetVLADNetwork, given: NetVLADNetwork) -> None:
    known = {layer.name: layer for layer in given.layers}
    for layer in network.layers:
        if layer.name in _FIRST_EXACT:
            return
        if not layer.weights:
            continue
        if layer.name not in known:
            raise ModelError(
                f"initial.model: its backbone ends before layer {layer.name!r}; choose an earlier "
                "network.cut_layer."
            )
        layer.set_weights(known[layer.name].get_weights())


def _make_end_exact(network: NetVLADNetwork) -> None:
    names = [layer.name for layer in network.layers]
    first = min(names.index(name) for name in _FIRST_EXACT if name in names)
    for layer in network.layers[first:]:
        layer.dtype_policy = _FULL
