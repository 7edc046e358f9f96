# SPDX-License-Identifier: MIT
"""What a run takes is checked before it takes long."""

from pathlib import Path

import pytest

from netvlad_ros.errors import DatasetError, ModelError
from netvlad_ros.training.config import load_training_config
from netvlad_ros.training.data import open_data
from netvlad_ros.training.trainer import train


def test_nothing_is_rendered_for_places_that_can_not_be_read(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    words = [f"data.source={tmp_path / 'absent.csv'}", f"data.cache_folder={cache}"]
    with pytest.raises(DatasetError, match=r"absent\.csv: there is no such file"):
        open_data(load_training_config(None, words), tmp_path)
    assert not cache.exists()


def test_nothing_is_rendered_for_a_network_that_can_not_be_built(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    words = ["network.cut_layer=absent", f"data.cache_folder={cache}"]
    with pytest.raises(ModelError, match="no layer 'absent'"):
        train(load_training_config(None, words), tmp_path / "run", None)  # type: ignore[arg-type]
    assert not cache.exists()
