# SPDX-License-Identifier: MIT
"""`netvlad cluster` gives a model the clusters of some images, and says which of them it could not use."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from tiny_networks import save_tiny_network

from netvlad_ros.model import load_model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cluster(netvlad: Run) -> Run:
    return partial(netvlad, "cluster")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny_network(tmp_path / "model.keras", whitening_dims=8)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six pictures, and a file that is none."""
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for number in range(6):
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 256, (60, 80, 3), np.uint8))
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def test_a_model_gets_the_clusters_of_the_images(cluster, model, images, tmp_path):
    output, saved = tmp_path / "out.keras", tmp_path / "clusters.hdf5"
    words = ("--size", "64x48", "--per-image", 20, "--iterations", 5, "--save", saved)
    code, text, errors = cluster(model, images, "-o", output, *words)
    assert (code, errors) == (0, "")
    assert "4 clusters of 120 local descriptors of 6 images, 1 skipped" in text
    assert "--fit-whitening" in text
    before, after = (load_model(path).get_layer("netvlad") for path in (model, output))
    with h5py.File(saved) as file:
        assert file["descriptors"].shape == (120, 32)
        assert np.array_equal(file["centroids"], np.array(after.centres))
    assert not np.allclose(np.array(before.centres), np.array(after.centres))


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        ("nowhere", "out.keras", "there is no such file or folder"),
        ("images", "out.h5", "expected a name ending in .keras"),
    ],
)
def test_what_cannot_be_done_is_told_and_nothing_written(
    cluster, model, images, tmp_path, source, output, message
):
    code, _, errors = cluster(model, tmp_path / source, "-o", tmp_path / output)
    assert code == 1
    assert message in errors
    assert not (tmp_path / output).exists()
