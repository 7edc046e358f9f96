# SPDX-License-Identifier: MIT
"""One command starts everything, and Ctrl-C ends it; runs where `ros2 launch` is installed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live_nodes import PATIENCE_S, Ros, picture
from recording import SECOND, image, write_bag

from netvlad_ros.msg import LoopClosureCandidates

pytestmark = pytest.mark.needs("rclpy", "launch_ros")

FILE = Path(__file__).resolve().parents[2] / "launch" / "place_recognition.launch.py"
TOPIC = "/launched/camera"

# What `ros2 launch` does.
LAUNCH = f"""
import sys
from launch import LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

arguments = [word.split(":=", 1) for word in sys.argv[1:]]
source = PythonLaunchDescriptionSource({str(FILE)!r})
service = LaunchService()
service.include_launch_description(
    IncludeLaunchDescription(source, launch_arguments=arguments)
)
sys.exit(service.run())
"""


class Launch:
    """A launch and all its processes, as in a terminal."""

    def __init__(self, log: Path, arguments: dict[str, Any]) -> None:
        words = [f"{name}:={value}" for name, value in arguments.items()]
        self._log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                [sys.executable, "-c", LAUNCH, *words],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ctrl-C reaches every process of a terminal."""
        if self._popen.poll() is None:
            os.killpg(self._popen.pid, number)
        return self.wait()

    def wait(self) -> int:
        return self._popen.wait(PATIENCE_S)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Launch]]:
    running: list[Launch] = []

    def launch(**arguments: Any) -> Launch:
        running.append(Launch(tmp_path / f"launch{len(running)}.log", arguments))
        return running[-1]

    yield launch
    for one in running:
        one.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds past five places and again past the same."""
    period_ns = SECOND // 3
    images = [
        (number * period_ns, image(number * period_ns, picture(number % 5), "rgb8"))
        for number in range(1, 11)
    ]
    return write_bag(tmp_path_factory.mktemp("launch") / "drive", {TOPIC: images})


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(
        "/**: {ros__parameters: {keyframes: {min_interval_s: 0.0, min_descriptor_change: 0.0}, "
        "database: {exclude_recent_s: 1.0}, diagnostics: {period_s: 0.2}}}"
    )
    return path


@pytest.mark.parametrize("single_process", ["true", "false"])
def test_a_bag_gives_candidates_and_ctrl_c_ends_every_process(
    single_process: str,
    launch: Callable[..., Launch],
    ros: Ros,
    model: Path,
    bag: Path,
    config_file: Path,
) -> None:
    namespace = f"/launched_{single_process}"
    answers = ros.listen(LoopClosureCandidates, f"{namespace}/loop_closure_candidates")
    launched = launch(
        model=model,
        image_topic=TOPIC,
        namespace=namespace,
        config_file=config_file,
        single_process=single_process,
        bag=bag,
        use_sim_time="true",
    )
    try:
        ros.until(lambda: any(answer.candidates for answer in answers))
    except AssertionError:
        pytest.fail(launched.output)
    assert launched.end() == 0
    assert "has died" not in launched.output
    count = 2 if single_process == "true" else 4
    assert launched.output.count("finished cleanly") == count


def test_a_configuration_file_that_is_not_there_is_refused(
    launch: Callable[..., Launch], tmp_path: Path
) -> None:
    launched = launch(config_file=tmp_path / "missing.yaml")
    assert launched.wait() == 1
    assert "missing.yaml: there is no such configuration file" in launched.output
    assert "process started" not in launched.output
