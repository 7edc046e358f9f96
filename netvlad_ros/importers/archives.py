# SPDX-License-Identifier: MIT
"""Published archives (.zip), unpacked within limits: only what may hold weights, and never more than fits."""

import io
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from netvlad_ros.errors import WeightsError

# What an importer reads. A checkpoint's .meta is not among it: nothing needs it, and it is as large again.
SUFFIXES = (
    ".ckpt",
    ".h5",
    ".hdf5",
    ".index",
    ".json",
    ".keras",
    ".mat",
    ".pb",
    ".pt",
    ".pth",
    ".tar",
)
SHARD = ".data-"
MAX_MEMBERS = 1000
MAX_BYTES = 4 << 30  # the largest that is published unpacks to 1.8 GB
# Weights hardly compress; what claims to be so much larger than its file was made to fill the disk.
MAX_COMPRESSION = 20
MAX_DEPTH = 8
_BLOCK_BYTES = 1 << 20


class _Bounded(io.FileIO):
    """A file of which the table of contents can't fill the memory: zipfile reads that at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, os.fstat(self.fileno()).st_size - self.tell())
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > _BLOCK_BYTES:
            raise zipfile.BadZipFile("its table of contents is too long")
        return super().read(wanted) or b""


def is_archive(path: Path) -> bool:
    """Whether this is a .zip file that is not itself a model of PyTorch or Keras; never raises."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":
                return False
        with _Bounded(path) as bounded, zipfile.ZipFile(bounded) as archive:
            names = archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False
    is_torch = any(PurePosixPath(name).name == "data.pkl" for name in names)
    return not is_torch and "model.weights.h5" not in names


def unpack(path: Path, folder: Path) -> None:
    """Writes what may hold weights into the folder. Raises WeightsError for an archive beyond the limits."""
    try:
        with _Bounded(path) as file, zipfile.ZipFile(file) as archive:
            members = list(_members(path, archive))
            _refuse_huge(path, folder, sum(member.file_size for member in members))
            for member in members:
                _write(archive, member, folder)
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise WeightsError(
            f"{path}: can't be unpacked ({str(error)[:150]}); download or copy it again."
        ) from None


def _members(path: Path, archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    if len(archive.infolist()) > MAX_MEMBERS:
        raise WeightsError(
            f"{path}: expected at most {MAX_MEMBERS} files in the archive, got {len(archive.infolist())}; "
            "unpack it and name the file with the weights."
        )
    for member in archive.infolist():
        place = PurePosixPath(member.filename)
        if member.is_dir() or not _may_hold_weights(place):
            continue
        if place.is_absolute() or ".." in place.parts or len(place.parts) > MAX_DEPTH:
            raise WeightsError(
                f"{path}: refuses to unpack {member.filename[:100]!r}, which lies outside of the archive's "
                "own folders; where is it from?"
            )
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise WeightsError(  # the others inflate without a limit
                f"{path}: {member.filename[:100]!r} is compressed in an unusual way; unpack it yourself."
            )
        yield member


def _may_hold_weights(place: PurePosixPath) -> bool:
    """By its name; macOS adds a hidden companion to each file."""
    is_hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in place.parts)
    return not is_hidden and (place.suffix.startswith(SHARD) or place.suffix.lower() in SUFFIXES)


def _refuse_huge(path: Path, folder: Path, declared: int) -> None:
    allowed = min(MAX_BYTES, MAX_COMPRESSION * path.stat().st_size)
    if declared > allowed:
        raise WeightsError(
            f"{path}: expected at most {allowed} bytes in the archive, got {declared}; what is it?"
        )
    free = shutil.disk_usage(folder).free
    if declared > free:
        raise WeightsError(
            f"{path}: needs {declared} bytes in {folder.parent} to be unpacked, but {free} are free; set "
            "TMPDIR to a larger disk."
        )


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    """One member, at most as large as declared: zipfile ends it there and compares the checksum."""
    target = folder.joinpath(*PurePosixPath(member.filename).parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("xb") as file:
        shutil.copyfileobj(source, file, _BLOCK_BYTES)
