# SPDX-License-Identifier: MIT
"""Mined tuples: the nearest positive, the hardest negatives, each step its batch, and nothing fatal."""

import itertools
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_networks import tiny_network

from netvlad_ros.data.places import PlaceDataset, PlaceImages
from netvlad_ros.errors import DatasetError, ImageError
from netvlad_ros.model.forward import compile_forward
from netvlad_ros.training.batches import OTHER, SAME, UNKNOWN
from netvlad_ros.training.config import MiningConfig, TupleConfig
from netvlad_ros.training.mining import MinedTuples

SIZE_PX = (40, 32)
ROOT = Path("/nowhere")
MINING = MiningConfig(refresh_every_queries=8, pool=12, remembered=3)
TUPLES = TupleConfig(tuples_per_batch=2, positives=1, negatives=3)


@dataclass(frozen=True)
class Pixels:
    """Coarse made-up pictures; those of numbers in `broken` can't be read."""

    seed: int
    count: int
    broken: frozenset[int] = frozenset()
    root: Path = ROOT

    @property
    def names(self) -> list[str]:
        return [f"{self.seed}-{number}.jpg" for number in range(self.count)]

    def file(self, index: int) -> Path:
        return self.root / self.names[index]

    def read(self, index: int) -> np.ndarray:
        if index in self.broken:
            raise ImageError(f"{self.file(index)}: is broken")
        rng = np.random.default_rng([self.seed, index])
        return rng.integers(0, 256, (4, 5, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)


def places(broken: tuple[int, ...] = (), broken_queries: tuple[int, ...] = ()) -> PlaceDataset:
    """Twelve queries a kilometre apart, three positives each within 10 m, and one image at 20 m."""
    queries = np.array([[1000.0 * n, 0.0] for n in range(12)])
    database = np.concatenate([queries + np.array([0.0, y]) for y in (2.0, 5.0, 8.0, 20.0)])
    return PlaceDataset(
        "made-up",
        PlaceImages(Pixels(1, 48, frozenset(broken)), database),
        PlaceImages(Pixels(2, 12, frozenset(broken_queries)), queries),
    )


def source(folder: Path, dataset: PlaceDataset | None = None, **values: Any) -> MinedTuples:
    tuples, mining = replace(TUPLES), replace(MINING, **values)
    return MinedTuples(dataset or places(), SIZE_PX, folder, tuples, mining, seed=5)


def first(source: MinedTuples, count: int, step: int = 0) -> list[Any]:
    return list(itertools.islice(source.batches(step), count))


def where(image: np.ndarray) -> tuple[bool, int]:
    """Whether it is a query, and its number."""
    for is_query, pixels in ((True, Pixels(2, 12)), (False, Pixels(1, 48))):
        for number in range(pixels.count):
            if np.array_equal(pixels.read(number), image):
                return is_query, number
    pytest.fail("a picture of nowhere")


def descriptors(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Of the database and of the queries, as float32."""
    forward = compile_forward(model, "auto")
    return tuple(  # type: ignore[return-value]
        forward(np.stack([pixels.read(number) for number in range(pixels.count)]))
        for pixels in (Pixels(1, 48), Pixels(2, 12))
    )


def test_the_positive_is_the_nearest_and_the_negatives_are_the_hardest(tmp_path):
    model = tiny_network()
    mined = source(tmp_path, pool=1000)
    mined.refresh(model, 0)
    of_database, of_queries = descriptors(model)
    for batch in first(mined, 4):
        for images in batch.images:
            (is_query, query), *others = (where(image) for image in images)
            assert is_query
            assert not any(side for side, _ in others)
            found = [number for _, number in others]
            distances = np.linalg.norm(of_database - of_queries[query], axis=1)
            near = query + 12 * np.arange(3)
            assert found[0] == near[distances[near].argmin()]
            far = np.flatnonzero(np.arange(48) % 12 != query)
            hardest = np.sort(distances[far])[:3]
            assert distances[found[1:]] == pytest.approx(hardest, abs=1e-3)


def test_relations_follow_from_the_positions(tmp_path):
    for batch in first(source(tmp_path), 6):
        images = [where(image) for image in batch.flat_images]
        y_m = np.array([0.0 if is_query else (2, 5, 8, 20)[n // 12] for is_query, n in images])
        place = np.array([number % 12 for _, number in images])
        near = place[:, None] == place
        apart_m = np.abs(y_m[:, None] - y_m)
        expected = np.where(near & (apart_m <= 10), SAME, np.where(near, UNKNOWN, OTHER))
        itself = np.array([[one == other for one in images] for other in images])
        assert np.array_equal(batch.relation, np.where(itself, UNKNOWN, expected))
        assert batch.relation[0, :5].tolist() == [UNKNOWN, SAME, OTHER, OTHER, OTHER]


def test_every_query_comes_once_in_an_epoch(tmp_path):
    mined = source(tmp_path)
    assert mined.steps_per_epoch == 6
    for epoch in (0, 1):
        queries = [where(images[0])[1] for b in first(mined, 6, 6 * epoch) for images in b.images]
        assert sorted(queries) == list(range(12))


def same(one: list[Any], other: list[Any]) -> bool:
    return all(
        np.array_equal(a.images, b.images) and np.array_equal(a.relation, b.relation)
        for a, b in zip(one, other, strict=True)
    )


def test_a_resumed_source_gives_the_batches_of_an_uninterrupted_one(tmp_path):
    """Pools of 6 of 44 negatives: what is remembered decides which are the hardest."""
    early, late = tiny_network(), tiny_network()
    late.get_layer("netvlad").centres.assign(late.get_layer("netvlad").centres * 3)

    def batches(mined: MinedTuples, begin: int, end: int) -> list[Any]:
        found = []
        for step in range(begin, end):
            if step % mined.refresh_every_steps == 0:
                mined.refresh(early if step == 0 else late, step)
            found += first(mined, 1, step)
            list(itertools.islice(mined.batches(step + 1), 2))  # read ahead, in vain
        return found

    whole = source(tmp_path / "whole", pool=6)
    assert whole.refresh_every_steps == 4
    expected = batches(whole, 0, 12)
    for end in (3, 4, 10):
        killed = source(tmp_path / str(end), pool=6)
        batches(killed, 0, end)
        state = killed.state(end)
        batches(killed, end, min(12, end + 2))  # was not kept
        resumed = source(tmp_path / str(end), pool=6)
        resumed.restore({name: np.array(value) for name, value in state.items()})
        assert same(batches(resumed, end, 12), expected[end:])
    forgetful = source(tmp_path / "forgetful", pool=6, remembered=0)
    assert not same(batches(forgetful, 0, 12), expected)


def test_what_was_hard_is_looked_at_again(tmp_path):
    """The hardest negatives found in many epochs are nearly those of all."""

    def hardness(remembered: int) -> float:
        mined = source(
            tmp_path / str(remembered), pool=6, remembered=remembered, refresh_every_queries=0
        )
        model = tiny_network()
        mined.refresh(model, 0)
        of_database, of_queries = descriptors(model)
        total = 0.0
        for batch in first(mined, 30)[24:]:
            for images in batch.images:
                query, *_, one, two, three = (where(image)[1] for image in images)
                total += float(np.linalg.norm(of_database[[one, two, three]] - of_queries[query]))
        return total

    assert hardness(3) < 0.99 * hardness(0)


def test_an_interrupted_refresh_goes_on_where_it_was(tmp_path, monkeypatch):
    model = tiny_network()
    mined = source(tmp_path)
    reads = itertools.count()

    def interrupted(self: Pixels, index: int) -> np.ndarray:
        if next(reads) == 40:
            raise KeyboardInterrupt
        return original(self, index)

    original = Pixels.read
    monkeypatch.setattr(Pixels, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mined.refresh(model, 0)
    again = source(tmp_path)
    count = 0

    def counted(self: Pixels, index: int) -> np.ndarray:
        nonlocal count
        count += 1
        return original(self, index)

    monkeypatch.setattr(Pixels, "read", counted)
    again.refresh(model, 0)
    assert 48 + 8 - 40 <= count <= 48 + 8 - 16
    count = 0
    again.refresh(model, 0)
    assert count == 0


def test_broken_images_are_told_once_and_replaced(tmp_path):
    broken, broken_queries = (0, 1, 13, 25, 30), (7,)
    mined = source(tmp_path, places(broken, broken_queries))
    mined.refresh(tiny_network(), 0)
    for batch in first(mined, 14):
        numbers = [where(image) for image in batch.flat_images]
        assert not {n for is_query, n in numbers if not is_query} & set(broken)
        assert not {n for is_query, n in numbers if is_query} & {1, 7}  # 1 has no positive left
        assert batch.images.shape == (2, 5, 32, 40, 3)
    assert mined.skipped.count == 6
    assert any("1-13.jpg: is broken" in problem for problem in mined.skipped.problems)


def test_queries_without_positives_are_left_out_and_counted(tmp_path):
    dataset = places()
    moved = dataset.queries.positions_m.copy()
    moved[[3, 9], 1] = 500.0
    dataset = replace(dataset, queries=replace(dataset.queries, positions_m=moved))
    mined = source(tmp_path, dataset)
    assert mined.queries_left_out == 2
    assert mined.steps_per_epoch == 5
    with pytest.raises(DatasetError, match="at least 4 positives within 10 m, got 0 among 12"):
        MinedTuples(places(), SIZE_PX, tmp_path, TupleConfig(positives=4))


def test_a_sequence_never_takes_an_image_for_its_own_positive(tmp_path):
    both = places().database
    mined = source(tmp_path, PlaceDataset("one", both, both))
    mined.refresh(tiny_network(), 0)
    for batch in first(mined, 6):
        for images in batch.images:
            numbers = [where(image)[1] for image in images]
            assert len(set(numbers)) == len(numbers)
    assert not (tmp_path / "queries.npy").exists()


def test_who_looks_another_way_is_not_the_same(tmp_path):
    dataset = places()
    headings = np.zeros(48)
    headings[12:24] = 2.0
    dataset = replace(
        dataset,
        database=replace(dataset.database, headings_rad=headings),
        queries=replace(dataset.queries, headings_rad=np.zeros(12)),
        heading_tolerance_rad=0.5,
    )
    for batch in first(source(tmp_path, dataset), 6):
        numbers = np.array([where(image)[1] for image in batch.flat_images])
        sides = np.array([where(image)[0] for image in batch.flat_images])
        turned = ~sides & (numbers >= 12) & (numbers < 24)
        assert (batch.relation[turned][:, ~turned] != SAME).all()


def test_descriptors_that_are_gone_cost_the_mining_until_the_next_refresh_only(tmp_path, caplog):
    mined = source(tmp_path)
    mined.refresh(tiny_network(), 0)
    first(mined, 3)
    state = mined.state(3)
    for folder in tmp_path.iterdir():
        shutil.rmtree(folder)
    resumed = source(tmp_path)
    resumed.restore(state)
    assert "are gone" in caplog.text
    assert len(first(resumed, 2, 3)) == 2


def test_old_descriptors_are_removed_but_for_those_of_the_checkpoint(tmp_path):
    mined, model = source(tmp_path), tiny_network()
    for step in (0, 4, 8):
        centres = model.get_layer("netvlad").centres
        centres.assign(centres * 1.1)
        mined.refresh(model, step)
        if step == 0:
            kept = str(mined.state(0)["descriptors"])
    folders = {folder.name for folder in tmp_path.iterdir()}
    assert kept in folders
    assert len(folders) == 2


def test_without_refreshing_descriptors_are_computed_once(tmp_path):
    mined = source(tmp_path, refresh_every_queries=0)
    assert 0 % mined.refresh_every_steps == 0
    assert all(step % mined.refresh_every_steps for step in range(1, 1000))


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(Exception, match="can't keep 48 descriptors of 128 dimensions"):
        source(tmp_path).refresh(tiny_network(), 0)
