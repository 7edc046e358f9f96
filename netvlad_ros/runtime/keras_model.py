# SPDX-License-Identifier: MIT
"""A .keras file, run by Keras on its backend: TensorFlow, JAX or PyTorch."""

from pathlib import Path

from netvlad_ros.model import NetVLADNetwork, load_model
from netvlad_ros.model.forward import compile_forward, prepare_runtime
from netvlad_ros.runtime.model import ModelDescription


class KerasModel:
    """See RunnableModel; any input size, compiled once for each."""

    def __init__(
        self, network: NetVLADNetwork, device: str, description: ModelDescription | None = None
    ) -> None:
        self.description = description or describe(network)
        self.forward = compile_forward(network, device)


def describe(network: NetVLADNetwork) -> ModelDescription:
    """What a network says of itself."""
    return ModelDescription(
        network.fingerprint(),
        network.descriptor_dims,
        network.network.input_width_px,
        network.network.input_height_px,
        calibration=network.calibration,
    )


def open_model(
    path: Path, device: str, threads: int, description: ModelDescription | None
) -> KerasModel:
    """See runtime.runtimes.open_model."""
    prepare_runtime(device, threads)
    return KerasModel(load_model(path), device, description)
