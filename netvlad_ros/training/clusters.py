# SPDX-License-Identifier: MIT
"""How the clusters of a NetVLAD layer begin: as k-means over local descriptors of many images.

Arandjelovic et al., NetVLAD, section 3.1 and appendix A. D dimensions, K clusters, G ghost clusters.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from netvlad_ros.errors import ModelError
from netvlad_ros.index.nearest import k_means
from netvlad_ros.model import NetVLADNetwork
from netvlad_ros.model.forward import compile_forward

# The second best cluster of a descriptor gets this share of the weight of the best one, on average.
SECOND_SHARE = 0.01
_TINY = 1e-6


@dataclass(frozen=True, eq=False)
class LocalDescriptors:
    """N local descriptors as the NetVLAD layer sees them.

    values: (N, D) float32.
    images: (N,) int64, which image each is of.
    """

    values: np.ndarray
    images: np.ndarray


@dataclass(frozen=True, eq=False)
class Clusters:
    """What a NetVLAD layer is set to.

    centres:    (K, D) float32.
    assignment: (D, K + G) float32.
    bias:       (K + G,) float32, or None where the layer has none.
    alpha:      how sharp the assignment is.
    """

    centres: np.ndarray
    assignment: np.ndarray
    bias: np.ndarray | None
    alpha: float


def initialise_clusters(
    model: NetVLADNetwork,
    descriptors: LocalDescriptors,
    iterations: int = 100,
    seed: int = 0,
    second_share: float = SECOND_SHARE,
) -> Clusters:
    """Sets the NetVLAD layer of a network from its own local descriptors. Raises ModelError.

    second_share: the weight of the second best cluster, as a share of that of the best one.
    """
    layer = _layer(model)
    total = layer.clusters + layer.ghost_clusters
    _refuse_unusable(descriptors, total, layer.assignment.shape[0])
    found = k_means(descriptors.values, total, seed, iterations)
    found = _ghosts_last(found, descriptors, layer.ghost_clusters)
    make = with_bias if layer.assignment_bias else without_bias
    clusters = make(found, descriptors.values, layer.clusters, second_share)
    layer.assignment.assign(clusters.assignment)
    layer.centres.assign(clusters.centres)
    if layer.bias is not None:
        layer.bias.assign(clusters.bias)
    return clusters


def local_descriptors(
    model: NetVLADNetwork,
    images: Iterable[np.ndarray],
    count: int = 50_000,
    per_image: int = 100,
    seed: int = 0,
) -> LocalDescriptors:
    """So many of each image, at random cells without repetition, until there are enough.

    images: uint8 RGB (H, W, 3), not all of which need to be taken. Raises ModelError.
    """
    layer = _layer(model)
    features = compile_forward(keras.Model(model.input, layer.input), "auto")
    rng = np.random.default_rng(seed)
    values: list[np.ndarray] = []
    missing = count
    for image in images:
        cells = features(image[None]).astype(np.float32)
        cells = cells.reshape(-1, cells.shape[-1])
        values.append(rng.permutation(cells)[: min(per_image, missing)])
        missing -= len(values[-1])
        if not missing:
            break
    numbers = np.repeat(np.arange(len(values)), [len(each) for each in values])
    empty = np.empty((0, layer.assignment.shape[0]), np.float32)
    return LocalDescriptors(np.concatenate([empty, *values]), numbers)


def without_bias(
    found: np.ndarray, descriptors: np.ndarray, clusters: int, second_share: float = SECOND_SHARE
) -> Clusters:
    """VLAD v1: softmax of alpha times the dot products with centres of unit length.

    found: (K + G, D), ghosts last. alpha makes the second best weight 1 % of the best one where the gap
        between the two best dot products is the mean one, as Relja/netvlad and Nanne/pytorch-NetVlad do.
    """
    units = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), _TINY)
    alpha = _alpha(descriptors @ units.T, second_share)
    return Clusters(found[:clusters], np.float32(alpha) * units.T, None, alpha)


def with_bias(
    found: np.ndarray, descriptors: np.ndarray, clusters: int, second_share: float = SECOND_SHARE
) -> Clusters:
    """VLAD v2: softmax of -alpha ||x - c||^2, written as a product and a bias; alpha by the same rule.

    found: (K + G, D), ghosts last. ||x||^2 is the same for all clusters and drops out of the softmax.
    """
    squares = (found**2).sum(axis=1)
    alpha = _alpha(2 * descriptors @ found.T - squares, second_share)
    scale = np.float32(alpha)
    return Clusters(found[:clusters], 2 * scale * found.T, -scale * squares, alpha)


def _alpha(scores: np.ndarray, second_share: float) -> float:
    """scores: (N, clusters), higher is nearer."""
    if scores.shape[1] == 1:
        return 1.0  # one cluster takes everything, however sharp
    best = np.partition(scores, (-2, -1), axis=1)[:, -2:].astype(np.float64)
    gap = float((best[:, 1] - best[:, 0]).mean())
    return float(-np.log(second_share) / gap)


def _ghosts_last(found: np.ndarray, descriptors: LocalDescriptors, ghosts: int) -> np.ndarray:
    """The clusters that appear in most images become ghosts: what is everywhere tells no place from another.

    As a stop list does for visual words (Sivic and Zisserman, Video Google, section 4.2).
    """
    if not ghosts:
        return found
    nearest = (2 * descriptors.values @ found.T - (found**2).sum(axis=1)).argmax(axis=1)
    pairs = np.unique(np.stack([descriptors.images, nearest], axis=1), axis=0)
    seen_in = np.bincount(pairs[:, 1], minlength=len(found))
    taken = np.bincount(nearest, minlength=len(found))
    return found[np.lexsort((taken, seen_in))]


def save_hdf5(path: Path, descriptors: LocalDescriptors, clusters: Clusters) -> None:
    """`descriptors` and `centroids` as Nanne/pytorch-NetVlad has them, and `images`. Raises ModelError."""
    import h5py

    try:
        with h5py.File(path, "w") as file:
            file["descriptors"] = descriptors.values
            file["images"] = descriptors.images
            file["centroids"] = clusters.centres
            file.attrs["alpha"] = clusters.alpha
    except OSError as error:
        raise ModelError(f"{path}: can't write the clusters ({error}).") from None


def _layer(model: NetVLADNetwork) -> keras.layers.Layer:
    if model.network.pooling != "netvlad":
        raise ModelError(
            "clusters: expected a model with NetVLAD pooling, got one with "
            f"{model.network.pooling} pooling, which has none."
        )
    return model.get_layer("netvlad")


def _refuse_unusable(descriptors: LocalDescriptors, clusters: int, depth: int) -> None:
    values = descriptors.values
    if values.ndim != 2 or values.shape[1] != depth:
        raise ModelError(
            f"clusters: expected local descriptors of {depth} dimensions, got {values.shape}; are they of "
            "another model?"
        )
    if len(values) < clusters:
        raise ModelError(
            f"clusters: expected at least {clusters} local descriptors, one for each cluster, got "
            f"{len(values)}; give more images."
        )
    if not np.isfinite(values).all():
        raise ModelError(
            "clusters: expected finite local descriptors, got NaN or infinite ones; is the model damaged?"
        )
    if np.ptp(values, axis=0).max() < _TINY:
        raise ModelError(
            "clusters: expected local descriptors that differ, got the same everywhere; do the images show "
            "anything?"
        )
