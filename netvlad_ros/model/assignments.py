# SPDX-License-Identifier: MIT
"""Which cluster each cell of an image is assigned to, and how much each cluster gathers."""

from dataclasses import dataclass

import keras
import numpy as np

from netvlad_ros.errors import ModelError
from netvlad_ros.model.network import NetVLADNetwork
from netvlad_ros.model.rootsift import JoinedMaps


@dataclass(frozen=True)
class Assignments:
    """The soft assignment of one image, for K clusters and G ghost clusters, which come last.

    weights: (h, w, K + G), of each cell; they add up to 1.
    energy:  (K,) lengths of the rows of VLAD, before they are brought to equal length.
    """

    weights: np.ndarray
    energy: np.ndarray

    @property
    def clusters(self) -> int:
        """K."""
        return len(self.energy)

    @property
    def largest(self) -> np.ndarray:
        """(h, w): the cluster that each cell is assigned to most, ghosts from K on."""
        return self.weights.argmax(axis=-1)

    @property
    def mass(self) -> np.ndarray:
        """(K + G,): the share of the image that each cluster takes."""
        return self.weights.mean(axis=(0, 1))

    @property
    def sharpness(self) -> float:
        """The largest weight of a cell, on average: 1 for a hard assignment."""
        return float(self.weights.max(axis=-1).mean())

    @property
    def entropy(self) -> float:
        """Of a cell's weights, on average, as a share of the largest there can be: 0 hard, 1 even."""
        logarithms = np.log(np.maximum(self.weights, np.finfo(float).tiny))
        entropy = -(self.weights * logarithms).sum(axis=-1).mean()
        return float(entropy / np.log(max(2, self.weights.shape[-1])))


class ClusterView:
    """Looks into the NetVLAD layer of a network."""

    def __init__(self, model: NetVLADNetwork) -> None:
        """Raises ModelError if it has none."""
        if model.network.pooling != "netvlad":
            raise ModelError(
                f"expected a model with NetVLAD pooling, which has clusters to show, got one with "
                f"{model.network.pooling} pooling."
            )
        self._layer = model.get_layer("netvlad")
        joined = [layer for layer in model.layers if isinstance(layer, JoinedMaps)]
        self._maps = joined[0].input if joined else [self._layer.input]
        self._inside = keras.Model(
            model.input, [self._layer.input, self._layer.output, *self._maps]
        )

    def assignments(self, image: np.ndarray) -> Assignments:
        """image: (H, W, 3) RGB values 0 to 255, as network_input() makes them.

        Where a network has several maps, for patches of several sizes, a cell's weights are the mean of those
        of all patches around it.
        """
        batch = keras.ops.convert_to_tensor(image[None], "float32")
        outputs = self._inside(batch, training=False)
        features, rows, *maps = map(keras.ops.convert_to_numpy, outputs)
        kernel, bias = self._layer.assignment, self._layer.bias
        scores = features[0].astype(np.float64) @ keras.ops.convert_to_numpy(
            kernel
        )  # (h, w, K + G)
        if bias is not None:
            scores += keras.ops.convert_to_numpy(bias)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        if len(maps) > 1:
            weights = _over_one_another(weights[:, 0], [one.shape[1:3] for one in maps])
        return Assignments(weights, np.linalg.norm(rows[0], axis=-1))


def _over_one_another(weights: np.ndarray, shapes: list[tuple[int, int]]) -> np.ndarray:
    """(N, K + G) of maps (h, w) one after another, whose cells are equally far apart -> (h, w, K + G)."""
    height, width = np.max(shapes, axis=0)
    total = np.zeros((height, width, weights.shape[-1]))
    ends = np.cumsum([h * w for h, w in shapes])
    for part, (h, w) in zip(np.split(weights, ends[:-1]), shapes, strict=True):
        top, left = (height - h) // 2, (width - w) // 2
        total[top : top + h, left : left + w] += part.reshape(h, w, -1)
    return total / total.sum(axis=-1, keepdims=True)
