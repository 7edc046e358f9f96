# SPDX-License-Identifier: MIT
"""A file of foreign weights in, a network out: looks at the file and picks the importer."""

from pathlib import Path

from netvlad_ros.errors import ConfigError, ModelError, WeightsError
from netvlad_ros.model import NetVLADNetwork
from netvlad_ros.weights import cartwheel
from netvlad_ros.weights.canonical import INPUT_PRESETS, InputPreset, to_network

IMPORTERS = (cartwheel.IMPORTER,)


def import_weights(path: str | Path, input_preset: str | None = None) -> NetVLADNetwork:
    """The network that the file holds.

    input_preset: a name in INPUT_PRESETS, for files that do not say how their input is scaled.
    Raises WeightsError for a file that no importer knows or that is incomplete.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file.")
    preset = _preset(input_preset)
    try:
        for importer in IMPORTERS:
            if importer.recognises(path):
                return to_network(importer.read(path, preset), path)
    except (ConfigError, ModelError) as error:  # an architecture that can't be built
        raise WeightsError(f"{path}: {error}") from None
    known = ", ".join(importer.origin for importer in IMPORTERS)
    raise WeightsError(
        f"{path}: expected weights of {known}; got a file of another kind, or a damaged one."
    )


def _preset(name: str | None) -> InputPreset | None:
    if name is not None and name not in INPUT_PRESETS:
        raise WeightsError(f"--input {name}: expected one of {', '.join(INPUT_PRESETS)}.")
    return INPUT_PRESETS[name] if name is not None else None
