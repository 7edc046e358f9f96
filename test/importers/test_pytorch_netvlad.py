# SPDX-License-Identifier: MIT
"""State dicts of PyTorch projects: the same descriptors as theirs, or one sentence."""

import importlib.util
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_files import (
    VGG16,
    call,
    encoder,
    networks,
    picture,
    pool,
    save_legacy,
    save_safetensors,
    save_zip,
    storage,
    tensor,
)

from netvlad_ros.errors import WeightsError
from netvlad_ros.importers.detect import import_weights

EXPECTED = Path(__file__).parent / "data" / "torch_networks.npz"
GIB = 1 << 30
State = dict[str, np.ndarray]


def with_reference(folder: Path) -> Callable[[bool], State]:
    """The made-up weights behind the descriptors that pytorch-NetVlad itself computed."""
    spec = importlib.util.spec_from_file_location(
        "reference_weights", folder / "reference_weights.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pytorch_netvlad


def parallel(state: State) -> State:
    """As nn.DataParallel of encoder and pool names them."""
    return {name.replace(".", ".module.", 1): array for name, array in state.items()}


def refusal(path: Path, preset: str | None = None) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(WeightsError) as error:
        import_weights(path, preset)
    sentence = str(error.value)
    assert sentence.startswith(str(path.parent))
    assert sentence[-1] in ".?"
    assert "\n" not in sentence
    return sentence.partition(": ")[2]


@pytest.fixture(scope="session")
def states() -> dict[str, State]:
    """A state dict of each layout."""
    return networks()


@pytest.fixture
def alexnet(states: dict[str, State]) -> State:
    """A small one that a test may spoil."""
    return dict(states["alexnet"])


@pytest.mark.parametrize("vladv2", [False, True])
def test_pytorch_netvlads_own_descriptors_are_reproduced(
    vladv2: bool, shared: Path, tmp_path: Path
):
    state = with_reference(shared / "reference")(vladv2)
    checkpoint = {"epoch": 30, "state_dict": parallel(state), "best_score": 0.87, "parallel": True}
    save_zip(tmp_path / "checkpoint.pth.tar", checkpoint)
    if importlib.util.find_spec("torch"):
        assert_torch_reads_the_same(tmp_path / "checkpoint.pth.tar", parallel(state))
    expected = np.load(shared / "reference/pytorch_netvlad/expected.npz")
    network = import_weights(tmp_path / "checkpoint.pth.tar")
    descriptor = np.asarray(network(expected["small_rgb"][None].astype("f4")))[0]
    reference = expected["vladv2" if vladv2 else "vladv1"]
    np.testing.assert_allclose(descriptor, reference, rtol=0.0, atol=1e-5)
    assert descriptor @ reference > 0.999999


def assert_torch_reads_the_same(path: Path, state: State) -> None:
    import torch

    content = torch.load(path, weights_only=True)["state_dict"]
    assert content.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(content[name].numpy(), array)


@pytest.mark.parametrize("name", [*networks()])
def test_the_descriptors_of_every_layout_are_those_that_torch_computes(
    name: str, states: dict[str, State], tmp_path: Path
):
    path = tmp_path / "weights.pth"
    (save_legacy if name in ("hloc", "alexnet") else save_zip)(path, {"state_dict": states[name]})
    if name in ("max", "avg"):
        (tmp_path / "flags.json").write_text(json.dumps({"pooling": name, "num_clusters": 64}))
    network = import_weights(path, "hloc-pitts30k" if name == "hloc" else None)
    descriptor = np.asarray(network(picture().astype("f4")))[0]
    expected = np.load(EXPECTED)[name][0]
    np.testing.assert_allclose(descriptor, expected, rtol=0.0, atol=1e-5)
    assert descriptor @ expected > 0.999999


def test_the_descriptors_of_the_geo_localization_benchmark_are_reproduced(tmp_path: Path):
    state = encoder("vgg16", "backbone.") | {
        name.replace("pool.", "aggregation."): array for name, array in pool(4, 512).items()
    }
    checkpoint = {
        "epoch_num": 7,
        "model_state_dict": {f"module.{name}": array for name, array in state.items()},
        "recalls": [81.5, 92.0],
        "best_r5": 92.0,
    }
    save_zip(tmp_path / "best_model.pth", checkpoint)
    network = import_weights(tmp_path / "best_model.pth")
    assert (network.network.input_width_px, network.network.input_height_px) == (640, 480)
    descriptor = np.asarray(network(picture().astype("f4")))[0]
    expected = benchmark_descriptor(state, picture()[0])
    np.testing.assert_allclose(descriptor, expected, rtol=0.0, atol=1e-5)
    assert descriptor @ expected > 0.999999


def benchmark_descriptor(state: State, image: np.ndarray) -> np.ndarray:
    """What their VGG16 and NetVLAD do, as datasets_ws.py, network.py and aggregation.py have it."""
    x = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    x = x.transpose(2, 0, 1).astype("f4")
    for place, _, _ in VGG16:
        weight, bias = (state[f"backbone.{place}.{kind}"] for kind in ("weight", "bias"))
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(x, ((0, 0), (1, 1), (1, 1))), (3, 3), (1, 2)
        )
        x = np.einsum("chwij,ocij->ohw", windows, weight, optimize=True) + bias[:, None, None]
        if place != VGG16[-1][0]:
            x = np.maximum(x, 0)
        if place in (2, 7, 14, 21):
            depth, height, width = (x.shape[0], x.shape[1] // 2, x.shape[2] // 2)
            even = x[:, : 2 * height, : 2 * width]
            x = even.reshape(depth, height, 2, width, 2).max((2, 4))
    x = unit(x.reshape(len(x), -1), axis=0)  # (D, N)
    scores = np.exp(state["aggregation.conv.weight"][:, :, 0, 0] @ x)
    assigned = scores / scores.sum(0)  # (K, N)
    centres = state["aggregation.centroids"]
    rows = [((x - c[:, None]) * a).sum(1) for c, a in zip(centres, assigned, strict=True)]
    return unit(unit(np.stack(rows), axis=1).reshape(-1), axis=0)


def unit(vectors: np.ndarray, axis: int) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=axis, keepdims=True)


@pytest.mark.parametrize(
    ("name", "size_px"),
    [("alexnet", (0, 0)), ("patch_netvlad", (640, 480)), ("openibl", (640, 480)), ("hloc", (0, 0))],
)
def test_the_input_size_is_the_one_of_the_project(
    name: str, size_px: tuple[int, int], states: dict[str, State], tmp_path: Path
):
    save_zip(tmp_path / "weights.pth", states[name])
    config = import_weights(
        tmp_path / "weights.pth", "hloc-tokyotm" if name == "hloc" else None
    ).network
    assert (config.input_width_px, config.input_height_px) == size_px


def test_hloc_weights_without_a_mean_list_the_choices(states: dict[str, State], tmp_path: Path):
    save_zip(tmp_path / "weights.pth", states["hloc"])
    assert "with --input: hloc-pitts30k (" in refusal(tmp_path / "weights.pth")


def test_weights_that_know_their_input_take_no_preset(alexnet: State, tmp_path: Path):
    save_zip(tmp_path / "weights.pth", alexnet)
    with pytest.raises(WeightsError, match=r"^--input hloc-pitts30k: expected none"):
        import_weights(tmp_path / "weights.pth", "hloc-pitts30k")


@pytest.mark.parametrize(
    "renamed",
    [
        parallel,
        lambda state: {f"module.{name}": array for name, array in state.items()},
        lambda state: {f"module.{name}": array for name, array in parallel(state).items()},
        lambda state: {f"_orig_mod.{name}": array for name, array in state.items()},
        lambda state: {
            f"net.backbone_net.{name}": array for name, array in parallel(state).items()
        },
    ],
)
def test_keys_of_parallel_training_or_with_a_prefix_are_the_same_network(
    renamed: Callable[[State], State], alexnet: State, tmp_path: Path
):
    save_zip(tmp_path / "plain.pth", alexnet)
    save_zip(tmp_path / "parallel.pth", {"state_dict": renamed(alexnet)})
    plain, parallel_one = (import_weights(tmp_path / f"{n}.pth") for n in ("plain", "parallel"))
    assert plain.fingerprint() == parallel_one.fingerprint()


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model", "net"])
def test_a_state_dict_is_found_under_its_usual_names(name: str, alexnet: State, tmp_path: Path):
    save_zip(tmp_path / "plain.pth", alexnet)
    save_zip(tmp_path / "named.pth", {"epoch": 3, "args": {"arch": "alexnet"}, name: alexnet})
    plain, named = (import_weights(tmp_path / f"{n}.pth") for n in ("plain", "named"))
    assert plain.fingerprint() == named.fingerprint()


@pytest.mark.parametrize("name", ["max", "avg"])
def test_a_prefix_does_not_hide_a_network_without_netvlad(
    name: str, states: dict[str, State], tmp_path: Path
):
    (tmp_path / "flags.json").write_text(json.dumps({"pooling": name}))
    prefixed = {f"model.{key}": array for key, array in states[name].items()}
    save_zip(tmp_path / "weights.pth", {"state_dict": prefixed})
    assert import_weights(tmp_path / "weights.pth").network.pooling == name


@pytest.mark.parametrize("name", ["alexnet", "hloc"])
def test_a_safetensors_file_is_the_same_network(
    name: str, states: dict[str, State], tmp_path: Path
):
    save_zip(tmp_path / "weights.pth", states[name])
    save_safetensors(tmp_path / "weights.safetensors", states[name])
    preset = "hloc-pitts30k" if name == "hloc" else None
    one, other = (
        import_weights(tmp_path / f"weights.{ending}", preset) for ending in ("pth", "safetensors")
    )
    assert one.fingerprint() == other.fingerprint()


@pytest.mark.parametrize("dtype", ["<f8", "<f2"])
def test_other_precisions_are_brought_to_float32(dtype: str, alexnet: State, tmp_path: Path):
    halved = {name: array.astype("f2").astype("f4") for name, array in alexnet.items()}
    save_zip(tmp_path / "float32.pth", halved)
    save_zip(tmp_path / "other.pth", {name: array.astype(dtype) for name, array in halved.items()})
    one, other = (import_weights(tmp_path / f"{n}.pth") for n in ("float32", "other"))
    assert one.fingerprint() == other.fingerprint()


def a_run(folder: Path, best: State | None, latest: State, flags: dict[str, Any] | str) -> None:
    """The folder of a training, as pytorch-NetVlad leaves it."""
    (folder / "checkpoints").mkdir(parents=True)
    save_zip(folder / "checkpoints/checkpoint.pth.tar", {"state_dict": latest, "epoch": 12})
    if best:
        save_zip(folder / "checkpoints/model_best.pth.tar", {"state_dict": best, "epoch": 7})
    text = flags if isinstance(flags, str) else json.dumps(flags)
    (folder / "checkpoints/flags.json").write_text(text)


FLAGS = {"arch": "alexnet", "num_clusters": 8, "vladv2": False, "pooling": "netvlad", "lr": 1e-4}


def test_the_folder_of_a_run_gives_its_best_and_says_so(
    alexnet: State, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    latest = alexnet | {"pool.centroids": alexnet["pool.centroids"] + 1}
    run = tmp_path / "Jun03_15-22-44_alexnet_netvlad"
    a_run(run, alexnet, latest, FLAGS)
    save_zip(tmp_path / "best.pth", alexnet)
    expected = import_weights(tmp_path / "best.pth").fingerprint()
    assert import_weights(run).fingerprint() == expected
    assert "took model_best.pth.tar, not checkpoint.pth.tar" in caplog.text
    assert import_weights(run / "checkpoints").fingerprint() == expected
    assert import_weights(run / "checkpoints/checkpoint.pth.tar").fingerprint() != expected


def test_the_folder_of_a_run_of_the_benchmark_gives_its_best(alexnet: State, tmp_path: Path):
    latest = alexnet | {"pool.centroids": alexnet["pool.centroids"] + 1}
    save_zip(tmp_path / "best_model.pth", {"model_state_dict": alexnet})
    save_zip(tmp_path / "last_model.pth", {"model_state_dict": latest})
    best = import_weights(tmp_path / "best_model.pth").fingerprint()
    assert import_weights(tmp_path).fingerprint() == best


def test_a_run_without_a_best_gives_its_latest(alexnet: State, tmp_path: Path):
    a_run(tmp_path / "run", None, alexnet, FLAGS)
    assert import_weights(tmp_path / "run").network.clusters == 8


@pytest.mark.parametrize(
    ("flag", "value", "found"),
    [
        ("arch", "vgg16", "'alexnet'"),
        ("num_clusters", 64, "8"),
        ("vladv2", True, "False"),
        ("pooling", "max", "'netvlad'"),
    ],
)
def test_flags_that_contradict_the_tensors_are_refused(
    flag: str, value: Any, found: str, alexnet: State, tmp_path: Path
):
    a_run(tmp_path, None, alexnet, FLAGS | {flag: value})
    sentence = refusal(tmp_path / "checkpoints/checkpoint.pth.tar")
    assert f"expected {flag} {value!r}, as flags.json says, got tensors of {found}" in sentence


@pytest.mark.parametrize(
    "flags", ["", "5", "[]", '{"arch"', "\x00", "[" * 100_000, " " * 2_000_000]
)
def test_broken_flags_are_refused(flags: str, alexnet: State, tmp_path: Path):
    a_run(tmp_path, None, alexnet, flags)
    sentence = refusal(tmp_path / "checkpoints/checkpoint.pth.tar")
    assert sentence.startswith("expected the flags of a training as a JSON object")


def test_a_network_without_netvlad_needs_flags_that_say_what_pools(
    states: dict[str, State], tmp_path: Path
):
    save_zip(tmp_path / "weights.pth", {"state_dict": states["max"]})
    assert "a flags.json with pooling max or avg, got neither" in refusal(tmp_path / "weights.pth")


def without(name: str) -> Callable[[State], Any]:
    return lambda state: state.pop(name)


def with_array(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[State], Any]:
    return lambda state: state.update({name: change(state[name])})


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (without("encoder.6.weight"), "conv3/kernel is missing"),
        (without("encoder.10.bias"), "conv5/bias is missing"),
        (without("pool.conv.weight"), "netvlad/assignment is missing"),
        (without("pool.centroids"), "expected pool.centroids or, beside it, a flags.json"),
        (without("encoder.0.weight"), "expected encoder.0.weight of VGG16 (3 x 3) or AlexNet"),
        (lambda state: state.clear(), "expected the tensors of a NetVLAD network"),
        (with_array("encoder.0.weight", lambda w: w[..., :7]), "got 7; other backbones"),
        (
            with_array("encoder.0.weight", lambda w: w[0]),
            "encoder.0.weight can't have shape (3, 11",
        ),
        (
            with_array("encoder.3.weight", lambda w: w[0]),
            "encoder.3.weight can't be used with shape",
        ),
        (with_array("encoder.3.weight", lambda w: w[:9]), "conv2/kernel of shape (5, 5, 64, 192)"),
        (with_array("encoder.3.weight", lambda w: w * np.nan), "conv2/kernel holds NaN"),
        (with_array("pool.conv.weight", lambda w: w / 0), "netvlad/assignment holds NaN or inf"),
        (with_array("pool.centroids", lambda w: w[:7]), "netvlad/assignment of shape (256, 7)"),
        (with_array("pool.centroids", lambda w: w[:, :99]), "netvlad/centres of shape (8, 256)"),
        (with_array("pool.centroids", lambda w: w[:0]), "clusters: expected 1 to 4096, got 0"),
        (
            with_array("pool.centroids", lambda w: np.array(w[0, 0])),
            "pool.centroids can't have shape ()",
        ),
        (
            with_array("pool.conv.weight", lambda w: w.repeat(3, 2)),
            "pool.conv.weight can't be used",
        ),
        (
            lambda state: state.update({"WPCA.0.weight": np.zeros((5, 99, 1, 1), "f4")}),
            "whitening/kernel of shape (2048, 5), got (99, 5)",
        ),
        (
            lambda state: state.update({"WPCA.0.weight": np.zeros((5, 2048, 1, 1), "f4")}),
            "whitening/bias is missing",
        ),
        (
            lambda state: state.update({"pool.head.weight": np.zeros(3, "f4")}),
            "alexnet with NetVLAD has no tensor 'pool.head.weight'",
        ),
        (
            lambda state: state.update({"encoder.1.weight": np.zeros(3, "f4")}),
            "alexnet with NetVLAD has no tensor 'encoder.1.weight'",
        ),
        (
            lambda state: state.update({"encoder.module.0.bias": np.zeros(64, "f4")}),
            "'encoder.0.bias' is there twice",
        ),
        (
            lambda state: state.update({"net.pool.conv.weight": np.zeros(3, "f4")}),
            "alexnet with NetVLAD has no tensor 'net.pool.conv.weight'",
        ),
        (
            lambda state: state.update({f"net.{name}": array for name, array in state.items()}),
            "alexnet with NetVLAD has no tensor 'net.encoder.0.weight'",
        ),
        (
            lambda state: state.update({"pool.alpha": 5.0}),
            "expected a tensor for 'pool.alpha', got float",
        ),
        (
            lambda state: state.update({"pool.alpha": call("torch.device", ("cpu",))}),
            "expected a tensor for 'pool.alpha', got torch.device",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_tensors_that_do_not_fit_are_refused_with_what_is_wrong(
    edit: Callable[[State], Any], reason: str, alexnet: State, tmp_path: Path
):
    edit(alexnet)
    save_zip(tmp_path / "weights.pth", {"state_dict": alexnet})
    assert reason in refusal(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        *(
            (content, "expected a dict of tensors, alone or as one of state_dict, model_state_dict")
            for content in (5, None, [1], "text")
        ),
        ({"state_dict": 5}, "expected a tensor for 'state_dict', got int"),
        ({"state_dict": [1]}, "expected a tensor for 'state_dict', got list"),
        ({"model": {"model": {}}}, "expected a tensor for 'model', got dict"),
        ({"net": {}}, "expected the tensors of a NetVLAD network"),
    ],
)
def test_what_is_no_state_dict_is_refused(content: Any, reason: str, tmp_path: Path):
    save_zip(tmp_path / "weights.pth", content)
    assert reason in refusal(tmp_path / "weights.pth")


def test_tensors_that_all_share_one_storage_claim_no_memory(tmp_path: Path):
    save_zip(tmp_path / "weights.pth", {"data": np.zeros(1 << 12, "f4")} | shared_tensors(1 << 12))
    assert "share their values" in refusal(tmp_path / "weights.pth")


def shared_tensors(count: int) -> dict[str, bytes]:
    """Operations for tensors of one storage, the first of the file."""
    one = tensor(storage("FloatStorage", "0", count), 0, (count,), (1,))
    return {f"encoder.{place}.weight": one for place in range(99)}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("weights.safetensors", "expected the tensors of a NetVLAD network"),
        ("network.onnx", "got an ONNX program; import the checkpoint"),
        ("weights.pth", "expected a file that torch.save wrote, got a damaged one"),
        ("checkpoint.pth.tar", "expected a file that torch.save wrote, got a damaged one"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_what_is_expected(
    name: str, reason: str, tmp_path: Path
):
    (tmp_path / name).write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")
    assert reason in refusal(tmp_path / name)


@pytest.mark.slow
def test_a_patch_netvlad_of_full_size_is_imported_within_its_memory(tmp_path: Path):
    program = """
        import sys
        from pathlib import Path
        import numpy as np
        from torch_files import networks, save_zip
        state = networks()["patch_netvlad"]
        rng = np.random.default_rng(5)
        state |= {
            "pool.centroids": rng.standard_normal((64, 512), "f4"),
            "pool.conv.weight": rng.standard_normal((64, 512, 1, 1), "f4"),
            "WPCA.0.weight": rng.standard_normal((4096, 64 * 512, 1, 1), "f4"),
            "WPCA.0.bias": rng.standard_normal(4096, "f4"),
        }
        save_zip(Path(sys.argv[1]), {"num_pcs": 4096, "state_dict": state})
        """
    path = tmp_path / "mapillary_WPCA4096.pth.tar"
    run = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    subprocess.run(run, check=True, cwd=Path(__file__).parents[1])
    importing = (
        "import sys; from pathlib import Path;"
        "from netvlad_ros.importers.detect import import_weights;"
        "print(import_weights(sys.argv[1]).descriptor_dims);"
        # getrusage() would begin with what the parent had.
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", importing, str(path)], check=True, capture_output=True, text=True
    )
    dims, peak_kib = map(int, done.stdout.split()[-2:])
    assert dims == 4096
    assert peak_kib * 1024 < 5 * GIB
