# SPDX-License-Identifier: MIT
"""HDF5 files of Netvlad-Keras: known by their first layer, matched by position, or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from refusals import frugal_refusal, refusal
from vgg16_files import DEPTH, keras_layers, thin_tensors, write_checkpoint, write_keras

from netvlad_ros.importers import cartwheel, netvlad_tf
from netvlad_ros.importers.netvlad_keras import IMPORTER


@pytest.mark.parametrize("whole_model", [False, True])
def test_weights_and_model_give_what_the_checkpoint_gives(whole_model: bool, tmp_path: Path):
    tensors = thin_tensors(clusters=3, dims=5)
    path = write_keras(tmp_path / "netvlad.h5", tensors, whole_model)
    assert IMPORTER.recognises(path)
    assert not cartwheel.recognises(path)
    ours = IMPORTER.read(path, None)
    theirs = netvlad_tf.read(write_checkpoint(tmp_path / "vd16", tensors), None)
    assert ours.network == theirs.network
    assert ours.tensors.keys() == theirs.tensors.keys()
    for name, array in theirs.tensors.items():
        np.testing.assert_array_equal(ours.tensors[name], array)


def test_cartwheels_models_are_not_taken_for_theirs(shared: Path):
    for path in (shared / "reference/cartwheel").glob("*.h5"):
        assert cartwheel.recognises(path)
        assert not IMPORTER.recognises(path)


def test_the_order_of_the_file_counts_not_that_of_the_names(tmp_path: Path):
    """conv2d_9 comes before conv2d_10, but not by the alphabet in which HDF5 lists its groups."""
    names = [name for name, _ in keras_layers(thin_tensors())]
    assert names != sorted(names)
    path = write_keras(tmp_path / "netvlad.h5", thin_tensors())
    kernel = IMPORTER.read(path, None).tensors["block1_conv2/kernel"]
    np.testing.assert_array_equal(kernel, thin_tensors()["conv1_2/kernel"])


def test_names_that_are_split_over_several_attributes_are_joined(tmp_path: Path):
    path = write_keras(tmp_path / "netvlad.h5", thin_tensors())
    with h5py.File(path, "a") as file:
        names = file.attrs.pop("layer_names")
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:9], names[9:]
    assert IMPORTER.recognises(path)
    assert "block5_conv3/kernel" in IMPORTER.read(path, None).tensors


def test_either_order_of_the_two_weights_of_their_layer_is_understood(tmp_path: Path):
    path = write_keras(tmp_path / "netvlad.h5", thin_tensors())
    before = IMPORTER.read(path, None).tensors["netvlad/centres"]
    with h5py.File(path, "a") as file:
        group = file["net_vlad_2"]
        group.attrs["weight_names"] = group.attrs["weight_names"][::-1]
    np.testing.assert_array_equal(IMPORTER.read(path, None).tensors["netvlad/centres"], before)


def edited(path: Path, edit: Callable[[Any], Any]) -> Path:
    write_keras(path, thin_tensors())
    with h5py.File(path, "a") as file:
        edit(file)
    return path


def without_layer(name: str) -> Callable[[Any], Any]:
    def edit(file: Any) -> None:
        names = [each for each in file.attrs["layer_names"] if each != name.encode()]
        file.attrs["layer_names"] = names

    return edit


def with_array(name: str, array: np.ndarray) -> Callable[[Any], Any]:
    def edit(file: Any) -> None:
        del file[name]
        file[name] = array

    return edit


def with_weights(layer: str, *names: str) -> Callable[[Any], Any]:
    return lambda file: file[layer].attrs.__setitem__("weight_names", list(names))


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (without_layer("conv2d_20"), "expected 16 layers with weights, as theirs have, got 15"),
        (without_layer("net_vlad_2"), "expected 16 layers with weights, as theirs have, got 15"),
        (
            with_weights("conv2d_20", "conv2d_20/kernel:0"),
            "expected 2 weights in conv2d_20, which is a convolution by its position, got 1",
        ),
        (
            with_array(
                "net_vlad_2/net_vlad_2/cluster_centers:0", np.ones((1, 1, 1, DEPTH, 4), "f4")
            ),
            "expected cluster centres of shape (512, 3)",
        ),
        (
            with_array("net_vlad_2/net_vlad_2/kernel:0", np.ones((1, 1, 100, 3), "f4")),
            "expected cluster centres of shape (100, 3)",
        ),
        (
            with_array("conv2d_31/conv2d_31/kernel:0", np.ones((1, 1, 100, 5), "f4")),
            "expected a whitening of 1536 rows",
        ),
        (
            with_array("conv2d_31/conv2d_31/bias:0", np.ones(500_000, "f4")),
            "expected whitening/kernel of shape (1536, 500000)",
        ),
        (
            with_array("conv2d_20/conv2d_20/bias:0", np.array([b"text"])),
            "expected numbers in /conv2d_20/conv2d_20/bias:0, got |S4",
        ),
        (
            with_array(
                "substract_average_2/substract_average_2/average_rgb:0", np.full(3, np.nan, "f4")
            ),
            "input_offset: expected one or more numbers",
        ),
        (lambda file: None, "expected block1_conv1/kernel of shape (3, 3, 3, 64)"),
    ],
)
def test_another_network_is_refused_with_what_differs(
    edit: Callable[[Any], Any], reason: str, tmp_path: Path
):
    assert reason in refusal(edited(tmp_path / "netvlad.h5", edit))


@pytest.mark.parametrize("shape", [(10**12,), (1, 1, 10**6, 10**6), (2**26, 3)])
def test_a_dataset_without_data_claims_no_memory(shape: tuple[int, ...], tmp_path: Path):
    def edit(file: Any) -> None:
        name = "conv2d_18/conv2d_18/kernel:0"
        del file[name]
        file.create_dataset(name, shape, "f4", chunks=True)

    path = edited(tmp_path / "netvlad.h5", edit)
    assert "expected at most" in frugal_refusal(path, IMPORTER)


def test_zeros_that_were_compressed_to_nothing_claim_no_memory(tmp_path: Path):
    def edit(file: Any) -> None:
        name = "conv2d_31/conv2d_31/kernel:0"
        del file[name]
        zeros = np.zeros((1, 1, 1536, 50_000), "f4")
        file.create_dataset(name, data=zeros, compression="gzip", compression_opts=1)

    path = edited(tmp_path / "netvlad.h5", edit)
    assert path.stat().st_size < 5_000_000
    assert "expected at most" in frugal_refusal(path, IMPORTER)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 0.9, 0.99])
def test_a_file_cut_short_is_refused(share: float, tmp_path: Path):
    path = write_keras(tmp_path / "netvlad.h5", thin_tensors())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refusal(path)
