# SPDX-License-Identifier: MIT
"""VGG-16 with NetVLAD as its authors' Matlab code lays it out, and all that was converted from there.

Their centres are negated, and their vectors are flattened dimension-major (d * K + k), so that the rows of
the whitening are too. They pool before the ReLU, which is the same as after it.
Arandjelovic et al., github.com/Relja/netvlad: layerVLAD.m, layerVLADv2.m, addLayers.m, addPCA.m.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netvlad_ros.config import NetworkConfig
from netvlad_ros.errors import WeightsError
from netvlad_ros.importers.canonical import CanonicalWeights

# Their names of the convolutions, in order -> ours.
CONVOLUTIONS = {
    f"conv{block}_{number}": f"block{block}_conv{number}"
    for block, count in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3))
    for number in range(1, count + 1)
}


@dataclass
class ForeignTensors:
    """The tensors of such a network as their files hold them, of any float type and memory order.

    convolutions:    their name -> kernel (3, 3, in, out) and bias (out,), the latter of any shape.
    average_rgb:     3 values.
    assignment:      (1, 1, D, K), and its bias of K values for VLADv2.
    negated_centres: (1, 1, D, K) or with further ones in front.
    whitening:       kernel (1, 1, D * K, dims) and bias of dims values; None without PCA.
    """

    convolutions: dict[str, tuple[np.ndarray, np.ndarray]]
    average_rgb: np.ndarray
    assignment: np.ndarray
    negated_centres: np.ndarray
    assignment_bias: np.ndarray | None = None
    whitening: tuple[np.ndarray, np.ndarray] | None = None
    normalise_features: bool = True


def canonical(source: Path, foreign: ForeignTensors) -> CanonicalWeights:
    """Our form of these tensors; empties `foreign.whitening`, so that 537 MB are not held twice.

    Raises WeightsError if the shapes of clusters, whitening and average do not fit each other.
    """
    assignment = _matrix(source, "the soft assignment", foreign.assignment)  # (D, K)
    centres = -_matrix(source, "the cluster centres", foreign.negated_centres).T  # (K, D)
    if centres.T.shape != assignment.shape:
        raise WeightsError(
            f"{source}: expected cluster centres of shape {assignment.shape}, as the soft assignment has it, "
            f"got {centres.T.shape}; are they of two networks?"
        )
    tensors = {"netvlad/assignment": assignment, "netvlad/centres": np.ascontiguousarray(centres)}
    if foreign.assignment_bias is not None:
        tensors["netvlad/bias"] = _float32(foreign.assignment_bias).reshape(-1)
    for name, (kernel, bias) in foreign.convolutions.items():
        tensors[f"{CONVOLUTIONS[name]}/kernel"] = np.ascontiguousarray(_float32(kernel))
        tensors[f"{CONVOLUTIONS[name]}/bias"] = _float32(bias).reshape(-1)
    network = NetworkConfig(
        channel_order="rgb",
        input_offset=_average(source, foreign.average_rgb),
        normalise_features=foreign.normalise_features,
        norm_safeguard="added",
        clusters=len(centres),
        assignment_bias=foreign.assignment_bias is not None,
        whitening_dims=foreign.whitening[1].size if foreign.whitening else 0,
    )
    if foreign.whitening:
        (kernel, bias), foreign.whitening = foreign.whitening, None
        tensors["whitening/bias"] = _float32(bias).reshape(-1)
        tensors["whitening/kernel"] = _cluster_major(source, kernel, *centres.shape)
    return CanonicalWeights(network, tensors)


def _average(source: Path, average_rgb: np.ndarray) -> tuple[float, ...]:
    if average_rgb.size != 3:
        raise WeightsError(
            f"{source}: expected an average of 3 values, red, green and blue, got {average_rgb.size}."
        )
    return tuple(float(value) for value in average_rgb.reshape(-1))


def _matrix(source: Path, name: str, array: np.ndarray) -> np.ndarray:
    """(1, ..., 1, rows, columns) -> float32 (rows, columns), a view where it can be one."""
    if array.ndim < 2 or any(size != 1 for size in array.shape[:-2]):
        raise WeightsError(
            f"{source}: {name} can't have shape {array.shape}; is the file complete?"
        )
    return _float32(array.reshape(array.shape[-2:]))


def _float32(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float32)


def _cluster_major(source: Path, kernel: np.ndarray, clusters: int, depth: int) -> np.ndarray:
    """Rows d * K + k -> rows k * D + d, by one copy."""
    rows = kernel.reshape(kernel.shape[-2:]) if kernel.ndim == 4 else kernel
    if rows.ndim != 2 or len(rows) != clusters * depth:
        raise WeightsError(
            f"{source}: expected a whitening of {clusters * depth} rows, as there are {clusters} clusters of "
            f"{depth} dimensions, got shape {kernel.shape}; are they of two networks?"
        )
    ours = np.empty(rows.shape, np.float32)
    for k in range(clusters):
        ours[k * depth : (k + 1) * depth] = rows[k::clusters]
    return ours
