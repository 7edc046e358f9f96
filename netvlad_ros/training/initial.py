# SPDX-License-Identifier: MIT
"""The network that a training run starts from."""

import dataclasses
from collections.abc import Iterable

import keras
import numpy as np

from netvlad_ros.config import NetworkConfig
from netvlad_ros.errors import ModelError
from netvlad_ros.model.editing import without_whitening
from netvlad_ros.model.forward import compile_forward
from netvlad_ros.model.network import NetVLADNetwork, build_network, load_model
from netvlad_ros.model.whitening import fit_place_whitening
from netvlad_ros.training.batches import BatchSource
from netvlad_ros.training.clusters import Clusters, initialise_clusters, local_descriptors
from netvlad_ros.training.config import TrainingConfig
from netvlad_ros.training.data import TrainingData

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


def begin_clusters(
    network: NetVLADNetwork, data: TrainingData, config: TrainingConfig
) -> tuple[Clusters, int]:
    """Sets the clusters from images of the training; also how many local descriptors they are of."""
    clusters, seed = config.clusters, config.run.seed
    found = local_descriptors(
        network, data.images(seed), clusters.descriptors, clusters.per_image, seed
    )
    begun = initialise_clusters(network, found, clusters.iterations, seed, clusters.second_share)
    return begun, len(found.values)


def begin_whitening(network: NetVLADNetwork, data: TrainingData, config: TrainingConfig) -> int:
    """Sets the whitening from images of the same places, as they are learned from; also how many places."""
    bare = without_whitening(single(network))
    descriptors, places = described_places(bare, data.source, config.initial.whitening_images)
    whitening = fit_place_whitening(descriptors, places, network.network.whitening_dims)
    layer = network.get_layer("whitening")
    layer.kernel.assign(whitening.kernel)
    layer.bias.assign(whitening.bias)
    return int(places[-1]) + 1


def described_places(
    network: NetVLADNetwork, source: BatchSource, images: int
) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors (N, D) of queries and their positives from the first batches on, and their places (N,).

    images: N is at least so many. Each tuple counts as a place of its own.
    """
    describe = compile_forward(network, "auto")
    found: list[np.ndarray] = []  # of each place (1 + P, D)
    for batch in source.batches(0):
        found += [describe(same) for same in batch.images[:, : 1 + batch.positives]]
        if len(found) * (1 + batch.positives) >= images:
            break
    return np.concatenate(found), np.repeat(np.arange(len(found)), [len(each) for each in found])


def single(network: NetVLADNetwork) -> NetVLADNetwork:
    """The same network with weights of one device and exact numbers throughout."""
    plain = build_network(network.network)
    plain.set_weights(network.get_weights())
    return plain


def _network(config: TrainingConfig) -> NetVLADNetwork:
    if not config.initial.model:
        return build_network(_at_size(config.network, config))
    given = load_model(config.initial.model)
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
