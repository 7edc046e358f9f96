# SPDX-License-Identifier: MIT
"""What several tests need: recorded data, a ROS domain of their own, real processes."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# In the background of a script, SIGINT is ignored, also by all that is started there; but tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def own_domain() -> tuple[int, socket.socket]:
    """A ROS_DOMAIN_ID that no other run of these tests on this machine has while the socket is open."""
    first = os.getpid()
    for number in range(first, first + 101):  # above 101, ports are handed out to everybody
        domain = 1 + number % 101
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0netvlad_ros tests in ROS domain {domain}")
        except OSError:
            claim.close()
        else:
            return domain, claim
    raise RuntimeError("all 101 ROS domains are in use by other runs of these tests; end some.")


# Before anything imports rclpy. Other ROS programs on this machine and on the network stay unheard.
DOMAIN, DOMAIN_CLAIM = own_domain()
os.environ["ROS_DOMAIN_ID"] = str(DOMAIN)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(ROOT / "config" / "fastdds.xml")


class LeftOut(pytest.File):
    """A file of tests that is skipped and not imported."""

    def collect(self) -> NoReturn:
        pytest.skip(f"needs {', '.join(missing_packages(self.path))}")


def missing_packages(file: Path) -> list[str]:
    """Those that its `pytestmark = pytest.mark.needs("rclpy", ...)` names and that are not installed."""
    marks = re.findall(r"(?<!@pytest\.)\bmark\.needs\(([^)]*)\)", file.read_text(encoding="utf-8"))
    return [name for mark in marks for name in re.findall(r"\w+", mark) if not find_spec(name)]


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> LeftOut | None:
    return LeftOut.from_parent(parent, path=module_path) if missing_packages(module_path) else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    names = [name for mark in item.iter_markers("needs") for name in mark.args]
    if missing := [name for name in names if not find_spec(name)]:
        pytest.skip(f"needs {', '.join(missing)}")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded data that lies next to the repository, where there is one."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs recorded data in ../shared/data")
    return SHARED


@pytest.fixture
def netvlad(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Runs `netvlad("info", model)` in this process, with a cache of its own; exit code, stdout, stderr."""
    from netvlad_ros import cli

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*words: object) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


class Process:
    """A program that runs on its own and whose output is kept."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._output = folder / f"{time.monotonic_ns()}.log"
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        with self._output.open("wb") as output:
            self._popen = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def output(self) -> str:
        """What it has written so far, to stdout and stderr."""
        return self._output.read_text(errors="replace")

    def wait(self, timeout_s: float = 10.0) -> int:
        """Its exit code; the test fails if it does not end in time."""
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still runs after {timeout_s} s; it wrote:\n{self.output}")

    def wait_for_output(self, text: str, timeout_s: float = 10.0) -> None:
        """Returns once it has written the text; the test fails if it does not in time."""
        end = time.monotonic() + timeout_s
        while text not in self.output:
            if time.monotonic() > end or self._popen.poll() is not None:
                pytest.fail(f"never wrote {text!r}, but:\n{self.output}")
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        """Ends it whatever it does: asks first, insists after three seconds."""
        if self._popen.poll() is None:
            self._popen.terminate()
            try:
                self._popen.wait(3.0)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()


@pytest.fixture
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Process]]:
    """Starts `process("bag_player", "--loop", ...)`, a module of netvlad_ros.nodes, or any executable."""
    running: list[Process] = []
    folder = tmp_path_factory.mktemp("output")

    def start(program: str | Path, *arguments: str | Path) -> Process:
        is_node = isinstance(program, str) and program.isidentifier()
        module = [sys.executable, "-m", f"netvlad_ros.nodes.{program}"]
        command = [*(module if is_node else [str(program)]), *map(str, arguments)]
        running.append(Process(command, folder))
        return running[-1]

    yield start
    for one in running:
        one.kill()
