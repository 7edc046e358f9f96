# SPDX-License-Identifier: MIT
"""The NetVLAD network in Keras 3, on any of its backends."""

from netvlad_ros.model.network import NetVLADNetwork, build_network, load_model, save_model

__all__ = ["NetVLADNetwork", "build_network", "load_model", "save_model"]
