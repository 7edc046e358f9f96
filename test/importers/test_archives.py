# SPDX-License-Identifier: MIT
"""Zip archives: what may hold weights is unpacked into their folder, and nothing else anywhere."""

import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from refusals import sentence_of

from netvlad_ros.importers import archives
from netvlad_ros.importers.archives import is_archive, unpack


def write(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def unpacked(path: Path, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    unpack(path, folder)
    return {
        str(each.relative_to(folder)): each.read_bytes()
        for each in folder.rglob("*")
        if each.is_file()
    }


def refusal(path: Path) -> str:
    """Of unpacking, after which there is nothing outside of the folder."""
    folder = path.parent / "unpacked"
    before = {each for each in path.parent.rglob("*") if folder not in each.parents}
    sentence = sentence_of(lambda: unpacked(path, folder), path)
    assert {each for each in path.parent.rglob("*") if folder not in each.parents} <= before | {
        folder
    }
    return sentence


WEIGHTS = {
    "net/net.index": b"index",
    "net/net.data-00000-of-00001": bytes(range(256)),
    "deep/er/struct.mat": b"mat",
    "checkpoint.pth.tar": b"torch",
    "flags.json": b"{}",
}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_files_of_weights_are_unpacked_and_others_are_not(method: int, tmp_path: Path):
    others = {
        "net/net.meta": b"graph",
        "readme.txt": b"text",
        "run.py": b"code",
        "__MACOSX/net/._net.index": b"resource fork",
        ".hidden/net.mat": b"hidden",
    }
    path = write(tmp_path / "net.zip", WEIGHTS | others, method)
    assert is_archive(path)
    assert unpacked(path, tmp_path / "unpacked") == WEIGHTS


@pytest.mark.parametrize("name", ["archive/data.pkl", "data.pkl", "model.weights.h5"])
def test_models_of_torch_and_keras_are_no_archives(name: str, tmp_path: Path):
    assert not is_archive(write(tmp_path / "model", {name: b"", "archive/data/0": b"0"}))


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04", b"PK\x03\x04" + bytes(5000), b"x"])
def test_other_files_are_no_archives(content: bytes, tmp_path: Path):
    (tmp_path / "file").write_bytes(content)
    assert not is_archive(tmp_path / "file")
    assert not is_archive(tmp_path)
    assert not is_archive(tmp_path / "absent")


@pytest.mark.parametrize(
    "name",
    ["../net.mat", "a/../../net.mat", "/tmp/net.mat", "a/b/c/d/e/f/g/h/i.mat", "a\\..\\..\\n.mat"],
)
def test_nothing_is_written_outside_of_the_folder(name: str, tmp_path: Path):
    (tmp_path / "inner").mkdir()
    path = write(tmp_path / "inner/net.zip", {name: b"x"})
    if "\\" in name:  # a name like any other here
        assert len(unpacked(path, tmp_path / "inner/unpacked")) == 1
    else:
        assert "refuses to unpack" in refusal(path)
    assert {each.name for each in tmp_path.iterdir()} == {"inner"}


def test_a_symbolic_link_is_unpacked_as_the_file_that_it_is(tmp_path: Path):
    link = zipfile.ZipInfo("net.mat")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "net.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    unpacked(tmp_path / "net.zip", tmp_path / "unpacked")
    assert not (tmp_path / "unpacked/net.mat").is_symlink()


def test_what_inflates_to_much_more_is_refused_before_it_is_unpacked(tmp_path: Path):
    path = write(tmp_path / "bomb.zip", {"net.mat": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    assert "bytes in the archive, got 50000000" in refusal(path)


def test_a_member_that_lies_about_its_size_is_cut_there(tmp_path: Path):
    size = 50_000_000
    path = write(tmp_path / "liar.zip", {"net.mat": bytes(size)}, zipfile.ZIP_DEFLATED)
    content = path.read_bytes().replace(struct.pack("<I", size), struct.pack("<I", 1000))
    path.write_bytes(content)
    tracemalloc.start()
    try:
        assert "can't be unpacked (Bad CRC-32" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert sum(each.stat().st_size for each in (tmp_path / "unpacked").iterdir()) <= 1000


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_inflate_without_a_limit_are_refused(method: int, tmp_path: Path):
    path = write(tmp_path / "net.zip", {"net.mat": bytes(1000)}, method)
    assert "is compressed in an unusual way" in refusal(path)


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 5)
    path = write(tmp_path / "net.zip", {f"{number}.mat": b"x" for number in range(6)})
    assert "expected at most 5 files" in refusal(path)


def test_an_endless_table_of_contents_is_not_read(tmp_path: Path):
    path = write(tmp_path / "net.zip", {f"{number:0200}": b"" for number in range(8000)})
    tracemalloc.start()
    try:
        assert not is_archive(path)
        assert "its table of contents is too long" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_a_flipped_bit_is_noticed(tmp_path: Path):
    path = write(tmp_path / "net.zip", {"net.mat": b"0123456789" * 100})
    path.write_bytes(path.read_bytes().replace(b"9012", b"9013", 1))
    assert "can't be unpacked (Bad CRC-32" in refusal(path)


def test_an_encrypted_member_is_refused(tmp_path: Path):
    path = write(tmp_path / "net.zip", {"net.mat": b"x" * 100})
    content = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(signature) + place] |= 1
    path.write_bytes(content)
    assert "can't be unpacked" in refusal(path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_an_archive_cut_short_is_refused(share: float, tmp_path: Path):
    path = write(tmp_path / "net.zip", WEIGHTS)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refusal(path)


def test_a_disk_that_is_full_is_told_before_unpacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Usage:
        free = 10

    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage)
    assert "but 10 are free; set TMPDIR" in refusal(write(tmp_path / "net.zip", WEIGHTS))


def test_damaged_deflate_data_is_refused(tmp_path: Path):
    path = write(tmp_path / "net.zip", {"net.mat": bytes(range(256)) * 9}, zipfile.ZIP_DEFLATED)
    squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
    inner = squeeze.compress(bytes(range(256)) * 9) + squeeze.flush()
    content = path.read_bytes()
    assert inner in content
    path.write_bytes(content.replace(inner, b"\xff" * len(inner)))
    assert "can't be unpacked" in refusal(path)
