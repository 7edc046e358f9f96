# SPDX-License-Identifier: MIT
"""Networks of Relja/netvlad: VLAD of both versions, with whitening or not; others in one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from refusals import frugal_refusal, refusal
from scipy.io.matlab import MatlabObject
from vgg16_files import DEPTH, cell, matlab_layers, thin_tensors, write_checkpoint, write_matlab

from netvlad_ros.importers import netvlad_tf
from netvlad_ros.importers.canonical import CanonicalWeights
from netvlad_ros.importers.matlab import IMPORTER

Edit = Callable[[list[Any]], Any]


def same(ours: CanonicalWeights, theirs: CanonicalWeights) -> bool:
    return ours.tensors.keys() == theirs.tensors.keys() and all(
        np.array_equal(ours.tensors[name], array) for name, array in theirs.tensors.items()
    )


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("whitened", [False, True])
def test_a_mat_file_gives_what_the_checkpoint_gives(
    whitened: bool, compressed: bool, tmp_path: Path
):
    tensors = thin_tensors(clusters=3, whitened=whitened)
    path = write_matlab(tmp_path / "struct.mat", tensors, compressed)
    assert IMPORTER.recognises(path)
    ours = IMPORTER.read(path, None)
    theirs = netvlad_tf.read(write_checkpoint(tmp_path / "vd16", tensors), None)
    assert ours.network == theirs.network
    assert same(ours, theirs)


def test_a_mat_file_is_read_as_hloc_reads_it(tmp_path: Path):
    tensors = thin_tensors(clusters=3, dims=5)
    path = write_matlab(tmp_path / "Pitts30K_struct.mat", tensors)
    ours = IMPORTER.read(path, None).tensors
    net = scipy.io.loadmat(path, struct_as_record=False, squeeze_me=True)["net"]
    scores, negated_centres = net.layers[30].weights  # (D, K) each
    np.testing.assert_array_equal(ours["netvlad/assignment"], scores)
    np.testing.assert_array_equal(ours["netvlad/centres"], -negated_centres.T)
    kernel, bias = net.layers[33].weights  # (D * K, dims), (dims,)
    descriptor = np.random.default_rng(2).random((3, DEPTH), np.float32)  # (K, D), ours
    theirs = descriptor.T.reshape(-1) @ kernel + bias
    whitened = descriptor.reshape(-1) @ ours["whitening/kernel"] + ours["whitening/bias"]
    np.testing.assert_allclose(whitened, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("whitened", [False, True])
def test_vlad_v2_brings_its_bias(whitened: bool, tmp_path: Path):
    tensors = thin_tensors(clusters=3, whitened=whitened)
    bias = np.array([-1.5, 2.0, 0.25], np.float32)
    weights = IMPORTER.read(write_matlab(tmp_path / "v2.mat", tensors, bias=bias), None)
    assert weights.network.assignment_bias
    np.testing.assert_array_equal(weights.tensors["netvlad/bias"], bias)
    np.testing.assert_array_equal(
        weights.tensors["netvlad/centres"], -tensors["cluster_centers"][0, 0, 0].T
    )


def test_a_network_of_one_cluster_and_one_dimension_keeps_its_axes(tmp_path: Path):
    """Matlab leaves out axes of size 1 at the end."""
    tensors = thin_tensors(clusters=1, dims=1)

    def drop_axes(layers: list[Any]) -> None:
        for name in ("vlad:core", "WPCA"):
            weights = layers[place(name)]["weights"]
            for each in range(2):
                array = weights[0, each]
                weights[0, each] = array[..., 0] if array.shape[-1] == 1 else array
            if name == "WPCA":
                weights[0, 1] = tensors["WPCA/bias"].reshape(1, 1)

    path = write_matlab(tmp_path / "one.mat", tensors, edit=drop_axes)
    weights = IMPORTER.read(path, None)
    assert weights.tensors["netvlad/centres"].shape == (1, DEPTH)
    assert weights.tensors["whitening/kernel"].shape == (DEPTH, 1)


def test_double_weights_become_float32(tmp_path: Path):
    tensors = thin_tensors()
    doubles = {name: array.astype(float) for name, array in tensors.items()}
    ours = IMPORTER.read(write_matlab(tmp_path / "double.mat", doubles), None)
    assert {tensor.dtype for tensor in ours.tensors.values()} == {np.dtype(np.float32)}
    theirs = IMPORTER.read(write_matlab(tmp_path / "single.mat", tensors), None)
    assert same(ours, theirs)


def test_the_order_of_relu_and_pooling_does_not_matter(tmp_path: Path):
    def swap(layers: list[Any]) -> None:
        kinds = [layer["type"] for layer in layers]
        for number in range(len(layers) - 1):
            if kinds[number] == "pool":
                layers[number], layers[number + 1] = layers[number + 1], layers[number]

    ours = IMPORTER.read(write_matlab(tmp_path / "swapped.mat", thin_tensors(), edit=swap), None)
    theirs = IMPORTER.read(write_matlab(tmp_path / "net.mat", thin_tensors()), None)
    assert same(ours, theirs)


def test_a_network_without_normalised_features_says_so(tmp_path: Path):
    def drop(layers: list[Any]) -> None:
        del layers[place("preL2")]

    path = write_matlab(tmp_path / "net.mat", thin_tensors(), edit=drop)
    assert not IMPORTER.read(path, None).network.normalise_features


def test_the_epsilon_of_a_norm_may_be_of_single_precision(tmp_path: Path):
    param = np.array([[2 * DEPTH, 1e-12, 1, 0.5]], np.float32)
    path = write_matlab(tmp_path / "net.mat", thin_tensors(), edit=instead("preL2", param=param))
    assert IMPORTER.read(path, None).network.normalise_features


def test_pca_without_whitening_is_a_layer_like_it(tmp_path: Path):
    def rename(layers: list[Any]) -> None:
        layers[place("WPCA")]["name"] = "PCA"

    ours = IMPORTER.read(write_matlab(tmp_path / "pca.mat", thin_tensors(), edit=rename), None)
    theirs = IMPORTER.read(write_matlab(tmp_path / "net.mat", thin_tensors()), None)
    assert same(ours, theirs)


def place(name: str) -> int:
    """Where a layer is in such a network."""
    return LAYERS.index(name)


LAYERS = [layer["name"] for layer in matlab_layers(thin_tensors())]


def instead(name: str, /, **fields: Any) -> Edit:
    return lambda layers: layers[place(name)].update(fields)


def without(name: str) -> Edit:
    return lambda layers: layers.pop(place(name))


def weights(name: str, *arrays: np.ndarray) -> Edit:
    return instead(name, weights=cell(list(arrays)))


def as_object(name: str) -> Edit:
    fields = np.array([[(1.0,)]], [("K", object)])

    def edit(layers: list[Any]) -> None:
        layers[place(name)] = MatlabObject(fields, "layerVLAD")

    return edit


ONES = np.ones((1, 1, DEPTH, 3), "f4")


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (
            without("conv3_2"),
            "expected the convolutions of VGG-16, conv1_1 to conv5_3, got conv1_1",
        ),
        (instead("conv1_1", name="conv1"), "got conv1, conv1_2, conv2_1, conv2_2 and more"),
        (lambda layers: layers.clear(), "got nothing"),
        (
            without("relu3_1"),
            "expected relu after conv3_1, as in VGG-16 up to conv5_3, got nothing",
        ),
        (
            without("pool2"),
            "expected pool, relu after conv2_2, as in VGG-16 up to conv5_3, got relu",
        ),
        (
            lambda layers: layers.insert(place("preL2"), {"type": "relu", "name": "relu5_3"}),
            "expected nothing after conv5_3",
        ),
        (instead("conv2_1", pad=np.zeros((1, 4))), "expected pad 1 of layer 'conv2_1', got [0.0"),
        (instead("conv2_1", stride=2.0), "expected stride 1 of layer 'conv2_1', got [2.0]"),
        (instead("conv5_1", dilate=2.0), "expected dilate 1 of layer 'conv5_1', got [2.0]"),
        (instead("pool3", method="avg"), "expected method max of layer 'pool3', got ['avg']"),
        (instead("pool3", pool=np.full((1, 2), 3.0)), "expected pool 2 of layer 'pool3', got [3.0"),
        (instead("relu4_1", leak=0.1), "expected leak 0 of layer 'relu4_1', got [0.1]"),
        (instead("vlad:core", name="max:core"), "after conv5_3, got preL2, max:core"),
        (without("vlad:intranorm"), "only vlad and vladv2 with intra-normalisation"),
        (without("finalL2"), "expected the layers preL2, vlad:core"),
        (without("postL2"), "expected the layers preL2, vlad:core"),
        (instead("preL2", param=np.array([[5, 1, 1e-4, 0.75]])), "of layer 'preL2', an L2 norm"),
        (instead("preL2", param="no numbers"), "of layer 'preL2', an L2 norm"),
        (weights("vlad:core", ONES), "expected 2 or 3 arrays of weights in layer 'vlad:core'"),
        (weights("WPCA", ONES), "expected 2 arrays of weights in layer 'WPCA'"),
        (
            weights("conv1_1", np.zeros((0, 0)), ONES),
            "expected 2 arrays of weights in layer 'conv1",
        ),
        (instead("conv1_1", weights="none"), "expected 2 arrays of weights in layer 'conv1_1'"),
        (weights("vlad:core", ONES, ONES[..., :2]), "expected cluster centres of shape (512, 3)"),
        (weights("vlad:core", ONES[:, :, :64], ONES), "expected cluster centres of shape (64, 3)"),
        (weights("vlad:core", ONES, ONES[0, 0, 0], ONES[..., :2]), "expected cluster centres"),
        (weights("vlad:core", ONES, np.ones((1, 4)), ONES), "expected netvlad/bias of shape (3,)"),
        (weights("WPCA", np.ones((1, 1, 1000, 5)), np.ones(5)), "a whitening of 1536 rows"),
        (as_object("vlad:core"), "net.layers{31} is an object of Matlab (layerVLAD)"),
        (as_object("postL2"), "net.layers{33} is an object of Matlab (layerVLAD)"),
        (lambda layers: layers.insert(2, "text"), "expected net.layers{3} to be a struct"),
    ],
)
def test_another_network_is_refused_with_what_differs(edit: Edit, reason: str, tmp_path: Path):
    path = write_matlab(tmp_path / "net.mat", thin_tensors(), edit=edit)
    assert reason in refusal(path)


def test_objects_come_with_what_to_run_in_matlab(tmp_path: Path):
    path = write_matlab(tmp_path / "vd16.mat", thin_tensors(), edit=as_object("vlad:core"))
    assert refusal(path).endswith(
        "run in Matlab, with NetVLAD on its path: load('vd16.mat'); net.layers = cellfun(@struct, "
        "net.layers, 'UniformOutput', false); save('vd16_struct.mat', 'net', '-v7'), then import "
        "vd16_struct.mat."
    )


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"dbStruct": {"utmDb": np.zeros((2, 3))}}, "with a cell array of layers, got dbStruct"),
        ({}, "got none"),
        ({"net": "text"}, "got net"),
        (
            {"net": {"layers": cell([]), "vars": 1.0}},
            "averageImage is missing; bring the network up",
        ),
    ],
)
def test_a_mat_file_of_something_else_is_refused(
    variables: dict[str, Any], reason: str, tmp_path: Path
):
    scipy.io.savemat(tmp_path / "other.mat", variables)
    assert reason in refusal(tmp_path / "other.mat")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused_without_much_memory(
    share: float, compressed: bool, tmp_path: Path
):
    path = write_matlab(tmp_path / "net.mat", thin_tensors(), compressed)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    frugal_refusal(path, IMPORTER)


def test_a_nan_average_is_refused(tmp_path: Path):
    tensors = thin_tensors() | {"average_rgb": np.full(3, np.nan, "f4")}
    assert "input_offset: expected one or more numbers" in refusal(
        write_matlab(tmp_path / "net.mat", tensors)
    )
