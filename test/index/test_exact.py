# SPDX-License-Identifier: MIT
"""The exact index finds exactly what comparing with every single vector finds."""

import random
import sys
import threading
from typing import Any

import numpy as np
import pytest

from netvlad_ros.index import exact
from netvlad_ros.index.exact import SPARE_MATCHES, ExactIndex, _Block


def unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def random_rows(rng: np.random.Generator, count: int, dims: int) -> np.ndarray:
    return unit(rng.standard_normal((count, dims)))


def clustered_rows(rng: np.random.Generator, count: int, dims: int) -> np.ndarray:
    """A few places, each seen many times with next to no difference, and some seen twice the same."""
    places = random_rows(rng, 3, dims)
    rows = places[rng.integers(0, 3, count)]
    rows = unit(rows + 10.0 ** rng.uniform(-7, -3, (count, 1)) * rng.standard_normal((count, dims)))
    rows[rng.integers(0, count, count // 4)] = rows[rng.integers(0, count, count // 4)]
    return rows


def same_rows(rng: np.random.Generator, count: int, dims: int) -> np.ndarray:
    return np.repeat(random_rows(rng, 1, dims), count, axis=0)


def filled(rows: np.ndarray) -> ExactIndex:
    index = ExactIndex(rows.shape[1])
    for number, row in enumerate(rows):
        index.add(np.array([number]), row[None])
    return index


def brute_force(rows: np.ndarray, ids: np.ndarray, query: np.ndarray, count: int) -> list[tuple]:
    """(id, similarity) by comparing with every row; of equal similarity the older first."""
    similarities = np.einsum("nd,d->n", rows, query)
    order = np.lexsort((ids, -similarities))[:count]
    return [(int(ids[i]), float(similarities[i])) for i in order]


def found(index: ExactIndex, query: np.ndarray, count: int, excluded: Any = None) -> list[tuple]:
    ids, similarities = index.search(query, count, excluded)
    return [(int(i), float(s)) for i, s in zip(ids, similarities, strict=True)]


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Everything holds for one block of vectors and for many small ones."""
    if request.param == "many blocks":
        monkeypatch.setattr(exact, "BLOCK_BYTES", 8000)
    return request.param


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("rows_of", [random_rows, clustered_rows, same_rows])
@pytest.mark.parametrize("seed", range(6))
def test_a_search_finds_what_comparing_with_all_finds(rows_of: Any, seed: int):
    rng = np.random.default_rng(seed)
    count, dims = int(rng.integers(1, 400)), int(rng.choice([1, 3, 64, 67, 129]))
    rows = rows_of(rng, count, dims)
    index = filled(rows)
    for query in (rows[rng.integers(count)], random_rows(rng, 1, dims)[0]):
        for k in (1, 2, 20, count, count + 50):
            assert found(index, query, k) == brute_force(rows, np.arange(count), query, k)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("rows_of", [random_rows, clustered_rows, same_rows])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_excluded_is_as_if_it_was_not_there(rows_of: Any, seed: int):
    rng = np.random.default_rng(seed)
    rows = rows_of(rng, 300, 64)
    index, ids = filled(rows), np.arange(300)
    for share in (0.0, 0.01, 0.5, 0.99, 1.0):
        excluded = ids[rng.random(300) < share]
        left = np.setdiff1d(ids, excluded)
        for k in (1, 20, 299):
            wanted = brute_force(rows[left], left, rows[7], k)
            assert found(index, rows[7], k, excluded) == wanted


def test_excluding_what_is_not_there_excludes_nothing():
    rows = random_rows(np.random.default_rng(3), 20, 8)
    index = filled(rows)
    assert found(index, rows[0], 5, np.array([-4, 20, 99])) == found(index, rows[0], 5)


def test_similarities_are_those_of_single_precision():
    rows = random_rows(np.random.default_rng(1), 50, 4096)
    for number, similarity in found(filled(rows), rows[7], 50):
        wanted = rows[number].astype(np.float64) @ rows[7]
        assert similarity == pytest.approx(wanted, abs=1e-6)


@pytest.mark.usefixtures("blocks")
def test_of_equal_similarity_the_older_comes_first():
    rows = same_rows(np.random.default_rng(2), 300, 33)
    assert [each for each, _ in found(filled(rows), rows[0], 100)] == list(range(100))


def test_more_alike_than_half_precision_can_tell_are_all_compared_again(
    monkeypatch: pytest.MonkeyPatch,
):
    rng = np.random.default_rng(3)
    place = random_rows(rng, 1, 64)
    rows = unit(place + 1e-5 * rng.standard_normal((500, 64)))  # far below 2 ** -11
    index, scans = filled(rows), []
    compare = _Block.compare

    def watched(self: _Block, vector: np.ndarray, limit: float, scan: Any, excluded: Any) -> Any:
        result = compare(self, vector, limit, scan, excluded)
        scans.append((len(scan.rows), len(result[0])))
        return result

    monkeypatch.setattr(_Block, "compare", watched)
    assert found(index, place[0], 5) == brute_force(rows, np.arange(500), place[0], 5)
    assert scans == [(5 + SPARE_MATCHES, 500)]  # the scan was too short


def test_a_search_in_an_empty_index_finds_nothing():
    index = ExactIndex(8)
    assert found(index, unit(np.ones(8)), 5) == []
    assert len(index) == 0


def test_vectors_are_found_after_their_array_was_used_again():
    index, buffer = ExactIndex(8), unit(np.ones((1, 8)))
    index.add(np.array([0]), buffer)
    buffer[:] = np.eye(8)[0]
    assert found(index, unit(np.ones(8)), 1) == [(0, pytest.approx(1.0))]


@pytest.mark.usefixtures("blocks")
def test_many_vectors_at_once_are_as_many_one_by_one():
    rows = random_rows(np.random.default_rng(4), 300, 40)
    index = ExactIndex(40)
    index.add(np.arange(0, 900, 3), rows)
    assert found(index, rows[9], 300) == brute_force(rows, np.arange(0, 900, 3), rows[9], 300)


@pytest.mark.usefixtures("blocks")
def test_vectors_can_be_had_back_in_any_order():
    rows = random_rows(np.random.default_rng(5), 300, 40)
    index = filled(rows)
    ids = np.random.default_rng(6).permutation(300)[:100]
    assert np.array_equal(index.vectors(ids), rows[ids])
    assert index.vectors(np.empty(0, np.int64)).shape == (0, 40)
    with pytest.raises(KeyError, match="300"):
        index.vectors(np.array([4, 300]))


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("seed", range(5))
def test_any_sequence_of_changes_leaves_what_a_dictionary_would_hold(seed: int):
    choice, rng = random.Random(seed), np.random.default_rng(seed)
    index, kept, given = ExactIndex(40), dict[int, np.ndarray](), 0
    for _ in range(150):
        match choice.choices(["add", "remove"], [60, 15])[0]:
            case "add":
                rows = clustered_rows(rng, choice.randint(1, 12), 40)
                ids = given + np.arange(len(rows))
                index.add(ids, rows)
                kept |= dict(zip(ids.tolist(), rows, strict=True))
                given += len(rows)
            case "remove":
                doomed = choice.sample([*kept], choice.randint(0, len(kept) // 2))
                index.remove(np.array(doomed, np.int64))
                kept = {each: row for each, row in kept.items() if each not in doomed}
        assert len(index) == len(kept)
        if kept:
            rows, query = np.stack([*kept.values()]), random_rows(rng, 1, 40)[0]
            assert found(index, query, 7) == brute_force(rows, np.array([*kept]), query, 7)
            assert np.array_equal(index.vectors(np.array([*kept])), rows)


def test_removing_what_is_not_there_removes_nothing():
    index = filled(random_rows(np.random.default_rng(5), 4, 8))
    index.remove(np.array([1]))
    with pytest.raises(KeyError, match="1"):
        index.remove(np.array([0, 1]))
    assert len(index) == 3


@pytest.mark.usefixtures("blocks")
def test_memory_is_given_back_when_all_is_removed():
    index = filled(random_rows(np.random.default_rng(6), 200, 64))
    assert index.size_bytes == 200 * (64 * 6 + 8)
    index.remove(np.arange(200))
    assert index.size_bytes == 0
    assert found(index, unit(np.ones(64)), 3) == []


def test_another_thread_may_read_while_vectors_are_added(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exact, "BLOCK_BYTES", 4 * 8 * 3)
    rows = random_rows(np.random.default_rng(7), 600, 8)
    index, done, errors = ExactIndex(8), threading.Event(), []

    def read() -> None:
        while not done.is_set():
            count = len(index)
            try:
                assert np.array_equal(index.vectors(np.arange(count)), rows[:count])
            except Exception as error:
                errors.append(error)

    reader = threading.Thread(target=read)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        reader.start()
        for number, row in enumerate(rows):
            index.add(np.array([number]), row[None])
    finally:
        done.set()
        reader.join()
        sys.setswitchinterval(interval_s)
    assert errors == []
