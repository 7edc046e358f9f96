# SPDX-License-Identifier: MIT
"""Frozen TensorFlow graphs (.pb): constants, operations and what feeds them, read as plain data.

The file is mapped and walked field by field (protobuf wire format; tensorflow/core/framework/graph.proto,
node_def.proto, attr_value.proto, tensor.proto). Nothing is run and nothing is copied before it is asked for.

Not TensorFlow's own GraphDef, which reads a file whole: to recognise a graph of 596 MB, such as Open Model
Zoo's, takes it 4 s and 1.1 GB instead of a millisecond and 2 MB, and to import it 640 MB more.
"""

import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netvlad_ros.errors import WeightsError

Attribute = int | float | bytes | tuple[int, ...]

# A published graph has some hundreds of operations; a file that names millions was made to take long.
MAX_NODES = 100_000
MAX_DIMENSIONS = 8
# Integers are sizes and axes, some of them; weights are floating-point numbers.
MAX_INTEGER_BYTES = 1_000_000

# Numbers of the fields in their messages.
_GRAPH_NODE = 1
_NODE_NAME, _NODE_OP, _NODE_INPUT, _NODE_ATTRIBUTE = 1, 2, 3, 5
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VALUE_LIST, _VALUE_SHAPE, _VALUE_TENSOR = 1, 7, 8
_VALUE_PLAIN = {2: "bytes", 3: "int", 4: "float", 5: "int", 6: "int"}
_LIST_INTS = 3
_TENSOR_TYPE, _TENSOR_SHAPE, _TENSOR_CONTENT = 1, 2, 4
_SHAPE_SIZE, _SIZE_VALUE = 2, 1
# DataType -> numpy's type, and the field with values that were not written as raw content.
_TYPES = {1: ("<f4", 5), 2: ("<f8", 6), 3: ("<i4", 7), 9: ("<i8", 10), 19: ("<f2", 13)}
# What reading a damaged file raises.
_DAMAGE = (OSError, ValueError, KeyError, IndexError, OverflowError, struct.error)
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5

Field = tuple[int, int | memoryview]


@dataclass(frozen=True)
class Node:
    """One operation: its kind, and the names of the nodes that feed it, in order."""

    name: str
    kind: str
    inputs: tuple[str, ...]


class FrozenGraph:
    """The operations of a .pb file by name. Raises WeightsError for a file that is none or is cut short.

    Arrays are views of the mapped file wherever it holds them as raw content.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._attributes: dict[str, dict[str, memoryview]] = {}
        self.nodes: dict[str, Node] = {}
        try:
            self._read_nodes(_mapped(path))
        except _DAMAGE as error:
            raise self._damaged(error) from None

    def _read_nodes(self, graph: memoryview) -> None:
        for number, content in _fields(graph):
            if number != _GRAPH_NODE:
                continue
            node, attributes = _node(_block(content))
            if not node.name or not node.kind or node.name in self.nodes:
                raise ValueError("operations without a name of their own")
            if len(self.nodes) == MAX_NODES:
                raise ValueError(f"more than {MAX_NODES} operations")
            self.nodes[node.name] = node
            self._attributes[node.name] = attributes
        if not self.nodes:
            raise ValueError("no operations")

    @property
    def constants(self) -> list[str]:
        """Names of the nodes that hold an array, in the order of the file."""
        return [node.name for node in self.nodes.values() if node.kind == "Const"]

    def inputs(self, name: str) -> tuple[str, ...]:
        """What feeds this node, with copies (Identity) looked through. Raises WeightsError for no node."""
        return tuple(self._behind_copies(each) for each in self._node(name).inputs)

    def _behind_copies(self, name: str) -> str:
        for _ in self.nodes:  # a circle ends too
            node = self._node(name)
            if node.kind != "Identity" or len(node.inputs) != 1:
                break
            name = node.inputs[0]
        return name

    def attribute(self, name: str, key: str) -> Attribute | None:
        """A number, bytes or integers that belong to this node, such as its strides; None if it has none."""
        self._node(name)
        value = self._attributes[name].get(key)
        try:
            return None if value is None else _attribute(value)
        except _DAMAGE as error:
            raise self._damaged(error) from None

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a constant, as the file declares it; nothing of that size is made."""
        return self._tensor(name)[1]

    def array(self, name: str) -> np.ndarray:
        """The array of a constant, read-only. Raises WeightsError if it is not in the file to its end."""
        fields, shape = self._tensor(name)
        type_number = dict(fields).get(_TENSOR_TYPE)
        if not isinstance(type_number, int) or type_number not in _TYPES:
            raise WeightsError(
                f"{self.path}: expected numbers in {name}, got values of TensorFlow's type {type_number}."
            )
        kind, values_field = _TYPES[type_number]
        dtype = np.dtype(kind)
        count = math.prod(shape)
        if count * dtype.itemsize > self.path.stat().st_size:
            raise WeightsError(
                f"{self.path}: {name} declares shape {shape}, which is more than the whole file holds; "
                "download or copy it again."
            )
        try:
            return _values(fields, dtype, values_field, count).reshape(shape)
        except _DAMAGE as error:
            raise self._damaged(error, f" in {name}") from None

    def _node(self, name: str) -> Node:
        if name not in self.nodes:
            raise WeightsError(f"{self.path}: the graph has no operation {name!r}.")
        return self.nodes[name]

    def _tensor(self, name: str) -> tuple[list[Field], tuple[int, ...]]:
        node = self._node(name)
        if node.kind != "Const":
            raise WeightsError(
                f"{self.path}: expected {name} to be a constant, got {node.kind}; freeze the graph first."
            )
        try:
            value = dict(_fields(self._attributes[name].get("value", memoryview(b""))))
            fields = list(_fields(_block(value[_VALUE_TENSOR])))
            return fields, _shape(fields)
        except _DAMAGE as error:
            raise self._damaged(error, f" in {name}") from None

    def _damaged(self, error: Exception, where: str = "") -> WeightsError:
        return WeightsError(
            f"{self.path}: expected a frozen TensorFlow graph, got a damaged file or one of another kind "
            f"({error}{where}); download or copy it again."
        )


def operations(path: Path) -> dict[str, Node]:
    """The operations of a frozen graph by name, none if the file is something else; cheap, never raises."""
    try:
        return FrozenGraph(path).nodes
    except WeightsError:
        return {}


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _fields(message: memoryview) -> Iterator[Field]:
    """(number, integer or content) of each field. Raises ValueError or IndexError where it ends early."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, wire = key >> 3, key & 7
        value: int | memoryview
        if number == 0:
            raise ValueError("a field without a number")
        if wire == _VARINT:
            value, place = _varint(message, place)
        else:
            size, place = _size(message, place, wire)
            if size > len(message) - place:
                raise ValueError(f"it ends {size - len(message) + place} bytes too early")
            value = message[place : place + size]
            place += size
        yield number, value


def _size(message: memoryview, place: int, wire: int) -> tuple[int, int]:
    if wire == _BYTES:
        return _varint(message, place)
    if wire not in (_FIXED_32, _FIXED_64):
        raise ValueError(f"a field of kind {wire}")
    return (4 if wire == _FIXED_32 else 8), place


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """An integer of seven bits a byte, the lowest first, and where the next thing starts."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("an integer of more than 10 bytes")


def _block(content: int | memoryview) -> memoryview:
    if isinstance(content, int):
        raise ValueError("a number where a message should be")
    return content


def _text(content: int | memoryview) -> str:
    return bytes(_block(content)).decode()


def _node(message: memoryview) -> tuple[Node, dict[str, memoryview]]:
    name = kind = ""
    inputs: list[str] = []
    attributes: dict[str, memoryview] = {}
    for number, content in _fields(message):
        if number == _NODE_NAME:
            name = _text(content)
        elif number == _NODE_OP:
            kind = _text(content)
        elif number == _NODE_INPUT:
            inputs.append(_text(content))
        elif number == _NODE_ATTRIBUTE:
            entry = dict(_fields(_block(content)))
            attributes[_text(entry.get(_ENTRY_KEY, memoryview(b"")))] = _block(
                entry.get(_ENTRY_VALUE, memoryview(b""))
            )
    # "^name" only orders, "name:1" is the second output of that node.
    data = (each.partition(":")[0] for each in inputs if not each.startswith("^"))
    return Node(name, kind, tuple(data)), attributes


def _attribute(value: memoryview) -> Attribute | None:
    for number, content in _fields(value):
        if number == _VALUE_LIST:
            integers = [
                _integers(each) for field, each in _fields(_block(content)) if field == _LIST_INTS
            ]
            return tuple(one for part in integers for one in part)
        if number == _VALUE_SHAPE:
            return _sizes(_block(content))
        kind = _VALUE_PLAIN.get(number)
        if kind == "float":
            return float(struct.unpack("<f", _block(content))[0])
        if kind == "bytes":
            return bytes(_block(content))
        if kind == "int" and isinstance(content, int):
            return _signed(content)
    return None


def _integers(content: int | memoryview) -> list[int]:
    """One integer, or several packed into one field."""
    if isinstance(content, int):
        return [_signed(content)]
    if len(content) > MAX_INTEGER_BYTES:
        raise ValueError(f"{len(content)} bytes of integers")
    values, place = [], 0
    while place < len(content):
        value, place = _varint(content, place)
        values.append(_signed(value))
    return values


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _shape(tensor: list[Field]) -> tuple[int, ...]:
    sizes = _sizes(_block(dict(tensor).get(_TENSOR_SHAPE, memoryview(b""))))
    if len(sizes) > MAX_DIMENSIONS or any(size < 0 for size in sizes):
        raise ValueError(f"impossible shape {list(sizes[:MAX_DIMENSIONS])}")
    return sizes


def _sizes(shape: memoryview) -> tuple[int, ...]:
    """-1 where a size is left open."""
    return tuple(_length(each) for field, each in _fields(shape) if field == _SHAPE_SIZE)


def _length(dimension: int | memoryview) -> int:
    size = dict(_fields(_block(dimension))).get(_SIZE_VALUE, 0)
    if not isinstance(size, int):
        raise ValueError("a dimension that is no number")
    return _signed(size)


def _values(tensor: list[Field], dtype: np.dtype, values_field: int, count: int) -> np.ndarray:
    """So many numbers, from raw content or from a list of values.

    TensorFlow leaves out values at the end of a list that equal the last one, and all if they are zero.
    """
    content = _block(dict(tensor).get(_TENSOR_CONTENT, memoryview(b"")))
    if len(content):
        return np.frombuffer(content, dtype, count)
    values = _listed([content for number, content in tensor if number == values_field], dtype)
    if values.size >= count:
        return values[:count]
    last = values[-1] if values.size else dtype.type(0)
    return np.concatenate([values, np.full(count - values.size, last, dtype)])


def _listed(fields: list[int | memoryview], dtype: np.dtype) -> np.ndarray:
    if dtype in ("<f4", "<f8"):
        return np.frombuffer(b"".join(_block(each) for each in fields), dtype)
    integers = [one for each in fields for one in _integers(each)]
    if dtype == "<f2":  # each is written as the integer with the same bits
        return np.array(integers, np.uint16).view(dtype)
    return np.array(integers, dtype)
