# SPDX-License-Identifier: MIT
"""One command starts everything, and whatever ends, ends it; runs where `ros2 launch` is installed."""

import os
import re
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
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.store.sqlite_store import SqliteStore

pytestmark = pytest.mark.needs("rclpy", "launch_ros")

FILE = Path(__file__).resolve().parents[2] / "launch" / "place_recognition.launch.py"
TOPIC = "/launched/camera"

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

    def __init__(self, log: Path, arguments: dict[str, Any], before: str = "") -> None:
        """before: actions of a launch file that includes ours, each with a comma."""
        program = LAUNCH.format(file=str(FILE), before=before)
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


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Launch]]:
    running: list[Launch] = []

    def launch(before: str = "", **arguments: Any) -> Launch:
        running.append(Launch(tmp_path / f"launch{len(running)}.log", arguments, before))
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
        "database: {exclude_recent_s: 1.0}, diagnostics: {period_s: 0.2, silence_s: 1.0}}}"
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


def test_end_with_bag_ends_the_launch_when_the_bag_is_over_and_saves_the_map(
    launch: Callable[..., Launch], model: Path, bag: Path, config_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "map.db"
    settings = config_file.read_text().replace(
        "exclude_recent_s", f"path: {path}, exclude_recent_s"
    )
    config_file.write_text(settings)
    launched = launch(
        model=model,
        image_topic=TOPIC,
        namespace="/launched_to_the_end",
        config_file=config_file,
        bag=bag,
        end_with_bag="true",
    )
    assert launched.wait() == 0, launched.output
    assert launched.output.count("finished cleanly") == 4
    assert len(KeyframeDatabase.load(SqliteStore(path))) == 10


def test_a_node_that_fails_ends_the_launch_with_an_error(
    launch: Callable[..., Launch], tmp_path: Path
) -> None:
    launched = launch(model=tmp_path / "missing.keras", namespace="/launched_in_vain")
    assert launched.wait() == 1
    assert "no such model file" in launched.output
    assert re.search(
        r"descriptor_node-\d+ ended with exit code 1; .* respawn:=true", launched.output
    )
    assert launched.output.count("finished cleanly") == 2


def test_with_respawn_a_node_that_is_killed_is_started_again(
    launch: Callable[..., Launch], model: Path, config_file: Path, ros: Ros
) -> None:
    launched = launch(
        model=model, namespace="/launched_again", config_file=config_file, respawn="true"
    )
    node = "/launched_again/loop_closure_node"
    ros.until(lambda: node in ros.statuses)
    os.kill(launched.pids("loop_closure_node")[0], signal.SIGKILL)
    ros.until(lambda: len(launched.pids("loop_closure_node")) == 2)
    ros.statuses.clear()
    ros.until(lambda: node in ros.statuses)
    for other in ("descriptor_node", "keyframe_database_node"):
        assert len(launched.pids(other)) == 1
    assert launched.end() == 0


@pytest.mark.parametrize(
    ("above", "argument", "is_simulated"),
    [("True", "", True), ("True", "false", False), ("False", "true", True)],
)
def test_simulated_time_of_a_launch_file_above_holds_unless_the_argument_differs(
    above: str,
    argument: str,
    is_simulated: bool,
    launch: Callable[..., Launch],
    ros: Ros,
    config_file: Path,
) -> None:
    namespace = f"/launched_above_{above}_{argument}"
    launched = launch(
        f"SetParameter('use_sim_time', {above}),",
        namespace=namespace,
        config_file=config_file,
        use_sim_time=argument,
    )
    node = f"{namespace}/keyframe_database_node"
    status = ros.until(
        lambda: next((each for each in [ros.statuses.get(node)] if each and each.level), None)
    )
    assert ("use_sim_time is true and nobody publishes /clock" in status.message) == is_simulated
    assert launched.end() == 0
