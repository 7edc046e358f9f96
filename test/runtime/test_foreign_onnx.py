# SPDX-License-Identifier: MIT
"""ONNX descriptors of other projects: run as they are, fed with what they were said to expect."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from netvlad_ros.errors import WeightsError
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.runtime.foreign_onnx import PRESETS, Preprocessing, import_onnx
from netvlad_ros.runtime.model import ModelDescription, read_description

pytestmark = pytest.mark.needs("onnx", "onnxruntime")

WIDTH, HEIGHT, DIMS = 96, 64, 8
IMAGENET = PRESETS["imagenet"]
Command = Callable[..., tuple[int, str, str]]


def export(
    path: Path,
    shape: Any = (1, 3, HEIGHT, WIDTH),
    end: str = "norm",
    kind: int = TensorProto.FLOAT,
    opset: int = 17,
) -> Path:
    """A network of one convolution, as torch.onnx.export would write it.

    end: norm, for a last L2 norm; bare, without; map, for local features; several outputs; label, a number;
         same, one descriptor for all images; fixed, with the batch written into an operation.
    """
    rng = np.random.default_rng(0)
    numbers = helper.tensor_dtype_to_np_dtype(kind)
    is_nhwc = len(shape) == 4 and shape[3] == 3
    nodes = [helper.make_node("Transpose", ["image"], ["x"], perm=[0, 3, 1, 2])] if is_nhwc else []
    nodes.append(
        helper.make_node("Conv", ["x" if is_nhwc else "image", "weights"], ["c"], strides=[4, 4])
    )
    nodes.append(helper.make_node("Relu", ["c"], ["map"]))
    nodes.append(helper.make_node("GlobalAveragePool", ["map"], ["pooled"]))
    flat = ["Reshape", "sides"] if end == "fixed" else ["Flatten"]
    nodes.append(helper.make_node(flat[0], ["pooled", *flat[1:]], ["bare"]))
    nodes.append(helper.make_node("LpNormalization", ["bare"], ["norm"], axis=1, p=2))
    nodes.append(helper.make_node("ArgMax", ["bare"], ["label"], axis=1, keepdims=0))
    nodes.append(helper.make_node("Mul", ["bare", "zero"], ["zeros"]))
    nodes.append(helper.make_node("Add", ["zeros", "one"], ["same"]))
    weights = {
        "weights": rng.standard_normal((DIMS, 3, 5, 5)).astype(numbers),
        "sides": np.array([1, DIMS], np.int64),
        "zero": np.zeros(1, numbers),
        "one": np.ones(1, numbers),
    }
    shapes: dict[str, list[str | int | None]] = {"map": ["b", DIMS, "h", "w"], "label": ["b"]}
    names = {"several": ["map", "norm"], "fixed": ["norm"]}.get(end, [end])
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", kind, shape)],
        [
            helper.make_tensor_value_info(
                name, TensorProto.INT64 if name == "label" else kind, shapes.get(name, ["b", DIMS])
            )
            for name in names
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def by_hand(path: Path, image: np.ndarray, wanted: Preprocessing) -> np.ndarray:
    """Its descriptor with ONNX Runtime alone, (dims,)."""
    x = image if wanted.channel_order == "rgb" else image[..., ::-1]
    x = x.astype(np.float32) * np.float32(wanted.scale) - np.array(wanted.mean, np.float32)
    x = (x / np.array(wanted.std, np.float32))[None]
    session = onnxruntime.InferenceSession(path)
    given = session.get_inputs()[0]
    x = x.transpose(0, 3, 1, 2) if given.shape[1] == 3 else x
    kind = np.float16 if "float16" in given.type else np.float32
    found = session.run(None, {given.name: x.astype(kind)})[0][0].astype(np.float32)
    return found / np.linalg.norm(found)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.mark.parametrize("end", ["norm", "bare", "fixed"])
@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((1, 3, HEIGHT, WIDTH), TensorProto.FLOAT),
        (("b", 3, "h", "w"), TensorProto.FLOAT),
        (("b", HEIGHT, WIDTH, 3), TensorProto.FLOAT),
        ((1, 3, HEIGHT, WIDTH), TensorProto.FLOAT16),
    ],
)
@pytest.mark.parametrize(
    "wanted", [IMAGENET, Preprocessing(0.5, (1, 2, 3), (4, 5, 6), channel_order="bgr")]
)
def test_an_import_gives_what_the_network_gives_by_hand(
    end: str, shape: Any, kind: int, wanted: Preprocessing, image: np.ndarray, tmp_path: Path
) -> None:
    theirs, ours = export(tmp_path / "theirs.onnx", shape, end, kind), tmp_path / "ours.onnx"
    made = import_onnx(theirs, dataclasses.replace(wanted, size_px=(WIDTH, HEIGHT)), ours)
    extractor = NetVLADExtractor(ours)
    assert extractor.description == made
    assert (extractor.dims, extractor.size_px) == (DIMS, (WIDTH, HEIGHT))
    expected = by_hand(theirs, image, wanted)
    tolerance = 2e-3 if kind == TensorProto.FLOAT16 else 1e-6
    assert np.abs(extractor.extract(image) - expected).max() < tolerance
    several = extractor.extract_batch([image, image[::-1].copy(), image])
    assert np.abs(several[::2] - expected).max() < tolerance


def test_images_are_resized_as_the_network_was_trained(image: np.ndarray, tmp_path: Path) -> None:
    theirs, ours = export(tmp_path / "theirs.onnx"), tmp_path / "ours.onnx"
    large = cv2.resize(image, (200, 150), interpolation=cv2.INTER_CUBIC)
    for name in ("area", "linear", "cubic", "nearest"):
        import_onnx(theirs, dataclasses.replace(IMAGENET, interpolation=name), ours)
        how = getattr(cv2, f"INTER_{name.upper()}")
        small = cv2.resize(large, (WIDTH, HEIGHT), interpolation=how)
        expected = by_hand(theirs, small, IMAGENET)
        assert np.abs(NetVLADExtractor(ours).extract(large) - expected).max() < 1e-6


def test_a_fingerprint_is_of_the_network_and_of_all_that_is_made_of_images(tmp_path: Path) -> None:
    theirs = export(tmp_path / "theirs.onnx")
    prints = {
        import_onnx(
            theirs, dataclasses.replace(IMAGENET, **changed), tmp_path / "o.onnx"
        ).fingerprint
        for changed in (
            {},
            {"scale": 1.0},
            {"mean": (0.0, 0.0, 0.0)},
            {"std": (1.0, 1.0, 1.0)},
            {"channel_order": "bgr"},
            {"interpolation": "cubic"},
        )
    }
    other = export(tmp_path / "other.onnx", end="bare")
    prints.add(import_onnx(other, IMAGENET, tmp_path / "o.onnx").fingerprint)
    assert len(prints) == 7
    again = import_onnx(theirs, IMAGENET, tmp_path / "o.onnx").fingerprint
    assert again in prints


def test_weights_that_lie_beside_a_file_come_along(image: np.ndarray, tmp_path: Path) -> None:
    theirs = export(tmp_path / "theirs.onnx")
    expected = by_hand(theirs, image, IMAGENET)
    model = onnx.load(theirs)
    onnx.save(model, theirs, save_as_external_data=True, location="w.bin", size_threshold=0)
    import_onnx(theirs, IMAGENET, tmp_path / "ours.onnx")
    (tmp_path / "w.bin").unlink()
    found = NetVLADExtractor(tmp_path / "ours.onnx").extract(image)
    assert np.abs(found - expected).max() < 1e-6
    with pytest.raises(WeightsError, match="is no ONNX file, or not all of one"):
        import_onnx(theirs, IMAGENET, tmp_path / "again.onnx")


def test_the_command_takes_presets_and_numbers(netvlad: Command, tmp_path: Path) -> None:
    theirs = export(tmp_path / "theirs.onnx", ("b", 3, "h", "w"), "several")
    words = ("import-weights", theirs, "--size", "96x64", "--output-name", "norm")
    numbers = ("--scale", "1/255", "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225")
    prints = []
    for given in (("--input", "imagenet"), numbers):
        code, out, err = netvlad(*words, *given, "-o", tmp_path / "ours.onnx")
        assert (code, err) == (0, "")
        prints.append(out.rpartition(" ")[2])
    assert prints[0] == prints[1]
    assert "ONNX Runtime, 8 dimensions, 96x64 pixels" in out
    _, out, _ = netvlad("info", tmp_path / "ours.onnx")
    assert "input        RGB, times 0.00392157, minus (0.485, 0.456, 0.406), divided by (0.2" in out


@pytest.mark.parametrize(
    ("made", "words", "reason"),
    [
        ({}, ("--size", "32x32"), "takes images of 96x64 pixels, not 32x32; leave --size out"),
        ({"shape": ("b", 3, "h", "w")}, (), "say with --size WIDTHxHEIGHT"),
        (
            {"shape": ("b", 3, "h", "w")},
            ("--size", "4x4"),
            "does not run on an image of 4x4 pixels",
        ),
        ({"shape": (2, 3, HEIGHT, WIDTH)}, (), "batch 1 or any, got image (2, 3, 64, 96)"),
        (
            {"end": "map"},
            (),
            "expected an output of shape (1, dims), a descriptor, got (1, 8, 15, 23)",
        ),
        ({"end": "label"}, (), "got an output label that is no float"),
        ({"end": "same"}, (), "got the same or none for two images of noise"),
        ({"end": "several"}, (), "--output-name, one of map (any, 8, any, any), norm (any, 8)"),
        ({"end": "several"}, ("--output-name", "no"), "norm (any, 8), got no"),
        ({}, ("--input-name", "no"), "expected --input-name, one of image (1, 3, 64, 96), got no"),
        ({}, ("--std", "0"), "numbers other than 0"),
        ({}, ("-o", "ours.keras"), "expected the name of another .onnx file"),
    ],
)
def test_what_can_not_be_a_descriptor_network_is_refused(
    made: dict[str, Any],
    words: tuple[str, ...],
    reason: str,
    netvlad: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    export(tmp_path / "theirs.onnx", **made)
    output = () if "-o" in words else ("-o", "ours.onnx")
    code, out, err = netvlad(
        "import-weights", "theirs.onnx", "--input", "imagenet", *output, *words
    )
    assert (code, out) == (1, "")
    assert reason in err
    assert err.count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["theirs.onnx"]


def test_how_images_are_scaled_has_to_be_said(netvlad: Command, tmp_path: Path) -> None:
    theirs = export(tmp_path / "theirs.onnx")
    words = ("import-weights", theirs, "-o", tmp_path / "ours.onnx")
    for preset in ((), ("--input", "vgg")):
        assert "expected --input imagenet, or --scale" in netvlad(*words, *preset)[2]
    assert (
        "--mean: is for .onnx files only"
        in netvlad("import-weights", "weights.mat", "-o", "m.keras", "--mean", "1,2,3")[2]
    )


def test_our_own_file_needs_no_import(tmp_path: Path) -> None:
    import_onnx(export(tmp_path / "theirs.onnx"), IMAGENET, tmp_path / "ours.onnx")
    with pytest.raises(WeightsError, match="is a file of this package already"):
        import_onnx(tmp_path / "ours.onnx", IMAGENET, tmp_path / "again.onnx")


@pytest.mark.parametrize("spoil", ["noise", "empty", "cut", "text", "gone", "folder"])
def test_a_file_of_anything_else_is_one_sentence(spoil: str, tmp_path: Path) -> None:
    path = export(tmp_path / "theirs.onnx")
    content = path.read_bytes()
    path.unlink()
    match spoil:
        case "folder":
            path.mkdir()
        case "gone":
            pass
        case _:
            path.write_bytes(
                {
                    "noise": np.random.default_rng(0).bytes(5000),
                    "empty": b"",
                    "cut": content[: len(content) // 2],
                    "text": b"<html>404</html>",
                }[spoil]
            )
    with pytest.raises(WeightsError) as error:
        import_onnx(path, IMAGENET, tmp_path / "ours.onnx")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ours.onnx").exists()


def test_noise_in_a_file_never_ends_in_anything_but_a_sentence_or_a_model(tmp_path: Path) -> None:
    path = export(tmp_path / "theirs.onnx")
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        spoiled = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            spoiled[place] = rng.integers(0, 256)
        path.write_bytes(bytes(spoiled))
        with contextlib.suppress(WeightsError):
            import_onnx(path, IMAGENET, tmp_path / "ours.onnx")


def test_a_description_says_how_images_are_resized() -> None:
    description = ModelDescription("abc", 128, interpolation="cubic", preprocessing="RGB")
    assert read_description(description.to_json(), "m.onnx") == description
    assert "interpolation" not in ModelDescription("abc", 128).to_json()
