# SPDX-License-Identifier: MIT
"""Running nodes for tests, and a small model for them."""

import signal
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def ros() -> Iterator[Any]:
    from live_nodes import Ros

    ros = Ros()
    yield ros
    ros.close()


@pytest.fixture
def start(ros: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Starts `start("descriptor_node", {"camera.robot": "a"}, ...)`, ended after the test."""
    yield from _starting(ros, tmp_path_factory)


@pytest.fixture(scope="module")
def start_shared(
    ros: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Any]]:
    """The same for what all tests of a file share."""
    yield from _starting(ros, tmp_path_factory)


@pytest.fixture(scope="session")
def foreign(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Messages of other projects: `foreign.environment("rtabmap_msgs")`."""
    from foreign_messages import Foreign

    with pytest.MonkeyPatch.context() as paths:
        yield Foreign(request.config.cache, paths)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts `launch(model=path, ...)`, or another file with these arguments; killed after the test."""
    from launched import Launch

    running: list[Launch] = []

    def launch(
        before: str = "", file: str = "place_recognition.launch.py", **arguments: Any
    ) -> Launch:
        log = tmp_path / f"launch{len(running)}.log"
        running.append(Launch(log, file, arguments, before))
        return running[-1]

    yield launch
    for one in running:
        one.end(signal.SIGKILL)


def _starting(ros: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    from live_nodes import NodeProcess

    folder = tmp_path_factory.mktemp("nodes")
    running: list[NodeProcess] = []

    def start(program: str, *arguments: Any, **options: Any) -> NodeProcess:
        running.append(NodeProcess(ros, folder, program, *arguments, **options))
        return running[-1]

    yield start
    for one in running:
        one.send(signal.SIGTERM)
    # All are gone before the next test starts its own in the same domain.
    for one in running:
        one.kill()


@pytest.fixture(scope="session")
def keras_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of a few thousand random weights, the same in every run."""
    import keras

    from netvlad_ros.config import NetworkConfig
    from netvlad_ros.model.network import build_network, save_model

    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    keras.utils.set_random_seed(1)
    network = NetworkConfig(
        backbone="mobilenet",
        backbone_width=0.25,
        cut_layer="conv_pw_3_relu",
        clusters=4,
        input_width_px=160,
        input_height_px=120,
    )
    save_model(build_network(network), path)
    return path


@pytest.fixture(scope="session")
def model(keras_model: Path) -> Path:
    """The same in a format, where it can be run, with which no node imports TensorFlow for seconds."""
    from netvlad_ros.export.exporter import export_network
    from netvlad_ros.export.formats import format_of
    from netvlad_ros.model import load_model

    if not (find_spec("onnx") and find_spec("onnxruntime")):
        return keras_model
    path = keras_model.with_suffix(".onnx")
    export_network(load_model(keras_model), path, format_of(path, None), "fp32", (160, 120))
    return path
