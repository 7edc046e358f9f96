# SPDX-License-Identifier: MIT
"""Full-size VGG16-NetVLAD-PCA weights, in the format of each project: the descriptors of the original code.

The weights are made up but reproducible; the expected descriptors were computed by netvlad_tf_open itself.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vgg16_files
import vgg16_import

pytestmark = pytest.mark.slow

Facts = dict[str, Any]
MAX_BYTES = 6e9


def in_new_process(job: str, *words: object) -> str:
    command = [sys.executable, vgg16_import.__file__, job, *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(scope="module")
def files(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the weights in all formats."""
    folder = tmp_path_factory.mktemp("vgg16")
    in_new_process("write", shared / "reference/reference_weights.py", folder)
    yield folder
    for path in folder.rglob("*"):  # 2.4 GB
        if path.is_file():
            path.unlink()


@pytest.fixture(scope="module")
def expected(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "reference/netvlad_tf/expected.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def facts(files: Path, shared: Path) -> Facts:
    """What the network says of itself that was imported from the checkpoint."""
    words = (files, shared / "reference/netvlad_tf/expected.npz", files / "found.npz")
    return json.loads(in_new_process("run", *words))


@pytest.fixture(scope="module")
def found(facts: Facts, files: Path) -> dict[str, np.ndarray]:
    """What it computes."""
    with np.load(files / "found.npz") as stored:
        return dict(stored)


@pytest.mark.parametrize("descriptors", vgg16_import.IMAGES.values())
def test_descriptors_equal_those_of_netvlad_tf_open(
    descriptors: str, found: dict[str, np.ndarray], expected: dict[str, np.ndarray]
):
    ours, theirs = found[descriptors], np.atleast_2d(expected[descriptors])
    np.testing.assert_allclose(ours, theirs, rtol=0.0, atol=1e-5)
    assert (ours * theirs).sum(axis=1).min() > 0.999999


def test_every_step_on_the_way_equals_that_of_netvlad_tf_open(
    found: dict[str, np.ndarray], expected: dict[str, np.ndarray]
):
    theirs = expected["small_conv5_3_every_4th"]
    features = found["block5_conv3"][::4, ::4]
    np.testing.assert_allclose(features, theirs, rtol=0.0, atol=1e-4 * np.abs(theirs).max())
    theirs = expected["small_vlad_unnormalised"].reshape(vgg16_files.DEPTH, -1).T
    np.testing.assert_allclose(found["intra_norm"], theirs, rtol=0.0, atol=1e-5)


def test_the_imported_network_is_described_as_theirs(facts: Facts):
    config = facts["config"]
    assert facts["count"] == 149_002_051 - 3  # the average is part of our preprocessing
    assert config["input_offset"] == pytest.approx((123.68, 116.779, 103.939), abs=1e-5)
    wanted = {"channel_order": "rgb", "input_width_px": 0, "input_height_px": 0, "clusters": 64}
    wanted |= {"whitening_dims": 4096, "norm_safeguard": "added"}
    assert wanted.items() <= config.items()


def test_the_import_and_a_first_descriptor_stay_below_six_gigabytes(facts: Facts):
    assert facts["peak_bytes"] < MAX_BYTES


@pytest.mark.parametrize("name", ["frozen.pb", "struct.mat", "keras.h5"])
def test_every_format_gives_the_network_of_the_checkpoint_to_the_bit(
    name: str, files: Path, facts: Facts
):
    theirs = json.loads(in_new_process("digest", files / name))
    assert theirs["config"] == facts["config"]
    assert theirs["digests"] == facts["digests"]
    assert theirs["peak_bytes"] < MAX_BYTES
