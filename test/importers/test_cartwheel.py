# SPDX-License-Identifier: MIT
"""Keras 2 models of cartwheel_train: imported to the bit, or refused in one sentence."""

import base64
import json
import pickle
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from netvlad_ros.errors import WeightsError
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.importers import cartwheel, detect
from netvlad_ros.importers.detect import import_weights
from netvlad_ros.model import save_model

DEPTH = 16  # of the local features of the made-up model
Layers = list[dict[str, Any]]
Weights = dict[str, np.ndarray]


def made_up_layers(channels: int, kind: str) -> Layers:
    """The start of a MobileNet of a quarter of its width, as Keras 2.2 described it."""
    conv = {"strides": [2, 2], "padding": "valid", "activation": "linear", "kernel_size": [3, 3]}
    pointwise = conv | {"strides": [1, 1], "padding": "same", "kernel_size": [1, 1]}
    depthwise = conv | {"strides": [1, 1], "padding": "same", "depth_multiplier": 1}
    described: list[tuple[str, str, dict[str, Any]]] = [
        ("InputLayer", "input_1", {"batch_input_shape": [None, 48, 64, channels]}),
        ("ZeroPadding2D", "conv1_pad", {"padding": [[0, 1], [0, 1]]}),
        ("Conv2D", "conv1", conv),
        ("BatchNormalization", "conv1_bn", {"epsilon": 0.001}),
        ("ReLU", "conv1_relu", {"max_value": 6.0}),
        ("DepthwiseConv2D", "conv_dw_1", depthwise),
        ("BatchNormalization", "conv_dw_1_bn", {"epsilon": 0.001}),
        ("ReLU", "conv_dw_1_relu", {"max_value": 6.0}),
        ("Conv2D", "conv_pw_1", pointwise),
        ("BatchNormalization", "conv_pw_1_bn", {"epsilon": 0.001}),
        ("ReLU", "conv_pw_1_relu", {"max_value": 6.0}),
        (kind, "net_vlad_layer_1", {}),
    ]
    return [
        {"class_name": kind, "config": {"name": name, **config}} for kind, name, config in described
    ]


def made_up_weights(channels: int, assigned: int) -> Weights:
    """Random tensors under `layer/weight`."""
    rng = np.random.default_rng(8)
    shapes: dict[str, tuple[int, ...]] = {
        "conv1/kernel": (3, 3, channels, 8),
        "conv_dw_1/depthwise_kernel": (3, 3, 8, 1),
        "conv_pw_1/kernel": (1, 1, 8, DEPTH),
        "net_vlad_layer_1/kernel": (1, 1, DEPTH, assigned),
        "net_vlad_layer_1/bias": (1, 1, assigned),
        "net_vlad_layer_1/cluster_centers": (1, 1, 1, DEPTH, assigned),
    }
    for layer, depth in (("conv1_bn", 8), ("conv_dw_1_bn", 8), ("conv_pw_1_bn", DEPTH)):
        for weight in ("gamma", "beta", "moving_mean", "moving_variance"):
            shapes[f"{layer}/{weight}"] = (depth,)
    return {name: rng.uniform(0.1, 1.0, shape).astype("f4") for name, shape in shapes.items()}


def write(
    path: Path,
    channels: int = 3,
    clusters: int = 4,
    ghosts: int = 0,
    suffix: str = "",
    edit: Callable[[Layers, Weights], Any] = lambda layers, weights: None,
) -> Weights:
    """Writes a model as Keras 2 did and returns its weights; `edit` may spoil them before."""
    layers = made_up_layers(channels, "GhostVLADLayer" if ghosts else "NetVLADLayer")
    weights = made_up_weights(channels, clusters + ghosts)
    if ghosts:
        layers[-1]["config"] |= {"num_clusters": clusters, "num_ghost_clusters": ghosts}
    edit(layers, weights)
    with h5py.File(path, "w") as file:
        model = {"class_name": "Model", "config": {"name": "model_1", "layers": layers}}
        file.attrs["model_config"] = json.dumps(model).encode()
        file.attrs["keras_version"], file.attrs["backend"] = b"2.2.4", b"tensorflow"
        for name, array in weights.items():
            layer, weight = name.split("/")
            file[f"model_weights/{layer}/{layer}{suffix}/{weight}:0"] = array
    return weights


def refusal(path: Path, preset: str | None = "cartwheel-centred") -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(WeightsError) as error:
        import_weights(path, preset)
    sentence = str(error.value)
    assert sentence.startswith(f"{path}: ")
    assert sentence[-1] in ".?"
    assert "\n" not in sentence
    return sentence.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("model", "preset"),
    [
        ("mobilenetv2_gray_1024", "cartwheel-centred"),
        ("mobilenetv2_color_1024", "cartwheel-centred"),
        ("mobilenet_color_8192", "cartwheel-centred"),
        ("mobilenet_color_raw_8192", "cartwheel-raw"),
    ],
)
def test_the_genuine_models_give_the_descriptors_of_their_authors_code(
    model: str, preset: str, shared: Path, tmp_path: Path
):
    expected = np.load(shared / "reference/cartwheel/expected.npz")
    network = import_weights(shared / f"reference/cartwheel/{model}.h5", preset)
    save_model(network, tmp_path / "model.keras")
    images = list(expected["images_bgr_uint8"][..., ::-1])
    descriptors = NetVLADExtractor(tmp_path / "model.keras").extract_batch(images)
    np.testing.assert_allclose(descriptors, expected[model], rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("suffix", ["", "_1", "_1_1"])
@pytest.mark.parametrize("ghosts", [0, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_tensor_is_imported_to_the_bit(
    suffix: str, ghosts: int, channels: int, tmp_path: Path
):
    path = tmp_path / "model.h5"
    theirs = write(path, channels=channels, ghosts=ghosts, suffix=suffix)
    network = import_weights(path, "cartwheel-centred")
    ours = {weight.path: keras.ops.convert_to_numpy(weight) for weight in network.weights}

    for weight in ("kernel", "bias", "cluster_centers"):
        theirs[weight] = theirs.pop(f"net_vlad_layer_1/{weight}")
    np.testing.assert_array_equal(ours.pop("netvlad/assignment"), theirs.pop("kernel")[0, 0])
    np.testing.assert_array_equal(ours.pop("netvlad/bias"), theirs.pop("bias")[0, 0])
    centres = theirs.pop("cluster_centers")
    for k, centre in enumerate(ours.pop("netvlad/centres")):  # of the clusters that are kept
        np.testing.assert_array_equal(centre, -centres[0, 0, 0, :, k])
    theirs["conv_dw_1/kernel"] = theirs.pop("conv_dw_1/depthwise_kernel")
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        np.testing.assert_array_equal(tensor, theirs[name])


@pytest.mark.parametrize(
    ("channels", "preset", "order", "offset", "scale"),
    [
        (3, "cartwheel-centred", "bgr", 128.0, 2 / 255),
        (1, "cartwheel-centred", "grey", 128.0, 2 / 255),
        (1, "cartwheel-half-centred", "grey", 128.0, 1 / 255),
        (3, "cartwheel-raw", "bgr", 0.0, 1.0),
    ],
)
def test_the_preset_becomes_part_of_the_network(
    channels: int, preset: str, order: str, offset: float, scale: float, tmp_path: Path
):
    write(tmp_path / "model.h5", channels=channels)
    config = import_weights(tmp_path / "model.h5", preset).network
    assert config.channel_order == order
    assert config.input_offset == (offset,)
    assert config.input_scale == (scale,)
    assert (config.input_width_px, config.input_height_px) == (64, 48)


def test_the_architecture_is_read_from_the_file(tmp_path: Path):
    write(tmp_path / "model.h5", clusters=5, ghosts=2)
    network = import_weights(tmp_path / "model.h5", "cartwheel-raw")
    config = network.network
    assert (config.backbone, config.backbone_width) == ("mobilenet", 0.25)
    assert config.cut_layer == "conv_pw_1_relu"
    assert (config.clusters, config.ghost_clusters, config.assignment_bias) == (5, 2, True)
    assert network.descriptor_dims == 5 * DEPTH


def test_a_missing_preset_lists_the_choices(tmp_path: Path):
    write(tmp_path / "model.h5")
    sentence = refusal(tmp_path / "model.h5", preset=None)
    assert "name it with --input: cartwheel-centred (" in sentence
    assert "cartwheel-half-centred (" in sentence
    assert "cartwheel-raw (" in sentence


def test_an_unknown_preset_lists_the_choices(tmp_path: Path):
    write(tmp_path / "model.h5")
    with pytest.raises(
        WeightsError, match=r"^--input imagenet: expected one of cartwheel-.*train\.$"
    ):
        import_weights(tmp_path / "model.h5", "imagenet")


def test_a_preset_for_weights_that_need_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path / "model.h5")
    monkeypatch.setattr(detect, "IMPORTERS", (replace(cartwheel.IMPORTER, presets={}),))
    with pytest.raises(WeightsError, match=r"^--input cartwheel-raw: expected none.*leave it out"):
        import_weights(tmp_path / "model.h5", "cartwheel-raw")


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path: Path):
    assert refusal(tmp_path / "absent.h5") == "there is no such file."
    assert "; got no such file in this folder" in refusal(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"text", bytes(5000), b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(5000)]
)
def test_a_file_of_another_kind_is_refused_with_the_known_ones(content: bytes, tmp_path: Path):
    path = tmp_path / "model.h5"
    path.write_bytes(content)
    sentence = refusal(path)
    assert sentence.startswith("expected weights of ")
    assert "mpkuse/cartwheel_train" in sentence
    assert "; got a file of another kind" in sentence


@pytest.mark.parametrize(
    "model_config",
    [
        b"{}",
        b"5",
        b"\xff",
        b"[" * 10000,
        json.dumps({"config": []}).encode(),
        json.dumps({"config": {"layers": 5}}).encode(),
        json.dumps({"config": {"layers": [5]}}).encode(),
        json.dumps({"config": {"layers": [{"class_name": "Dense", "config": {}}]}}).encode(),
    ],
)
def test_another_hdf5_file_is_refused_with_the_known_ones(model_config: bytes, tmp_path: Path):
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = np.void(model_config)
        file["model_weights/a/b"] = np.zeros(3)
    sentence = refusal(path)
    assert sentence.startswith("expected weights of ")
    assert "mpkuse/cartwheel_train" in sentence
    assert "; got a file of another kind" in sentence


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99])
def test_a_cut_short_file_is_refused(share: float, tmp_path: Path):
    path = tmp_path / "model.h5"
    write(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refusal(path)


def without(name: str) -> Callable[[Layers, Weights], Any]:
    return lambda layers, weights: weights.pop(name)


def with_weight(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[Layers, Weights], Any]:
    return lambda layers, weights: weights.update({name: np.asarray(change(weights[name]))})


def with_setting(layer: int, **values: Any) -> Callable[[Layers, Weights], Any]:
    return lambda layers, weights: layers[layer]["config"].update(values)


def with_layer(place: int, kind: str, name: str, **config: Any) -> Callable[[Layers, Weights], Any]:
    described = {"class_name": kind, "config": {"name": name, **config}}
    return lambda layers, weights: layers.insert(place, described)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (without("conv_pw_1/kernel"), "conv_pw_1/kernel is missing"),
        (without("conv1_bn/gamma"), "conv1_bn/gamma is missing"),
        (without("conv1/kernel"), "the weights of conv1 are missing"),
        (without("net_vlad_layer_1/bias"), "the weights of net_vlad_layer_1 are missing"),
        (without("net_vlad_layer_1/cluster_centers"), "netvlad/centres is missing"),
        (without("conv_dw_1/depthwise_kernel"), "expected MobileNet, MobileNetV2 or VGG16"),
        (
            lambda layers, weights: weights.clear(),
            "expected MobileNet, MobileNetV2 or VGG16, got layers []",
        ),
        (
            lambda layers, weights: weights.update({"extra/kernel": np.zeros(3, "f4")}),
            "extra/kernel is unknown",
        ),
        (
            lambda layers, weights: weights.update({"conv1/momentum": np.zeros(3, "f4")}),
            "the weight 'momentum' of layer 'conv1' is not known here",
        ),
        (with_weight("conv_pw_1/kernel", lambda w: w * np.nan), "conv_pw_1/kernel holds NaN"),
        (with_weight("conv_pw_1/kernel", lambda w: w * np.inf), "conv_pw_1/kernel holds NaN"),
        (with_weight("conv_pw_1/kernel", lambda w: w[..., :9]), "conv_pw_1/kernel of shape"),
        (with_weight("conv1/kernel", lambda w: w[0, 0, 0, 0]), "backbone_width: expected 0.1"),
        (with_weight("conv1/kernel", lambda w: w[..., :1]), "backbone_width: expected 0.1"),
        (with_weight("conv1_bn/gamma", lambda w: np.bytes_(b"x")), "expected numbers in conv1_bn"),
        (with_weight("conv1_bn/gamma", lambda w: w.astype(int)), "expected numbers in conv1_bn"),
        (with_weight("net_vlad_layer_1/bias", lambda w: np.zeros((1, 1, 5000), "f4")), "clusters"),
        (
            with_weight("net_vlad_layer_1/kernel", lambda w: w.repeat(2, 0)),
            "the weight 'kernel' of layer 'net_vlad_layer_1' can't have shape (2, 1, 16, 4)",
        ),
        (
            with_weight("net_vlad_layer_1/cluster_centers", lambda w: w[0, 0, 0, 0]),
            "the weight 'cluster_centers' of layer 'net_vlad_layer_1' can't have shape (4,)",
        ),
        (with_setting(0, batch_input_shape=[None, 48, 64, 4]), "expected an input of shape"),
        (with_setting(0, batch_input_shape=None), "expected an input of shape"),
        (with_setting(0, batch_input_shape=[None, 48, 10**9, 3]), "input_width_px: expected"),
        (with_setting(2, strides=[1, 1]), "expected strides (2, 2) of layer 'conv1', got [1, 1]"),
        (with_setting(4, max_value=None), "expected max_value 6.0 of layer 'conv1_relu', got None"),
        (with_setting(10, name="relu_x"), "mobilenet has no layer 'relu_x' to cut at"),
        (
            with_layer(12, "Dense", "dense_1"),
            "expected their NetVLAD layer to be the last, got Den",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_what_is_wrong(
    edit: Callable[[Layers, Weights], Any], reason: str, tmp_path: Path
):
    write(tmp_path / "model.h5", edit=edit)
    assert reason in refusal(tmp_path / "model.h5")


def test_a_ghost_layer_that_does_not_count_its_ghosts_is_refused(tmp_path: Path):
    write(
        tmp_path / "model.h5",
        ghosts=2,
        edit=lambda layers, weights: layers[-1]["config"].pop("num_ghost_clusters"),
    )
    assert "how many of its clusters are ghosts" in refusal(tmp_path / "model.h5")


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_a_cut_at_a_convolution_is_imported_only_if_it_keeps_negative_values(
    activation: str, tmp_path: Path
):
    def vgg16(layers: Layers, weights: Weights) -> None:
        layers[1:-1] = [
            {
                "class_name": "Conv2D",
                "config": {"name": "block1_conv1", "strides": [1, 1], "activation": activation},
            }
        ]
        for name in [name for name in weights if "vlad" not in name]:
            del weights[name]
        weights["block1_conv1/kernel"] = np.ones((3, 3, 3, 64), "f4")
        weights["block1_conv1/bias"] = np.ones(64, "f4")
        weights["net_vlad_layer_1/kernel"] = np.ones((1, 1, 64, 4), "f4")
        weights["net_vlad_layer_1/cluster_centers"] = np.ones((1, 1, 1, 64, 4), "f4")

    write(tmp_path / "model.h5", edit=vgg16)
    if activation == "relu":
        assert "expected activation 'linear' of layer 'block1_conv1'" in refusal(
            tmp_path / "model.h5"
        )
    else:
        network = import_weights(tmp_path / "model.h5", "cartwheel-raw")
        assert network.network.backbone == "vgg16"


class Intruder:
    """Writes a file when it is unpickled."""

    def __init__(self, traces: Path) -> None:
        self.traces = traces

    def __reduce__(self):
        return Path.touch, (self.traces,)


@pytest.mark.parametrize("place", [3, 11])
def test_code_inside_a_file_is_refused_and_not_run(place: int, tmp_path: Path):
    traces = tmp_path / "traces"
    code = base64.b64encode(pickle.dumps(Intruder(traces))).decode()
    write(
        tmp_path / "model.h5",
        edit=with_layer(place, "Lambda", "lambda_1", function=[code, None, None]),
    )
    assert "no layer 'lambda_1'" in refusal(tmp_path / "model.h5")
    assert not traces.exists()


@pytest.mark.parametrize("shape", [(10**12,), (10**6, 10**6), (2**26, 3)])
def test_a_dataset_without_data_claims_no_memory(shape: tuple[int, ...], tmp_path: Path):
    path = tmp_path / "model.h5"
    write(path)
    with h5py.File(path, "a") as file:
        file["model_weights/conv1"].create_dataset("huge:0", shape, "f4", chunks=True)
    tracemalloc.start()
    try:
        assert "bytes of weights, got" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
