# SPDX-License-Identifier: MIT
"""Whatever the user names, a file, a folder or an archive: the one network in it, or a sentence."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from refusals import refusal
from vgg16_files import (
    Tensors,
    thin_tensors,
    write_checkpoint,
    write_frozen,
    write_keras,
    write_matlab,
)

from netvlad_ros.errors import WeightsError
from netvlad_ros.importers import detect
from netvlad_ros.importers.canonical import CanonicalWeights
from netvlad_ros.importers.detect import IMPORTERS, import_weights

WRITERS: dict[str, tuple[Callable[[Path, Tensors], Path], str]] = {
    "vd16": (write_checkpoint, "uzh-rpg/netvlad_tf_open"),
    "frozen.pb": (write_frozen, "uzh-rpg/netvlad_tf_open"),
    "struct.mat": (write_matlab, "Relja/netvlad"),
    "weights.h5": (write_keras, "crlz182/Netvlad-Keras"),
}


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], CanonicalWeights]:
    """What import_weights() would make a network of, without making it."""
    monkeypatch.setattr(detect, "to_network", lambda weights, source: weights)
    return import_weights


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_recognised_by_its_importer_alone(name: str, tmp_path: Path):
    write, origin = WRITERS[name]
    path = write(tmp_path / name, thin_tensors())
    assert [each.origin for each in IMPORTERS if each.recognises(path)] == [origin]


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_in_a_folder_in_an_archive_is_found(
    name: str, imported: Callable[[Path], CanonicalWeights], tmp_path: Path
):
    folder = tmp_path / "download/inner"
    folder.mkdir(parents=True)
    WRITERS[name][0](folder / name, thin_tensors())
    (folder / "readme.txt").write_text("text")
    with zipfile.ZipFile(tmp_path / "download.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(tmp_path))
    for source in (folder, folder.parent, tmp_path / "download.zip"):
        assert imported(source).network.clusters == 3


def test_a_file_of_any_name_is_looked_into(
    imported: Callable[[Path], CanonicalWeights], tmp_path: Path
):
    for name in ("struct.mat", "weights.h5", "frozen.pb"):
        path = WRITERS[name][0](tmp_path / "without_suffix", thin_tensors())
        assert imported(path).network.clusters == 3


def test_weights_of_two_networks_in_one_folder_are_named(tmp_path: Path):
    write_matlab(tmp_path / "b.mat", thin_tensors())
    write_keras(tmp_path / "a.h5", thin_tensors())
    assert refusal(tmp_path) == (
        "expected the weights of one network, got 2 (a.h5, b.mat); name one of them."
    )


def test_an_error_in_an_archive_names_the_archive(tmp_path: Path):
    path = write_matlab(tmp_path / "net.mat", thin_tensors())
    path.write_bytes(path.read_bytes()[:5000])
    with zipfile.ZipFile(tmp_path / "net.zip", "w") as archive:
        archive.write(path, "inner/net.mat")
    with pytest.raises(WeightsError) as error:
        import_weights(tmp_path / "net.zip")
    assert str(error.value).startswith(f"{tmp_path}/net.zip/inner/net.mat: this .mat file can't be")


def test_an_archive_is_removed_once_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with zipfile.ZipFile(tmp_path / "net.zip", "w") as archive:
        archive.writestr("net.mat", b"x" * 1000)
    assert "got no such file in this folder" in refusal(tmp_path / "net.zip")
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_a_name_that_no_file_can_have_is_refused(name: str, tmp_path: Path):
    with pytest.raises(WeightsError, match="can't be read"):
        import_weights(tmp_path / name)


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_matlab(tmp_path / "net.mat", thin_tensors())
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(WeightsError, match=r"can't be read \(Permission denied\)\.$"):
        import_weights(tmp_path / "net.mat")


def test_an_empty_folder_lists_the_known_origins(tmp_path: Path):
    sentence = refusal(tmp_path)
    for importer in IMPORTERS:
        assert importer.origin in sentence


def test_a_folder_of_everything_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(detect, "MAX_ENTRIES", 10)
    for number in range(11):
        (tmp_path / f"{number}.jpg").touch()
    assert "got one of more than 10 entries; name the file" in refusal(tmp_path)


def test_a_folder_in_a_circle_is_searched_once(tmp_path: Path):
    (tmp_path / "circle").symlink_to(tmp_path)
    assert "got no such file in this folder" in refusal(tmp_path)


def test_no_importer_raises_at_a_first_look(tmp_path: Path):
    signatures = [
        b"",
        b"MATLAB ",
        b"MATLAB 5.0 MAT-file",
        b"\x89HDF\r\n\x1a\n",
        b"PK\x03\x04",
        b"\x80",
    ]
    paths = [tmp_path, tmp_path / "absent", tmp_path / "absent/below"]
    for number, signature in enumerate(signatures):
        for length in (0, 7, 5000):
            path = tmp_path / f"{number}_{length}.index"
            path.write_bytes(signature + b"\xff" * length)
            paths.append(path)
    for path in paths:
        for importer in IMPORTERS:
            assert importer.recognises(path) in (False, True)
