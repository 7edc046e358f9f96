# SPDX-License-Identifier: MIT
"""Published weights over a network that fails in every way: whole and right in the end, or not there."""

import contextlib
import hashlib
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from netvlad_ros import cli
from netvlad_ros.cache import cache_folder
from netvlad_ros.errors import DownloadError, WeightsError
from netvlad_ros.importers import download as download_module
from netvlad_ros.importers import published as published_module
from netvlad_ros.importers.download import CHUNK_BYTES, download, find
from netvlad_ros.importers.published import PUBLISHED, PublishedWeights, published

CONTENT = np.random.default_rng(5).bytes(3 * CHUNK_BYTES + 12345)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MIDDLE = len(CONTENT) // 2

Answer = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """Gives each path's answer, and keeps what was asked."""

    answers: ClassVar[dict[str, Answer]]
    asked: ClassVar[list[tuple[str, str | None]]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Range"]))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.answers[self.path](self)

    def log_message(self, *_: object) -> None:
        pass

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def first_byte(self) -> int:
        return int((self.headers["Range"] or "bytes=0-")[6:-1])


def whole(request: Handler, content: bytes = CONTENT) -> None:
    """As a plain server does that knows no ranges."""
    request.head(200, Content_Length=len(content))
    request.wfile.write(content)


def ranges(request: Handler, content: bytes = CONTENT, stop: int | None = None) -> None:
    """As a usual server does; `stop`: the connection ends there although more was promised."""
    first = request.first_byte()
    if first >= len(content):
        request.head(416, Content_Range=f"bytes */{len(content)}", Content_Length=0)
        return
    if first:
        stated = f"bytes {first}-{len(content) - 1}/{len(content)}"
        request.head(206, Content_Length=len(content) - first, Content_Range=stated)
    else:
        request.head(200, Content_Length=len(content), Accept_Ranges="bytes")
    request.wfile.write(content[first:stop])


@dataclass
class Server:
    """A web server on this machine."""

    address: str
    answers: dict[str, Answer]
    asked: list[tuple[str, str | None]]

    def weights(self, *paths: str) -> PublishedWeights:
        """CONTENT as published weights that are at these paths."""
        addresses = tuple(self.address + path for path in paths)
        return PublishedWeights(
            "made-up", "made-up.bin", addresses, len(CONTENT), SHA256, "noise", "none"
        )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download_module, "WAITS_S", (0.01, 0.01))
    answers: dict[str, Answer] = {}
    asked: list[tuple[str, str | None]] = []
    handler = type("OwnHandler", (Handler,), {"answers": answers, "asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        httpd.daemon_threads = True
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        yield Server(f"http://127.0.0.1:{httpd.server_port}", answers, asked)
        httpd.shutdown()


@dataclass
class Log:
    """What a download tells of itself."""

    sizes: list[int] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    def reached(self, size_bytes: int) -> None:
        self.sizes.append(size_bytes)

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)


def part_of(folder: Path) -> Path:
    return folder / "made-up.bin.part"


def refusal(weights: PublishedWeights, folder: Path) -> str:
    """The sentence with which a download ends; then nothing is there under the final name."""
    with pytest.raises(DownloadError) as error:
        download(weights, folder, Log())
    assert not (folder / weights.file).exists()
    assert "\n" not in str(error.value)
    return str(error.value)


def assert_right(path: Path) -> None:
    assert path.read_bytes() == CONTENT
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# --- What arrives in the end --------------------------------------------------------------------------


def test_a_file_arrives_with_its_progress_in_a_folder_that_is_made(server: Server, tmp_path: Path):
    server.answers["/a"] = ranges
    log = Log()
    assert_right(download(server.weights("/a"), tmp_path / "new" / "folder", log))
    assert log.sizes[0] == 0
    assert log.sizes[-1] == len(CONTENT)
    assert log.sizes == sorted(log.sizes)
    assert log.sentences == []


def test_a_file_that_is_there_and_right_is_not_fetched_again(server: Server, tmp_path: Path):
    (tmp_path / "made-up.bin").write_bytes(CONTENT)
    assert_right(download(server.weights("/a"), tmp_path, Log()))
    assert server.asked == []


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT[:-1] + b"x", CONTENT + b"x"])
def test_a_file_that_is_there_and_wrong_is_neither_used_nor_overwritten(
    content: bytes, server: Server, tmp_path: Path
):
    path = tmp_path / "made-up.bin"
    path.write_bytes(content)
    for get in (
        lambda: download(server.weights("/a"), tmp_path, Log()),
        lambda: find(server.weights("/a"), tmp_path),
    ):
        with pytest.raises(DownloadError, match=r"this is not made-up .* move it away"):
            get()
    assert path.read_bytes() == content
    assert server.asked == []


def test_a_part_is_gone_on_with(server: Server, tmp_path: Path):
    part_of(tmp_path).write_bytes(CONTENT[:MIDDLE])
    server.answers["/a"] = ranges
    log = Log()
    assert_right(download(server.weights("/a"), tmp_path, log))
    assert server.asked == [("/a", f"bytes={MIDDLE}-")]
    assert log.sizes[0] == MIDDLE


def test_a_server_that_knows_no_ranges_sends_all_of_it_again(server: Server, tmp_path: Path):
    part_of(tmp_path).write_bytes(CONTENT[:MIDDLE])
    server.answers["/a"] = whole
    assert_right(download(server.weights("/a"), tmp_path, Log()))
    assert len(server.asked) == 1


def test_a_part_that_is_complete_needs_no_network(server: Server, tmp_path: Path):
    part_of(tmp_path).write_bytes(CONTENT)
    assert_right(download(server.weights("/a"), tmp_path, Log()))
    assert server.asked == []


def test_a_part_that_is_too_long_is_fetched_from_the_start(server: Server, tmp_path: Path):
    part_of(tmp_path).write_bytes(CONTENT + b"more")
    server.answers["/a"] = ranges
    assert_right(download(server.weights("/a"), tmp_path, Log()))
    assert server.asked == [("/a", None)]


def test_a_part_of_something_else_is_found_out_and_fetched_from_the_start(
    server: Server, tmp_path: Path
):
    part_of(tmp_path).write_bytes(b"x" * MIDDLE)
    server.answers["/a"] = ranges
    assert_right(download(server.weights("/a"), tmp_path, Log()))
    assert server.asked == [("/a", f"bytes={MIDDLE}-"), ("/a", None)]


def test_a_server_that_refuses_the_range_is_asked_for_all_of_it(server: Server, tmp_path: Path):
    part_of(tmp_path).write_bytes(CONTENT[:MIDDLE])

    def no_range(request: Handler) -> None:
        if request.headers["Range"]:
            request.head(416, Content_Length=0)
        else:
            whole(request)

    server.answers["/a"] = no_range
    assert_right(download(server.weights("/a"), tmp_path, Log()))
    assert server.asked == [("/a", f"bytes={MIDDLE}-"), ("/a", None)]


def test_a_connection_may_be_cut_more_often_than_an_address_is_tried(
    server: Server, tmp_path: Path
):
    cuts = list(range(100_000, len(CONTENT), 100_000))
    server.answers["/a"] = lambda request: (
        ranges(request, stop=cuts[len(server.asked) - 1])
        if len(server.asked) <= len(cuts)
        else ranges(request)
    )
    assert len(cuts) > len(download_module.WAITS_S)
    assert_right(download(server.weights("/a"), tmp_path, Log()))
    assert server.asked == [("/a", None)] + [("/a", f"bytes={cut}-") for cut in cuts]


def test_a_silent_connection_counts_as_cut(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(download_module, "SILENCE_S", 0.2)
    over = threading.Event()

    def falls_silent(request: Handler) -> None:
        if len(server.asked) > 1:
            return ranges(request)
        request.head(200, Content_Length=len(CONTENT))
        request.wfile.write(CONTENT[:MIDDLE])
        over.wait(10)
        return None

    server.answers["/a"] = falls_silent
    assert_right(download(server.weights("/a"), tmp_path, Log()))
    over.set()
    assert server.asked[1] == ("/a", f"bytes={MIDDLE}-")


def test_redirects_are_followed_with_the_range(server: Server, tmp_path: Path):
    part_of(tmp_path).write_bytes(CONTENT[:MIDDLE])
    server.answers["/a"] = lambda request: request.head(302, Location="/b", Content_Length=0)
    server.answers["/b"] = lambda request: request.head(301, Location="/c", Content_Length=0)
    server.answers["/c"] = ranges
    assert_right(download(server.weights("/a"), tmp_path, Log()))
    assert server.asked == [(path, f"bytes={MIDDLE}-") for path in ("/a", "/b", "/c")]


def test_a_server_that_does_not_say_how_long_the_file_is_will_do(server: Server, tmp_path: Path):
    def unknown(request: Handler) -> None:
        request.head(200)
        request.wfile.write(CONTENT)

    server.answers["/a"] = unknown
    assert_right(download(server.weights("/a"), tmp_path, Log()))


# --- Mirrors ------------------------------------------------------------------------------------------


def bigger(request: Handler) -> None:
    """Does not say how long it is, and never ends."""
    request.head(200)
    while True:
        request.wfile.write(bytes(CHUNK_BYTES))


def garbled(request: Handler) -> None:
    request.wfile.write(b"no HTTP\r\n\r\n")


def other_part(request: Handler) -> None:
    stated = f"bytes 7-{len(CONTENT) - 1}/{len(CONTENT)}"
    request.head(206, Content_Length=len(CONTENT) - 7, Content_Range=stated)


BAD_MIRRORS: dict[str, tuple[Answer, str]] = {
    "missing": (lambda request: request.send_error(404), "answers 404 Not Found"),
    "broken": (lambda request: request.send_error(503), "answers 503 Service Unavailable"),
    "dead": (lambda request: request.connection.close(), "can't be reached|broke off"),
    "garbled": (garbled, "broke off"),
    "looping": (lambda request: request.head(302, Location="/bad"), "answers 302"),
    "empty": (lambda request: request.head(200), "broke off after 0 of"),
    "shorter": (lambda request: whole(request, CONTENT[:-1]), "bytes, expected"),
    "longer": (lambda request: whole(request, CONTENT + b"x"), "bytes, expected"),
    "endless": (bigger, f"sends more than the {len(CONTENT)} bytes"),
    "other part": (other_part, "sends another part than"),
    "wrong": (lambda request: whole(request, CONTENT[:-1] + b"x"), "SHA-256 differs"),
}


@pytest.mark.parametrize("kind", BAD_MIRRORS)
def test_after_a_bad_mirror_the_next_one_is_tried(kind: str, server: Server, tmp_path: Path):
    server.answers["/bad"], reason = BAD_MIRRORS[kind]
    server.answers["/good"] = ranges
    log = Log()
    assert_right(download(server.weights("/bad", "/good"), tmp_path, log))
    assert len(log.sentences) == 1
    assert re.search(f"/bad .*({reason})", log.sentences[0])


@pytest.mark.parametrize("kind", BAD_MIRRORS)
def test_with_bad_mirrors_only_the_sentence_names_each_and_what_to_do(
    kind: str, server: Server, tmp_path: Path
):
    server.answers["/bad"], reason = BAD_MIRRORS[kind]
    server.answers["/also"] = lambda request: request.send_error(404)
    sentence = refusal(server.weights("/bad", "/also"), tmp_path)
    assert re.search(reason, sentence)
    assert "/also answers 404" in sentence
    assert f"put it at {tmp_path}/made-up.bin." in sentence
    assert list(tmp_path.iterdir()) == []  # nothing of a wrong file is kept


def test_a_mirror_goes_on_where_the_one_before_broke_off(server: Server, tmp_path: Path):
    server.answers["/a"] = lambda request: ranges(request, stop=MIDDLE)
    server.answers["/b"] = ranges
    assert_right(download(server.weights("/a", "/b"), tmp_path, Log()))
    assert server.asked[-1] == ("/b", f"bytes={MIDDLE}-")


def test_a_wrong_start_from_one_mirror_does_not_spoil_the_next(server: Server, tmp_path: Path):
    server.answers["/a"] = lambda request: ranges(request, b"x" * len(CONTENT), stop=MIDDLE)
    server.answers["/b"] = ranges
    assert_right(download(server.weights("/a", "/b"), tmp_path, Log()))


def test_what_a_cut_connection_left_is_kept_for_the_next_time(server: Server, tmp_path: Path):
    server.answers["/a"] = lambda request: ranges(request, stop=MIDDLE)
    assert "it will go on where it stopped" in refusal(server.weights("/a"), tmp_path)
    assert part_of(tmp_path).read_bytes() == CONTENT[:MIDDLE]
    server.answers["/a"] = ranges
    assert_right(download(server.weights("/a"), tmp_path, Log()))


def test_an_address_nobody_listens_at_is_named(tmp_path: Path, server: Server):
    weights = replace(server.weights(), addresses=("http://127.0.0.1:9/x",))
    assert "http://127.0.0.1:9/x can't be reached" in refusal(weights, tmp_path)


# --- Disks and processes ------------------------------------------------------------------------------


DOWNLOAD = """
import resource, signal, sys
from pathlib import Path
from netvlad_ros.errors import DownloadError
from netvlad_ros.importers import download
from netvlad_ros.importers.published import PublishedWeights
class Quiet:
    def reached(self, size_bytes): pass
    def say(self, sentence): print(sentence, flush=True)
address, size, sha256, folder, limit = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
weights = PublishedWeights("made-up", "made-up.bin", (address,), int(size), sha256, "noise", "none")
try:
    print(download.download(weights, Path(folder), Quiet()))
except DownloadError as error:
    sys.exit(str(error))
"""


def start(server: Server, path: str, folder: Path, limit_bytes: int = 0) -> subprocess.Popen[str]:
    """A download in a process of its own, which can't write files longer than limit_bytes."""
    words = [server.address + path, len(CONTENT), SHA256, folder, limit_bytes]
    return subprocess.Popen(
        [sys.executable, "-c", DOWNLOAD, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(is_so: Callable[[], object], timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_download_that_is_killed_goes_on_where_it_was(server: Server, tmp_path: Path):
    over = threading.Event()

    def stalls(request: Handler) -> None:
        request.head(200, Content_Length=len(CONTENT))
        request.wfile.write(CONTENT[:MIDDLE])
        over.wait(30)

    server.answers["/a"] = stalls
    process = start(server, "/a", tmp_path)
    wait_until(lambda: part_of(tmp_path).exists() and part_of(tmp_path).stat().st_size == MIDDLE)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    over.set()
    server.answers["/a"] = ranges
    assert_right(download(server.weights("/a"), tmp_path, Log()))
    assert server.asked == [("/a", None), ("/a", f"bytes={MIDDLE}-")]


def test_of_two_processes_one_fetches_and_the_other_waits(server: Server, tmp_path: Path):
    go = threading.Event()

    def slow(request: Handler) -> None:
        request.head(200, Content_Length=len(CONTENT))
        request.wfile.write(CONTENT[:MIDDLE])
        go.wait(30)
        request.wfile.write(CONTENT[MIDDLE:])

    server.answers["/a"] = slow
    first = start(server, "/a", tmp_path)
    wait_until(lambda: part_of(tmp_path).exists() and part_of(tmp_path).stat().st_size == MIDDLE)
    second = start(server, "/a", tmp_path)
    assert second.stdout is not None
    assert "another process fetches it" in second.stdout.readline()
    go.set()
    for process in (first, second):
        out, err = process.communicate(timeout=20)
        assert (out.strip(), err) == (str(tmp_path / "made-up.bin"), "")
    assert len(server.asked) == 1
    assert_right(tmp_path / "made-up.bin")


def test_a_file_system_that_takes_no_more_is_said_and_what_it_took_is_kept(
    server: Server, tmp_path: Path
):
    server.answers["/a"] = ranges
    process = start(server, "/a", tmp_path, limit_bytes=MIDDLE)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "")
    assert "the disk is full after" in err
    assert err.count("\n") == 1
    assert part_of(tmp_path).read_bytes() == CONTENT[:MIDDLE]
    assert_right(download(server.weights("/a"), tmp_path, Log()))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for the file and not much more."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = f"size={len(CONTENT) + 65536}"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True
    )
    if done.returncode:
        pytest.skip("may not mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_others_fill_meanwhile_is_said_and_what_it_took_is_kept(
    server: Server, small_disk: Path
):
    def fill(request: Handler) -> None:
        (small_disk / "others").write_bytes(bytes(MIDDLE))
        ranges(request)

    server.answers["/a"] = fill
    assert "the disk is full after" in refusal(server.weights("/a"), small_disk)
    kept = part_of(small_disk).read_bytes()
    assert 0 < len(kept) < len(CONTENT)
    assert CONTENT.startswith(kept)
    (small_disk / "others").unlink()
    server.answers["/a"] = ranges
    assert_right(download(server.weights("/a"), small_disk, Log()))


def test_a_disk_without_room_is_found_out_before_anything_is_fetched(
    server: Server, small_disk: Path
):
    (small_disk / "others").write_bytes(bytes(MIDDLE))
    sentence = refusal(server.weights("/a"), small_disk)
    assert re.search(r"798.* kB are still to come, but only .* kB are free", sentence)
    assert server.asked == []


def test_a_folder_that_can_not_be_written_is_said(server: Server, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    assert "can't write here" in refusal(server.weights("/a"), tmp_path / "file")


# --- Offline, and the command -------------------------------------------------------------------------


def test_offline_a_missing_file_is_named_with_address_size_and_place(tmp_path: Path):
    weights = PUBLISHED["netvlad-tf-pitts30k"]
    with pytest.raises(DownloadError) as error:
        find(weights, tmp_path)
    sentence = str(error.value)
    assert sentence.startswith(f"{tmp_path / weights.file}: ")
    assert weights.addresses[0] in sentence
    assert "1.11 GB" in sentence


def test_the_cache_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "netvlad_ros"
    for not_absolute in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", not_absolute)
        assert cache_folder() == Path.home() / ".cache" / "netvlad_ros"


def test_an_unknown_name_gets_the_nearest_one_or_all():
    with pytest.raises(WeightsError, match="did you mean netvlad-tf-pitts30k"):
        published("netvlad-tf-pitts")
    with pytest.raises(WeightsError, match="there are netvlad-tf-pitts30k, cartwheel-"):
        published("xyz")


def test_the_table_is_complete():
    for weights in PUBLISHED.values():
        assert re.fullmatch("[0-9a-f]{64}", weights.sha256)
        assert weights.addresses
        assert all(re.match("https?://", address) for address in weights.addresses)
    assert len({weights.file for weights in PUBLISHED.values()}) == len(PUBLISHED)
    assert len({weights.sha256 for weights in PUBLISHED.values()}) == len(PUBLISHED)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("mobilenet_color_8192.h5", "cartwheel-mobilenet-colour"),
        ("mobilenet_color_raw_8192.h5", "cartwheel-mobilenet-raw"),
        ("mobilenetv2_color_1024.h5", "cartwheel-mobilenetv2-colour"),
        ("mobilenetv2_gray_1024.h5", "cartwheel-mobilenetv2-grey"),
    ],
)
def test_the_table_has_the_size_the_hash_and_the_preset_of_the_genuine_files(
    file: str, name: str, shared: Path
):
    from netvlad_ros.importers.cartwheel import PRESETS

    content = (shared / "reference" / "cartwheel" / file).read_bytes()
    weights = PUBLISHED[name]
    assert weights.size_bytes == len(content)
    assert weights.sha256 == hashlib.sha256(content).hexdigest()
    assert weights.input_preset in PRESETS


@pytest.fixture
def netvlad(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command, which knows made-up weights on the server; exit code, stdout, stderr."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "with blank"))
    monkeypatch.delenv("NETVLAD_OFFLINE", raising=False)
    made_up = replace(server.weights("/a"), input_preset="some-preset")
    monkeypatch.setitem(published_module.PUBLISHED, "made-up", made_up)

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(["download", *words])
        return code, *capsys.readouterr()

    return run


Command = Callable[..., tuple[int, str, str]]


def test_the_command_fetches_into_the_cache_and_says_what_comes_next(
    netvlad: Command, server: Server, tmp_path: Path
):
    server.answers["/a"] = ranges
    path = tmp_path / "with blank" / "netvlad_ros" / "made-up.bin"
    code, out, err = netvlad("made-up")
    assert (code, err) == (0, "")
    assert_right(path)
    assert out.splitlines() == [
        f"{path}: complete, its SHA-256 is right",
        f"now: netvlad import-weights '{path}' --input some-preset -o made-up.keras",
    ]
    for words in (("made-up",), ("made-up", "--offline")):
        code, out, _ = netvlad(*words)
        assert code == 0
        assert out.startswith(f"{path}: was there already, its SHA-256 is right")
    assert len(server.asked) == 1


def test_the_command_fetches_into_a_folder(netvlad: Command, server: Server, tmp_path: Path):
    server.answers["/a"] = ranges
    assert netvlad("made-up", "-o", str(tmp_path / "there"))[0] == 0
    assert_right(tmp_path / "there" / "made-up.bin")


def test_offline_the_command_asks_nobody(
    netvlad: Command, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    server.answers["/a"] = ranges
    code, out, err = netvlad("made-up", "--offline")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"fetch {server.address}/a (798.78 kB)" in err
    monkeypatch.setenv("NETVLAD_OFFLINE", "1")
    assert netvlad("made-up")[0] == 1
    assert server.asked == []
    monkeypatch.setenv("NETVLAD_OFFLINE", "0")
    assert netvlad("made-up")[0] == 0


@pytest.mark.parametrize("columns", [80, 120])
def test_the_list_shows_every_name_size_and_licence_and_what_is_there(
    columns: int,
    netvlad: Command,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert "here already" not in netvlad("--list")[1]
    server.answers["/a"] = ranges
    netvlad("made-up")
    code, out, _ = netvlad("--list")
    assert code == 0
    assert out.count("here already") == 1
    assert max(map(len, out.splitlines())) <= columns
    for name in PUBLISHED:
        assert re.search(rf"^{name} +\d+\.\d\d [kMG]B$", out, re.MULTILINE)
    assert " ".join(out.split()).count("licence unclear") == len(PUBLISHED) - 2


def test_the_command_without_a_name_says_how_to_find_one(netvlad: Command):
    code, _, err = netvlad()
    assert (code, err.count("\n")) == (1, 1)
    assert "netvlad download --list" in err


def test_a_bar_shows_on_a_terminal_how_far_it_is(server: Server, tmp_path: Path):
    """On a pseudo-terminal, as a user has it."""
    import pty
    import termios

    server.answers["/a"] = ranges
    program = f"""if True:
        import sys
        from dataclasses import replace
        from netvlad_ros import cli
        from netvlad_ros.importers import published
        weights = replace(next(iter(published.PUBLISHED.values())), name="made-up", file="made-up.bin",
            addresses=("{server.address}/a",), size_bytes={len(CONTENT)}, sha256="{SHA256}")
        published.PUBLISHED["made-up"] = weights
        sys.exit(cli.main(["download", "made-up", "-o", {str(tmp_path)!r}]))"""
    terminal, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, 80))
    process = subprocess.Popen(
        [sys.executable, "-c", program], stderr=inside, stdout=subprocess.PIPE
    )
    os.close(inside)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal says that its last writer has gone
        while some := os.read(terminal, 1 << 16):
            shown += some
    os.close(terminal)
    assert process.wait(30) == 0
    assert b"made-up: " in shown
    assert b"/799k" in shown
