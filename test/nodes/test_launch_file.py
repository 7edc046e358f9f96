# SPDX-License-Identifier: MIT
"""One command starts everything, and whatever ends, ends it; runs where `ros2 launch` is installed."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from launched import Launch
from live_nodes import Ros, picture
from recording import SECOND, image, write_bag

from netvlad_ros.msg import LoopClosureCandidates
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.store.sqlite_store import SqliteStore

pytestmark = pytest.mark.needs("rclpy", "launch_ros")

TOPIC = "/launched/camera"


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


@pytest.mark.needs("gtsam")
@pytest.mark.parametrize(("single_process", "count"), [("true", 2), ("false", 4)])
def test_a_pose_graph_is_a_process_of_its_own_beside_one_or_three(
    single_process: str, count: int, launch: Callable[..., Launch], ros: Ros, config_file: Path
) -> None:
    namespace = f"/launched_graph_{single_process}"
    launched = launch(
        namespace=namespace,
        config_file=config_file,
        single_process=single_process,
        pose_graph="true",
    )
    nodes = ("descriptor_node", "pose_graph_node")
    ros.until(lambda: all(f"{namespace}/{node}" in ros.statuses for node in nodes))
    assert len(launched.pids("pose_graph_node")) == 1
    assert launched.end() == 0
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
