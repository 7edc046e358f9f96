# SPDX-License-Identifier: MIT
"""Foreign weights in, a network out: looks at what is there and picks the importer."""

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from netvlad_ros.errors import ConfigError, ModelError, WeightsError
from netvlad_ros.importers import cartwheel, matlab, netvlad_keras, netvlad_tf, pytorch_netvlad
from netvlad_ros.importers.archives import is_archive, unpack
from netvlad_ros.importers.canonical import Importer, InputPreset, to_network
from netvlad_ros.model import NetVLADNetwork

IMPORTERS = (
    netvlad_tf.IMPORTER,
    matlab.IMPORTER,
    netvlad_keras.IMPORTER,
    cartwheel.IMPORTER,
    pytorch_netvlad.HLOC_IMPORTER,
    pytorch_netvlad.IMPORTER,
)
# How far a folder is searched; one that holds more is not a download of weights.
MAX_ENTRIES = 1000
MAX_DEPTH = 4


def import_weights(path: str | Path, input_preset: str | None = None) -> NetVLADNetwork:
    """The network that a file, a folder, the prefix of a checkpoint or a .zip archive of these holds.

    input_preset: one of the importer's presets, for files that do not say how their input is scaled.
    Raises WeightsError for what no importer knows, is incomplete or ambiguous, or another preset.
    """
    path = Path(path)
    _refuse_unreadable(path)
    if not is_archive(path):
        return _import(path, input_preset)
    with tempfile.TemporaryDirectory(prefix="netvlad-") as folder:
        unpack(path, Path(folder))
        try:
            return _import(Path(folder), input_preset)
        except WeightsError as error:  # the user knows the archive, not where it was unpacked
            raise WeightsError(str(error).replace(folder, str(path))) from None


def _refuse_unreadable(path: Path) -> None:
    try:
        path.stat()
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (FileNotFoundError, NotADirectoryError):
        return  # it may be the prefix of a checkpoint
    except (OSError, ValueError) as error:  # a name that is too long, or no name at all
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"{str(path)[:200]!r}: can't be read ({reason}).") from None


def _import(path: Path, input_preset: str | None) -> NetVLADNetwork:
    found = list(_find(path))
    if len(found) > 1:
        names = ", ".join(str(source.relative_to(path)) for _, source in found[:5])
        raise WeightsError(
            f"{path}: expected the weights of one network, got {len(found)} ({names}); name one of them."
        )
    if not found:
        raise _unknown(path)
    importer, source = found[0]
    preset = _preset(importer, input_preset)
    try:
        return to_network(importer.read(source, preset), source)
    except (ConfigError, ModelError) as error:  # an architecture that can't be built
        raise WeightsError(f"{source}: {error}") from None


def _find(path: Path) -> Iterator[tuple[Importer, Path]]:
    """What an importer recognises: this, or else what lies in this folder and the folders below."""
    looked_at, waiting = 0, [(path, 0)]
    while waiting:
        each, depth = waiting.pop(0)
        looked_at += 1
        if looked_at > MAX_ENTRIES:
            raise WeightsError(
                f"{path}: expected a folder of weights, got one of more than {MAX_ENTRIES} entries; name the "
                "file."
            )
        importer = next((one for one in IMPORTERS if one.recognises(each)), None)
        if importer:
            yield importer, each
        elif each.is_dir() and depth < MAX_DEPTH and not (depth and each.is_symlink()):
            waiting += [(entry, depth + 1) for entry in _entries(each)]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(each for each in folder.iterdir() if not each.name.startswith("."))
    except OSError as error:
        raise WeightsError(f"{folder}: can't be read ({error.strerror}).") from None


def _unknown(path: Path) -> WeightsError:
    if not path.exists():
        return WeightsError(f"{path}: there is no such file.")
    known = ", ".join(importer.origin for importer in IMPORTERS)
    what = "no such file in this folder" if path.is_dir() else "a file of another kind"
    return WeightsError(f"{path}: expected weights of {known}; got {what}, or a damaged one.")


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
