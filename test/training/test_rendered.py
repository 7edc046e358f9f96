# SPDX-License-Identifier: MIT
"""Tuples out of rendered worlds: every step its batch, every tuple its world, relations that hold."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from netvlad_ros.data.shards import Shard
from netvlad_ros.errors import WorldError
from netvlad_ros.training.batches import OTHER, SAME, UNKNOWN
from netvlad_ros.training.rendered import RenderedTuples
from netvlad_ros.worlds.camera import Camera
from netvlad_ros.worlds.groups import GroupConfig
from netvlad_ros.worlds.rendering import Rendering, render_missing, shards

pytestmark = pytest.mark.needs("panda3d")

CAMERA = Camera(64, 48)
GROUP = GroupConfig(positives=2, negatives=3, conditions=1)
LONELY = GroupConfig(positives=2, negatives=0, conditions=1)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> list[Shard]:
    """Five worlds of three groups."""
    return _rendered(tmp_path_factory.mktemp("cache"), GROUP)


def _rendered(folder: Path, group: GroupConfig) -> list[Shard]:
    rendering = Rendering(5, 3, ("room", "corridor"), 0, CAMERA, group)
    assert not any(done.problem for done in render_missing(rendering, folder, 2))
    return shards(rendering, folder)


def _where(image: np.ndarray, worlds: list[Shard]) -> tuple[int, int, int]:
    """Shard, group and number of a picture."""
    for shard, group in itertools.product(range(len(worlds)), range(3)):
        size = len(worlds[shard].groups[group].poses)
        same = (worlds[shard].images(group, range(size)) == image).all(axis=(1, 2, 3))
        if same.any():
            return shard, group, int(same.argmax())
    pytest.fail("a picture of no shard")


def _first(source: RenderedTuples, count: int, step: int = 0) -> list:
    return list(itertools.islice(source.batches(step), count))


def test_tuples_of_a_batch_are_of_different_worlds_and_inside_of_one(worlds):
    for batch in _first(RenderedTuples(worlds, 2, 1, 2), 4):
        assert batch.images.shape == (2, 4, 48, 64, 3)
        assert batch.images.dtype == np.uint8
        found = [[_where(image, worlds) for image in images] for images in batch.images]
        assert [len({shard for shard, *_ in each}) for each in found] == [1, 1]
        assert found[0][0][0] != found[1][0][0]
        assert len({place for each in found for place in each}) == 8


def test_relations_say_what_the_shards_know(worlds):
    for batch in _first(RenderedTuples(worlds, 2, 1, 2), 4):
        relation = batch.relation.reshape(2, 4, 2, 4)
        assert (relation[0, :, 1] == OTHER).all()
        for number, images in enumerate(batch.images):
            inside = relation[number, :, number]
            shard, group, query = _where(images[0], worlds)
            places = [query, *(_where(image, worlds)[2] for image in images[1:])]
            assert (inside == worlds[shard].groups[group].relation[np.ix_(places, places)]).all()
            assert inside[0].tolist() == [UNKNOWN, SAME, OTHER, OTHER]


def test_a_step_gives_the_same_batch_whenever_it_is_asked_for(worlds):
    first = _first(RenderedTuples(worlds, 2, 1, 2, seed=1), 5)
    again = _first(RenderedTuples(worlds, 2, 1, 2, seed=1), 2, step=3)
    other = _first(RenderedTuples(worlds, 2, 1, 2, seed=2), 5)
    for one, two in zip(first[3:], again, strict=True):
        assert np.array_equal(one.images, two.images)
        assert np.array_equal(one.relation, two.relation)
    assert not all(np.array_equal(a.images, b.images) for a, b in zip(first, other, strict=True))


def test_every_group_comes_once_in_an_epoch(worlds):
    source = RenderedTuples(worlds, 1, 1, 2)
    assert source.steps_per_epoch == 15
    for epoch in (0, 1):
        queries = [batch.images[0, 0] for batch in _first(source, 15, 15 * epoch)]
        groups = {_where(image, worlds)[:2] for image in queries}
        assert groups == set(itertools.product(range(5), range(3)))


def test_other_pictures_of_a_place_become_the_query_too(worlds):
    batches = _first(RenderedTuples(worlds, 1, 1, 2), 60)
    numbers = [_where(batch.images[0, 0], worlds)[2] for batch in batches]
    assert 0 in numbers
    assert set(numbers) & {1, 2}


def test_negatives_come_from_other_worlds_where_a_world_has_too_few(worlds, tmp_path):
    for batch in _first(RenderedTuples(worlds, 1, 1, 5), 3):
        shards_of = [_where(image, worlds)[0] for image in batch.images[0]]
        assert len(set(shards_of[:5])) == 1
        assert shards_of[0] not in shards_of[5:]
        assert (batch.relation[0, 2:] == OTHER).all()
    lonely = _rendered(tmp_path, LONELY)
    for batch in _first(RenderedTuples(lonely, 2, 2, 4), 3):
        assert batch.images.shape[:2] == (2, 7)
        assert (batch.relation[0, 3:] == OTHER).all()


def test_broken_pictures_cost_their_batch_only(tmp_path, caplog):
    worlds = _rendered(tmp_path, GROUP)
    path = worlds[2].folder / f"{worlds[2].world}.jpegs"
    whole = _first(RenderedTuples(worlds, 1, 1, 2), 15)
    path.write_bytes(bytes(path.stat().st_size))
    source = RenderedTuples(worlds, 1, 1, 2)
    batches = _first(source, 15)
    assert source.skipped >= 3
    assert str(path) in caplog.text
    kept = sum(np.array_equal(a.images, b.images) for a, b in zip(batches, whole, strict=True))
    assert kept == 12


@pytest.mark.parametrize(
    ("values", "message"),
    [({"positives": 3}, "at least 3 positives"), ({"tuples": 5}, "expected at least 6 worlds")],
)
def test_what_the_worlds_cannot_give_is_refused(worlds, values, message):
    with pytest.raises(WorldError, match=message):
        RenderedTuples(worlds, **({"negatives": 2} | values))
