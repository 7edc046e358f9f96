# SPDX-License-Identifier: MIT
"""Processes that are ended when the block is left, however that happens."""

import signal
import subprocess
from pathlib import Path

from netvlad_ros.errors import NetVLADError

END_S = 5.0


class Programs:
    """What each program writes is kept in a file of its name in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "Programs":
        return self

    def __exit__(self, *_: object) -> None:
        before = signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # a second Ctrl-C leaves nothing behind
        for process in self._running.values():
            process.send_signal(signal.SIGINT)
        for process in self._running.values():
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
        signal.signal(signal.SIGINT, before)

    def start(self, name: str, command: list[str]) -> None:
        with self._log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def has_ended(self, name: str) -> bool:
        """Raises NetVLADError if any program has failed."""
        for each, process in self._running.items():
            if process.poll():
                log = self._log(each)
                raise NetVLADError(f"{each} failed: {_last_line(log)} (all of it: {log})")
        return self._running[name].poll() is not None

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


def _last_line(file: Path) -> str:
    lines = file.read_text(errors="replace").splitlines()
    return lines[-1] if lines else "it wrote nothing"
