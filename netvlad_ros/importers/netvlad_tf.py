# SPDX-License-Identifier: MIT
"""TensorFlow 1 checkpoints of uzh-rpg/netvlad_tf_open, and frozen graphs of the same variables.

The frozen graph is `netvlad-tf` of the OpenVINO Open Model Zoo, whose constants keep the variables' names.
"""

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_ros.errors import WeightsError
from netvlad_ros.importers.canonical import CanonicalWeights, Importer, InputPreset
from netvlad_ros.importers.frozen_graph import FrozenGraph, operations
from netvlad_ros.importers.vgg16_netvlad import CONVOLUTIONS, ForeignTensors, canonical
from netvlad_ros.quiet import quiet_start_up

AVERAGE = "average_rgb"
ASSIGNMENT = "assignment/kernel"
CENTRES = "cluster_centers"
WHITENING = ("WPCA/kernel", "WPCA/bias")
# The end of an index file (tensorflow/core/lib/io/format.h, kTableMagicNumber).
INDEX_SIGNATURE = 0xDB4775248B80FB57.to_bytes(8, "little")
# The end of the name of a file with values.
SHARD = re.compile(r"\.data-\d{5}-of-\d{5}")
# An index takes about 40 bytes a variable.
MAX_INDEX_BYTES = 1_000_000


def recognises(path: Path) -> bool:
    """Whether this is a part, the prefix or the folder of a checkpoint, or a frozen graph of theirs."""
    if _prefixes(path):
        return True
    return _scope(operations(path)) is not None


def read(path: Path, preset: InputPreset | None) -> CanonicalWeights:
    """Raises WeightsError for more than one checkpoint, a damaged one or one of another network."""
    prefixes = _prefixes(path)
    if len(prefixes) > 1:
        names = ", ".join(each.name for each in prefixes[:5])
        raise WeightsError(
            f"{path}: expected one checkpoint in a folder, got {len(prefixes)} ({names}); name one of them."
        )
    if prefixes:
        return _read_checkpoint(path, prefixes[0])
    graph = FrozenGraph(path)
    return _read_variables(path, graph.constants, graph.array)


def _prefixes(path: Path) -> list[Path]:
    """The checkpoints that a path means: what their file names have in common."""
    if path.is_dir():
        candidates = sorted(path.glob("*.index"))
    else:
        is_part = path.suffix in (".index", ".meta") or SHARD.fullmatch(path.suffix)
        prefix = path.with_suffix("") if is_part else path
        candidates = [prefix.with_name(f"{prefix.name}.index")]
    return [each.with_suffix("") for each in candidates if _is_index(each)]


def _is_index(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-len(INDEX_SIGNATURE), 2)
            return file.read() == INDEX_SIGNATURE
    except OSError:  # absent, a folder, or shorter than that
        return False


def _read_checkpoint(path: Path, prefix: Path) -> CanonicalWeights:
    with quiet_start_up():
        import tensorflow as tf

    _refuse_incomplete(path, prefix)
    try:
        checkpoint = tf.train.load_checkpoint(str(prefix))
        _refuse_huge(path, prefix, checkpoint.get_variable_to_shape_map())
        return _read_variables(path, checkpoint.get_variable_to_shape_map(), checkpoint.get_tensor)
    except WeightsError:
        raise
    except Exception as error:  # TensorFlow has a kind for each kind of damage
        reason = str(error).splitlines()[0][:150] if str(error) else type(error).__name__
        raise WeightsError(
            f"{path}: this checkpoint is damaged ({reason}); download or copy it again."
        ) from None


def _shards(prefix: Path) -> list[Path]:
    """The files with the values that are there; all of their names say how many there should be."""
    return sorted(
        each
        for each in prefix.parent.iterdir()
        if each.name.startswith(prefix.name) and SHARD.fullmatch(each.name[len(prefix.name) :])
    )


def _refuse_incomplete(path: Path, prefix: Path) -> None:
    shards = {each.name for each in _shards(prefix)}
    count = max((int(name[-5:]) for name in shards), default=1)
    wanted = (f"{prefix.name}.data-{number:05}-of-{count:05}" for number in range(count))
    missing = next((name for name in wanted if name not in shards), None)
    if missing:
        raise WeightsError(
            f"{path}: expected {missing} beside {prefix.name}.index, as a checkpoint consists of both; "
            "copy it there."
        )
    index_bytes = prefix.with_name(f"{prefix.name}.index").stat().st_size
    if index_bytes > MAX_INDEX_BYTES:
        raise WeightsError(
            f"{path}: expected an index of at most {MAX_INDEX_BYTES} bytes, got {index_bytes}; what is it?"
        )


def _refuse_huge(path: Path, prefix: Path, shapes: dict[str, list[int]]) -> None:
    stored = sum(each.stat().st_size for each in _shards(prefix))
    declared = 2 * sum(math.prod(shape) for shape in shapes.values())  # no type takes less
    if declared > stored:
        raise WeightsError(
            f"{path}: the index declares at least {declared} bytes of variables, but {stored} are there; "
            "download or copy it again."
        )


def _read_variables(
    path: Path, names: Iterable[str], array: Callable[[str], Any]
) -> CanonicalWeights:
    names = set(names)
    scope = _scope(names)
    if scope is None:
        listed = ", ".join(sorted(names)[:3])
        raise WeightsError(
            f"{path}: expected the variables of netvlad_tf_open, {AVERAGE} and {CENTRES} among them, got "
            f"{listed or 'none'}; is it a checkpoint of another network?"
        )

    def get(name: str) -> np.ndarray:
        if scope + name not in names:
            raise WeightsError(
                f"{path}: the variable {scope + name} is missing; is the file complete?"
            )
        return np.asarray(array(scope + name))

    whitened = any(scope + name in names for name in WHITENING)
    return canonical(
        path,
        ForeignTensors(
            convolutions={
                each: (get(f"{each}/kernel"), get(f"{each}/bias")) for each in CONVOLUTIONS
            },
            average_rgb=get(AVERAGE),
            assignment=get(ASSIGNMENT),
            negated_centres=get(CENTRES),
            whitening=(get(WHITENING[0]), get(WHITENING[1])) if whitened else None,
        ),
    )


def _scope(names: Iterable[str]) -> str | None:
    """What precedes all their names, such as `vgg16_netvlad_pca/`; None where they are not."""
    names = set(names)
    scopes = (name.removesuffix(AVERAGE) for name in sorted(names) if name.endswith(AVERAGE))
    return next((scope for scope in scopes if scope + CENTRES in names), None)


IMPORTER = Importer("uzh-rpg/netvlad_tf_open", recognises, read)
