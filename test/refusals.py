# SPDX-License-Identifier: MIT
"""What every refusal of a foreign file has to be: one sentence that starts with the file's name."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from netvlad_ros.errors import WeightsError
from netvlad_ros.importers.canonical import Importer
from netvlad_ros.importers.detect import import_weights


def refusal(path: Path, importer: Importer | None = None) -> str:
    """The sentence without the path, from this importer alone or from import_weights()."""

    def read() -> object:
        return import_weights(path) if importer is None else importer.read(path, None)

    return sentence_of(read, path)


def sentence_of(read: Callable[[], object], path: Path) -> str:
    with pytest.raises(WeightsError) as error:
        read()
    sentence = str(error.value)
    assert sentence.startswith(str(path))
    assert sentence[-1] in ".?"
    assert "\n" not in sentence
    assert len(sentence) < 700
    return sentence.removeprefix(f"{path}: ")


def frugal_refusal(path: Path, importer: Importer, allowed_bytes: int = 20_000_000) -> str:
    """The same, of a file that must not make us take more memory than this."""
    tracemalloc.start()
    try:
        sentence = refusal(path, importer)
        assert tracemalloc.get_traced_memory()[1] < allowed_bytes
    finally:
        tracemalloc.stop()
    return sentence
