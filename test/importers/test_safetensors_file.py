# SPDX-License-Identifier: MIT
"""safetensors files: every value to the bit as that package writes it, damaged ones in one sentence."""

import contextlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import sentence_of
from torch_files import save_safetensors, write_safetensors

from netvlad_ros.errors import WeightsError
from netvlad_ros.importers import safetensors_file

RNG = np.random.default_rng(8)
ARRAYS: dict[str, np.ndarray] = {
    "kernel": RNG.standard_normal((3, 4, 2, 2), np.float32),
    "double": RNG.random((2, 3)),
    "half": RNG.random(5).astype(np.float16),
    "counts": np.array([[1, -2, 2**20]], np.int64),
    "scalar": np.array(0.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
}


def refusal(path: Path) -> str:
    return sentence_of(lambda: safetensors_file.load(path), path)


def assert_read(path: Path, expected: dict[str, np.ndarray]) -> None:
    tensors = safetensors_file.load(path)
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert tensor.shape == expected[name].shape, name
        np.testing.assert_array_equal(tensor.array(), expected[name].astype("f4"), name)


def test_what_safetensors_wrote_is_read(tmp_path: Path):
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file(ARRAYS, tmp_path / "file.safetensors", {"format": "pt"})
    assert_read(tmp_path / "file.safetensors", ARRAYS)


def test_safetensors_reads_what_these_tests_write(tmp_path: Path):
    safetensors = pytest.importorskip("safetensors.numpy")
    save_safetensors(tmp_path / "file.safetensors", ARRAYS)
    found = safetensors.load_file(tmp_path / "file.safetensors")
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)


def test_what_these_tests_write_is_read(tmp_path: Path):
    save_safetensors(tmp_path / "file.safetensors", ARRAYS)
    assert_read(tmp_path / "file.safetensors", ARRAYS)


def test_bfloat16_are_the_upper_halves_of_float32(tmp_path: Path):
    values = np.array([1.0, -2.5, 0.15625], np.float32)
    upper = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    header = {"x": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}
    write_safetensors(tmp_path / "file.safetensors", json.dumps(header), upper)
    assert_read(tmp_path / "file.safetensors", {"x": values})


def test_values_are_not_read_before_they_are_asked_for(tmp_path: Path):
    save_safetensors(tmp_path / "file.safetensors", {"large": np.zeros(1 << 22, "f4")})
    tracemalloc.start()
    try:
        safetensors_file.load(tmp_path / "file.safetensors")["large"].array()
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def entry(shape: Any = (2,), offsets: Any = (0, 8), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({}, "10 bytes are described, 18 are there"),
        ([], "no JSON object"),
        ({"a": 5}, "an entry 'a' without dtype, shape and data_offsets"),
        ({"a": {"dtype": "F32", "shape": [2]}}, "an entry 'a' without"),
        ({"a": entry(dtype="F8_E4M3")}, "'a' of type F8_E4M3, not F64, F32"),
        ({"a": entry(dtype=["F32"])}, "an entry 'a' without"),
        ({"a": entry(shape="2")}, "an entry 'a' without"),
        ({"a": entry(shape=[True, 2])}, "an entry 'a' without"),
        ({"a": entry(shape=[-2])}, "an entry 'a' without"),
        ({"a": entry(shape=[1] * 99 + [2])}, "an entry 'a' without"),
        ({"a": entry(shape=[2**61, 2**61])}, "bytes 0 to 8 for 'a' of shape (2305843009213693952"),
        ({"a": entry(offsets=[0, 8, 16])}, "an entry 'a' without"),
        ({"a": entry(offsets=["0", 8])}, "an entry 'a' without"),
        ({"a": entry(offsets=[8, 0])}, "bytes 8 to 0 for 'a'"),
        ({"a": entry(offsets=[-8, 0])}, "bytes -8 to 0 for 'a'"),
        ({"a": entry(offsets=[0, 4])}, "bytes 0 to 4 for 'a' of shape (2,)"),
        ({"a": entry(), "b": entry()}, "bytes 0 to 8 for 'b'"),
        ({"a": entry([1], [0, 4]), "b": entry([1], [5, 9])}, "bytes 5 to 9 for 'b'"),
        ({"a": entry([1], [0, 4])}, "are described"),
        ({"a": entry([4], [0, 16])}, "are described"),
    ],
)
def test_a_header_that_does_not_describe_what_follows_is_refused(
    header: Any, reason: str, tmp_path: Path
):
    write_safetensors(tmp_path / "file.safetensors", json.dumps(header), bytes(8))
    sentence = refusal(tmp_path / "file.safetensors")
    assert "expected a safetensors file, got a damaged one" in sentence
    assert reason in sentence


@pytest.mark.parametrize(
    "header",
    [
        "",
        "text",
        "[" * 100_000,
        '{"a":' * 50_000,
        '{"a": ' + json.dumps(entry()) + ', "a": ' + json.dumps(entry()) + "}",
        '{"a": {"dtype": "F32", "shape": [' + "9" * 5000 + '], "data_offsets": [0, 8]}}',
        '{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 8]}}',
    ],
)
def test_a_header_that_is_no_json_of_a_network_is_refused(header: str, tmp_path: Path):
    write_safetensors(tmp_path / "file.safetensors", header, bytes(8))
    assert "download or copy it again" in refusal(tmp_path / "file.safetensors")


@pytest.mark.parametrize("length", [100, 1 << 40, (1 << 64) - 1])
def test_a_header_that_says_it_is_longer_than_the_file_claims_no_memory(
    length: int, tmp_path: Path
):
    (tmp_path / "file.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}")
    assert f"a header of {length} bytes in a file of 10" in refusal(tmp_path / "file.safetensors")


def test_a_header_of_many_megabytes_is_refused(tmp_path: Path):
    write_safetensors(tmp_path / "file.safetensors", "{}".ljust(5 << 20), b"")
    assert "a header of 5242880 bytes" in refusal(tmp_path / "file.safetensors")


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path):
    path = tmp_path / "file.safetensors"
    save_safetensors(path, ARRAYS)
    content = path.read_bytes()
    for length in range(0, len(content), 5):
        path.write_bytes(content[:length])
        refusal(path)


def test_any_flipped_byte_is_refused_or_read_without_another_error(tmp_path: Path):
    path = tmp_path / "file.safetensors"
    save_safetensors(path, ARRAYS)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        with contextlib.suppress(WeightsError):
            for tensor in safetensors_file.load(path).values():
                tensor.array()
