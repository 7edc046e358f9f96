# SPDX-License-Identifier: MIT
"""What a run takes is checked before it takes long."""

from pathlib import Path

import numpy as np
import pytest

from netvlad_ros.commands.train import render_worlds
from netvlad_ros.data.shards import SETTINGS, Shard, read_shards
from netvlad_ros.errors import DatasetError, ModelError, WorldError
from netvlad_ros.training.config import DataConfig, load_training_config
from netvlad_ros.training.data import open_data
from netvlad_ros.training.trainer import train


def render_nothing(config: DataConfig, worlds: int, first_seed: int) -> list[Shard]:
    pytest.fail("asked for rendered worlds")


def test_nothing_is_rendered_for_places_that_can_not_be_read(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    words = [f"data.source={tmp_path / 'absent.csv'}", f"data.cache_folder={cache}"]
    with pytest.raises(DatasetError, match=r"absent\.csv: there is no such file"):
        open_data(load_training_config(None, words), tmp_path, render_nothing)
    assert not cache.exists()


def test_nothing_is_rendered_for_a_network_that_can_not_be_built(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    words = ["network.cut_layer=absent", f"data.cache_folder={cache}"]
    config = load_training_config(None, words)
    with pytest.raises(ModelError, match="no layer 'absent'"):
        train(config, tmp_path / "run", None, render_nothing)  # type: ignore[arg-type]
    assert not cache.exists()


SMALL = [
    *("data.image_width_px=64", "data.image_height_px=48", "data.kinds=[room]", "data.worlds=3"),
    *("data.groups_per_world=2", "data.world_positives=1", "data.world_negatives=2"),
    *("data.workers=1", "tuples.tuples_per_batch=2", "tuples.negatives=2"),
]


def test_a_folder_of_shards_is_learned_from_like_any_other_set(tmp_path: Path) -> None:
    words = [*SMALL, f"data.cache_folder={tmp_path}", "data.validation="]
    rendered = open_data(load_training_config(None, words), tmp_path, render_worlds)
    (folder,) = tmp_path.glob("worlds-*")
    words = [*SMALL, f"data.source={folder}", f"data.validation={folder}"]
    read = open_data(load_training_config(None, words), tmp_path, render_nothing)
    assert read.validation is not None
    one, other = next(rendered.source.batches(0)), next(read.source.batches(0))
    assert np.array_equal(one.images, other.images)
    assert np.array_equal(one.relation, other.relation)
    for each in (rendered, read):
        each.source.close()


def test_a_folder_without_a_complete_shard_is_refused(tmp_path: Path) -> None:
    (tmp_path / SETTINGS).write_text("{}")
    (tmp_path / "room-1.json").write_text('{"groups": []}')
    with pytest.raises(WorldError, match="found no complete one"):
        read_shards(tmp_path)
