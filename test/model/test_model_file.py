# SPDX-License-Identifier: MIT
"""A network and its file: what was saved comes back, and anything else is refused in one sentence."""

import json
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from netvlad_ros.calibration import Calibration, Curve
from netvlad_ros.config import NetworkConfig
from netvlad_ros.errors import ModelError
from netvlad_ros.model import NetVLADNetwork, build_network, load_model, save_model

SMALL = NetworkConfig(
    backbone="mobilenet",
    backbone_width=0.25,
    cut_layer="conv_pw_2_relu",
    clusters=4,
    ghost_clusters=1,
    channel_order="bgr",
    input_offset=(103.5, 116.75, 123.5),
    input_scale=(1 / 128,),
    whitening_dims=10,
    descriptor_dims=8,
)
IMAGES = np.random.default_rng(2).integers(0, 256, (2, 33, 40, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> NetVLADNetwork:
    return build_network(SMALL)


@pytest.fixture(scope="module")
def model_file(network: NetVLADNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.keras"
    save_model(network, path)
    return path


def changed(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of a .keras file in which each part was changed, or left out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def refusal(path: Path) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(ModelError) as error:
        load_model(path)
    sentence = str(error.value)
    assert sentence.startswith(f"{path}: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence.removeprefix(f"{path}: ")


def test_a_saved_network_comes_back_with_identical_descriptors(
    network: NetVLADNetwork, model_file: Path
):
    loaded = load_model(model_file)
    assert loaded.network == network.network
    assert loaded.fingerprint() == network.fingerprint()
    np.testing.assert_array_equal(loaded(IMAGES), network(IMAGES))
    assert loaded.calibration is None


def test_a_calibration_comes_back_and_changes_nothing_else(model_file: Path, tmp_path: Path):
    network = load_model(model_file)
    before = network.fingerprint()
    curve = Curve((0.1, 1 / 3), (0.2, 0.99), 300)
    network.calibration = Calibration({"similarity": curve}, "two streets", f"{before}@own size")
    save_model(network, tmp_path / "calibrated.keras")
    loaded = load_model(tmp_path / "calibrated.keras")
    assert loaded.calibration == network.calibration
    assert loaded.fingerprint() == before
    assert loaded.network == network.network
    np.testing.assert_array_equal(loaded(IMAGES), network(IMAGES))


def test_a_damaged_calibration_is_refused(model_file: Path, tmp_path: Path):
    def damage(name: str, content: bytes) -> bytes:
        if name != "config.json":
            return content
        values = json.loads(content)
        values["config"]["calibration"] = {"curves": {"similarity": 1}}
        return json.dumps(values).encode()

    sentence = refusal(changed(model_file, tmp_path / "m.keras", damage))
    assert "the calibration of the model is damaged" in sentence


@pytest.mark.parametrize("backbone", ["vgg16", "alexnet", "mobilenet", "mobilenet_v2"])
@pytest.mark.parametrize("pooling", ["netvlad", "gem"])
def test_every_architecture_comes_back(backbone: str, pooling: str, tmp_path: Path):
    cut = {"vgg16": "block2_conv2", "alexnet": "conv2", "mobilenet": "conv_pw_1_relu"}
    config = NetworkConfig(
        backbone=backbone,
        cut_layer=cut.get(backbone, "block_1_project_BN"),
        pooling=pooling,
        clusters=2,
        channel_order="grey",
    )
    saved = build_network(config)
    save_model(saved, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert loaded.network == config
    assert loaded.fingerprint() == saved.fingerprint()


def test_a_damaged_weight_is_noticed(model_file: Path, tmp_path: Path):
    content = bytearray(model_file.read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "damaged.keras"
    path.write_bytes(content)
    assert "is damaged" in refusal(path)


@pytest.mark.parametrize("seed", range(20))
def test_a_file_with_flipped_bits_is_refused_or_as_good_as_new(
    seed: int, network: NetVLADNetwork, model_file: Path, tmp_path: Path
):
    rng, content = random.Random(seed), bytearray(model_file.read_bytes())
    for _ in range(rng.choice([1, 10])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path = tmp_path / "flipped.keras"
    path.write_bytes(content)
    try:
        assert load_model(path).fingerprint() == network.fingerprint()
    except ModelError:
        refusal(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_cut_short_file_is_refused(share: float, model_file: Path, tmp_path: Path):
    content = model_file.read_bytes()
    path = tmp_path / "short.keras"
    path.write_bytes(content[: int(share * len(content))])
    assert "of another kind or a damaged one" in refusal(path)


@pytest.mark.parametrize(
    "content",
    [b"random" * 99, b"PK\x03\x04" + bytes(99), b"\x89HDF\r\n\x1a\n" + bytes(99), b"\x80\x04."],
)
def test_a_file_of_another_kind_is_refused_with_the_way_to_import_it(
    content: bytes, tmp_path: Path
):
    path = tmp_path / "other.keras"
    path.write_bytes(content)
    assert "`netvlad import-weights`" in refusal(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path):
    for path in (tmp_path / "absent.keras", tmp_path):
        assert "there is no such model file" in refusal(path)


@pytest.mark.parametrize("layer", [keras.layers.Dense(2), keras.layers.Lambda(lambda x: 1 // 0)])
def test_another_keras_model_is_refused_by_its_kind(layer: keras.layers.Layer, tmp_path: Path):
    keras.Sequential([keras.Input((3,)), layer]).save(tmp_path / "plain.keras")
    assert "got another Keras model (Sequential)" in refusal(tmp_path / "plain.keras")


def test_another_name_is_refused_because_keras_goes_by_it(model_file: Path, tmp_path: Path):
    path = tmp_path / "model.h5"
    shutil.copy(model_file, path)
    assert "expected a name ending in .keras" in refusal(path)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"conv_pw_2_relu", b"conv_pw_99_relu", "mobilenet has no layer 'conv_pw_99_relu'"),
        (b'"ghost_clusters"', b'"spirits"', "spirits is not known here"),
        (b'"backbone": "mobilenet"', b'"backbone": "resnet"', "backbone: expected one of"),
        (b'"clusters": 4', b'"clusters": "many"', "clusters: expected int"),
    ],
)
def test_a_file_of_another_version_says_what_is_not_known(
    old: bytes, new: bytes, reason: str, model_file: Path, tmp_path: Path
):
    path = changed(model_file, tmp_path / "m.keras", lambda _, content: content.replace(old, new))
    assert f"another version of this package: {reason}" in refusal(path)


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("model.weights.h5", None),
        ("model.weights.h5", b"no weights"),
        ("config.json", None),
        ("config.json", b"null"),
        ("config.json", b"{"),
    ],
)
def test_a_file_that_lacks_a_part_is_refused(
    part: str, content: bytes | None, model_file: Path, tmp_path: Path
):
    path = changed(
        model_file, tmp_path / "m.keras", lambda name, old: content if name == part else old
    )
    assert "damaged" in refusal(path)


@pytest.mark.filterwarnings("ignore:Skipping nested container")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"clusters": 4', b'"clusters": 5'),
        (b'"assignment_bias": false', b'"assignment_bias": true'),
        (b'"pooling": "netvlad"', b'"pooling": "gem"'),
        (b"conv_pw_2_relu", b"conv_pw_3_relu"),
    ],
)
def test_weights_that_are_not_all_there_are_refused(
    old: bytes, new: bytes, model_file: Path, tmp_path: Path
):
    path = changed(model_file, tmp_path / "m.keras", lambda _, content: content.replace(old, new))
    assert "damaged" in refusal(path)


def test_a_model_is_saved_under_the_name_of_a_keras_file_only(
    network: NetVLADNetwork, tmp_path: Path
):
    with pytest.raises(ModelError, match=r"model\.h5: expected a name ending in \.keras"):
        save_model(network, tmp_path / "model.h5")


def test_a_folder_that_is_not_there_is_refused(network: NetVLADNetwork, tmp_path: Path):
    with pytest.raises(ModelError, match=r"model\.keras: can't write the model \(No such file"):
        save_model(network, tmp_path / "absent" / "model.keras")


def test_a_save_that_fails_leaves_the_model_that_was_there(
    network: NetVLADNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def half(self: NetVLADNetwork, path: Path) -> None:
        path.write_bytes(b"half a model")
        raise OSError(28, "No space left on device")

    path = tmp_path / "model.keras"
    save_model(network, path)
    monkeypatch.setattr(NetVLADNetwork, "save", half)
    with pytest.raises(ModelError, match="No space left on device"):
        save_model(network, path)
    assert load_model(path).fingerprint() == network.fingerprint()
    assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]
