# SPDX-License-Identifier: MIT
"""Launch files, started as `ros2 launch` does."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from live_nodes import PATIENCE_S

FOLDER = Path(__file__).resolve().parents[1] / "launch"

# What `ros2 launch` does.
LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import SetParameter

arguments = [word.split(":=", 1) for word in sys.argv[1:]]
source = PythonLaunchDescriptionSource({file!r})
included = IncludeLaunchDescription(source, launch_arguments=arguments)
service = LaunchService()
service.include_launch_description(LaunchDescription([{before} included]))
sys.exit(service.run())
"""


class Launch:
    """A launch and all its processes, as in a terminal."""

    def __init__(self, log: Path, file: str, arguments: dict[str, Any], before: str = "") -> None:
        """before: actions of a launch file that includes ours, each with a comma."""
        program = LAUNCH.format(file=str(FOLDER / file), before=before)
        words = [f"{name}:={value}" for name, value in arguments.items()]
        self._log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                [sys.executable, "-c", program, *words],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def pids(self, program: str) -> list[int]:
        """Those of all that were started of a program, in order."""
        started = rf"\[{program}-\d+\]: process started with pid \[(\d+)\]"
        return [int(pid) for pid in re.findall(started, self.output)]

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ctrl-C reaches every process of a terminal."""
        if self._popen.poll() is None:
            os.killpg(self._popen.pid, number)
        return self.wait()

    def wait(self) -> int:
        return self._popen.wait(PATIENCE_S)
