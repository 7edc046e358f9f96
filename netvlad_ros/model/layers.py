# SPDX-License-Identifier: MIT
"""The Keras layers of which NetVLAD networks are made, for any Keras backend.

Shapes: B images, H x W cells, N = H * W local features of D dimensions, K clusters, G ghost clusters.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from netvlad_ros.constants import EPSILON, GEM_EXPONENT, GREY_BITS, GREY_WEIGHTS

register = keras.saving.register_keras_serializable(package="netvlad_ros")


@register
class InputNormalisation(keras.layers.Layer):
    """RGB values 0..255 as the weights expect them: channel order, then (x - offset) * scale.

    Grey is one channel; with three offsets or scales, it is three times the same grey value, each with its
    own. Without that, a network whose colours have unequal offsets could not see grey exactly as it does now:
    its first convolution pads with zeros, which stand for another grey value in each channel.
    """

    def __init__(
        self, channel_order: str, offset: Sequence[float], scale: Sequence[float], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.channel_order = channel_order
        self.offset = tuple(offset)
        self.scale = tuple(scale)

    def call(self, image: Any) -> Any:
        if self.channel_order == "bgr":
            image = ops.flip(image, axis=-1)
        if self.channel_order == "grey":
            image = _grey(image)  # (B, H, W, 1)
        return (image - ops.convert_to_tensor(self.offset, image.dtype)) * ops.convert_to_tensor(
            self.scale, image.dtype
        )

    def get_config(self) -> dict[str, Any]:
        own = {"channel_order": self.channel_order, "offset": self.offset, "scale": self.scale}
        return super().get_config() | own


def _grey(image: Any) -> Any:
    """Integer grey values 0..255, the same as cv2.cvtColor gives for 8-bit images: exact in float32."""
    weights = ops.convert_to_tensor(GREY_WEIGHTS, image.dtype)
    total = ops.sum(ops.round(image) * weights, axis=-1, keepdims=True)
    return ops.floor((total + 2 ** (GREY_BITS - 1)) / 2**GREY_BITS)


@register
class L2Normalisation(keras.layers.Layer):
    """x / ||x|| over the last axis, with one of three ways not to divide by zero.

    They differ where a cluster is hardly assigned to and its row is next to zero, so it has to be the way
    that the weights were trained with: sqrt(sum + epsilon) (added), sqrt(max(sum, epsilon))
    (clamped_square) or max(sqrt(sum), epsilon) (clamped_norm).
    """

    def __init__(self, safeguard: str = "added", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.safeguard = safeguard

    def call(self, x: Any) -> Any:
        total = ops.sum(ops.square(x), axis=-1, keepdims=True)
        if self.safeguard == "added":
            return x * ops.rsqrt(total + EPSILON)
        return x * ops.rsqrt(
            ops.maximum(total, EPSILON if self.safeguard == "clamped_square" else EPSILON**2)
        )

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"safeguard": self.safeguard}


@register
class NetVLAD(keras.layers.Layer):
    """V[k] = sum_i a_k(x_i) (x_i - c_k), with a = softmax(x W + b) over clusters and ghost clusters.

    Arandjelovic et al., NetVLAD: CNN architecture for weakly supervised place recognition, equation 4;
    ghost clusters: Zhong et al., GhostVLAD for set-based face recognition, section 3.1.
    The sum over residuals is two matrix products, a'x - (sum a) c: the N x K x D tensor is never built.
    """

    def __init__(
        self, clusters: int, ghost_clusters: int = 0, assignment_bias: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.clusters = clusters
        self.ghost_clusters = ghost_clusters
        self.assignment_bias = assignment_bias

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        depth = input_shape[-1]
        assigned = self.clusters + self.ghost_clusters
        self.assignment = self.add_weight(
            name="assignment", shape=(depth, assigned), initializer="glorot_uniform"
        )
        self.bias = (
            self.add_weight(name="bias", shape=(assigned,), initializer="zeros")
            if self.assignment_bias
            else None
        )
        self.centres = self.add_weight(
            name="centres", shape=(self.clusters, depth), initializer="glorot_uniform"
        )

    def call(self, features: Any) -> Any:
        x = ops.reshape(features, (ops.shape(features)[0], -1, features.shape[-1]))  # (B, N, D)
        scores = ops.matmul(x, self.assignment)  # (B, N, K + G)
        scores = scores if self.bias is None else scores + self.bias
        a = ops.softmax(scores, axis=-1)[:, :, : self.clusters]  # (B, N, K)
        total = ops.matmul(ops.transpose(a, (0, 2, 1)), x)  # (B, K, D)
        return total - ops.sum(a, axis=1)[:, :, None] * self.centres  # (B, K, D)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], self.clusters, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        own = {
            "clusters": self.clusters,
            "ghost_clusters": self.ghost_clusters,
            "assignment_bias": self.assignment_bias,
        }
        return super().get_config() | own


@register
class GeneralisedMean(keras.layers.Layer):
    """(mean_i x_i^p)^(1/p) for each dimension, p learned (GeM)."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        initial = keras.initializers.Constant(GEM_EXPONENT)
        self.exponent = self.add_weight(name="exponent", shape=(1,), initializer=initial)

    def call(self, features: Any) -> Any:
        powers = ops.power(ops.maximum(features, 1e-6), self.exponent)
        return ops.power(ops.mean(powers, axis=(1, 2)), 1.0 / self.exponent)  # (B, D)


@register
class FirstDimensions(keras.layers.Layer):
    """The first so many dimensions of a vector; after whitening these carry the most (Relja's cropToDim)."""

    def __init__(self, dims: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dims = dims

    def call(self, x: Any) -> Any:
        return x[:, : self.dims]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"dims": self.dims}
