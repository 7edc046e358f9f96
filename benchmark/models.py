# SPDX-License-Identifier: MIT
"""Networks to measure with; their weights are random, which costs the same."""

from pathlib import Path

from netvlad_ros.config import NetworkConfig


def mobilenet_model(folder: Path) -> Path:
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
    return _saved(network, folder / "mobilenet.keras")


def slow_model(folder: Path) -> Path:
    """VGG16, as the paper has it, at a size at which two CPU cores manage about three images a second."""
    network = NetworkConfig(
        backbone="vgg16",
        input_offset=(123.68, 116.779, 103.939),
        input_width_px=480,
        input_height_px=320,
    )
    return _saved(network, folder / "slow.keras")


def vgg16_netvlad_pca(path: Path) -> None:
    """The network of netvlad_tf_open: 64 clusters, whitened to 4096 dimensions, 149 million weights.

    Weights are drawn so that values keep their size from layer to layer, as in a trained network.
    """
    import keras
    import numpy as np

    from netvlad_ros.model import build_network, save_model

    rng = np.random.default_rng(0)
    deviations = {"netvlad/assignment": 10.0, "netvlad/centres": 0.05, "whitening/kernel": 1.0}
    network = NetworkConfig(input_offset=(123.68, 116.779, 103.939), whitening_dims=4096)
    model = build_network(network)
    for weight in model.weights:
        he = np.sqrt(2 / np.prod(weight.shape[:-1])) if len(weight.shape) == 4 else 0.05
        values = rng.standard_normal(weight.shape, np.float32)
        values *= np.float32(deviations.get(weight.path, he))
        weight.assign(keras.ops.convert_to_tensor(values))
    save_model(model, path)


def _saved(network: NetworkConfig, path: Path) -> Path:
    from netvlad_ros.model import build_network, save_model

    save_model(build_network(network), path)
    return path
