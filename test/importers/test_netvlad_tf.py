# SPDX-License-Identifier: MIT
"""TensorFlow checkpoints and frozen graphs of netvlad_tf_open: however they are named, or refused."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from refusals import frugal_refusal, refusal
from vgg16_files import (
    CONVOLUTIONS,
    DEPTH,
    Tensors,
    thin_tensors,
    write_checkpoint,
    write_frozen,
)

from netvlad_ros.importers import detect, netvlad_tf
from netvlad_ros.importers.canonical import CanonicalWeights
from netvlad_ros.importers.detect import import_weights
from netvlad_ros.importers.netvlad_tf import IMPORTER


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], CanonicalWeights]:
    """What import_weights() would make a network of, without making it: that takes a second and 150 MB."""
    monkeypatch.setattr(detect, "to_network", lambda weights, source: weights)
    return import_weights


def check_tensors(weights: CanonicalWeights, theirs: Tensors) -> None:
    """Element by element, as the facts about their layout say."""
    ours = dict(weights.tensors)
    for name in CONVOLUTIONS:
        block, number = name.removeprefix("conv").split("_")
        for part in ("kernel", "bias"):
            found = ours.pop(f"block{block}_conv{number}/{part}")
            np.testing.assert_array_equal(found, theirs[f"{name}/{part}"])
    centres, assignment = ours.pop("netvlad/centres"), ours.pop("netvlad/assignment")
    clusters = theirs["cluster_centers"].shape[-1]
    assert centres.shape == (clusters, DEPTH)
    for k in range(clusters):
        np.testing.assert_array_equal(centres[k], -theirs["cluster_centers"][0, 0, 0, :, k])
        np.testing.assert_array_equal(assignment[:, k], theirs["assignment/kernel"][0, 0, :, k])
    if "WPCA/kernel" in theirs:
        kernel = ours.pop("whitening/kernel")
        for k, d in [(0, 0), (1, 0), (0, 1), (clusters - 1, DEPTH - 1), (1, 77)]:
            theirs_row = theirs["WPCA/kernel"][0, 0, d * clusters + k]
            np.testing.assert_array_equal(kernel[k * DEPTH + d], theirs_row)
        np.testing.assert_array_equal(ours.pop("whitening/bias"), theirs["WPCA/bias"])
    assert not ours


@pytest.mark.parametrize(
    "named",
    ["", "vd16.index", "vd16.data-00000-of-00001", "vd16.meta", "vd16"],
    ids=lambda name: name or "folder",
)
def test_a_checkpoint_may_be_named_by_folder_prefix_or_any_of_its_files(
    named: str, imported: Callable[[Path], CanonicalWeights], tmp_path: Path
):
    tensors = thin_tensors()
    write_checkpoint(tmp_path / "folder/vd16", tensors)
    (tmp_path / "folder/vd16.meta").write_bytes(b"the graph, which is not needed")
    (tmp_path / "folder/checkpoint").write_text('model_checkpoint_path: "vd16"\n')
    check_tensors(imported(tmp_path / "folder" / named), tensors)


def test_the_published_zip_is_read_without_unpacking_its_graph(
    imported: Callable[[Path], CanonicalWeights], tmp_path: Path
):
    tensors = thin_tensors()
    prefix = write_checkpoint(tmp_path / "work/vd16", tensors)
    with zipfile.ZipFile(tmp_path / "netvlad.zip", "w") as archive:
        for part in sorted(prefix.parent.iterdir()):
            archive.write(part, f"vd16/{part.name}")
        archive.writestr("vd16/vd16.meta", bytes(10**7), zipfile.ZIP_DEFLATED)
    check_tensors(imported(tmp_path / "netvlad.zip"), tensors)


def test_a_frozen_graph_gives_what_the_checkpoint_gives(
    imported: Callable[[Path], CanonicalWeights], tmp_path: Path
):
    tensors = thin_tensors()
    weights = imported(write_frozen(tmp_path / "model_frozen.pb", tensors))
    check_tensors(weights, tensors)
    assert weights.network == imported(write_checkpoint(tmp_path / "vd16", tensors)).network


@pytest.mark.parametrize("scope", ["", "vgg16_netvlad_pca/", "model/netvlad/"])
def test_the_scope_of_the_variables_does_not_matter(
    scope: str, imported: Callable[[Path], CanonicalWeights], tmp_path: Path
):
    tensors = thin_tensors()
    check_tensors(imported(write_checkpoint(tmp_path / "vd16", tensors, scope)), tensors)


def test_what_the_optimiser_left_in_a_checkpoint_is_left_out(
    imported: Callable[[Path], CanonicalWeights], tmp_path: Path
):
    tensors = thin_tensors()
    slots = {f"{name}/Momentum": array + 1 for name, array in tensors.items()}
    write_checkpoint(tmp_path / "vd16", tensors | slots)
    check_tensors(imported(tmp_path / "vd16"), tensors)


def test_the_network_is_as_the_shapes_and_the_average_say(
    imported: Callable[[Path], CanonicalWeights], tmp_path: Path
):
    tensors = thin_tensors(clusters=7, dims=11)
    network = imported(write_checkpoint(tmp_path / "vd16", tensors)).network
    assert (network.backbone, network.clusters, network.whitening_dims) == ("vgg16", 7, 11)
    assert network.input_offset == tuple(map(float, tensors["average_rgb"]))
    assert (network.channel_order, network.normalise_features) == ("rgb", True)
    assert (network.norm_safeguard, network.assignment_bias) == ("added", False)
    assert (network.input_width_px, network.input_height_px) == (0, 0)


def test_a_checkpoint_without_whitening_gives_the_whole_vector(
    imported: Callable[[Path], CanonicalWeights], tmp_path: Path
):
    tensors = thin_tensors(whitened=False)
    weights = imported(write_checkpoint(tmp_path / "vd16", tensors))
    check_tensors(weights, tensors)
    assert weights.network.whitening_dims == 0


def real_tensors() -> Tensors:
    """VGG-16 as wide as it is, with one cluster and zeros everywhere: 59 MB."""
    tensors = thin_tensors(clusters=1, whitened=False)
    width = 3
    for name in CONVOLUTIONS:
        filters = min(512, 32 * 2 ** int(name[4]))
        tensors[f"{name}/kernel"] = np.zeros((3, 3, width, filters), "f4")
        tensors[f"{name}/bias"] = np.full(filters, 0.5, "f4")
        width = filters
    return tensors


def test_the_network_holds_the_weights(tmp_path: Path):
    network = import_weights(write_checkpoint(tmp_path / "vd16", real_tensors()))
    assert network.descriptor_dims == DEPTH
    for weight in network.weights:
        if weight.path.endswith("/bias"):
            assert (keras.ops.convert_to_numpy(weight) == 0.5).all()


def test_nan_weights_are_refused(tmp_path: Path):
    tensors = real_tensors()
    tensors["conv5_3/bias"][100] = np.nan
    sentence = refusal(write_checkpoint(tmp_path / "vd16", tensors))
    assert "block5_conv3/bias holds NaN" in sentence


def test_a_nan_average_is_refused(tmp_path: Path):
    tensors = thin_tensors() | {"average_rgb": np.full(3, np.nan, "f4")}
    assert "input_offset: expected one or more numbers" in refusal(
        write_checkpoint(tmp_path / "vd16", tensors)
    )


def test_convolutions_of_another_width_are_refused(tmp_path: Path):
    sentence = refusal(write_checkpoint(tmp_path / "vd16", thin_tensors()))
    assert "expected block1_conv1/kernel of shape (3, 3, 3, 64), got (3, 3, 2, 4)" in sentence


def changed(**changes: tuple[int, ...]) -> Tensors:
    """Thin tensors of which some have another shape."""
    shapes = {name.replace("__", "/"): shape for name, shape in changes.items()}
    return thin_tensors() | {name: np.ones(shape, "f4") for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        (
            changed(cluster_centers=(1, 1, 1, DEPTH, 4)),
            "expected cluster centres of shape (512, 3)",
        ),
        (changed(cluster_centers=(1, 1, 1, 128, 3)), "expected cluster centres of shape (512, 3)"),
        (changed(cluster_centers=(2, 1, 1, 256, 3)), "the cluster centres can't have shape (2, 1"),
        (changed(assignment__kernel=(3,)), "the soft assignment can't have shape (3,)"),
        (changed(average_rgb=(1,)), "expected an average of 3 values"),
        (changed(WPCA__kernel=(1, 1, 1500, 5)), "expected a whitening of 1536 rows"),
        (changed(WPCA__kernel=(5,)), "expected a whitening of 1536 rows"),
        (changed(WPCA__bias=(500_000,)), "expected whitening/kernel of shape (1536, 500000), got"),
        (changed(WPCA__bias=(2_000_000,)), "whitening_dims: expected 0 to 1e+06"),
    ],
)
@pytest.mark.parametrize("write", [write_checkpoint, write_frozen])
def test_clusters_and_whitening_that_do_not_fit_each_other_are_refused(
    tensors: Tensors, reason: str, write: Callable[[Path, Tensors], Path], tmp_path: Path
):
    assert reason in refusal(write(tmp_path / "weights", tensors))


@pytest.mark.parametrize(
    "name", ["conv1_1/kernel", "conv4_2/bias", "assignment/kernel", "WPCA/kernel", "WPCA/bias"]
)
@pytest.mark.parametrize("write", [write_checkpoint, write_frozen])
def test_a_missing_variable_is_named(
    name: str, write: Callable[[Path, Tensors], Path], tmp_path: Path
):
    tensors = thin_tensors()
    del tensors[name]
    sentence = refusal(write(tmp_path / "weights", tensors))
    assert f"the variable vgg16_netvlad_pca/{name} is missing" in sentence


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path):
    write_checkpoint(tmp_path / "resnet", {"conv1/kernel": np.ones((7, 7, 3, 4), "f4")})
    sentence = refusal(tmp_path / "resnet.index")
    assert "expected the variables of netvlad_tf_open" in sentence
    assert "got vgg16_netvlad_pca/conv1/kernel" in sentence


def test_a_folder_of_two_checkpoints_asks_for_one(tmp_path: Path):
    for name in ("epoch1", "epoch2"):
        write_checkpoint(tmp_path / name, thin_tensors())
    assert "got 2 (epoch1, epoch2); name one of them" in refusal(tmp_path)


def test_a_checkpoint_without_its_values_says_which_file_to_copy(tmp_path: Path):
    prefix = write_checkpoint(tmp_path / "vd16", thin_tensors())
    shard = tmp_path / "vd16.data-00000-of-00001"
    content = shard.read_bytes()
    shard.unlink()
    for path in (prefix, tmp_path, tmp_path / "vd16.index"):
        assert "expected vd16.data-00000-of-00001 beside vd16.index" in refusal(path)
    (tmp_path / "vd16.data-00001-of-00002").write_bytes(content)
    assert "expected vd16.data-00000-of-00002 beside vd16.index" in refusal(tmp_path)


def test_values_without_their_index_are_refused_with_the_known_origins(tmp_path: Path):
    write_checkpoint(tmp_path / "vd16", thin_tensors())
    (tmp_path / "vd16.index").unlink()
    assert "expected weights of uzh-rpg/netvlad_tf_open" in refusal(
        tmp_path / "vd16.data-00000-of-00001"
    )


@pytest.mark.parametrize("part", ["vd16.index", "vd16.data-00000-of-00001"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 0.9, 0.999])
def test_a_checkpoint_cut_short_is_refused(part: str, share: float, tmp_path: Path):
    write_checkpoint(tmp_path / "vd16", thin_tensors())
    content = (tmp_path / part).read_bytes()
    (tmp_path / part).write_bytes(content[: int(share * len(content))])
    refusal(tmp_path / part)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_flipped_bit_in_the_values_is_noticed(share: float, tmp_path: Path):
    write_checkpoint(tmp_path / "vd16", thin_tensors())
    shard = tmp_path / "vd16.data-00000-of-00001"
    content = bytearray(shard.read_bytes())
    content[int(share * len(content))] ^= 1
    shard.write_bytes(content)
    assert "this checkpoint is damaged" in refusal(tmp_path)


def test_an_index_that_declares_more_than_there_is_claims_no_memory(tmp_path: Path):
    tensors = thin_tensors(clusters=1) | {"WPCA/kernel": np.zeros((1, 1, DEPTH, 50_000), "f4")}
    write_checkpoint(tmp_path / "vd16", tensors)
    os.truncate(tmp_path / "vd16.data-00000-of-00001", 10_000)
    assert "bytes of variables, but 10000 are there" in frugal_refusal(tmp_path, IMPORTER)


def test_an_endless_index_is_not_read(tmp_path: Path):
    write_checkpoint(tmp_path / "vd16", thin_tensors())
    index = tmp_path / "vd16.index"
    index.write_bytes(bytes(2_000_000) + index.read_bytes())
    assert "expected an index of at most" in frugal_refusal(tmp_path, IMPORTER)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_a_frozen_graph_cut_short_is_refused(share: float, tmp_path: Path):
    path = write_frozen(tmp_path / "model_frozen.pb", thin_tensors())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refusal(path)


class Intruder:
    """Writes a file when it is unpickled."""

    def __init__(self, traces: Path) -> None:
        self.traces = traces

    def __reduce__(self):
        return Path.touch, (self.traces,)


@pytest.mark.parametrize("name", ["vd16.index", "model.pb", "net.mat", "weights.h5", "net.zip"])
def test_a_pickle_under_any_name_is_refused_and_not_run(name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(pickle.dumps(Intruder(tmp_path / "traces")))
    assert refusal(tmp_path / name).startswith("expected weights of ")
    assert not (tmp_path / "traces").exists()


def test_only_their_files_are_recognised(tmp_path: Path):
    write_checkpoint(tmp_path / "vd16", thin_tensors())
    assert netvlad_tf.recognises(tmp_path / "vd16")
    for content in (b"", b"text", bytes(5000)):
        (tmp_path / "other.index").write_bytes(content)
        assert not netvlad_tf.recognises(tmp_path / "other.index")
        assert not netvlad_tf.recognises(tmp_path / "other")
    assert not netvlad_tf.recognises(tmp_path / "absent/folder")
