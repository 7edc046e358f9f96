# SPDX-License-Identifier: MIT
"""Pickles read as plain data: decoded and put together here, nothing they name is imported or called."""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

# A checkpoint's pickle describes its tensors in ten kilobytes and some thousand operations; the numbers are
# stored outside.
MAX_BYTES = 16 << 20
MAX_OPERATIONS = 200_000


class UnsafePickleError(ValueError):
    """A pickle names something that is no data; its argument is the dotted name."""


@dataclass(frozen=True)
class Global:
    """A function or class that a pickle names."""

    name: str


@dataclass(frozen=True)
class Inert:
    """What became of an object that is not known here, such as an optimiser's settings."""

    name: str


# What makes a value of a global and its arguments, and of a persistent id; both may raise ValueError.
Call = Callable[[Global, tuple[Any, ...]], Any]
Lookup = Callable[[Any], Any]


def unpickle(file: BinaryIO, call: Call, lookup: Lookup) -> Any:
    """The data of the pickle that starts here; the file is left at its end.

    Objects of dict and list are made here, all others by `call`.
    Raises ValueError if it is damaged, too long, or does what a pickle of data does not.
    """
    return _Machine(call, lookup).run(file)


class _Source:
    """A file of which only so much is read, also where it declares a longer text than it holds."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = MAX_BYTES
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        self._left -= size
        if size < 0 or self._left < 0:
            raise ValueError(f"a pickle of more than {MAX_BYTES} bytes")
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline(1 << 10)
        self._left -= len(line)
        return line


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
# These push what they carry.
_LITERALS = {
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
    "BINSTRING",
    "SHORT_BINSTRING",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_KEYS = (str, int, float, bytes, type(None))  # whose hash takes no long way down


class _Machine:
    """The stack and the memo of https://docs.python.org/3/library/pickletools.html, for plain data."""

    def __init__(self, call: Call, lookup: Lookup) -> None:
        self._call, self._lookup = call, lookup
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under each mark
        self._memo: dict[int, Any] = {}

    def run(self, file: BinaryIO) -> Any:
        operations: Any = pickletools.genops(_Source(file))  # type: ignore[arg-type]
        try:
            for count, (operation, argument, _) in enumerate(operations):
                if count == MAX_OPERATIONS:
                    raise ValueError(f"more than {MAX_OPERATIONS} operations")
                self._do(operation.name, argument)
            return self._stack.pop()
        except (IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
            raise ValueError(f"no valid pickle: {type(error).__name__} {error}") from None

    def _do(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            self._stack.append(argument)
        elif name in _TUPLES:
            self._stack.append(tuple(self._pop(_TUPLES[name])))
        else:
            step = getattr(self, f"_{name.lower()}", None)
            if step is None:
                raise ValueError(f"the pickle operation {name}, which no data needs")
            step(argument)

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise ValueError("a pickle that takes more than there is")
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def _pop_mark(self) -> list[Any]:
        values, self._stack = self._stack, self._below.pop()
        return values

    def _proto(self, argument: int) -> None:
        pass

    _frame = _stop = _proto

    def _mark(self, _: None) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _binput(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    _long_binput = _binput

    def _memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _binget(self, place: int) -> None:
        self._stack.append(self._memo[place])

    _long_binget = _binget

    def _empty_dict(self, _: None) -> None:
        self._stack.append({})

    def _empty_list(self, _: None) -> None:
        self._stack.append([])

    def _tuple(self, _: None) -> None:
        values = self._pop_mark()
        self._stack.append(tuple(values))

    def _append(self, _: None) -> None:
        self._extend(self._pop(1))

    def _appends(self, _: None) -> None:
        self._extend(self._pop_mark())

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Inert):
            raise ValueError(f"values appended to {type(target).__name__}")

    def _setitem(self, _: None) -> None:
        self._update(self._pop(2))

    def _setitems(self, _: None) -> None:
        self._update(self._pop_mark())

    def _update(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, dict):
            target.update(pairs(values[0::2], values[1::2]))
        elif not isinstance(target, Inert):
            raise ValueError(f"keys set in {type(target).__name__}")

    def _global(self, name: str) -> None:
        self._stack.append(Global(name.replace(" ", ".")))

    def _stack_global(self, _: None) -> None:
        module, name = self._pop(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a global without a name")
        self._stack.append(Global(f"{module}.{name}"))

    def _reduce(self, _: None) -> None:
        what, arguments = self._pop(2)
        if not isinstance(what, Global) or not isinstance(arguments, tuple):
            raise ValueError(f"a call of {type(what).__name__}")
        self._stack.append(self._call(what, arguments))

    _newobj = _reduce

    def _build(self, _: None) -> None:
        self._pop(1)  # attributes, of which plain data has none

    def _binpersid(self, _: None) -> None:
        self._stack.extend(map(self._lookup, self._pop(1)))


def pairs(keys: list[Any], values: list[Any]) -> list[tuple[Any, Any]]:
    """What a dict is made of. Raises ValueError for a key that is no text or number."""
    if len(keys) != len(values) or not all(isinstance(key, _KEYS) for key in keys):
        raise ValueError("a dict with a key that is no text or number")
    return list(zip(keys, values, strict=True))
