# SPDX-License-Identifier: MIT
"""Files of torch.save, zip or legacy, read as data without torch; no code of theirs is run.

Tensors are views of the mapped file until their values are asked for.
Sources: torch/serialization.py and torch/_utils.py of PyTorch 0.4 to 2.13.
"""

import math
import mmap
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from netvlad_ros.errors import WeightsError
from netvlad_ros.importers.pickles import Global, Inert, UnsafePickleError, pairs, unpickle

# The number 0x1950a86a20f9469cfc6c as a pickle: how the format before torch 1.6 starts.
_LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_VERSION = 1001
_ZIP_START = b"PK\x03\x04"
_ZIP_HEADER_BYTES = 30
# A directory of tens of thousands of members; checkpoints have about a hundred.
MAX_ZIP_DIRECTORY_BYTES = 4 << 20
MAX_DIMENSIONS = 16
# What reading a damaged file raises.
_DAMAGE = (OSError, ValueError, struct.error, zipfile.BadZipFile, NotImplementedError)

# Storage class -> type of its values; those of bfloat16 are the upper halves of float32.
STORAGES = {
    "BFloat16Storage": "<u2",
    "BoolStorage": "?",
    "ByteStorage": "u1",
    "CharStorage": "i1",
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
    "ShortStorage": "<i2",
    "UntypedStorage": "u1",
}
_BFLOAT16 = "BFloat16Storage"
# What checkpoints hold besides tensors stays inert; anything else that is called, torch would run.
_BUILTINS = ("bytearray", "complex", "frozenset", "set", "slice")
_MULTIARRAY = ("_reconstruct", "scalar")
_HARMLESS = {
    "__builtin__": _BUILTINS,
    "builtins": _BUILTINS,
    "_codecs": ("encode",),
    "argparse": ("Namespace",),
    "collections": ("Counter", "defaultdict", "deque"),
    "datetime": ("date", "datetime", "timedelta"),
    "numpy": ("dtype",),
    "numpy.core.multiarray": _MULTIARRAY,
    "numpy._core.multiarray": _MULTIARRAY,
    "pathlib": ("Path", "PosixPath", "PurePosixPath", "WindowsPath"),
    "torch": ("Size", "device"),
    "torch._utils": ("_rebuild_parameter", "_rebuild_parameter_with_state", "_rebuild_tensor_v3"),
}
_INERT = {f"{module}.{name}" for module, names in _HARMLESS.items() for name in names}


@dataclass(frozen=True)
class Storage:
    """Where a tensor's values are: count of them under this key."""

    key: str
    kind: str
    count: int


@dataclass
class Values:
    """The mapped file and where in it the values of each storage are, as (position, bytes)."""

    mapped: mmap.mmap
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)


@dataclass(frozen=True)
class Tensor:
    """A tensor in a file: its shape, and its values once they are asked for."""

    shape: tuple[int, ...]
    _strides: tuple[int, ...]
    _offset: int
    _storage: Storage
    _values: Values = field(repr=False)

    @property
    def bytes(self) -> int:
        """What it takes in the file."""
        return math.prod(self.shape) * _item_bytes(self._storage)

    def array(self) -> np.ndarray:
        """float32, read-only and mapped if the file holds it so."""
        dtype = np.dtype(STORAGES[self._storage.kind])
        position, _ = self._values.places[self._storage.key]
        flat = np.frombuffer(self._values.mapped, dtype, self._storage.count, position)
        view = np.lib.stride_tricks.as_strided(
            flat[self._offset :],
            self.shape,
            [stride * dtype.itemsize for stride in self._strides],
            writeable=False,
        )
        if self._storage.kind == _BFLOAT16:
            return (view.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore"):  # infinite is what it is, and refused later
            return np.require(view, np.float32, "A")


def recognises(path: Path) -> bool:
    """Whether this is a file of torch.save, complete or not."""
    with path.open("rb") as file:
        start = file.read(len(_LEGACY_START))
        if start == _LEGACY_START:
            return True
        try:
            return start.startswith(_ZIP_START) and _pickle_name(_members(file)) is not None
        except _DAMAGE:
            return False


def load(path: Path) -> Any:
    """What was saved: dicts, lists, tuples, numbers, text and Tensors; all else as Inert.

    Raises WeightsError if it is damaged or if it holds code or a module saved whole.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            legacy = mapped[: len(_LEGACY_START)] == _LEGACY_START
            return (_load_legacy if legacy else _load_zip)(file, Values(mapped))
    except UnsafePickleError as error:
        raise WeightsError(
            f"{path}: expected tensors, numbers and text, got {_short(error)}: a module saved whole or "
            "other code; where it is trusted, run torch.save(model.state_dict(), 'weights.pth') and import "
            "that."
        ) from None
    except _DAMAGE as error:
        raise WeightsError(
            f"{path}: expected a file that torch.save wrote, got a damaged one or another kind "
            f"({_short(error)}); download or copy it again."
        ) from None


def _short(error: Exception) -> str:
    """On one line, as what a file names can be as long as it likes."""
    return " ".join(str(error).split())[:120]


def _load_zip(file: BinaryIO, values: Values) -> Any:
    members = _members(file)
    name = _pickle_name(members)
    if name is None:
        raise ValueError("a zip archive without data.pkl")
    root = name.removesuffix("data.pkl")
    if f"{root}constants.pkl" in members or any(
        each.startswith(f"{root}code/") for each in members
    ):
        raise UnsafePickleError("a TorchScript program (torch.jit.load opens it)")
    if f"{root}byteorder" in members:
        start, size = _place(values.mapped, members[f"{root}byteorder"])
        _refuse_big_endian(values.mapped[start : start + size] == b"little")
    data = f"{root}data/"
    values.places = {
        each.removeprefix(data): _place(values.mapped, member)
        for each, member in members.items()
        if each.startswith(data)
    }
    file.seek(_place(values.mapped, members[name])[0])
    content = _unpickle(file, values)
    _refuse_short(values)
    return content


def _load_legacy(file: BinaryIO, values: Values) -> Any:
    """Pickles of a number, the version, the machine, the content and the keys, then the storages."""
    _, version, machine = (_unpickle(file, values) for _ in range(3))
    if version != _LEGACY_VERSION or not isinstance(machine, dict):
        raise ValueError(f"version {version!r} of the format, not {_LEGACY_VERSION}")
    _refuse_big_endian(machine.get("little_endian") is True)
    content = _unpickle(file, values)
    keys = _unpickle(file, values)
    if not isinstance(keys, list) or not all(key in values.storages for key in map(str, keys)):
        raise ValueError("storages that no tensor uses")
    for key in map(str, keys):
        (count,) = struct.unpack("<q", file.read(8))
        size = values.storages[key].count * _item_bytes(values.storages[key])
        if count != values.storages[key].count:
            raise ValueError(f"storage {key} described in two ways")
        values.places[key] = file.tell(), min(size, len(values.mapped) - file.tell())
        file.seek(size, 1)
    _refuse_short(values)
    return content


def _item_bytes(storage: Storage) -> int:
    return np.dtype(STORAGES[storage.kind]).itemsize


def _refuse_short(values: Values) -> None:
    for key, storage in values.storages.items():
        _, size = values.places.get(key, (0, -1))
        if storage.count * _item_bytes(storage) > size:
            raise ValueError(f"{storage.count} values in {max(size, 0)} bytes")


def _refuse_big_endian(little: bool) -> None:
    if not little:
        raise ValueError("values in big-endian order")


class _SmallReads:
    """A file of which no more than a directory's size is read at once, whatever its end declares."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_ZIP_DIRECTORY_BYTES:
            size = MAX_ZIP_DIRECTORY_BYTES + 1
        content = self._file.read(size)
        if len(content) > MAX_ZIP_DIRECTORY_BYTES:
            raise ValueError("too many members in the archive")
        return content


def _members(file: BinaryIO) -> dict[str, zipfile.ZipInfo]:
    with zipfile.ZipFile(_SmallReads(file)) as archive:
        return {member.filename: member for member in archive.infolist()}


def _pickle_name(members: dict[str, zipfile.ZipInfo]) -> str | None:
    """The member `<name of the archive>/data.pkl`."""
    names = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    return names[0] if len(names) == 1 else None


def _place(mapped: mmap.mmap, member: zipfile.ZipInfo) -> tuple[int, int]:
    """(position, bytes) of a member, which torch never compresses."""
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise ValueError(f"{member.filename} is compressed, which torch.save never does")
    header = mapped[member.header_offset : member.header_offset + _ZIP_HEADER_BYTES]
    if not header.startswith(_ZIP_START):
        raise ValueError(f"{member.filename} is not where it should be")
    name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
    position = member.header_offset + _ZIP_HEADER_BYTES + name_bytes + extra_bytes
    if position + member.file_size > len(mapped):
        raise ValueError(f"it ends before the end of {member.filename}")
    return position, member.file_size


def _unpickle(file: BinaryIO, values: Values) -> Any:
    return unpickle(
        file,
        lambda what, arguments: _call(what, arguments, values),
        lambda identity: _storage(identity, values),
    )


def _call(what: Global, arguments: tuple[Any, ...], values: Values) -> Any:
    match what.name, arguments:
        case "collections.OrderedDict", ():
            return {}
        case "collections.OrderedDict", (list(items),):  # as Python 2 pickles it
            return _dict(items)
        case "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2", _:
            return _tensor(arguments, values)
        case "torch._utils._rebuild_parameter", (Tensor() as tensor, *_):
            return tensor
        case name, _:
            if name not in _INERT:
                raise UnsafePickleError(name)
            return Inert(name)


def _dict(items: list[Any]) -> dict[Any, Any]:
    if not all(isinstance(item, list | tuple) and len(item) == 2 for item in items):
        raise ValueError("an OrderedDict of no pairs")
    return dict(pairs([item[0] for item in items], [item[1] for item in items]))


def _storage(identity: Any, values: Values) -> Storage:
    match identity:
        case ("module", Global(name), *_):
            raise UnsafePickleError(name)
        case ("storage", Global(name), str(key), _, int(count)) | (
            "storage",
            Global(name),
            str(key),
            _,
            int(count),
            None,
        ) if count >= 0 and name.rpartition(".")[2] in STORAGES:
            storage = Storage(key, name.rpartition(".")[2], count)
        case _:
            raise ValueError("a storage that is described in an unknown way")
    if values.storages.setdefault(key, storage) != storage:
        raise ValueError(f"storage {key} described in two ways")
    return storage


def _tensor(arguments: tuple[Any, ...], values: Values) -> Tensor:
    """(storage, offset, shape, strides, ...), counted in values."""
    storage, offset, shape, strides = arguments[:4] if len(arguments) >= 4 else (None,) * 4
    if not isinstance(storage, Storage) or not _are_sizes((offset,)):
        raise ValueError("a tensor without a storage")
    if not (_are_sizes(shape) and _are_sizes(strides) and len(shape) == len(strides)):
        raise ValueError("a tensor of impossible shape or strides")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and (last >= storage.count or math.prod(shape) > storage.count):
        raise ValueError("a tensor that reaches outside its storage")
    return Tensor(shape, strides, min(offset, storage.count), storage, values)


def _are_sizes(values: Any) -> bool:
    """Whether this is a tuple of integers of which none is negative."""
    return (
        isinstance(values, tuple)
        and len(values) <= MAX_DIMENSIONS
        and all(type(value) is int and 0 <= value < 1 << 62 for value in values)
    )
