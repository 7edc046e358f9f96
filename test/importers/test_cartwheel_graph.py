# SPDX-License-Identifier: MIT
"""Cartwheel models frozen by TensorFlow 1, and as model.json with weights: the same network as their .h5."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf

from netvlad_ros.errors import WeightsError
from netvlad_ros.importers.detect import import_weights

v1 = tf.compat.v1
GENUINE = ["mobilenet_color_8192", "mobilenetv2_gray_1024", "mobilenet_color_raw_8192"]
PRESET = "cartwheel-centred"
OUTPUT = "net_vlad_layer_1/l2_normalize_1"
Weights = dict[str, np.ndarray]
Variable = Callable[[str], Any]


def refusal(path: Path) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(WeightsError) as error:
        import_weights(path, PRESET)
    sentence = str(error.value)
    assert sentence.startswith(str(path))
    assert sentence[-1] in ".?"
    assert "\n" not in sentence
    return sentence


def described(path: Path) -> list[dict[str, Any]]:
    """The layers of a model file."""
    with h5py.File(path) as file:
        return json.loads(file.attrs["model_config"])["config"]["layers"]


def stored(path: Path) -> Weights:
    """`layer/weight` -> array of a model file."""
    weights: Weights = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            weights[f"{name.split('/')[0]}/{name.split('/')[-1].removesuffix(':0')}"] = item[()]

    with h5py.File(path) as file:
        file["model_weights"].visititems(visit)
    return weights


def l2_normalize(x: Any) -> Any:
    """As TensorFlow 1 wrote it out; all names but the last are what its scope gives."""
    with v1.name_scope("l2_normalize") as scope:
        total = v1.reduce_sum(v1.square(x), -1, keepdims=True, name="Sum")
        inverse = v1.rsqrt(v1.maximum(total, 1e-12, name="Maximum"), name="Rsqrt")
        return v1.multiply(x, inverse, name=scope)


def vlad(x: Any, variable: Variable, kept: int | None = None) -> Any:
    """Their layer, operation by operation; a GhostVLAD keeps the first so many clusters."""
    bias = variable("bias")
    scores = v1.nn.convolution(x, variable("kernel"), "SAME", name="convolution") + bias
    a = v1.expand_dims(v1.nn.softmax(scores, name="Softmax"), -2)
    v = v1.reduce_sum(a * (v1.expand_dims(x, -1) + variable("cluster_centers")), [1, 2])
    v = v1.transpose(v, [0, 2, 1])
    v = v if kept is None else v[:, 0:kept, :]
    v = l2_normalize(v)
    return l2_normalize(v1.reshape(v, v1.stack([-1, v1.reduce_prod(v1.shape(v)[1:])])))


def operation(layer: dict[str, Any], inputs: list[Any], variable: Variable) -> Any:
    """What Keras 2.2 made of a layer; its weights come before."""
    config = layer["config"]
    strides = config.get("strides")
    padding = config.get("padding")
    match layer["class_name"]:
        case "ZeroPadding2D":
            return v1.pad(inputs[0], [[0, 0], *padding, [0, 0]], name="Pad")
        case "Conv2D":
            kernel = variable("kernel")
            return v1.nn.convolution(
                inputs[0], kernel, padding.upper(), strides, name="convolution"
            )
        case "DepthwiseConv2D":
            kernel = variable("depthwise_kernel")
            return v1.nn.depthwise_conv2d_native(
                inputs[0], kernel, [1, *strides, 1], padding.upper(), name="depthwise"
            )
        case "BatchNormalization":
            names = ("gamma", "beta", "moving_mean", "moving_variance")
            return v1.nn.fused_batch_norm(
                inputs[0], *map(variable, names), config["epsilon"], is_training=False
            )[0]
        case "ReLU":
            return v1.nn.relu6(inputs[0], name="Relu6")
        case "Add":
            return v1.add(*inputs, name="add")
        case kind:
            kept = config["num_clusters"] if kind == "GhostVLADLayer" else None
            return vlad(inputs[0], variable, kept)


def freeze(
    layers: list[dict[str, Any]],
    weights: Weights,
    ending: str = "",
    batch: int | None = None,
    training_nodes: bool = False,
) -> Any:
    """The graph that their converter leaves: variables made constants, training nodes removed."""
    with v1.Graph().as_default(), v1.Session() as session:
        outputs: dict[str, Any] = {}
        for layer in layers:
            name = layer["config"]["name"]
            if layer["class_name"] == "InputLayer":
                shape = [batch, *layer["config"]["batch_input_shape"][1:]]
                outputs[name] = v1.placeholder(tf.float32, shape, name=f"{name}{ending}")
                continue
            with v1.name_scope(f"{name}{ending}/"):
                inputs = [outputs[each[0]] for each in layer["inbound_nodes"][0]]
                outputs[name] = operation(layer, inputs, variables(name, ending, weights))
        session.run(v1.global_variables_initializer())
        last = outputs[layers[-1]["config"]["name"]].op.name
        frozen = v1.graph_util.convert_variables_to_constants(
            session, session.graph.as_graph_def(), [last]
        )
    return frozen if training_nodes else v1.graph_util.remove_training_nodes(frozen)


def variables(layer: str, ending: str, weights: Weights) -> Variable:
    def variable(name: str) -> Any:
        with v1.name_scope(""):
            value = v1.constant(weights[f"{layer}/{name}"])
            return v1.Variable(value, name=f"{layer}{ending}/{name}", use_resource=False)

    return variable


def run(graph: Any, images: np.ndarray) -> np.ndarray:
    """The output of a frozen graph."""
    with v1.Graph().as_default(), v1.Session() as session:
        v1.import_graph_def(graph, name="")
        return session.run(f"{graph.node[-1].name}:0", {"input_1:0": images})


@pytest.fixture(params=GENUINE)
def model(request: pytest.FixtureRequest, shared: Path) -> Path:
    """A genuine model file."""
    return shared / f"reference/cartwheel/{request.param}.h5"


@pytest.fixture
def small(shared: Path) -> tuple[list[dict[str, Any]], Weights]:
    """Layers and weights of the smallest genuine model, to be spoilt."""
    path = shared / "reference/cartwheel/mobilenetv2_gray_1024.h5"
    return described(path), stored(path)


@pytest.mark.parametrize("ending", ["", "_1"])
def test_a_frozen_graph_is_the_same_network_as_its_model_file(
    ending: str, model: Path, tmp_path: Path
):
    graph = freeze(described(model), stored(model), ending)
    (tmp_path / "model.pb").write_bytes(graph.SerializeToString())
    frozen = import_weights(tmp_path / "model.pb", PRESET)
    assert frozen.fingerprint() == import_weights(model, PRESET).fingerprint()


def test_the_graphs_of_these_tests_compute_what_the_authors_code_does(shared: Path):
    expected = np.load(shared / "reference/cartwheel/expected.npz")
    model = shared / "reference/cartwheel/mobilenet_color_8192.h5"
    graph = freeze(described(model), stored(model))
    images = (expected["images_bgr_uint8"].astype("f4") - 128) * 2 / 255
    assert graph.node[-1].name == OUTPUT
    np.testing.assert_allclose(run(graph, images), expected[model.stem], rtol=0.0, atol=1e-5)


def test_a_graph_with_its_copies_of_variables_is_the_same(
    small: tuple[list[dict[str, Any]], Weights], tmp_path: Path
):
    fingerprints = set()
    for copies in (False, True):
        graph = freeze(*small, training_nodes=copies)
        assert any(node.op == "Identity" for node in graph.node) == copies
        (tmp_path / "model.pb").write_bytes(graph.SerializeToString())
        fingerprints.add(import_weights(tmp_path / "model.pb", PRESET).fingerprint())
    assert len(fingerprints) == 1


@pytest.mark.parametrize("batch", [None, 1])
@pytest.mark.parametrize("size", [(None, None), (96, 128)])
def test_the_placeholder_gives_the_input_size(
    batch: int | None,
    size: tuple[int | None, int | None],
    small: tuple[list[dict[str, Any]], Weights],
    tmp_path: Path,
):
    layers, weights = small
    layers[0]["config"]["batch_input_shape"] = [None, *size, 1]
    graph = freeze(layers, weights, batch=batch)
    (tmp_path / "model.pb").write_bytes(graph.SerializeToString())
    config = import_weights(tmp_path / "model.pb", PRESET).network
    assert (config.input_height_px, config.input_width_px) == tuple(each or 0 for each in size)


def test_the_ghosts_of_a_frozen_graph_are_counted(
    small: tuple[list[dict[str, Any]], Weights], tmp_path: Path
):
    layers, weights = small
    layers[-1] |= {"class_name": "GhostVLADLayer"}
    layers[-1]["config"] = {"name": "ghost_vlad_layer_1", "num_clusters": 13}
    for name in ("kernel", "bias", "cluster_centers"):
        weights[f"ghost_vlad_layer_1/{name}"] = weights.pop(f"net_vlad_layer_1/{name}")
    graph = freeze(layers, weights)
    (tmp_path / "model.pb").write_bytes(graph.SerializeToString())
    network = import_weights(tmp_path / "model.pb", PRESET)
    assert (network.network.clusters, network.network.ghost_clusters) == (13, 3)
    image = np.full((1, 240, 320, 3), 99, "f4") * np.linspace(0, 2, 320, dtype="f4")[:, None]
    grey = (np.round(image[..., :1]) - 128) * 2 / 255
    ours = np.asarray(network(np.round(image)))
    np.testing.assert_allclose(ours, run(graph, grey), rtol=0.0, atol=1e-5)


def node(graph: Any, name: str) -> Any:
    return next(each for each in graph.node if each.name == name)


def without(name: str) -> Callable[[Any], Any]:
    return lambda graph: graph.node.remove(node(graph, name))


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (without("net_vlad_layer_1/bias"), "the weights of net_vlad_layer_1 are missing"),
        (without("block_9_project/kernel"), "block_9_project/kernel is missing"),
        (without("Conv1/kernel"), "the weights of Conv1 are missing"),
        (without("input_1"), "expected one input, named input_1 or alike, got none"),
        (without("block_9_add/add"), "the graph has no operation 'block_9_add/add'"),
        (without("net_vlad_layer_1/convolution"), "nothing feeds net_vlad_layer_1"),
        (
            lambda graph: setattr(node(graph, "input_1"), "name", "image"),
            "expected one input, named input_1 or alike, got ['image']",
        ),
        (
            lambda graph: setattr(node(graph, "Conv1_relu/Relu6"), "op", "Elu"),
            "the operation 'Elu' of 'Conv1_relu/Relu6' is not known",
        ),
        (
            lambda graph: setattr(node(graph, "Conv1_relu/Relu6"), "name", "relu_x/Relu6"),
            "relu_x",
        ),
        (
            lambda graph: node(graph, "Conv1/convolution").attr["strides"].list.i.__setitem__(1, 1),
            "expected strides (2, 2) of layer 'Conv1', got [1, 2]",
        ),
        (
            lambda graph: setattr(
                next(each for each in graph.node if each.op.startswith("FusedBatchNorm")).attr[
                    "epsilon"
                ],
                "f",
                0.5,
            ),
            "expected epsilon 0.001 of layer 'bn_Conv1', got 0.5",
        ),
        (
            lambda graph: node(graph, "input_1").attr["shape"].shape.dim.add(size=3),
            "expected an input of shape (None, H, W, 1 or 3)",
        ),
        (lambda graph: node(graph, "input_1").attr.clear(), "expected an input of shape"),
    ],
)
def test_a_graph_that_does_not_fit_is_refused_with_what_is_wrong(
    edit: Callable[[Any], Any],
    reason: str,
    small: tuple[list[dict[str, Any]], Weights],
    tmp_path: Path,
):
    graph = freeze(*small)
    edit(graph)
    (tmp_path / "model.pb").write_bytes(graph.SerializeToString())
    assert reason in refusal(tmp_path / "model.pb")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_a_graph_cut_short_is_refused(
    share: float, small: tuple[list[dict[str, Any]], Weights], tmp_path: Path
):
    content = freeze(*small).SerializeToString()
    (tmp_path / "model.pb").write_bytes(content[: int(share * len(content))])
    refusal(tmp_path / "model.pb")


def write_weights(model: Path, path: Path) -> None:
    """What save_weights() writes: the groups of the layers at the top, no architecture."""
    with h5py.File(model) as source, h5py.File(path, "w") as file:
        for name in source["model_weights"]:
            source.copy(f"model_weights/{name}", file)
        for name, value in source["model_weights"].attrs.items():
            file.attrs[name] = value


def write_architecture(model: Path, path: Path, twice: bool = True) -> None:
    """What their trainer writes: the JSON of the model as a JSON string."""
    with h5py.File(model) as source:
        text = json.dumps(json.loads(source.attrs["model_config"]))
    path.write_text(json.dumps(text, indent=4) if twice else text)


@pytest.mark.parametrize("twice", [True, False])
def test_weights_with_their_architecture_are_the_same_network(
    twice: bool, model: Path, tmp_path: Path
):
    write_weights(model, tmp_path / "weights.h5")
    write_architecture(model, tmp_path / "model.json", twice)
    expected = import_weights(model, PRESET).fingerprint()
    for source in (tmp_path / "weights.h5", tmp_path / "model.json", tmp_path):
        assert import_weights(source, PRESET).fingerprint() == expected


def test_an_architecture_beside_a_model_file_takes_its_weights(model: Path, tmp_path: Path):
    shutil.copy(model, tmp_path / "core_model.keras")
    write_architecture(model, tmp_path / "model.json")
    expected = import_weights(model, PRESET).fingerprint()
    assert import_weights(tmp_path / "model.json", PRESET).fingerprint() == expected


def test_weights_without_their_architecture_are_refused_with_what_is_missing(
    model: Path, tmp_path: Path
):
    write_weights(model, tmp_path / "weights.h5")
    assert "put the model.json of its training beside it" in refusal(tmp_path / "weights.h5")


@pytest.mark.parametrize(
    "architecture", ["", "5", "[" * 100_000, '"x"', '{"config": {"layers": []}}']
)
def test_a_broken_architecture_is_refused(architecture: str, model: Path, tmp_path: Path):
    write_weights(model, tmp_path / "weights.h5")
    (tmp_path / "model.json").write_text(architecture)
    assert "put the model.json of its training beside it" in refusal(tmp_path / "weights.h5")


def test_an_architecture_without_weights_is_refused(model: Path, tmp_path: Path):
    write_architecture(model, tmp_path / "model.json")
    assert "one HDF5 file of its weights beside it, got none" in refusal(tmp_path / "model.json")


def test_weights_that_could_be_meant_are_named(model: Path, tmp_path: Path):
    write_architecture(model, tmp_path / "model.json")
    for epoch in (700, 800):
        write_weights(model, tmp_path / f"weights.{epoch}.h5")
    for source in (tmp_path, tmp_path / "model.json"):
        assert "got weights.700.h5, weights.800.h5; name the one to import" in refusal(source)
    import_weights(tmp_path / "weights.800.h5", PRESET)


def test_an_architecture_of_another_model_is_refused(shared: Path, tmp_path: Path):
    folder = shared / "reference/cartwheel"
    write_architecture(folder / "mobilenetv2_gray_1024.h5", tmp_path / "model.json")
    write_weights(folder / "mobilenet_color_8192.h5", tmp_path / "weights.h5")
    assert "mobilenet has no layer" in refusal(tmp_path / "weights.h5")
