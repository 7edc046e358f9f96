# SPDX-License-Identifier: MIT
"""The ways to install this package, each done for real, and the lists that have to agree."""

import ast
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

import netvlad_ros
from netvlad_ros.shipped import SHIPPED_LITERT, SHIPPED_MODEL

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "netvlad_ros"
PYPROJECT = (ROOT / "pyproject.toml").read_text()
PACKAGE_XML = ET.parse(ROOT / "package.xml").getroot()

# Import name -> rosdep key, where they differ.
ROSDEP_KEYS = {
    "cv2": "python3-opencv",
    "faiss": "python3-faiss",
    "h5py": "python3-h5py",
    "matplotlib": "python3-matplotlib",
    "numpy": "python3-numpy",
    "rich": "python3-rich",
    "rosbags": "python3-rosbags-pip",
    "tqdm": "python3-tqdm",
    "yaml": "python3-yaml",
}
# Import name -> name on PyPI, where they differ.
PYPI_NAMES = {
    "ai_edge_litert": "ai-edge-litert",
    "cv2": "opencv-python-headless",
    "faiss": "faiss-cpu",
    "yaml": "PyYAML",
}
WITHOUT_ROSDEP_KEY = {"ai_edge_litert", "keras", "poselib", "tensorflow"}
# Imported only where somebody asks for what needs it (the extras of pyproject.toml, Keras backends); errors
# there say how to install it.
OPTIONAL = {
    "gtsam",
    "jax",
    "keras",
    "nncf",
    "onnx",
    "onnxruntime",
    "openvino",
    "panda3d",
    "tensorflow",
    "torch",
    "trimesh",
}


# --- Lists that have to agree -------------------------------------------------------------------------


def declared_in_package_xml() -> set[str]:
    return {item.text or "" for item in PACKAGE_XML if item.tag.endswith("depend")}


def third_party_imports(files: list[Path]) -> set[str]:
    """The first parts of the names of what the files import, ours and Python's own left out."""
    names = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module or "")
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {PACKAGE.name}


def test_package_xml_declares_what_the_package_and_its_launch_files_import():
    used = third_party_imports([*PACKAGE.rglob("*.py"), *(ROOT / "launch").glob("*.py")])
    needed = {ROSDEP_KEYS.get(name, name) for name in used - WITHOUT_ROSDEP_KEY - OPTIONAL}
    assert needed - declared_in_package_xml() == set()


def test_pip_installs_what_the_library_imports():
    library = [file for file in PACKAGE.rglob("*.py") if PACKAGE / "nodes" not in file.parents]
    needed = {PYPI_NAMES.get(name, name) for name in third_party_imports(library) - OPTIONAL}
    assert needed - set(pip_dependencies()) == set()


def pip_dependencies() -> list[str]:
    [block] = re.findall(r"^dependencies = \[(.*?)^\]", PYPROJECT, re.DOTALL | re.MULTILINE)
    return re.findall(r'"([\w-]+)', block)


def test_every_requirement_has_one_exact_version():
    pinned = requirement_lines("constraints.txt")
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", line) for line in pinned)
    names = [line.partition("==")[0] for line in pinned]
    assert len(names) == len(set(names))
    direct = [
        line
        for file in ("runtime", "export", "worlds", "graph", "ros", "dev")
        for line in requirement_lines(f"{file}.txt")
    ]
    assert {name.partition("[")[0].lower() for name in direct} <= set(names)


def requirement_lines(file: str) -> list[str]:
    lines = (ROOT / "requirements" / file).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_every_message_is_built():
    cmake = (ROOT / "CMakeLists.txt").read_text()
    for kind in ("msg", "srv"):
        files = sorted(f"{kind}/{f.name}" for f in (ROOT / kind).iterdir())
        assert re.findall(rf'"({kind}/\w+\.{kind})"', cmake) == files


def test_every_node_is_an_executable():
    cmake = (ROOT / "CMakeLists.txt").read_text()
    nodes = {f.stem for f in (PACKAGE / "nodes").glob("*.py") if "\ndef main(" in f.read_text()}
    assert nodes <= set(re.findall(r"install_executable\((\w+) \S+\.nodes\.\1\)", cmake))


def test_there_is_one_version():
    assert netvlad_ros.__version__ == PACKAGE_XML.findtext("version")


# --- colcon build -------------------------------------------------------------------------------------


def copy_of_the_tree(target: Path) -> Path:
    """What a fresh clone would hold: none of what this checkout has built."""
    built = shutil.ignore_patterns(".*", "build", "install", "log", "__pycache__", "*.egg-info")
    return shutil.copytree(ROOT, target, ignore=built)


@pytest.fixture(scope="module")
def overlay(tmp_path_factory) -> Path:
    """The install space of a colcon workspace with this package in it."""
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    colcon = shutil.which("colcon", path=tools)
    if not colcon:
        pytest.skip("colcon is not installed")
    workspace = tmp_path_factory.mktemp("workspace")
    copy_of_the_tree(workspace / "src" / "netvlad_ros")
    done = subprocess.run(
        [
            colcon,
            "build",
            "--cmake-args",
            "-DBUILD_TESTING=OFF",
            "-DPython3_EXECUTABLE=" + sys.executable,
        ],
        cwd=workspace,
        env=os.environ | {"PATH": tools},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return workspace / "install" / "netvlad_ros"


@pytest.fixture(scope="module")
def overlay_environment(overlay) -> dict[str, str]:
    """What sourcing the workspace sets; the environment of the tests may have this package too, behind it."""
    [site_packages] = overlay.glob("lib/python3*/site-packages")
    in_front = {
        "AMENT_PREFIX_PATH": overlay,
        "LD_LIBRARY_PATH": overlay / "lib",
        "PYTHONPATH": site_packages,
    }
    return os.environ | {
        name: f"{path}:{os.environ.get(name, '')}" for name, path in in_front.items()
    }


def loaded_libraries(maps: str) -> set[Path]:
    """The libraries of our messages in a /proc/PID/maps."""
    return {
        Path(line.split()[-1])
        for line in maps.splitlines()
        if re.search(r"netvlad_ros_\w+.*\.so", line)
    }


@pytest.mark.slow
def test_after_colcon_build_messages_and_modules_come_from_the_workspace(
    overlay, overlay_environment
):
    code = """if True:
        import json, netvlad_ros.config, netvlad_ros.msg
        from rclpy.serialization import deserialize_message, serialize_message
        message = netvlad_ros.msg.Keyframe(id=7)
        assert deserialize_message(serialize_message(message), type(message)) == message
        modules = [netvlad_ros.__file__, netvlad_ros.config.__file__, netvlad_ros.msg.__file__]
        print(json.dumps([modules, open("/proc/self/maps").read()]))"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=overlay,
        env=overlay_environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    modules, maps = json.loads(done.stdout)
    assert loaded_libraries(maps)
    assert [
        f for f in [*map(Path, modules), *loaded_libraries(maps)] if overlay not in f.parents
    ] == []


@pytest.mark.slow
def test_after_colcon_build_a_node_starts_from_the_workspace_and_ends_cleanly(
    overlay, overlay_environment, tmp_path
):
    output = tmp_path / "output"
    node = subprocess.Popen(
        [
            overlay / "lib/netvlad_ros/keyframe_database_node",
            "--ros-args",
            "-r",
            "__ns:=/packaging",
        ],
        cwd=overlay,
        env=overlay_environment,
        stderr=output.open("w"),
    )
    try:
        maps = Path(f"/proc/{node.pid}/maps")
        wait_until(lambda: node.poll() is not None or loaded_libraries(maps.read_text()))
        assert node.poll() is None, output.read_text()
        assert all(overlay in library.parents for library in loaded_libraries(maps.read_text()))
        node.send_signal(signal.SIGINT)
        assert node.wait(10) == 0, output.read_text()
    finally:
        node.kill()
        node.wait()


def wait_until(is_so: Callable[[], object], timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not is_so() and time.monotonic() < end:
        time.sleep(0.05)


@pytest.mark.slow
def test_after_colcon_build_the_executables_launch_files_and_configuration_are_where_ros_looks(
    overlay,
):
    executables = overlay / "lib/netvlad_ros"
    assert {"descriptor_node", "loop_closure_node", "netvlad", "place_recognition"} <= {
        file.name for file in executables.iterdir() if os.access(file, os.X_OK)
    }
    for folder in ("launch", "config"):
        assert {f.name for f in (ROOT / folder).iterdir()} - {"__pycache__"} == {
            f.name for f in (overlay / "share/netvlad_ros" / folder).iterdir()
        }
    [installed] = overlay.glob("lib/python3*/site-packages/netvlad_ros")
    for file in (SHIPPED_MODEL, SHIPPED_LITERT):
        assert (installed / file.parent.name / file.name).is_file()


# --- pip install, without ROS -------------------------------------------------------------------------


def comes_from_ros(names: set[str]) -> set[str]:
    """Those of the names in site-packages that ROS wheels, or this package's own build, have put there."""
    wheels = [
        wheel for wheel in importlib.metadata.distributions() if wheel.name.startswith("ros-")
    ]
    ros = {file.parts[0] for wheel in wheels for file in wheel.files or []}
    ros |= {
        name for name in names if name.startswith(("ros_", PACKAGE.name)) or name.endswith(".pth")
    }
    return names & ros


@pytest.fixture(scope="module")
def plain_python(tmp_path_factory) -> Path:
    """A Python environment without ROS and TensorFlow where `pip install .` was done.

    It borrows all other packages from the environment of the tests, as links.
    """
    folder = tmp_path_factory.mktemp("pip")
    python = folder / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    borrowed = folder / "borrowed"
    borrowed.mkdir()
    installed = Path(str(importlib.metadata.distribution("numpy").locate_file("")))
    names = {source.name for source in installed.iterdir()}
    for name in names - comes_from_ros(names) - {"keras", "tensorflow"}:
        (borrowed / name).symlink_to(installed / name)
    [site_packages] = folder.glob("venv/lib/python3*/site-packages")
    (site_packages / "borrowed.pth").write_text(f"{borrowed}\n")
    done = subprocess.run(
        [python, "-m", "pip", "install", *PIP_OPTIONS, copy_of_the_tree(folder / "tree")],
        env=PLAIN_ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return python


PIP_OPTIONS = ["--no-deps", "--no-build-isolation", "--no-index"]
PLAIN_ENVIRONMENT = {
    name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR") if name in os.environ
}


def run_plain(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, env=PLAIN_ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_after_pip_install_the_library_imports_without_ros(plain_python, tmp_path):
    code = """if True:
        import importlib.metadata, importlib.util, netvlad_ros
        assert not importlib.util.find_spec("rclpy"), "this environment was to be without ROS"
        for name in set(netvlad_ros.__all__) - {"build_network", "load_model"}:
            getattr(netvlad_ros, name)
        try:
            netvlad_ros.build_network
        except netvlad_ros.NetVLADError as error:
            assert "build_network needs keras" in str(error), error
        print(importlib.metadata.version("netvlad_ros"), netvlad_ros.__file__)"""
    version, file = run_plain(plain_python, "-c", code, folder=tmp_path).split()
    assert version == netvlad_ros.__version__
    assert plain_python.parents[1] in Path(file).parents


@pytest.mark.slow
def test_after_pip_install_there_is_the_netvlad_command(plain_python, tmp_path):
    assert "netvlad" in run_plain(plain_python.with_name("netvlad"), "--help", folder=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["info"], 0, "runtime      litert, fp32"),
        (
            ["train", "r.yaml", "-o", "r"],
            1,
            'train needs keras, which is not installed; pip install "ne',
        ),
        (
            ["info", "own.keras"],
            1,
            'info needs keras, which is not installed; pip install "netvlad_ros[',
        ),
    ],
)
def test_after_pip_install_what_needs_tensorflow_says_so(
    words: list[str], code: int, told: str, plain_python, tmp_path
):
    (tmp_path / "own.keras").touch()
    shutil.copy(ROOT / "config" / "compact_training.yaml", tmp_path / "r.yaml")
    done = subprocess.run(
        [plain_python.with_name("netvlad"), *words],
        cwd=tmp_path,
        env=PLAIN_ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert told in (done.stderr if code else done.stdout)


@pytest.mark.slow
def test_after_pip_install_there_is_a_model_to_start_with(plain_python, tmp_path):
    code = """if True:
        import numpy as np
        from netvlad_ros import NetVLADExtractor
        from netvlad_ros.shipped import SHIPPED_MODEL
        image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
        print(len(NetVLADExtractor().extract(image)), SHIPPED_MODEL)"""
    dims, file = run_plain(plain_python, "-c", code, folder=tmp_path).split()
    assert int(dims) > 0
    assert plain_python.parents[1] in Path(file).parents


@pytest.mark.slow
def test_pip_installs_every_file_of_the_package(plain_python):
    [installed] = plain_python.parents[1].glob("lib/python3*/site-packages/netvlad_ros")
    assert files_below(PACKAGE) - files_below(installed) == set()


def files_below(folder: Path) -> set[str]:
    files = (file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    return {str(file) for file in files if "__pycache__" not in file.parts}
