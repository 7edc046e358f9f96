# SPDX-License-Identifier: MIT
"""Networks that are built and run in no time."""

from pathlib import Path
from typing import Any

import keras

from netvlad_ros.config import NetworkConfig
from netvlad_ros.model import NetVLADNetwork, build_network, save_model


def tiny_network(**values: Any) -> NetVLADNetwork:
    """A few thousand made-up weights, always the same; values of NetworkConfig may be added."""
    keras.utils.set_random_seed(0)
    own: dict[str, Any] = {
        "backbone": "mobilenet",
        "backbone_width": 0.25,
        "cut_layer": "conv_pw_3_relu",
    }
    return build_network(NetworkConfig(**(own | {"clusters": 4} | values)))


def save_tiny_network(path: Path, **values: Any) -> Path:
    """The file of such a network."""
    save_model(tiny_network(**values), path)
    return path
