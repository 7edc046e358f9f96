# SPDX-License-Identifier: MIT
"""Networks to measure with; their weights are random, which costs the same."""

from pathlib import Path

from netvlad_ros.config import NetworkConfig


def compact_model(folder: Path) -> Path:
    """MobileNet up to its seventh block, 16 clusters, 320x240: the size of what runs on a robot."""
    network = NetworkConfig(
        backbone="mobilenet",
        cut_layer="conv_pw_7_relu",
        clusters=16,
        assignment_bias=True,
        input_offset=(127.5,),
        input_scale=(2 / 255,),
        input_width_px=320,
        input_height_px=240,
    )
    return _saved(network, folder / "compact.keras")


def slow_model(folder: Path) -> Path:
    """VGG16, as the paper has it, at a size at which two CPU cores manage about three images a second."""
    network = NetworkConfig(
        backbone="vgg16",
        input_offset=(123.68, 116.779, 103.939),
        input_width_px=480,
        input_height_px=320,
    )
    return _saved(network, folder / "slow.keras")


def _saved(network: NetworkConfig, path: Path) -> Path:
    from netvlad_ros.model import build_network, save_model

    save_model(build_network(network), path)
    return path
