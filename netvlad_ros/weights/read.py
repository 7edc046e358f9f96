# SPDX-License-Identifier: MIT
"""A file of foreign weights in, a network out: looks at the file and picks the importer."""

from pathlib import Path

from netvlad_ros.errors import ConfigError, ModelError, WeightsError
from netvlad_ros.model import NetVLADNetwork
from netvlad_ros.weights import cartwheel
from netvlad_ros.weights.canonical import Importer, InputPreset, to_network

IMPORTERS = (cartwheel.IMPORTER,)


def import_weights(path: str | Path, input_preset: str | None = None) -> NetVLADNetwork:
    """The network that the file holds.

    input_preset: one of the importer's presets, for files that do not say how their input is scaled.
    Raises WeightsError for a file that no importer knows or that is incomplete, or another preset.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file.")
    try:
        for importer in IMPORTERS:
            if importer.recognises(path):
                preset = _preset(importer, input_preset)
                return to_network(importer.read(path, preset), path)
    except (ConfigError, ModelError) as error:  # an architecture that can't be built
        raise WeightsError(f"{path}: {error}") from None
    known = ", ".join(importer.origin for importer in IMPORTERS)
    raise WeightsError(
        f"{path}: expected weights of {known}; got a file of another kind, or a damaged one."
    )


def _preset(importer: Importer, name: str | None) -> InputPreset | None:
    if name is None:
        return None
    if not importer.presets:
        raise WeightsError(
            f"--input {name}: expected none, as weights of {importer.origin} say how their input is scaled; "
            "leave it out."
        )
    if name not in importer.presets:
        choices = ", ".join(importer.presets)
        raise WeightsError(f"--input {name}: expected one of {choices} for {importer.origin}.")
    return importer.presets[name]
