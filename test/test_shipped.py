# SPDX-License-Identifier: MIT
"""The model that comes with the package: where it is taken, and what it may cost."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from recording import SECOND, image, write_bag

import netvlad_ros.shipped
from netvlad_ros.calibration import resolved_min_sequence_score, resolved_min_similarity
from netvlad_ros.cli import main
from netvlad_ros.config import CandidateConfig, ExtractorConfig
from netvlad_ros.data.image_files import read_image
from netvlad_ros.errors import ModelError
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.model import load_model
from netvlad_ros.runtime.keras_model import describe
from netvlad_ros.shipped import LITERT_SIZE_PX, SHIPPED_LITERT, SHIPPED_MODEL, model_path

MOST_BYTES = 6_000_000


@pytest.fixture(scope="module")
def extractor() -> NetVLADExtractor:
    return NetVLADExtractor()


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Three made-up places of light and shade."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (3, 15, 20, 3), np.uint8)
    return [cv2.resize(each, (320, 240), interpolation=cv2.INTER_CUBIC) for each in coarse]


@pytest.mark.parametrize("name", ["", None, "compact"])
def test_an_empty_model_is_the_shipped_one(name: str | None) -> None:
    assert model_path(name) == SHIPPED_MODEL


def test_a_model_of_ones_own_may_be_called_compact(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compact").mkdir()  # such as a SavedModel
    assert model_path("compact") == Path("compact")


def test_it_loads_as_a_network_by_its_name(extractor: NetVLADExtractor) -> None:
    assert load_model("compact").fingerprint() == extractor.description.fingerprint


def test_a_named_model_is_taken_as_it_is() -> None:
    assert model_path("a/b.keras") == Path("a/b.keras")
    assert model_path(Path("b.onnx")) == Path("b.onnx")


def test_a_missing_shipped_model_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(netvlad_ros.shipped, "SHIPPED_MODEL", tmp_path / "gone.keras")
    with pytest.raises(ModelError, match=r"gone\.keras.*install the package again"):
        NetVLADExtractor()
    assert main(["info"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("file", [SHIPPED_MODEL, SHIPPED_LITERT])
def test_it_is_small_and_lies_in_the_package(file: Path) -> None:
    assert file.stat().st_size <= MOST_BYTES
    assert Path(netvlad_ros.shipped.__file__).parent in file.parents


@pytest.mark.needs("ai_edge_litert")
def test_its_two_files_are_of_one_model(pictures: list[np.ndarray]) -> None:
    network, exported = load_model(SHIPPED_MODEL), in_runtime("litert").description
    description = describe(network)
    assert exported == replace(
        description, has_fixed_size=True, cosine=exported.cosine, precision="fp32"
    )
    assert exported.cosine > 0.999999
    assert (exported.input_width_px, exported.input_height_px) == LITERT_SIZE_PX
    assert_same_descriptors(pictures)


@pytest.mark.needs("ai_edge_litert")
def test_both_describe_real_images_alike(shared: Path) -> None:
    files = sorted((shared / "data" / "rtabmap_samples" / "images").glob("*.jpg"))[::4]
    files += sorted((shared / "data" / "euroc_stereo_loops").glob("*.png"))
    assert len(files) > 20
    assert_same_descriptors([read_image(file) for file in files])


def in_runtime(runtime: str) -> NetVLADExtractor:
    return NetVLADExtractor("", ExtractorConfig(runtime=runtime))


def assert_same_descriptors(images: list[np.ndarray]) -> None:
    found = [in_runtime(runtime).extract_batch(images) for runtime in ("litert", "tensorflow")]
    cosines = np.einsum("nd,nd->n", *found)
    assert cosines.mean() == pytest.approx(1.0, abs=5e-7)
    assert cosines.min() > 0.99999


def test_its_descriptors_tell_pictures_apart(
    extractor: NetVLADExtractor, pictures: list[np.ndarray]
) -> None:
    descriptors = extractor.extract_batch(pictures)
    darker = extractor.extract_batch([each // 2 + 20 for each in pictures])
    similarities = descriptors @ darker.T
    assert similarities.argmax(axis=1).tolist() == [0, 1, 2]
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1.0, atol=1e-5)


def test_it_says_which_similarity_means_what(extractor: NetVLADExtractor) -> None:
    assert extractor.calibration is not None
    assert extractor.calibration.curves["similarity"].pairs > 10_000
    limit, warning = resolved_min_similarity(
        CandidateConfig(), extractor.calibration, extractor.fingerprint
    )
    score = resolved_min_sequence_score(CandidateConfig(), extractor.calibration)
    # As docs/compact_model.md has it.
    assert (limit, score) == pytest.approx((0.44, 1.19), abs=0.01)
    assert warning == ""


def test_its_fingerprint_is_that_of_the_maps_made_with_it(extractor: NetVLADExtractor) -> None:
    assert extractor.fingerprint == "459e500f495dfdde@320x240"


def test_at_another_size_or_length_it_does_not_know() -> None:
    for config in (
        ExtractorConfig(input_width_px=640, input_height_px=480),
        ExtractorConfig(descriptor_dims=128),
    ):
        assert NetVLADExtractor("", config).calibration is None


def test_it_is_fast_because_its_input_is_small(extractor: NetVLADExtractor) -> None:
    assert extractor.size_px == (320, 240)


def test_commands_take_it_where_no_model_is_named(
    extractor: NetVLADExtractor,
    pictures: list[np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
    first, drawn = str(tmp_path / "0.png"), str(tmp_path / "drawn" / "clusters.png")
    (tmp_path / "drawn").mkdir()
    assert main(["info"]) == 0
    assert extractor.fingerprint.partition("@")[0] in capsys.readouterr().out
    assert main(["show", first, "-o", drawn]) == 0
    assert Path(drawn).exists()
    assert main(["search", str(tmp_path), first, "-n", "1", "--cache", str(tmp_path / "c")]) == 0
    assert "  1  " in capsys.readouterr().out


def test_a_bag_is_replayed_with_it(
    pictures: list[np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three places, and the first of them again, half a minute later."""
    times_s = (1, 2, 3, 40)
    messages = [
        (time_s * SECOND, image(time_s * SECOND, pictures[number], "rgb8"))
        for time_s, number in zip(times_s, (0, 1, 2, 0), strict=True)
    ]
    bag = write_bag(tmp_path / "drive", {"/camera": messages})
    assert main(["replay", str(bag)]) == 0
    told = capsys.readouterr().out
    assert "keyframe 3 (39.0 s) looks like keyframe 0 (0.0 s), similarity 1.000" in told
