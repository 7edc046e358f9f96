# SPDX-License-Identifier: MIT
"""Published weights from the network into a folder: complete, and by their hash the right ones, or not there.

A download that was cut off, by whatever, goes on where it stopped the next time.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from io import FileIO
from pathlib import Path
from typing import Protocol
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import netvlad_ros
from netvlad_ros.errors import DownloadError
from netvlad_ros.importers.published import PublishedWeights

CHUNK_BYTES = 1 << 18
# A connection on which nothing arrives for so long is as good as cut.
SILENCE_S = 30.0
# Waited before an address is tried again, as long as nothing more arrives; then the next one's turn comes.
WAITS_S = (1.0, 2.0, 4.0, 8.0)
# Answers that may be another one soon: too many requests, and whatever the server lays to its own charge.
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Progress(Protocol):
    """Whoever wants to know how far it is."""

    def reached(self, size_bytes: int) -> None:
        """So much of the file is here."""

    def say(self, sentence: str) -> None:
        """Something did not go as planned."""


class _UselessError(Exception):
    """An address will not give the file, however often it is asked."""


class _CutError(Exception):
    """An address may give the rest of the file if it is asked again."""


def download(weights: PublishedWeights, folder: Path, progress: Progress) -> Path:
    """The path of the weights in the folder, which is made. Raises DownloadError if no address gives them.

    Of several processes that fetch the same weights, one does and the others wait.
    """
    path = folder / weights.file
    if path.exists():
        return _known(weights, path)
    with _part(weights, path, progress) as part:
        if path.exists():  # another process was faster
            Path(part.name).unlink(missing_ok=True)
            return _known(weights, path)
        _refuse_too_little_space(weights, folder, part.tell())
        _from_some_address(weights, part, progress)
        Path(part.name).replace(path)
    return path


def find(weights: PublishedWeights, folder: Path) -> Path:
    """The path of weights that are there already. Raises DownloadError that says where to get them."""
    path = folder / weights.file
    if path.exists():
        return _known(weights, path)
    raise DownloadError(
        f"{path}: not there, and offline; fetch {weights.addresses[0]} ({size_text(weights.size_bytes)}) "
        "where there is a network, and put it there under this name."
    )


def size_text(size_bytes: int) -> str:
    """As people write it, such as 1.11 GB."""
    for unit, bytes_each in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= bytes_each:
            return f"{size_bytes / bytes_each:.2f} {unit}"
    return f"{size_bytes} bytes"


def _known(weights: PublishedWeights, path: Path) -> Path:
    if not path.is_file() or not _is_right(weights, path):
        raise DownloadError(
            f"{path}: this is not {weights.name} (its SHA-256 is not {weights.sha256[:16]}...); move it away "
            "and try again."
        )
    return path


def _is_right(weights: PublishedWeights, path: Path) -> bool:
    if path.stat().st_size != weights.size_bytes:
        return False
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest() == weights.sha256


@contextlib.contextmanager
def _part(weights: PublishedWeights, path: Path, progress: Progress) -> Iterator[FileIO]:
    """The file of what has arrived so far, at its end; no other process has it at the same time."""
    name = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(name, weights, progress) as part:
            yield part
    except OSError as error:
        raise DownloadError(
            f"{name}: can't write here ({error.strerror or error}); choose another folder."
        ) from None


def _locked(name: Path, weights: PublishedWeights, progress: Progress) -> FileIO:
    """Without a buffer: what a full disk refuses is known at once, what a killed process wrote is there."""
    while True:
        part = FileIO(name, "ab")
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(f"{weights.name}: another process fetches it; waiting for that.")
            fcntl.flock(part, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(part.fileno()), name.stat()):
                part.seek(0, os.SEEK_END)
                return part
        part.close()  # while this process waited, the other one gave the file its final name


def _refuse_too_little_space(weights: PublishedWeights, folder: Path, have_bytes: int) -> None:
    free, missing = shutil.disk_usage(folder).free, weights.size_bytes - have_bytes
    if free < missing:
        raise DownloadError(
            f"{folder}: {size_text(missing)} are still to come, but only {size_text(free)} are free; make "
            "room, or choose another folder."
        )


def _from_some_address(weights: PublishedWeights, part: FileIO, progress: Progress) -> None:
    refusals = []
    for address in weights.addresses:
        try:
            _from_address(address, weights, part, progress)
            return
        except _UselessError as refusal:
            refusals.append(f"{address} {refusal}")
            if address != weights.addresses[-1]:
                progress.say(f"{refusals[-1]}; trying the next address.")
    goes_on = "it will go on where it stopped" if part.tell() else "nothing was kept"
    if not part.tell():
        Path(part.name).unlink(missing_ok=True)
    raise DownloadError(
        f"{weights.name}: {'; '.join(refusals)}; try again later ({goes_on}), or fetch it in another way and "
        f"put it at {str(part.name).removesuffix('.part')}."
    )


def _from_address(
    address: str, weights: PublishedWeights, part: FileIO, progress: Progress
) -> None:
    """Raises _UselessError if the right file does not come from here; what can be gone on with is kept."""
    resumed = part.tell() > 0
    _fetch_rest(address, weights, part, progress)
    if _is_right(weights, Path(part.name)):
        return
    _start_over(part)
    if resumed:  # then what was wrong may have come from elsewhere
        _from_address(address, weights, part, progress)
        return
    raise _UselessError("has another file than the one that was published (its SHA-256 differs)")


def _fetch_rest(address: str, weights: PublishedWeights, part: FileIO, progress: Progress) -> None:
    waits = iter(WAITS_S)
    if part.tell() > weights.size_bytes:
        _start_over(part)
    while part.tell() < weights.size_bytes:
        before = part.tell()
        try:
            _fetch_once(address, weights, part, progress)
        except _CutError as cut:
            waits = iter(WAITS_S) if part.tell() > before else waits
            wait_s = next(waits, None)
            if wait_s is None:
                raise _UselessError(str(cut)) from None
            time.sleep(wait_s)


def _fetch_once(address: str, weights: PublishedWeights, part: FileIO, progress: Progress) -> None:
    """Appends what this address sends. Raises _CutError or _UselessError."""
    have = part.tell()
    try:
        with urlopen(_request(address, have), timeout=SILENCE_S) as response:
            if _first_byte(response, have, weights.size_bytes) == 0:
                _start_over(part)
            _append(response, weights.size_bytes, part, progress)
    except HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            _start_over(part)
        passing = error.code in _PASSING or (have and not part.tell())
        raise (_CutError if passing else _UselessError)(
            f"answers {error.code} {_reason(error.reason)}"
        ) from None
    except URLError as error:
        raise _CutError(f"can't be reached ({_reason(error.reason)})") from None
    except (HTTPException, OSError) as error:
        raise _CutError(f"broke off ({_reason(error)})") from None
    if part.tell() < weights.size_bytes:
        raise _CutError(f"broke off after {part.tell()} of {weights.size_bytes} bytes")


def _reason(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _request(address: str, have_bytes: int) -> Request:
    headers = {
        "User-Agent": f"netvlad_ros/{netvlad_ros.__version__}",
        "Accept-Encoding": "identity",
    }
    if have_bytes:
        headers["Range"] = f"bytes={have_bytes}-"
    return Request(address, headers=headers)


def _first_byte(response: HTTPResponse, asked: int, size_bytes: int) -> int:
    """Where in the file belongs what comes; a server may send all of it, whatever it was asked for."""
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        stated = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers["Content-Range"] or "")
        if not stated or int(stated[1]) != asked:
            raise _UselessError("sends another part than the one it was asked for")
        first, total = asked, stated[2]
    else:
        first, total = 0, response.headers["Content-Length"] or "*"
    if total.isdigit() and int(total) != size_bytes:
        raise _UselessError(f"has a file of {total} bytes, expected {size_bytes}")
    return first


def _append(response: HTTPResponse, size_bytes: int, part: FileIO, progress: Progress) -> None:
    progress.reached(part.tell())
    while chunk := response.read1(CHUNK_BYTES):
        if part.tell() + len(chunk) > size_bytes:
            _start_over(part)
            raise _UselessError(f"sends more than the {size_bytes} bytes that were published")
        _write(part, chunk)
        progress.reached(part.tell())


def _write(part: FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    try:
        while rest:  # a disk that is nearly full takes a piece
            rest = rest[part.write(rest) :]
    except OSError as error:
        reason = "the disk is full" if error.errno in _FULL else error.strerror
        raise DownloadError(
            f"{part.name}: {reason} after {size_text(part.tell())}; make room and try again, it will go on "
            "where it stopped."
        ) from None


def _start_over(part: FileIO) -> None:
    part.truncate(0)
    part.seek(0)
