# SPDX-License-Identifier: MIT
"""Descriptors on disk are there again for the next process, and never half."""

import numpy as np

from netvlad_ros.training.descriptor_store import DescriptorStore


def _unit(count: int) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(count, 64)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_what_was_written_is_there_for_the_next_process(tmp_path):
    rows, which = _unit(4), np.array([1, 8, 3, 5])
    store = DescriptorStore(tmp_path, "database", 10, 64)
    store.write(which, rows)
    store.mark_broken(np.array([2]))
    again = DescriptorStore(tmp_path, "database", 10, 64)
    assert np.abs(again.rows(which) - rows).max() < 5e-4
    assert again.missing(np.arange(10)).tolist() == [0, 4, 6, 7, 9]
    assert np.flatnonzero(again.is_there(np.arange(10))).tolist() == [1, 3, 5, 8]


def test_distances_move_by_less_than_a_thousandth(tmp_path):
    rows = _unit(50)
    store = DescriptorStore(tmp_path, "database", 50, 64)
    store.write(np.arange(50), rows)
    kept = store.rows(np.arange(50))
    before, after = (np.linalg.norm(x[:, None] - x, axis=-1) for x in (rows, kept))
    assert np.abs(before - after).max() < 1e-3


def test_files_of_another_size_or_damaged_are_begun_anew(tmp_path):
    DescriptorStore(tmp_path, "database", 10, 64).write(np.arange(4), _unit(4))
    other = DescriptorStore(tmp_path, "database", 12, 64)
    assert len(other.missing(np.arange(12))) == 12
    other.write(np.arange(4), _unit(4))
    (tmp_path / "database.npy").write_bytes(b"damaged")
    assert len(DescriptorStore(tmp_path, "database", 12, 64).missing(np.arange(12))) == 12
    assert DescriptorStore.dims_in(tmp_path, "database") == 64
    assert DescriptorStore.dims_in(tmp_path, "queries") is None
