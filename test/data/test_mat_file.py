# SPDX-License-Identifier: MIT
"""MAT-files: what scipy writes is read back as scipy reads it, and what is spoiled ends in one sentence."""

import contextlib
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from refusals import sentence_of
from scipy.io.matlab import MatlabObject
from vgg16_files import cell

from netvlad_ros.data.mat_file import read_mat
from netvlad_ros.data.mat_values import Foreign
from netvlad_ros.errors import WeightsError

RNG = np.random.default_rng(3)
NUMBERS = {
    "single": RNG.random((3, 4, 2), np.float32),
    "double": RNG.random((1, 5)),
    "bytes": np.arange(7, dtype=np.uint8),
    "small": np.array([[1, -2]], np.int16),
    "counts": np.array([[2**31 - 1], [-5]], np.int32),
    "large": np.array([[2**62]], np.int64),
    "empty": np.zeros((0, 3)),
    "one": np.array([[0.5]]),
    "kernel": RNG.random((1, 1, 6, 4), np.float32),
}


def write(path: Path, variables: dict[str, Any], compressed: bool = False) -> Path:
    scipy.io.savemat(path, variables, do_compression=compressed)
    return path


def refusal(path: Path) -> str:
    return sentence_of(lambda: read_mat(path), path)


@pytest.mark.parametrize("compressed", [False, True])
def test_numbers_are_read_to_the_bit_in_their_shape(compressed: bool, tmp_path: Path):
    path = write(tmp_path / "numbers.mat", NUMBERS, compressed)
    expected = scipy.io.loadmat(path)
    found = read_mat(path)
    assert found.keys() == NUMBERS.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])
        assert array.shape == expected[name].shape


@pytest.mark.parametrize("compressed", [False, True])
def test_structs_cells_and_text_become_dicts_lists_and_str(compressed: bool, tmp_path: Path):
    inner = {"name": "vlad:core", "weights": cell([np.ones((2, 3)), "a longer piece of text"])}
    net = {"layers": cell([inner, {"name": "é€"}]), "meta": {"deep": {"er": 1.0}}, "none": cell([])}
    found = read_mat(write(tmp_path / "net.mat", {"net": net, "note": "x"}, compressed))
    assert found["note"] == "x"
    layers = found["net"]["layers"]
    assert [layer["name"] for layer in layers] == ["vlad:core", "é€"]
    np.testing.assert_array_equal(layers[0]["weights"][0], np.ones((2, 3)))
    assert layers[0]["weights"][1] == "a longer piece of text"
    assert found["net"]["meta"]["deep"]["er"] == 1.0
    assert found["net"]["none"] == []


def test_an_array_of_structs_becomes_a_list(tmp_path: Path):
    structs = np.array([[(1.0, "a"), (2.0, "b")]], [("value", object), ("name", object)])
    found = read_mat(write(tmp_path / "structs.mat", {"s": structs}))
    assert [each["name"] for each in found["s"]] == ["a", "b"]


def test_lines_of_text_become_a_list_without_the_blanks_that_fill_them_up(tmp_path: Path):
    found = read_mat(write(tmp_path / "text.mat", {"names": np.array(["a.jpg", "b/longer.jpg"])}))
    assert found["names"] == ["a.jpg", "b/longer.jpg"]


@pytest.mark.parametrize("compressed", [False, True])
def test_skipped_fields_take_no_memory(compressed: bool, tmp_path: Path):
    layer = {"momentum": np.full((1000, 1000), 0.7), "name": "conv", "rate": RNG.random((500, 500))}
    path = write(tmp_path / "net.mat", {"net": layer}, compressed)
    tracemalloc.start()
    try:
        found = read_mat(path, frozenset({"momentum", "rate"}))
        assert tracemalloc.get_traced_memory()[1] < 6_000_000
    finally:
        tracemalloc.stop()
    assert found == {"net": {"name": "conv"}}


def test_objects_and_functions_are_told_by_their_class(tmp_path: Path):
    fields = np.array([[(1.0,)]], [("K", object)])
    path = write(
        tmp_path / "object.mat", {"net": cell([MatlabObject(fields, "layerVLAD"), "after"])}
    )
    assert read_mat(path) == {"net": [Foreign("layerVLAD"), "after"]}
    (tmp_path / "function.mat").write_bytes(HEADER + container(16, (1, 1), numbers((1, 1))))
    assert read_mat(tmp_path / "function.mat") == {"c": Foreign("function_handle")}


def element(kind: int, content: bytes) -> bytes:
    """A data element with its padding, little-endian."""
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def opaque(name: str, kind: str) -> bytes:
    """An object of a class that was defined with classdef, as Matlab saves it."""
    flags = element(6, struct.pack("<II", 17, 0))
    names = [element(1, each.encode()) for each in (name, "MCOS", kind)]
    reference = np.array([[0xDD000000], [2], [1], [1], [1], [1]], np.uint32)
    array = b"".join(
        [
            element(6, struct.pack("<II", 13, 0)),
            element(5, struct.pack("<ii", 6, 1)),
            element(1, b""),
            element(6, reference.tobytes()),
        ]
    )
    return element(14, flags + b"".join(names) + element(14, array))


HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def test_an_object_of_a_class_definition_is_told_by_its_class(tmp_path: Path):
    (tmp_path / "object.mat").write_bytes(HEADER + opaque("layer", "layerVLAD"))
    assert read_mat(tmp_path / "object.mat") == {"layer": Foreign("layerVLAD")}


def test_big_endian_files_are_read(tmp_path: Path):
    values = np.arange(6, dtype=">f4")
    array = b"".join(
        [
            struct.pack(">II", 6, 8) + struct.pack(">II", 7, 0),
            struct.pack(">II", 5, 8) + struct.pack(">ii", 2, 3),
            struct.pack(">HH", 1, 1) + b"w\0\0\0",
            struct.pack(">II", 7, 24) + values.tobytes(),
        ]
    )
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">H", 0x0100) + b"MI"
    (tmp_path / "big.mat").write_bytes(header + struct.pack(">II", 14, len(array)) + array)
    np.testing.assert_array_equal(
        read_mat(tmp_path / "big.mat")["w"], values.reshape((2, 3), order="F")
    )


def numbers(shape: tuple[int, ...], kind: int = 9, content: bytes = b"") -> bytes:
    """An array of doubles that need not have the length that its shape says."""
    flags = element(6, struct.pack("<II", 6, 0))
    sizes = element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, flags + sizes + element(1, b"w") + element(kind, content))


def container(kind: int, shape: tuple[int, ...], rest: bytes = b"") -> bytes:
    """A cell array (1) or struct (2) without its elements."""
    flags = element(6, struct.pack("<II", kind, 0))
    sizes = element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, flags + sizes + element(1, b"c") + rest)


def nested(depth: int) -> bytes:
    """A cell in a cell in a cell."""
    content = numbers((1, 1), content=bytes(8))
    for _ in range(depth):
        content = container(1, (1, 1), content)
    return content


FIELD_NAMES = element(5, struct.pack("<i", 8)) + element(1, b"a".ljust(8, b"\0"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (numbers((2**31 - 1, 2**31 - 1)), "0 bytes for an array of shape"),
        (numbers((3, 3), content=bytes(64)), "64 bytes for an array of shape (3, 3)"),
        (numbers((-1, -1), content=bytes(8)), "an array of shape (-1, -1)"),
        (numbers((1, 1), kind=77, content=bytes(8)), "numbers of type 77"),
        (numbers((5,), content=bytes(40)), "an array of shape (5,)"),
        (container(1, (2**31 - 1, 2**31 - 1)), "in 0 bytes"),
        (container(1, (2**31 - 1, 1), bytes(800)), "in 800 bytes"),
        (container(2, (2**31 - 1, 1), FIELD_NAMES), "an array of shape"),
        (container(2, (1, 1), element(5, bytes(4)) + element(1, b"a")), "field names"),
        (nested(1000), "nested more than 16 deep"),
        (struct.pack("<II", 14, 2**32 - 1), "too early"),
        (struct.pack("<II", 14, 64) + bytes(64), "where sizes should be"),
        (struct.pack("<II", 99, 8) + bytes(8), "a variable of type 99"),
        (element(15, zlib.compress(nested(1))[:-6]), "ends too early"),
        (element(15, b"no zlib stream"), "incorrect header check"),
    ],
)
def test_a_spoiled_file_is_refused_and_claims_no_memory(
    content: bytes, reason: str, tmp_path: Path
):
    path = tmp_path / "spoiled.mat"
    path.write_bytes(HEADER + content)
    tracemalloc.start()
    try:
        assert reason in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_an_array_that_says_it_is_longer_than_the_file_claims_no_memory(tmp_path: Path):
    whole = numbers((1000, 1000), content=bytes(8_000_000))
    (tmp_path / "short.mat").write_bytes(HEADER + whole[:10_000])
    tracemalloc.start()
    try:
        refusal(tmp_path / "short.mat")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("skipped", [frozenset(), frozenset({"a"})])
def test_what_inflates_without_end_is_stopped(skipped: frozenset[str], tmp_path: Path):
    length = 500_000_000
    squeeze = zlib.compressobj(9)
    # A struct with a field "a" of as many zeros; only its compressed form is ever made.
    inner = struct.pack("<II", 14, length) + element(6, struct.pack("<II", 6, 0))
    inner += element(5, struct.pack("<ii", length // 8, 1)) + element(1, b"")
    inner += struct.pack("<II", 9, length)
    head = element(6, struct.pack("<II", 2, 0)) + element(5, struct.pack("<ii", 1, 1))
    head += element(1, b"net") + FIELD_NAMES
    content = squeeze.compress(struct.pack("<II", 14, length + 1000) + head + inner)
    for _ in range(length // 10_000_000):
        content += squeeze.compress(bytes(10_000_000))
    content += squeeze.flush()
    path = tmp_path / "bomb.mat"
    path.write_bytes(HEADER + struct.pack("<II", 15, len(content)) + content)
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match=r"inflates to more than|ends too early"):
            read_mat(path, skipped)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_cut_short_anywhere_is_refused_or_lacks_variables(compressed: bool, tmp_path: Path):
    path = write(tmp_path / "net.mat", NUMBERS | {"s": {"a": "text"}}, compressed)
    content = path.read_bytes()
    whole = read_mat(path)
    for length in range(0, len(content), 11):
        path.write_bytes(content[:length])
        with contextlib.suppress(WeightsError):
            assert len(read_mat(path)) < len(whole)


@pytest.mark.parametrize("compressed", [False, True])
def test_any_flipped_byte_is_refused_or_read_without_another_error(
    compressed: bool, tmp_path: Path
):
    net = {"layers": cell([{"name": "conv", "weights": cell([np.ones((2, 2))])}]), "text": "é"}
    path = write(tmp_path / "net.mat", {"net": net}, compressed)
    content = path.read_bytes()
    for place in range(128, len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        with contextlib.suppress(WeightsError):
            read_mat(path)


class Hdf5Mat:
    """Writes values as `save -v7.3` does: axes in reverse, cells as references into #refs#."""

    def __init__(self, path: Path) -> None:
        self.file = h5py.File(path, "w", userblock_size=512)
        self.path = path

    def put(self, name: str, value: Any) -> None:
        if isinstance(value, dict):
            self.file.create_group(name).attrs["MATLAB_class"] = np.bytes_("struct")
            for field, each in value.items():
                self.put(f"{name}/{field}", each)
        elif isinstance(value, str):
            text = np.frombuffer(value.encode("utf-16-le"), "<u2").reshape(-1, 1)
            self.dataset(name, text, "char")
        elif isinstance(value, np.ndarray) and value.dtype == object:
            if not value.size:
                self.dataset(name, np.zeros(2, "u8"), "cell").attrs["MATLAB_empty"] = np.uint8(1)
                return
            references = np.empty(value.T.shape, h5py.ref_dtype)
            for place, each in np.ndenumerate(value.T):
                target = f"#refs#/{len(self.file.require_group('#refs#'))}"
                self.put(target, each)
                references[place] = self.file[target].ref
            self.dataset(name, references, "cell")
        else:
            array = np.atleast_2d(value)
            kind = {"float32": "single", "float64": "double"}.get(
                array.dtype.name, array.dtype.name
            )
            self.dataset(name, array.T, kind)

    def dataset(self, name: str, array: np.ndarray, kind: str) -> Any:
        dataset = self.file.create_dataset(name, data=array)
        dataset.attrs["MATLAB_class"] = np.bytes_(kind)
        return dataset

    def close(self) -> Path:
        self.file.close()
        with self.path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<H", 0x0200) + b"IM")
        return self.path


def test_a_file_of_version_7_3_is_read_as_the_older_versions(tmp_path: Path):
    weights = cell([NUMBERS["kernel"], NUMBERS["double"], cell([])])
    layers = cell([{"name": "vlad:core", "weights": weights, "momentum": weights}, {"name": "é"}])
    mat = Hdf5Mat(tmp_path / "net73.mat")
    mat.put("net", {"layers": layers, "image": NUMBERS["single"], "counts": NUMBERS["counts"]})
    found = read_mat(mat.close(), frozenset({"momentum"}))["net"]
    assert [layer["name"] for layer in found["layers"]] == ["vlad:core", "é"]
    assert found["layers"][0].keys() == {"name", "weights"}
    kernel, bias, opts = found["layers"][0]["weights"]
    assert opts == []
    for array, name in ((kernel, "kernel"), (bias, "double"), (found["image"], "single")):
        np.testing.assert_array_equal(array, NUMBERS[name])
    assert found["counts"].dtype == np.int32


def test_an_object_in_a_file_of_version_7_3_is_told_by_its_class(tmp_path: Path):
    mat = Hdf5Mat(tmp_path / "object73.mat")
    mat.dataset("layer", np.zeros((1, 6), "u4"), "layerVLAD").attrs["MATLAB_object_decode"] = 3
    assert read_mat(mat.close()) == {"layer": Foreign("layerVLAD")}


def test_a_circle_in_a_file_of_version_7_3_ends(tmp_path: Path):
    mat = Hdf5Mat(tmp_path / "circle.mat")
    mat.put("net", cell(["x"]))
    mat.file["net"][0, 0] = mat.file["net"].ref
    assert "nested too deep" in refusal(mat.close())


@pytest.mark.parametrize("shape", [(10**12,), (2**26, 3)])
def test_a_dataset_without_data_in_a_file_of_version_7_3_claims_no_memory(
    shape: tuple[int, ...], tmp_path: Path
):
    mat = Hdf5Mat(tmp_path / "huge.mat")
    huge = mat.file.create_dataset("w", shape, "f4", chunks=True)
    huge.attrs["MATLAB_class"] = np.bytes_("single")
    tracemalloc.start()
    try:
        assert "it holds more than" in refusal(mat.close())
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_file_of_version_7_3_cut_short_is_refused(share: float, tmp_path: Path):
    mat = Hdf5Mat(tmp_path / "net73.mat")
    mat.put("net", {"layers": cell([{"name": "conv"}]), "image": NUMBERS["single"]})
    path = mat.close()
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refusal(path)
