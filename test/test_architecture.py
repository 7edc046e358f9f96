# SPDX-License-Identifier: MIT
"""The rules that keep the parts of this package apart, read from the import lines of its files."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import netvlad_ros

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "netvlad_ros"

# From the bottom to the top: a part imports from its own layer and from those above it in this list.
LAYERS = [
    {
        "cache",
        "calibration",
        "config",
        "constants",
        "errors",
        "keyframe",
        "figures",
        "image_data",
        "packages",
        "quiet",
        "shipped",
        "threads",
    },
    {"data"},
    {"model"},
    {"importers", "runtime"},
    {"extraction"},
    {"index", "sensors", "store", "verification"},
    {"graph", "retrieval"},
    {"evaluation", "export", "inspection", "maps", "search", "training", "worlds"},
    {"cli", "commands", "nodes"},
]
LAYER = {part: number for number, layer in enumerate(LAYERS) for part in layer}

ROS = {
    "ament_index_python",
    "builtin_interfaces",
    "cv_bridge",
    "diagnostic_msgs",
    "geometry_msgs",
    "launch",
    "launch_ros",
    "nav_msgs",
    "rcl_interfaces",
    "rclpy",
    "rosgraph_msgs",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "visualization_msgs",
}
KERAS = {"keras", "tensorflow"}
OPTIONAL = {
    "ai_edge_litert",
    "gtsam",
    "jax",
    "nncf",
    "onnx",
    "onnxruntime",
    "openvino",
    "poselib",
    "panda3d",
    "scipy",
    "torch",
    "trimesh",
}
SOURCES = sorted(PACKAGE.rglob("*.py"))
PROJECT_FILES = [
    *SOURCES,
    *(
        f
        for folder in ("benchmark", "demo", "launch", "test", "tools")
        for f in (ROOT / folder).rglob("*.py")
    ),
    ROOT / "setup.py",
]


class Import(NamedTuple):
    """One imported module, where it is imported, and whether that happens as soon as the file is."""

    file: Path
    line: int
    module: str
    at_once: bool

    @property
    def package(self) -> str:
        """The first part of the module's name."""
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"


def part_of(file: Path) -> str:
    """The file or folder of the package that a file belongs to, such as `retrieval`."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def imports(file: Path) -> tuple[Import, ...]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    return tuple(
        Import(file, node.lineno, module, id(node) not in inside)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module in modules(file, node)
    )


def modules(file: Path, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """The full names of what one import line imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    package = list(file.relative_to(ROOT).parts[: -node.level]) if node.level else []
    module = ".".join([*package, *([node.module] if node.module else [])])
    if module != PACKAGE.name:
        yield module
        return
    for alias in node.names:  # from netvlad_ros import config, NetVLADExtractor, ...
        yield f"{module}.{netvlad_ros._EXPORTS.get(alias.name, alias.name)}"


def all_imports() -> list[Import]:
    """Every import of the package, without those of its __init__.py, which only passes names on."""
    return [each for file in SOURCES if file != PACKAGE / "__init__.py" for each in imports(file)]


def listed(wrong: list[Import]) -> str:
    return "\n".join(map(str, wrong))


def test_every_part_has_a_layer():
    parts = {part_of(file) for file in SOURCES} - {"__init__"}
    assert parts <= set(LAYER), "a new part needs a place in LAYERS"


def test_a_file_imports_only_from_its_own_and_lower_layers():
    wrong = [
        each
        for each in all_imports()
        if each.package == PACKAGE.name and each.module.count(".")
        # The generated messages count as part of the nodes.
        if LAYER.get(each.module.split(".")[1], LAYER["nodes"]) > LAYER[part_of(each.file)]
    ]
    assert not wrong, listed(wrong)


def test_the_command_line_and_the_nodes_do_not_know_each_other():
    others = {"cli": {"nodes"}, "commands": {"nodes"}, "nodes": {"cli", "commands"}}
    wrong = [
        each
        for each in all_imports()
        if each.package == PACKAGE.name and each.module.count(".")
        if each.module.split(".")[1] in others.get(part_of(each.file), ())
    ]
    assert not wrong, listed(wrong)


def test_only_commands_import_the_renderer():
    wrong = [
        each
        for each in all_imports()
        if f"{each.module}.".startswith("netvlad_ros.worlds.")
        if part_of(each.file) not in ("commands", "worlds")
    ]
    assert not wrong, listed(wrong)


def test_only_nodes_import_ros():
    wrong = [
        each
        for each in all_imports()
        if each.package in ROS or each.module.startswith("netvlad_ros.msg")
        if part_of(each.file) != "nodes"
    ]
    assert not wrong, listed(wrong)


def test_only_what_runs_or_makes_a_network_imports_keras():
    allowed = {"export", "inspection", "model", "runtime", "training"}
    wrong = [
        each
        for each in all_imports()
        if each.package in KERAS and part_of(each.file) not in allowed
        # An importer may need TensorFlow to read a checkpoint, but only then.
        if each.at_once or part_of(each.file) != "importers"
    ]
    assert not wrong, listed(wrong)


def test_only_the_index_imports_faiss():
    wrong = [
        each for each in all_imports() if each.package == "faiss" and part_of(each.file) != "index"
    ]
    assert not wrong, listed(wrong)


def test_what_only_some_users_need_is_imported_where_it_is_needed():
    # The files of these two parts are themselves imported when they are needed.
    own_files = {"runtime", "export"}
    wrong = [
        each
        for each in all_imports()
        if each.package in OPTIONAL and each.at_once and part_of(each.file) not in own_files
    ]
    assert not wrong, listed(wrong)


def test_a_file_of_tests_names_what_it_can_not_be_imported_without():
    """conftest.py skips it where that is not installed; scipy always is, with the tests' own packages."""
    needed = {name: name for name in OPTIONAL - {"scipy"}} | dict.fromkeys(ROS, "rclpy")
    needed |= {"live_nodes": "rclpy"}
    wrong = [
        each
        for file in (ROOT / "test").rglob("test_*.py")
        for each in imports(file)
        if each.at_once
        and each.package in needed
        and f'"{needed[each.package]}"' not in marked_needs(file)
    ]
    assert not wrong, listed(wrong)


def marked_needs(file: Path) -> str:
    return " ".join(re.findall(r"mark\.needs\(([^)]*)\)", file.read_text(encoding="utf-8")))


def test_the_extractor_imports_only_the_runtime_of_its_model():
    heavy = {"keras", "tensorflow", "openvino", "onnxruntime", "ai_edge_litert", "faiss"}
    code = (
        f"import netvlad_ros.extraction.extractor, sys; print(*sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == []


def test_importing_the_package_imports_no_heavy_library():
    heavy = {"keras", "tensorflow", "jax", "faiss", "cv2", "h5py", "numpy", "rclpy"}
    code = f"import netvlad_ros, sys; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == []


def test_every_file_names_its_licence():
    spdx = "# SPDX-License-Identifier: MIT"
    wrong = [name(file) for file in PROJECT_FILES if spdx not in first_lines(file)]
    assert not wrong, f"{spdx} is missing in {wrong}"


def test_every_file_says_what_it_is():
    wrong = [
        name(file) for file in PROJECT_FILES if not ast.get_docstring(ast.parse(file.read_text()))
    ]
    assert not wrong, f"the docstring of the module is missing in {wrong}"


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def first_lines(file: Path) -> list[str]:
    """The first line, or the second too where the first one names the interpreter."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return lines[:2] if lines and lines[0].startswith("#!") else lines[:1]


def test_the_message_of_a_verdict_names_every_stage() -> None:
    makers = {"Verdict", "passed", "rejected", "at_least", "at_most", "_reaches"}
    calls = [
        node
        for file in (PACKAGE / "retrieval").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in makers
    ]
    words = [[a.value for a in call.args if isinstance(a, ast.Constant)] for call in calls]
    stages = {next(word for word in each if isinstance(word, str)) for each in words if each}
    assert len(stages) > 15
    message = (ROOT / "msg" / "Verdict.msg").read_text(encoding="utf-8")
    assert not [stage for stage in stages if not re.search(rf"\b{stage}\b", message)]
