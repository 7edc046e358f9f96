# SPDX-License-Identifier: MIT
"""Files of safetensors: a JSON header that says where each tensor is, then the values.

Read with numpy alone, as checking a header takes fewer lines than another dependency would.
Source: github.com/huggingface/safetensors, README.md, Format.
"""

import json
import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_ros.errors import WeightsError
from netvlad_ros.importers.torch_file import MAX_DIMENSIONS, STORAGES, Storage, Tensor, Values

_LENGTH_BYTES = 8
# A tensor takes about a hundred bytes; networks that are read here have less than a hundred of them.
MAX_HEADER_BYTES = 1 << 20
# Their name of a type -> torch's storage of it.
_STORAGE_BY_TYPE = {
    "F64": "DoubleStorage",
    "F32": "FloatStorage",
    "F16": "HalfStorage",
    "BF16": "BFloat16Storage",
    "I64": "LongStorage",
    "I32": "IntStorage",
    "I16": "ShortStorage",
    "I8": "CharStorage",
    "U8": "ByteStorage",
    "BOOL": "BoolStorage",
}


def load(path: Path) -> dict[str, Tensor]:
    """The tensors by name; their values are not read before they are asked for.

    Raises WeightsError unless the header describes exactly what follows it.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _tensors(mapped)
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path}: expected a safetensors file, got a damaged one or another kind "
            f"({' '.join(str(error).split())[:120]}); download or copy it again."
        ) from None


def _tensors(mapped: mmap.mmap) -> dict[str, Tensor]:
    length = int.from_bytes(mapped[:_LENGTH_BYTES], "little")
    place = _LENGTH_BYTES + length
    if length > MAX_HEADER_BYTES or place > len(mapped):
        raise ValueError(f"a header of {length} bytes in a file of {len(mapped)}")
    header = json.loads(mapped[_LENGTH_BYTES:place], object_pairs_hook=_without_repetition)
    if not isinstance(header, dict):
        raise ValueError("a header that is no JSON object")
    header.pop("__metadata__", None)
    values = Values(mapped)
    tensors = {}
    described = ((name, *_description(name, entry)) for name, entry in header.items())
    # Values follow each other without gaps, and nothing follows them.
    for name, kind, shape, begin, end in sorted(described, key=lambda each: each[3:]):
        count = math.prod(shape)
        size = count * np.dtype(STORAGES[kind]).itemsize
        if _LENGTH_BYTES + length + begin != place or end - begin != size:
            raise ValueError(f"bytes {begin} to {end} for {name[:40]!r} of shape {shape}")
        values.places[name] = (place, size)
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        tensors[name] = Tensor(shape, strides, 0, Storage(name, kind, count), values)
        place += size
    if place != len(mapped):
        raise ValueError(f"{place} bytes are described, {len(mapped)} are there")
    return tensors


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name that is there twice")
    return dict(pairs)


def _description(name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """Storage, shape, begin and end."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]}:
            kind = _STORAGE_BY_TYPE.get(dtype)
            if kind is None:
                raise ValueError(
                    f"{name[:40]!r} of type {dtype[:20]}, not {', '.join(_STORAGE_BY_TYPE)}"
                )
            if len(shape) <= MAX_DIMENSIONS and all(
                type(size) is int and 0 <= size < 1 << 62 for size in shape
            ):
                return kind, tuple(shape), begin, end
    raise ValueError(f"an entry {name[:40]!r} without dtype, shape and data_offsets")
