# SPDX-License-Identifier: MIT
"""Full-size VGG16-NetVLAD-PCA weights, in the format of each project: the descriptors of the original code.

The weights are made up but reproducible; the expected descriptors were computed by netvlad_tf_open itself.
"""

import hashlib
import runpy
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import vgg16_files

from netvlad_ros.model import NetVLADNetwork
from netvlad_ros.weights import matlab, netvlad_keras, netvlad_tf
from netvlad_ros.weights.canonical import Importer
from netvlad_ros.weights.read import import_weights

pytestmark = pytest.mark.slow


def reference_weights(shared: Path) -> vgg16_files.Tensors:
    drawn = runpy.run_path(str(shared / "reference/reference_weights.py"))["netvlad_tf_open"]()
    return {name.removeprefix(vgg16_files.SCOPE): array for name, array in drawn.items()}


@pytest.fixture(scope="module")
def files(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the weights in all formats: drawn once, and not kept in memory."""
    folder = tmp_path_factory.mktemp("vgg16")
    tensors = reference_weights(shared)
    vgg16_files.write_checkpoint(folder / "checkpoint/vd16", tensors)
    vgg16_files.write_frozen(folder / "frozen.pb", tensors)
    vgg16_files.write_matlab(folder / "struct.mat", tensors)
    vgg16_files.write_keras(folder / "keras.h5", tensors)
    del tensors
    yield folder
    for path in folder.rglob("*"):  # 2.4 GB
        if path.is_file():
            path.unlink()


@pytest.fixture(scope="module")
def network(files: Path) -> Iterator[NetVLADNetwork]:
    yield import_weights(files / "checkpoint")
    keras.backend.clear_session()


@pytest.fixture(scope="module")
def expected(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "reference/netvlad_tf/expected.npz") as stored:
        return dict(stored)


@pytest.mark.parametrize(
    ("images", "descriptors"),
    [
        ("small_rgb", "small_descriptor"),
        ("street_rgb", "street_descriptor"),
        ("noise_rgb", "noise_descriptors"),
    ],
)
def test_descriptors_equal_those_of_netvlad_tf_open(
    images: str, descriptors: str, network: NetVLADNetwork, expected: dict[str, np.ndarray]
):
    batch = expected[images].astype(np.float32).reshape(-1, *expected[images].shape[-3:])
    theirs = expected[descriptors].reshape(len(batch), -1)
    ours = keras.ops.convert_to_numpy(network(batch))
    np.testing.assert_allclose(ours, theirs, rtol=0.0, atol=1e-5)
    assert (ours * theirs).sum(axis=1).min() > 0.999999


def test_every_step_on_the_way_equals_that_of_netvlad_tf_open(
    network: NetVLADNetwork, expected: dict[str, np.ndarray]
):
    steps = {name: network.get_layer(name).output for name in ("block5_conv3", "intra_norm")}
    image = expected["small_rgb"][None].astype(np.float32)
    found = keras.Model(network.input, steps)(image)
    features = keras.ops.convert_to_numpy(found["block5_conv3"])[0, ::4, ::4]
    theirs = expected["small_conv5_3_every_4th"]
    np.testing.assert_allclose(features, theirs, rtol=0.0, atol=1e-4 * np.abs(theirs).max())
    rows = keras.ops.convert_to_numpy(found["intra_norm"])[0]  # (K, D)
    theirs = expected["small_vlad_unnormalised"].reshape(vgg16_files.DEPTH, -1).T
    np.testing.assert_allclose(rows, theirs, rtol=0.0, atol=1e-5)


def test_the_imported_network_is_described_as_theirs(network: NetVLADNetwork):
    config = network.network
    assert network.count_params() == 149_002_051 - 3  # the average is part of our preprocessing
    assert config.input_offset == pytest.approx((123.68, 116.779, 103.939), abs=1e-5)
    assert (config.channel_order, config.input_width_px, config.input_height_px) == ("rgb", 0, 0)
    assert (config.clusters, config.whitening_dims, config.norm_safeguard) == (64, 4096, "added")


@pytest.fixture(scope="module")
def digests(network: NetVLADNetwork) -> dict[str, str]:
    """Of each tensor in the network that came from the checkpoint."""
    weights = ((weight.path, weight) for weight in network.weights)
    return {path: digest(keras.ops.convert_to_numpy(weight)) for path, weight in weights}


def digest(array: np.ndarray) -> str:
    assert array.dtype == np.float32
    found = hashlib.sha256(str(array.shape).encode())
    found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


@pytest.mark.parametrize(
    ("name", "importer"),
    [
        ("frozen.pb", netvlad_tf.IMPORTER),
        ("struct.mat", matlab.IMPORTER),
        ("keras.h5", netvlad_keras.IMPORTER),
    ],
)
def test_every_format_gives_the_network_of_the_checkpoint_to_the_bit(
    name: str,
    importer: Importer,
    files: Path,
    network: NetVLADNetwork,
    digests: dict[str, str],
):
    assert importer.recognises(files / name)
    weights = importer.read(files / name, None)
    assert weights.network == network.network
    assert {path: digest(tensor) for path, tensor in weights.tensors.items()} == digests
