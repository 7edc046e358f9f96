# SPDX-License-Identifier: MIT
"""Dense RootSIFT written as a small convolutional network, from which training starts.

SIFT is a network: derivatives in eight directions, rectified; averages over cells; four by four cells side
by side; unit length. RootSIFT takes the root of each cell first, so that what follows is one convolution.
With the weights that this file makes, the network describes patches of 16 to 96 pixels as well as SIFT does,
before it has seen an image; and each of its weights can be learned further.

References: Lowe, Distinctive image features from scale-invariant keypoints; Arandjelovic and Zisserman,
Three things everyone should know to improve object retrieval; Torii et al., 24/7 place recognition by view
synthesis (dense, at four sizes).
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from netvlad_ros.model.layers import register

DIRECTIONS = 8
CELLS = 4  # a patch has 4 x 4 cells
# Cells of the four sizes of patches are 4, 8, 16 and 24 pixels wide: how far apart they lie on their map, and
# which cells of the map are the first of a patch.
SIZES = {"4px": (1, 2), "8px": (1, 1), "16px": (2, 1), "24px": (3, 1)}
# Of 128 numbers of a patch, so many are kept at width 1: the slowest waves over its cells and directions.
FEATURE_DIMS = 64
DERIVATIVE_PX, DERIVATIVE_SIGMA_PX = 6, 1.6  # Lowe's smoothing of the image
# How much the two neighbouring directions take away: SIFT shares an edge among two directions at most.
SHARPENING = 0.35
# Below what an edge of one grey level out of 255 leaves in a cell.
ROOT_SAFEGUARD = 1e-6


@register
class SquareRoot(layers.Layer):
    """sqrt(x + 1e-6) of what is not negative."""

    def call(self, x: Any) -> Any:
        return ops.sqrt(x + ROOT_SAFEGUARD)


@register
class JoinedMaps(layers.Layer):
    """Maps (B, h, w, D) of different sizes -> (B, N, 1, D), their cells one after another.

    What aggregates cells in no order, as NetVLAD does, then sees one map.
    """

    def call(self, maps: Sequence[Any]) -> Any:
        count, depth = ops.shape(maps[0])[0], maps[0].shape[-1]
        return ops.concatenate([ops.reshape(one, (count, -1, 1, depth)) for one in maps], axis=1)


def rootsift(image: Any, width: float = 1.0) -> keras.Model:
    """(B, H, W, C) values 0 to 1 -> (B, N, 1, 64 width), patches of all sizes, smallest first.

    Patches that reach beyond the image are left out: its border would be the strongest edge of all.
    """
    x = _convolution(
        DIRECTIONS, DERIVATIVE_PX, _derivatives, "derivatives", strides=2, padding="valid"
    )(image)
    x = layers.ReLU(name="edges")(x)
    x = _convolution(DIRECTIONS, 1, _sharpening, "sharpening")(x)
    x = layers.ReLU(name="directions")(x)
    x = layers.AveragePooling2D(2, name="averages")(x)  # one number for 4 x 4 pixels
    cells = {"4px": _smoothed(x, "cells_4px")}
    cells["8px"] = _smoothed(x, "cells_8px", strides=2)
    cells["16px"] = _smoothed(cells["8px"], "cells_16px")
    cells["24px"] = _smoothed(cells["16px"], "cells_24px")
    dims = min(round(FEATURE_DIMS * width), CELLS * CELLS * DIRECTIONS)
    joined = JoinedMaps(name="patches")([_patches(cells[size], size, dims) for size in SIZES])
    return keras.Model(image, joined, name="rootsift")


def _smoothed(x: Any, name: str, strides: int = 1) -> Any:
    """Each cell shares with its neighbours, as SIFT's trilinear interpolation does."""
    return layers.DepthwiseConv2D(
        3, strides, "same", use_bias=False, depthwise_initializer=_triangle, name=name
    )(x)


def _patches(cells: Any, size: str, dims: int) -> Any:
    """The roots of 4 x 4 cells, in terms of slow waves."""
    apart, step = SIZES[size]
    roots = SquareRoot(name=f"roots_{size}")(cells)
    patches = _convolution(
        dims,
        CELLS,
        _waves,
        f"patches_{size}",
        strides=step,
        dilation_rate=apart,
        padding="valid",
    )
    return patches(roots)


def _convolution(
    filters: int, kernel_px: int, initial: Callable[..., Any], name: str, **options: Any
) -> layers.Layer:
    options.setdefault("padding", "same")
    return layers.Conv2D(
        filters, kernel_px, use_bias=False, kernel_initializer=initial, name=name, **options
    )


# --- Weights to begin with: functions of a shape, as Keras's initializers are ------------------------------


def _angles() -> np.ndarray:
    return 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS


def _derivatives(shape: tuple[int, ...], dtype: Any = None) -> Any:
    """(h, w, C, 8): derivatives of a Gaussian towards each direction, 1 for a step from black to white."""
    at = np.arange(DERIVATIVE_PX) - (DERIVATIVE_PX - 1) / 2
    gauss = np.exp(-(at**2) / (2 * DERIVATIVE_SIGMA_PX**2))
    slopes = np.stack([np.outer(gauss, at * gauss), np.outer(at * gauss, gauss)])  # along x, y
    towards = np.stack([np.cos(_angles()), np.sin(_angles())])
    kernels = np.einsum("ahw,ak->hwk", slopes, towards)
    kernels /= np.abs(kernels).sum(axis=(0, 1)) / 2
    return ops.convert_to_tensor(np.repeat(kernels[:, :, None] / shape[2], shape[2], 2), dtype)


def _sharpening(shape: tuple[int, ...], dtype: Any = None) -> Any:
    """(1, 1, 8, 8): each direction less a part of its neighbours."""
    one = np.eye(DIRECTIONS)
    return ops.convert_to_tensor(
        (one - SHARPENING * (np.roll(one, 1, 0) + np.roll(one, -1, 0)))[None, None], dtype
    )


def _triangle(shape: tuple[int, ...], dtype: Any = None) -> Any:
    """(3, 3, 8, 1): how cells share."""
    side = np.array([0.25, 0.5, 0.25])
    return ops.convert_to_tensor(
        np.broadcast_to(np.outer(side, side)[:, :, None, None], shape), dtype
    )


def _waves(shape: tuple[int, ...], dtype: Any = None) -> Any:
    """(4, 4, 8, D): cosines over rows and columns of cells times waves around the circle of directions.

    Their order is nearly that of a principal component analysis of SIFT: 64 of 128 hold 98 % of it.
    """
    along = np.cos(np.pi * np.outer(np.arange(CELLS), np.arange(CELLS) + 0.5) / CELLS)
    around = [
        (f, wave(f * _angles())) for f in range(DIRECTIONS // 2 + 1) for wave in (np.cos, np.sin)
    ]
    around = [(f, wave) for f, wave in around if np.abs(wave).max() > 1e-9]
    kernels = sorted(
        (
            (u**2 + v**2 + (0.9 * f) ** 2, np.einsum("i,j,k->ijk", along[u], along[v], wave))
            for u in range(CELLS)
            for v in range(CELLS)
            for f, wave in around
        ),
        key=lambda pair: pair[0],
    )
    chosen = np.stack([kernel / np.linalg.norm(kernel) for _, kernel in kernels[: shape[3]]], -1)
    return ops.convert_to_tensor(chosen, dtype)
