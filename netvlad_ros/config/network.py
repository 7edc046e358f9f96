# SPDX-License-Identifier: MIT
"""What a network is made of; stored in its model file."""

from dataclasses import dataclass

from netvlad_ros.config.parameter import Section, param


@dataclass(frozen=True)
class NetworkConfig(Section):
    """The architecture of a network and what its weights need for input; it is stored in the model file."""

    backbone: str = param(
        "vgg16",
        "Convolutional network.",
        choices=("vgg16", "alexnet", "mobilenet", "mobilenet_v2", "rootsift"),
    )
    cut_layer: str = param(
        "", "Layer whose output is aggregated; empty takes the backbone's usual one."
    )
    backbone_width: float = param(
        1.0,
        "Width multiplier of the MobileNets (alpha) and of rootsift (times 64 dimensions).",
        ge=0.1,
        le=4.0,
    )
    channel_order: str = param(
        "rgb", "What the first convolution sees.", choices=("rgb", "bgr", "grey")
    )
    input_offset: tuple[float, ...] = param(
        (0.0,), "Subtracted from 0..255 values, one for all or one a channel in channel_order."
    )
    input_scale: tuple[float, ...] = param((1.0,), "Then multiplied, one for all or one a channel.")
    input_width_px: int = param(0, "Width the weights were trained at; 0 if any.", ge=0, le=8192)
    input_height_px: int = param(0, "Height the weights were trained at; 0 if any.", ge=0, le=8192)
    normalise_features: bool = param(
        True, "L2-normalise local features before they are aggregated."
    )
    norm_safeguard: str = param(
        "added",
        "How an L2 norm avoids dividing by zero: sqrt(sum + 1e-12) as matconvnet and the NetVLAD authors, "
        "sqrt(max(sum, 1e-12)) as TensorFlow, or max(norm, 1e-12) as PyTorch.",
        choices=("added", "clamped_square", "clamped_norm"),
    )
    pooling: str = param(
        "netvlad", "How local features are aggregated.", choices=("netvlad", "max", "avg", "gem")
    )
    clusters: int = param(64, "K, clusters of NetVLAD.", ge=1, le=4096)
    ghost_clusters: int = param(
        0, "Further clusters that are assigned to but not kept (GhostVLAD).", ge=0, le=4096
    )
    assignment_bias: bool = param(False, "Whether the soft assignment has a bias.")
    whitening_dims: int = param(
        0, "Dimensions after PCA whitening; 0 for no whitening.", ge=0, le=1_000_000
    )
    descriptor_dims: int = param(
        0, "Keep the first dimensions only and normalise again; 0 keeps all.", ge=0, le=1_000_000
    )
