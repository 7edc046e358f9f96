# SPDX-License-Identifier: MIT
"""NetVLAD as its formula is written, with the N x K x D tensor of residuals."""

from typing import Any


def naive_residuals(layer: Any, features: Any) -> Any:
    """What NetVLAD.call gives for (B, h, w, D) features of one image."""
    from keras import ops

    x = ops.reshape(features, (1, -1, features.shape[-1]))
    a = ops.softmax(ops.matmul(x, layer.assignment), axis=-1)
    residuals = x[:, :, None, :] - layer.centres[None, None]  # (1, N, K, D)
    return ops.sum(a[..., None] * residuals, axis=1)
