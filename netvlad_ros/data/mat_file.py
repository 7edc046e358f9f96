# SPDX-License-Identifier: MIT
"""MAT-files: structs, cells, text and arrays, read as plain data within limits.

Not scipy's reader, which one wrong byte in a struct can end with a segmentation fault (scipy 1.17.1), which
inflates 500 MB out of half a megabyte, and which reads what is not wanted too: the momentum of each weight is
as large again. This one inflates only so much as a file of weights may hold.
Reference: MathWorks, MAT-File Format, Version 7, chapter 1.
"""

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from netvlad_ros.data.mat_file_hdf5 import read_hdf5_mat
from netvlad_ros.data.mat_values import DamagedMatError, Foreign, Limits

HDF5_SIGNATURE = b"MATLAB 7.3 MAT-file"
WEIGHTS = Limits()
_HEADER_BYTES = 128
_BLOCK_BYTES = 1 << 20
_AHEAD_BYTES = 1 << 13
_MAX_TEXT_BYTES = 64 << 20

# Types of data elements.
_MATRIX, _COMPRESSED = 14, 15
_INT32, _UINT32 = 5, 6
_NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    _INT32: "i4",
    _UINT32: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
# Classes of arrays.
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE = 1, 2, 3, 4, 5
_NUMERIC = range(6, 16)
_FUNCTION, _OPAQUE = 16, 17
_OTHERS = {_SPARSE: "sparse", _FUNCTION: "function_handle"}
_COMPLEX = 0x0800


def read_mat(
    path: Path, skipped: frozenset[str] = frozenset(), limits: Limits = WEIGHTS
) -> dict[str, Any]:
    """The variables of a file by name, without struct fields that are called as in `skipped`.

    A struct becomes a dict, an array of structs or a cell array a list (column by column), text a str,
    several lines of text a list of them, numbers an array in Matlab's shape and order.
    Raises the error of the limits (WeightsError) for a damaged or a huge file.
    """
    try:
        if _is_hdf5(path):
            return read_hdf5_mat(path, skipped, limits)
        with path.open("rb") as file:
            return dict(_variables(file, path.stat().st_size, skipped, limits))
    except (OSError, ValueError, OverflowError, MemoryError, zlib.error, DamagedMatError) as error:
        raise limits.error(
            f"{path}: this .mat file can't be read ({str(error)[:150]}); download or copy it again."
        ) from None


def _is_hdf5(path: Path) -> bool:
    """Whether it was saved with -v7.3."""
    with path.open("rb") as file:
        return file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE


def _variables(file: BinaryIO, size: int, skipped: frozenset[str], limits: Limits) -> Any:
    header = file.read(_HEADER_BYTES)
    order = {b"IM": "<", b"MI": ">"}.get(header[126:128])
    if len(header) < _HEADER_BYTES or order is None:
        raise DamagedMatError("its header is cut short or of another kind")
    stored = _Stored(file, size - _HEADER_BYTES)
    budget = _Budget(limits.allowed_bytes(size), limits.arrays, limits.nesting)
    while stored.left:
        kind, length, data = _tag(stored, order)
        if kind == _COMPRESSED:
            stream: _Stream = _Inflated(stored, length, budget)
            kind, length, data = _tag(stream, order)
        else:
            stream = stored
        if kind != _MATRIX or data:
            raise DamagedMatError(f"a variable of type {kind}")
        name, value = _Reader(stream, order, budget, skipped).matrix(length, 0)
        if name:  # what has none belongs to Matlab itself
            yield name, value
        if isinstance(stream, _Inflated):
            stream.drain()


class _Budget:
    """How much may still be inflated, and how many arrays may still come."""

    def __init__(self, total: int, arrays: int, nesting: int) -> None:
        self.total = self.left = total
        self.arrays = self.arrays_left = arrays
        self.nesting = nesting

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise DamagedMatError(f"it inflates to more than {self.total} bytes; what is it?")

    def count_array(self) -> None:
        self.arrays_left -= 1
        if self.arrays_left < 0:
            raise DamagedMatError(f"it holds more than {self.arrays} arrays")


class _Stream:
    """Bytes one after the other. read() and fill() raise DamagedMatError where they end early."""

    place = 0

    def some(self, limit: int) -> bytes:
        """The next bytes, at most so many, at least one."""
        raise NotImplementedError

    def fill(self, target: memoryview) -> None:
        done = 0
        while done < len(target):
            part = self.some(len(target) - done)
            target[done : done + len(part)] = part
            done += len(part)

    def read(self, count: int) -> bytes:
        if count > _MAX_TEXT_BYTES:
            raise DamagedMatError(f"{count} bytes of text")
        content = bytearray()
        while len(content) < count:  # what a file claims takes memory only as it comes
            content += self.some(count - len(content))
        return bytes(content)

    def skip(self, count: int) -> None:
        if count < 0:
            raise DamagedMatError("an array is longer than what it is part of")
        while count:
            count -= len(self.some(count))


class _Stored(_Stream):
    """The file itself."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self.left = size

    def some(self, limit: int) -> bytes:
        part = self.file.read(min(limit, _BLOCK_BYTES))
        if not part:
            raise DamagedMatError("it ends too early")
        self.left -= len(part)
        self.place += len(part)
        return part

    def skip(self, count: int) -> None:
        if not 0 <= count <= self.left:
            raise DamagedMatError("it ends too early")
        self.file.seek(count, 1)
        self.left -= count
        self.place += count


class _Inflated(_Stream):
    """One compressed variable, inflated as it is read."""

    def __init__(self, stored: _Stored, length: int, budget: _Budget) -> None:
        self.stored, self.unread, self.budget = stored, length, budget
        self.inflate = zlib.decompressobj()
        self.ahead = b""  # many elements are a few bytes long

    def some(self, limit: int) -> bytes:
        if not self.ahead:
            self.ahead = self._next(max(limit, _AHEAD_BYTES))
        if not self.ahead:
            raise DamagedMatError("a compressed variable ends too early")
        part, self.ahead = self.ahead[:limit], self.ahead[limit:]
        self.place += len(part)
        return part

    def _next(self, limit: int) -> bytes:
        """The next bytes, none at the end."""
        while not self.inflate.eof:
            compressed = self.inflate.unconsumed_tail
            if not compressed and self.unread:
                compressed = self.stored.some(min(self.unread, _BLOCK_BYTES))
                self.unread -= len(compressed)
            part = self.inflate.decompress(compressed, min(limit, _BLOCK_BYTES))
            self.budget.spend(len(part))
            if part or not compressed:
                return part
        return b""

    def drain(self) -> None:
        """Goes to the end, where zlib compares its checksum."""
        while self._next(_BLOCK_BYTES):
            pass
        if not self.inflate.eof:
            raise DamagedMatError("a compressed variable ends too early")
        self.stored.skip(self.unread)


def _tag(stream: _Stream, order: str) -> tuple[int, int, bytes]:
    """Type and length of a data element; a small one carries its data with it."""
    tag = stream.read(8)
    first, length = (int(each) for each in np.frombuffer(tag, f"{order}u4"))
    if first >> 16:
        if first >> 16 > 4:
            raise DamagedMatError("a small element that is not small")
        return first & 0xFFFF, first >> 16, tag[4 : 4 + (first >> 16)]
    return first, length, b""


@dataclass
class _Reader:
    """Reads one variable with all that is inside."""

    stream: _Stream
    order: str
    budget: _Budget
    skipped: frozenset[str]

    def matrix(self, length: int, nesting: int) -> tuple[str, Any]:
        """Name and value of an array whose tag has just been read."""
        self.budget.count_array()
        if nesting > self.budget.nesting:
            raise DamagedMatError(f"arrays nested more than {self.budget.nesting} deep")
        if not length:
            return "", np.zeros((0, 0))
        end = self.stream.place + length
        flags = int(self._numbers(_UINT32, 2)[0])
        name, value = self._array(flags, end, nesting)
        self.stream.skip(end - self.stream.place)
        return name, value

    def _array(self, flags: int, end: int, nesting: int) -> tuple[str, Any]:
        kind = flags & 0xFF
        if kind == _OPAQUE:
            name, _, class_name = (self._text() for _ in range(3))
            return name, Foreign(class_name)
        shape = tuple(int(size) for size in self._numbers(_INT32, None))
        if len(shape) < 2 or min(shape) < 0:
            raise DamagedMatError(f"an array of shape {shape}")
        name = self._text()
        if kind in _NUMERIC:
            return name, self._array_of_numbers(shape, end, bool(flags & _COMPLEX))
        if kind == _CHAR:
            return name, self._lines(shape)
        if kind == _CELL:
            return name, [self._element(nesting) for _ in range(self._count(shape, end))]
        if kind == _STRUCT:
            return name, self._structs(shape, end, nesting)
        return name, Foreign(
            self._text() if kind == _OBJECT else _OTHERS.get(kind, f"class {kind}")
        )

    def _count(self, shape: tuple[int, ...], end: int) -> int:
        """How many elements follow, each of which takes at least its tag of 8 bytes."""
        count = math.prod(shape)
        if 8 * count > end - self.stream.place:
            raise DamagedMatError(f"an array of shape {shape} in {end - self.stream.place} bytes")
        return count

    def _element(self, nesting: int) -> Any:
        kind, length, data = _tag(self.stream, self.order)
        if kind != _MATRIX or data:
            raise DamagedMatError(f"an element of type {kind} where an array should be")
        return self.matrix(length, nesting + 1)[1]

    def _structs(self, shape: tuple[int, ...], end: int, nesting: int) -> Any:
        width = int(self._numbers(_INT32, 1)[0])
        names = self._content()[1]
        if width < 1 or len(names) % width:
            raise DamagedMatError("field names of unequal length")
        fields = [
            names[place : place + width].split(b"\0")[0].decode("latin-1")
            for place in range(0, len(names), width)
        ]
        count = self._count((math.prod(shape), len(fields)), end) // max(1, len(fields))
        structs = [self._struct(fields, nesting) for _ in range(count)]
        return structs[0] if len(structs) == 1 else structs

    def _struct(self, fields: list[str], nesting: int) -> dict[str, Any]:
        values = {}
        for field in fields:
            if field in self.skipped:
                self.stream.skip(_tag(self.stream, self.order)[1])
            else:
                values[field] = self._element(nesting)
        return values

    def _array_of_numbers(self, shape: tuple[int, ...], end: int, is_complex: bool) -> Any:
        kind, length, data = _tag(self.stream, self.order)
        if kind not in _NUMBERS or is_complex:
            raise DamagedMatError("complex numbers" if is_complex else f"numbers of type {kind}")
        dtype = np.dtype(f"{self.order}{_NUMBERS[kind]}")
        size = math.prod(shape) * dtype.itemsize
        if size != length:
            raise DamagedMatError(f"{length} bytes for an array of shape {shape}")
        if data or not length:
            return np.frombuffer(data, dtype).reshape(shape, order="F")
        if length > end - self.stream.place or length > self.budget.total:
            raise DamagedMatError("it ends too early")
        array = np.empty(length, np.uint8)
        self.stream.fill(array.data)
        self._pad(length)
        return array.view(dtype).reshape(shape, order="F")

    def _content(self) -> tuple[int, bytes]:
        """Type and content of an element of at most 64 MB."""
        kind, length, data = _tag(self.stream, self.order)
        if data or not length:
            return kind, data
        content = self.stream.read(length)
        self._pad(length)
        return kind, content

    def _text(self) -> str:
        kind, content = self._content()
        if kind not in _TEXT:
            raise DamagedMatError(f"text of type {kind}")
        encoding = _TEXT[kind]
        if encoding == "utf-16":
            encoding += "-le" if self.order == "<" else "-be"
        return content.decode(encoding, "replace")

    def _lines(self, shape: tuple[int, ...]) -> str | list[str]:
        """The text of a char array: rows of characters, stored column by column, blanks at their ends."""
        text, rows = self._text(), shape[0]
        if rows < 2 or len(text) != math.prod(shape):
            return text
        return [text[row::rows].rstrip() for row in range(rows)]

    def _numbers(self, kind: int, count: int | None) -> np.ndarray:
        found, content = self._content()
        if found != kind or len(content) % 4 or (count is not None and len(content) != 4 * count):
            raise DamagedMatError(f"{len(content)} bytes of type {found} where sizes should be")
        return np.frombuffer(content, f"{self.order}i4")

    def _pad(self, length: int) -> None:
        """Elements start at multiples of 8 bytes."""
        self.stream.skip(-length % 8)
