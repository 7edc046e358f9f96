# SPDX-License-Identifier: MIT
"""Frozen graphs: every constant to the bit as TensorFlow reads it, damaged files in one sentence."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from netvlad_ros.errors import WeightsError
from netvlad_ros.importers.frozen_graph import FrozenGraph, operations
from netvlad_ros.quiet import quiet_start_up

with quiet_start_up():
    import tensorflow as tf

RNG = np.random.default_rng(6)
ARRAYS: dict[str, np.ndarray | np.generic] = {
    "single": RNG.random((3, 4), np.float32),
    "double": RNG.random((2, 3, 4)),
    "half": RNG.random(5).astype(np.float16),
    "one_half": np.float16(1.5),
    "scalar": np.float32(0.25),
    "counts": np.array([3, -1, 2**31 - 1], np.int32),
    "large_counts": np.array([-(2**40), 7], np.int64),
    "count": np.int32(-7),
    "empty": np.zeros((0, 3), np.float32),
}


def write(path: Path) -> tf.compat.v1.GraphDef:
    """A graph of constants, a convolution with strides and a copy of a constant."""
    graph = tf.Graph()
    with graph.as_default():
        for name, array in ARRAYS.items():
            tf.constant(array, name=name)
        image = tf.compat.v1.placeholder(tf.float32, (None, 8, 9, 3), name="image")
        kernel = tf.identity(tf.constant(np.ones((3, 3, 3, 2), "f4"), name="kernel"), name="read")
        with graph.control_dependencies([kernel]):
            tf.nn.conv2d(image, kernel, (1, 2, 3, 1), "SAME", name="convolution")
        tf.nn.moments(image, [0], name="moments")
        tf.compat.v1.nn.fused_batch_norm(
            image, [1.0] * 3, [0.0] * 3, [0.0] * 3, [1.0] * 3, 0.5, is_training=False, name="norm"
        )
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return graph.as_graph_def()


def refusal(path: Path, name: str = "single") -> str:
    with pytest.raises(WeightsError) as error:
        FrozenGraph(path).array(name)
    sentence = str(error.value)
    assert sentence.startswith(f"{path}: ")
    assert sentence[-1] in ".?"
    assert "\n" not in sentence
    return sentence


def test_every_constant_is_read_to_the_bit(tmp_path: Path):
    write(tmp_path / "graph.pb")
    graph = FrozenGraph(tmp_path / "graph.pb")
    assert set(ARRAYS) <= set(graph.constants)
    for name, array in ARRAYS.items():
        assert graph.array(name).dtype == array.dtype
        np.testing.assert_array_equal(graph.array(name), array)
        assert graph.shape(name) == array.shape


def test_operations_tell_what_feeds_them_and_their_settings(tmp_path: Path):
    definition = write(tmp_path / "graph.pb")
    graph = FrozenGraph(tmp_path / "graph.pb")
    assert [(node.name, node.kind) for node in graph.nodes.values()] == [
        (node.name, node.op) for node in definition.node
    ]
    assert graph.nodes["convolution"].inputs == ("image", "read")
    assert graph.inputs("convolution") == ("image", "kernel")
    assert graph.attribute("convolution", "strides") == (1, 2, 3, 1)
    assert graph.attribute("convolution", "padding") == b"SAME"
    assert graph.attribute("norm", "epsilon") == 0.5
    assert graph.attribute("norm", "is_training") == 0
    assert graph.attribute("norm", "absent") is None


def test_values_that_repeat_may_be_left_out(tmp_path: Path):
    definition = tf.compat.v1.GraphDef()
    for name, values in (("filled", [1.0, 2.0]), ("zeros", [])):
        tensor = definition.node.add(name=name, op="Const").attr["value"].tensor
        tensor.dtype = tf.float32.as_datatype_enum
        tensor.tensor_shape.dim.add(size=4)
        tensor.float_val.extend(values)
    (tmp_path / "graph.pb").write_bytes(definition.SerializeToString())
    graph = FrozenGraph(tmp_path / "graph.pb")
    assert graph.array("filled").tolist() == [1.0, 2.0, 2.0, 2.0]
    assert graph.array("zeros").tolist() == [0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("shape", [(10**12,), (10**6, 10**6, 10**6), (2**62, 4)])
@pytest.mark.parametrize("content", [b"", b"1234"])
def test_a_constant_that_declares_more_than_the_file_claims_no_memory(
    shape: tuple[int, ...], content: bytes, tmp_path: Path
):
    definition = write(tmp_path / "graph.pb")
    tensor = definition.node[0].attr["value"].tensor
    tensor.tensor_content = content
    del tensor.tensor_shape.dim[:]
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    (tmp_path / "graph.pb").write_bytes(definition.SerializeToString())
    tracemalloc.start()
    try:
        assert "more than the whole file holds" in refusal(tmp_path / "graph.pb")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [-1, -(2**63)])
def test_a_constant_of_negative_size_is_refused(size: int, tmp_path: Path):
    definition = write(tmp_path / "graph.pb")
    definition.node[0].attr["value"].tensor.tensor_shape.dim[0].size = size
    (tmp_path / "graph.pb").write_bytes(definition.SerializeToString())
    assert "impossible shape" in refusal(tmp_path / "graph.pb")


def test_content_that_is_shorter_than_its_shape_is_refused(tmp_path: Path):
    definition = write(tmp_path / "graph.pb")
    definition.node[0].attr["value"].tensor.tensor_content = bytes(44)
    (tmp_path / "graph.pb").write_bytes(definition.SerializeToString())
    assert "buffer is smaller" in refusal(tmp_path / "graph.pb")


def test_what_is_no_constant_is_refused_by_its_kind(tmp_path: Path):
    write(tmp_path / "graph.pb")
    assert "expected image to be a constant, got Placeholder" in refusal(
        tmp_path / "graph.pb", "image"
    )
    assert "no operation 'absent'" in refusal(tmp_path / "graph.pb", "absent")


def test_a_graph_cut_short_anywhere_is_refused_or_lacks_operations(tmp_path: Path):
    path = tmp_path / "graph.pb"
    definition = write(path)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        assert len(operations(path)) < len(definition.node)


@pytest.mark.slow
def test_any_flipped_byte_is_refused_or_read_without_another_error(tmp_path: Path):
    path = tmp_path / "graph.pb"
    write(path)
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        for name in operations(path):
            graph = FrozenGraph(path)
            try:
                graph.inputs(name)
                graph.attribute(name, "strides")
                graph.array(name)
            except WeightsError:
                pass


@pytest.mark.parametrize(
    "content", [b"", b"text", bytes(5000), b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"]
)
def test_a_file_of_another_kind_has_no_operations(content: bytes, tmp_path: Path):
    (tmp_path / "graph.pb").write_bytes(content)
    assert operations(tmp_path / "graph.pb") == {}
    assert operations(tmp_path) == {}
    assert operations(tmp_path / "absent.pb") == {}
