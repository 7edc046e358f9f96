# SPDX-License-Identifier: MIT
"""The index finds exactly what comparing with every single descriptor finds."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netvlad_ros.errors import DatabaseError, DescriptorError
from netvlad_ros.retrieval import index as index_module
from netvlad_ros.retrieval.index import SPARE_MATCHES, KeyframeIndex, _Block
from netvlad_ros.retrieval.keyframes import Keyframe


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


def filled(rows: np.ndarray) -> KeyframeIndex:
    index = KeyframeIndex("model", rows.shape[1])
    for stamp_ns, row in enumerate(rows):
        index.add(row, stamp_ns)
    return index


def brute_force(rows: np.ndarray, ids: np.ndarray, query: np.ndarray, k: int) -> list[tuple]:
    """(id, similarity) by comparing with every row; of equal similarity the older first."""
    similarities = np.einsum("nd,d->n", rows, query)
    order = np.lexsort((ids, -similarities))[:k]
    return [(int(ids[i]), float(similarities[i])) for i in order]


def found(index: KeyframeIndex, query: np.ndarray, k: int) -> list[tuple]:
    return [(each.keyframe.keyframe_id, each.similarity) for each in index.search(query, k)]


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Everything holds for one block of descriptors and for many small ones."""
    if request.param == "many blocks":
        monkeypatch.setattr(index_module, "BLOCK_BYTES", 8000)
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


def test_similarities_are_those_of_single_precision():
    rows = random_rows(np.random.default_rng(1), 50, 4096)
    for match in filled(rows).search(rows[7], 50):
        wanted = rows[match.keyframe.keyframe_id].astype(np.float64) @ rows[7]
        assert match.similarity == pytest.approx(wanted, abs=1e-6)


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

    def watched(self: _Block, descriptor: np.ndarray, limit: float, scan: Any) -> Any:
        result = compare(self, descriptor, limit, scan)
        scans.append((len(scan.rows), len(result[0])))
        return result

    monkeypatch.setattr(_Block, "compare", watched)
    assert found(index, place[0], 5) == brute_force(rows, np.arange(500), place[0], 5)
    assert scans == [(5 + SPARE_MATCHES, 500)]  # the scan was too short


def test_a_search_in_an_empty_index_finds_nothing():
    query = unit(np.ones(8))
    index = KeyframeIndex("model", 8)
    assert index.search(query, 5) == []
    index.add(query, 0)
    index.reset()
    assert index.search(query, 5) == []


def test_descriptors_are_found_after_their_array_was_used_again():
    index, buffer = KeyframeIndex("model", 8), unit(np.ones(8))
    index.add(buffer, 0)
    buffer[:] = np.eye(8)[0]
    assert found(index, unit(np.ones(8)), 1) == [(0, pytest.approx(1.0))]


def test_a_descriptor_may_be_a_view():
    rows = random_rows(np.random.default_rng(4), 6, 16)
    index = filled(np.ascontiguousarray(rows.T[::-1].T))
    assert found(index, rows[2, ::-1], 6)[0] == (2, pytest.approx(1.0))


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("seed", range(5))
def test_any_sequence_of_changes_leaves_what_a_dictionary_would_hold(seed: int, tmp_path: Path):
    """Ids stay with their descriptors and are never given twice."""
    choice, rng = random.Random(seed), np.random.default_rng(seed)
    index, kept, given = KeyframeIndex("model", 40), dict[int, np.ndarray](), 0
    actions = {"add": 60, "remove": 15, "save and load": 10, "reset": 3}
    for stamp_ns in range(150):
        match choice.choices([*actions], [*actions.values()])[0]:
            case "add":
                for row in clustered_rows(rng, choice.randint(1, 12), 40):
                    assert index.add(row, stamp_ns, session=3) == Keyframe(given, 3, stamp_ns)
                    kept[given] = row
                    given += 1
            case "remove":
                doomed = choice.sample([*kept], choice.randint(0, len(kept) // 2))
                index.remove(doomed)
                kept = {each: row for each, row in kept.items() if each not in doomed}
            case "save and load":
                index.save(tmp_path / "map.db")
                index = KeyframeIndex.load(tmp_path / "map.db")
            case "reset":
                index.reset()
                kept = {}
        assert [each.keyframe_id for each in index.keyframes] == [*kept]
        if kept:
            rows, query = np.stack([*kept.values()]), random_rows(rng, 1, 40)[0]
            assert found(index, query, 7) == brute_force(rows, np.array([*kept]), query, 7)


def test_removing_what_is_not_there_removes_nothing():
    index = filled(random_rows(np.random.default_rng(5), 4, 8))
    index.remove([1])
    with pytest.raises(DatabaseError, match=r"^there is no keyframe 1; its id was never given or"):
        index.remove([0, 1])
    assert [each.keyframe_id for each in index.keyframes] == [0, 2, 3]


@pytest.mark.usefixtures("blocks")
def test_memory_is_given_back_when_all_is_removed():
    index = filled(random_rows(np.random.default_rng(6), 200, 64))
    assert index.size_bytes == 200 * (64 * 6 + 8)
    index.remove(range(200))
    assert index.size_bytes == 0
    assert index.search(unit(np.ones(64)), 3) == []


def test_an_emptied_index_takes_other_descriptors_and_goes_on_with_the_ids():
    index = filled(random_rows(np.random.default_rng(7), 4, 8)).emptied("other", 3)
    assert len(index) == 0
    assert index.add(unit(np.ones(3)), 9).keyframe_id == 4


@pytest.mark.parametrize(
    ("descriptor", "received"),
    [
        (np.ones(9, np.float32) / 3, r"float32 of shape \(9,\)"),
        (np.ones((1, 8), np.float32), r"float32 of shape \(1, 8\)"),
        (np.ones(8) / np.sqrt(8), r"float64 of shape \(8,\)"),
        (np.ones(8, np.float16), r"float16 of shape \(8,\)"),
        (np.full(8, np.nan, np.float32), "length nan"),
        (np.full(8, np.inf, np.float32), "length inf"),
        (np.zeros(8, np.float32), "length 0"),
        (np.ones(8, np.float32), r"length 2\.828"),
        (unit(np.ones(8)) * np.float32(1.002), r"length 1\.002"),
    ],
)
def test_what_is_no_descriptor_of_this_index_is_refused(descriptor: np.ndarray, received: str):
    index = filled(random_rows(np.random.default_rng(8), 3, 8))
    for use in (index.check, lambda each: index.add(each, 1), lambda each: index.search(each, 1)):
        with pytest.raises(
            DescriptorError, match=f"^expected a descriptor of .*, got .*{received}"
        ):
            use(descriptor)
    assert len(index) == 3


def test_a_descriptor_of_another_model_is_refused():
    index = KeyframeIndex("model@320x240", 8)
    index.check_fingerprint("model@320x240")
    with pytest.raises(
        DescriptorError, match=r"holds descriptors of model model@320x240, got one of m2"
    ):
        index.check_fingerprint("m2")


def test_it_knows_whether_there_is_something_to_save(tmp_path: Path):
    path, index = tmp_path / "map.db", KeyframeIndex("model", 8)
    states = [index.has_unsaved_changes]
    rows = random_rows(np.random.default_rng(9), 3, 8)
    for change in (
        lambda: index.add(rows[0], 0),
        lambda: index.save(path),
        lambda: index.remove([]),
        lambda: index.remove([0]),
        lambda: index.save(path),
        index.reset,
        lambda: index.add(rows[1], 1),
        lambda: index.save(path),
        index.reset,
    ):
        change()
        states.append(index.has_unsaved_changes)
    assert states == [False, True, False, False, True, False, False, True, False, True]
    assert not KeyframeIndex.load(path).has_unsaved_changes
