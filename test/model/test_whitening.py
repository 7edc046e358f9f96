# SPDX-License-Identifier: MIT
"""A whitening decorrelates what it was fitted on, and foreign files are read as they were meant."""

from pathlib import Path

import numpy as np
import pytest

from netvlad_ros.errors import WeightsError
from netvlad_ros.model import whitening
from netvlad_ros.model.whitening import (
    Whitening,
    fit_place_whitening,
    fit_whitening,
    read_whitening,
)

RNG = np.random.default_rng(11)
# More and fewer descriptors than dimensions are solved in different ways.
SHAPES = [(30, 100), (100, 30), (40, 40)]


def unit_vectors(count: int, dims: int) -> np.ndarray:
    """Around a common mean and more different along some directions, as descriptors are."""
    x = 2.0 + RNG.normal(size=(count, dims)) * np.linspace(2.0, 0.1, dims)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_it_was_fitted_on_is_uncorrelated_of_unit_variance_around_zero(shape: tuple[int, int]):
    descriptors = unit_vectors(*shape)
    whitened = fit_whitening(descriptors, 8).apply(descriptors)
    np.testing.assert_allclose(whitened.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(8), atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_whitening_of_the_singular_vectors(shape: tuple[int, int]):
    descriptors = unit_vectors(*shape)
    mean = descriptors.mean(axis=0, dtype=float)
    _, singular, directions = np.linalg.svd(descriptors - mean, full_matrices=False)
    variances = singular[:8] ** 2 / (shape[0] - 1)
    wanted = directions[:8].T / np.sqrt(variances + 1e-9)
    found = fit_whitening(descriptors, 8)
    signs = np.sign((found.kernel * wanted).sum(axis=0))
    np.testing.assert_allclose(found.kernel, wanted * signs, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.bias, -mean @ found.kernel, atol=1e-4)


def test_fewer_dimensions_are_the_first_of_more():
    descriptors = unit_vectors(30, 100)
    less, more = fit_whitening(descriptors, 4), fit_whitening(descriptors, 9).first(4)
    np.testing.assert_array_equal(less.kernel, more.kernel)
    np.testing.assert_array_equal(less.bias, more.bias)


def test_the_size_of_a_block_does_not_matter(monkeypatch: pytest.MonkeyPatch):
    descriptors = unit_vectors(30, 100)
    whole = fit_whitening(descriptors, 5)
    monkeypatch.setattr(whitening, "BLOCK_DIMS", 7)
    np.testing.assert_allclose(fit_whitening(descriptors, 5).kernel, whole.kernel, atol=1e-3)


@pytest.mark.parametrize(
    ("descriptors", "dims", "says"),
    [
        (unit_vectors(5, 100), 5, "more than 5 images, got 5"),
        (unit_vectors(5, 100), 0, "dims: expected 1 to 100, .*got 0"),
        (unit_vectors(20, 10), 11, "dims: expected 1 to 10, .*got 11"),
        (unit_vectors(4, 100).repeat(5, axis=0), 8, "differ in as many directions, got 3"),
        (np.ones((9, 4), np.float32), 2, "differ in as many directions, got 0"),
    ],
)
def test_what_can_not_be_fitted_is_refused(descriptors: np.ndarray, dims: int, says: str):
    with pytest.raises(WeightsError, match=says):
        fit_whitening(descriptors, dims)


def projection() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return RNG.normal(size=6), RNG.normal(size=(3, 6)), RNG.normal(size=(4, 6))


def test_a_csv_holds_the_mean_then_the_components(tmp_path: Path):
    mean, components, x = projection()
    np.savetxt(tmp_path / "pca.csv", np.vstack([mean, components]), delimiter=",")
    found = read_whitening(tmp_path / "pca.csv")
    np.testing.assert_allclose(found.apply(x), (x - mean) @ components.T, atol=1e-5)


def test_an_npz_may_hold_variances_that_are_still_to_be_divided_by(tmp_path: Path):
    mean, components, x = projection()
    variances = np.array([4.0, 1.0, 0.25])
    np.savez(tmp_path / "plain.npz", mean=mean, components=components)
    np.savez(tmp_path / "pca.npz", mean=mean, components=components, variances=variances)
    plain, divided = (read_whitening(tmp_path / name) for name in ("plain.npz", "pca.npz"))
    np.testing.assert_allclose(plain.apply(x), (x - mean) @ components.T, atol=1e-5)
    np.testing.assert_allclose(divided.apply(x), plain.apply(x) / [2.0, 1.0, 0.5], rtol=1e-4)


def test_files_that_hold_no_whitening_are_refused(tmp_path: Path):
    mean, components, _ = projection()
    (tmp_path / "text.npz").write_text("no arrays")
    (tmp_path / "words.csv").write_text("mean,of,words\n")
    (tmp_path / "ragged.csv").write_text("1,2,3\n1,2\n")
    (tmp_path / "mean.csv").write_text("1,2,3\n")
    (tmp_path / "pca.pickle").write_bytes(b"")
    np.savez(tmp_path / "other.npz", weights=mean)
    np.savez(tmp_path / "objects.npz", mean=np.array([{}]), components=components)
    np.savez(tmp_path / "wide.npz", mean=mean[:5], components=components)
    np.savez(tmp_path / "nan.npz", mean=mean * np.nan, components=components)
    np.savez(tmp_path / "flat.npz", mean=mean, components=components, variances=np.zeros(3))
    for name, says in {
        "absent.npz": "there is no such file",
        "text.npz": "expected arrays of numbers named mean and components",
        "words.csv": "expected rows of equally many numbers",
        "ragged.csv": "expected rows of equally many numbers",
        "mean.csv": "at least one component, got 1 rows",
        "pca.pickle": "expected a whitening in an .npz or .csv file, got '.pickle'",
        "other.npz": "named mean and components",
        "objects.npz": "named mean and components",
        "wide.npz": r"components of shape \(d, D\), d at most D, got \(5,\) and \(3, 6\)",
        "nan.npz": "holds NaN",
        "flat.npz": "expected 3 positive variances",
    }.items():
        with pytest.raises(WeightsError, match=says) as error:
            read_whitening(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_file_that_unpacks_to_more_than_the_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(whitening, "MAX_BYTES", 1000)
    np.savez_compressed(tmp_path / "bomb.npz", mean=np.zeros(1000), components=np.zeros((1, 1000)))
    with pytest.raises(WeightsError, match="expected at most 1000 bytes, got 16"):
        read_whitening(tmp_path / "bomb.npz")


def test_more_dimensions_than_there_are_are_refused():
    with pytest.raises(WeightsError, match=r"expected 1 to 2, .*got 3"):
        Whitening(np.ones((4, 2)), np.ones(2)).first(3)


def places_with_weather(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """40 places, 6 images of each: dimensions 0 to 3 tell the place, 4 to 7 the weather, which is louder."""
    places = np.repeat(np.arange(40), 6)
    descriptors = rng.normal(0, 0.05, (240, 8)).astype(np.float32)
    descriptors[:, :4] += rng.normal(0, 0.3, (40, 4))[places]
    descriptors[:, 4:] += rng.normal(0, 1.0, (240, 4))
    return descriptors, places


def share_recognised(descriptors: np.ndarray, places: np.ndarray) -> float:
    units = descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)
    similarity = units @ units.T
    np.fill_diagonal(similarity, -2)
    return float((places[similarity.argmax(axis=1)] == places).mean())


def test_whitening_from_places_makes_little_of_what_changes_at_a_place():
    rng = np.random.default_rng(3)
    fitted = fit_place_whitening(*places_with_weather(rng), dims=4, evenness=0.01)
    assert fitted.kernel.shape == (8, 4)
    found, places = places_with_weather(rng)  # other places
    assert share_recognised(found, places) < 0.5
    assert share_recognised(fit_whitening(found, 4).apply(found), places) < 0.5
    assert share_recognised(fitted.apply(found), places) > 0.9


def test_whitening_from_places_centres_and_keeps_about_unit_length():
    found, places = places_with_weather(np.random.default_rng(4))
    whitened = fit_place_whitening(found + 5.0, places, dims=3).apply(found + 5.0)
    np.testing.assert_allclose(whitened.mean(axis=0), 0.0, atol=1e-4)
    assert np.var(whitened, axis=0).mean() == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("places", [np.arange(6), np.zeros(6, int), np.array([0, 0, 0, 1, 1, 2])])
def test_whitening_from_places_wants_places_with_several_images(places):
    descriptors = np.random.default_rng(0).normal(size=(6, 4))
    with pytest.raises(WeightsError, match="expected at least 2 places and 2 images of each"):
        fit_place_whitening(descriptors, places, 2)


def test_whitening_from_places_gives_at_most_as_many_dimensions_as_it_takes():
    with pytest.raises(WeightsError, match="expected 1 to 4"):
        fit_place_whitening(np.ones((4, 4)), np.array([0, 0, 1, 1]), 5)
