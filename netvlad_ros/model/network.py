# SPDX-License-Identifier: MIT
"""The whole network, from RGB values to a descriptor, as one Keras model in one file."""

import dataclasses
import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from netvlad_ros.calibration import Calibration, calibration_from_json
from netvlad_ros.config import NetworkConfig
from netvlad_ros.errors import ConfigError, ModelError
from netvlad_ros.model.backbones import local_features
from netvlad_ros.model.layers import (
    FirstDimensions,
    GeneralisedMean,
    InputNormalisation,
    L2Normalisation,
    NetVLAD,
    register,
)
from netvlad_ros.shipped import model_path


@register
class NetVLADNetwork(keras.Model):
    """(B, H, W, 3) RGB values 0..255 of any height and width -> (B, D) descriptors of unit length.

    Made by build_network(). Its file holds the NetworkConfig, the weights, and a calibration if there is one.

    calibration: what similarities of its descriptors mean; may be set. It changes no descriptor, and so no
                 fingerprint.
    """

    def __init__(
        self, network: NetworkConfig, calibration: Calibration | None = None, **kwargs: Any
    ) -> None:
        kwargs.setdefault("name", "netvlad_network")
        image = keras.Input((None, None, 3), name="image_rgb")
        super().__init__(image, _descriptor(image, network), **kwargs)
        self.network = network
        self.calibration = calibration

    @property
    def descriptor_dims(self) -> int:
        """Length of a descriptor."""
        return int(self.output_shape[-1])

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with architecture, weights or preprocessing."""
        digest = hashlib.sha256(json.dumps(_chosen(self.network), sort_keys=True).encode())
        for weight in sorted(self.weights, key=lambda weight: weight.path):
            digest.update(f"{weight.path}{tuple(weight.shape)}".encode())
            digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight), np.float32).data)
        return digest.hexdigest()[:16]

    def get_config(self) -> dict[str, Any]:
        config = {"network": dataclasses.asdict(self.network), "name": self.name}
        if self.calibration is not None:
            config["calibration"] = self.calibration.to_json()
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "NetVLADNetwork":
        values = config["network"]
        unknown = sorted(values.keys() - {item.name for item in dataclasses.fields(NetworkConfig)})
        if unknown:
            raise ConfigError(f"{unknown[0]} is not known here; update the package.")
        calibration = calibration_from_json(config.get("calibration"))
        return cls(NetworkConfig(**values), calibration, name=config["name"])


def build_network(config: NetworkConfig) -> NetVLADNetwork:
    """A network with freshly initialised weights. Raises ModelError for an impossible architecture."""
    return NetVLADNetwork(config)


def _chosen(config: NetworkConfig) -> dict[str, Any]:
    """The values that differ from their defaults, so that a field added later changes no fingerprint.

    With another fingerprint every stored map would be refused; so no default may change either.
    """
    values = {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}
    defaults = {item.name: item.default for item in dataclasses.fields(config)}
    return {name: value for name, value in values.items() if value != defaults[name]}


def _descriptor(image: Any, config: NetworkConfig) -> Any:
    """The layers in the order of the paper."""
    _refuse_other_channels(config)
    x = InputNormalisation(
        config.channel_order, config.input_offset, config.input_scale, name="input_normalisation"
    )(image)
    x = local_features(x, config)  # (B, h, w, D)
    if config.normalise_features:
        x = L2Normalisation(config.norm_safeguard, name="feature_norm")(x)
    x = _aggregate(x, config)  # (B, K * D) or (B, D)
    x = L2Normalisation(config.norm_safeguard, name="descriptor_norm")(x)
    if config.whitening_dims:
        _refuse_more_dims("whitening_dims", config.whitening_dims, x.shape[-1])
        # Until it is fitted or loaded, it takes the first dimensions. Drawing the usual random weights would
        # take a gigabyte and seconds, each time that a model is loaded.
        x = layers.Dense(config.whitening_dims, kernel_initializer="identity", name="whitening")(x)
        x = L2Normalisation(config.norm_safeguard, name="whitened_norm")(x)
    if config.descriptor_dims:
        _refuse_more_dims("descriptor_dims", config.descriptor_dims, x.shape[-1])
        x = FirstDimensions(config.descriptor_dims, name="first_dimensions")(x)
        x = L2Normalisation(config.norm_safeguard, name="first_dimensions_norm")(x)
    return x


def _aggregate(features: Any, config: NetworkConfig) -> Any:
    match config.pooling:
        case "max":
            return layers.GlobalMaxPooling2D(name="max_pooling")(features)
        case "avg":
            return layers.GlobalAveragePooling2D(name="average_pooling")(features)
        case "gem":
            return GeneralisedMean(name="gem_pooling")(features)
        case _:
            vlad = NetVLAD(
                config.clusters, config.ghost_clusters, config.assignment_bias, name="netvlad"
            )
            rows = L2Normalisation(config.norm_safeguard, name="intra_norm")(
                vlad(features)
            )  # (B, K, D)
            return layers.Flatten(name="flatten")(rows)  # cluster-major: k * D + d


def _refuse_other_channels(config: NetworkConfig) -> None:
    for name in ("input_offset", "input_scale"):
        count = len(getattr(config, name))
        if count not in (1, 3):
            raise ModelError(
                f"{name}: expected 1 or 3 values, one for all or one a channel, got {count}."
            )


def _refuse_more_dims(name: str, wanted: int, available: int) -> None:
    if wanted > available:
        raise ModelError(
            f"{name}: expected at most {available}, which is what comes in, got {wanted}."
        )


def save_model(model: NetVLADNetwork, path: str | Path) -> None:
    """Writes a .keras file that load_model() reads on any Keras backend; it is complete or as it was.

    Raises ModelError.
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ModelError(f"{path}: expected a name ending in .keras.")
    partial = path.with_name(f".{path.stem}.{os.getpid()}.keras")
    try:
        model.save(partial)
        partial.replace(path)
    except OSError as error:
        raise ModelError(f"{path}: can't write the model ({error.strerror or error}).") from None
    finally:
        partial.unlink(missing_ok=True)


def load_model(path: str | Path = "") -> NetVLADNetwork:
    """A network from its .keras file; left out, or `compact`, the one that comes with this package.

    Raises ModelError that says what is wrong with the file.
    """
    path = model_path(path)
    if not path.is_file():
        raise ModelError(
            f"{path}: there is no such model file; `netvlad import-weights` makes one from other projects' "
            "weights."
        )
    _refuse_foreign(path)
    try:
        return keras.saving.load_model(path, compile=False)
    except (ConfigError, ModelError) as error:
        raise ModelError(f"{path}: was made by another version of this package: {error}") from None
    except Exception as error:  # Keras raises a dozen kinds, all of which mean the same to the user
        reason = f"{type(error).__name__} {error}".splitlines()[0][:150]
        raise ModelError(
            f"{path}: this model file is damaged ({reason}); copy or download it again."
        ) from None


def _refuse_foreign(path: Path) -> None:
    """Looks at what the file says it holds, before Keras makes anything of it."""
    try:
        with zipfile.ZipFile(path) as file:
            config = json.loads(file.read("config.json"))
            kind, name = config["class_name"], config["registered_name"]
    except Exception:  # zipfile, zlib and json have their own for each kind of damage
        raise ModelError(
            f"{path}: expected a .keras file that this package saved, got a file of another kind or a "
            "damaged one; weights of other projects must go through `netvlad import-weights`."
        ) from None
    if name != keras.saving.get_registered_name(NetVLADNetwork):
        raise ModelError(
            f"{path}: expected a model that this package saved, got another Keras model ({kind}); weights "
            "of other projects must go through `netvlad import-weights`."
        )
    if path.suffix != ".keras":
        raise ModelError(f"{path}: expected a name ending in .keras; rename the file.")
