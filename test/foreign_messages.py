# SPDX-License-Identifier: MIT
"""Packages of messages of other projects, generated and compiled for tests from their fields."""

import ctypes
import fcntl
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FIELDS = Path(__file__).parent / "foreign"
CMAKE = """
cmake_minimum_required(VERSION 3.20)
project({package})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
foreach(each {dependencies})
  find_package(${{each}} REQUIRED)
endforeach()
rosidl_generate_interfaces({package} {interfaces} DEPENDENCIES {dependencies})
ament_package()
"""
PACKAGE = """
<package format="3">
  <name>{package}</name><version>0.0.0</version><description>For tests.</description>
  <maintainer email="nobody@example.com">nobody</maintainer><license>none</license>
  <member_of_group>rosidl_interface_packages</member_of_group>
</package>
"""


class Foreign:
    """Packages of messages of back-ends, for the test and for the processes that it starts."""

    def __init__(self, cache: pytest.Cache, paths: pytest.MonkeyPatch) -> None:
        self._cache, self._paths = cache, paths

    def prefix(self, package: str) -> Path:
        """Where it is installed; compiled in a minute, for once."""
        return installed(package, self._cache.mkdir("foreign_messages"))

    def environment(self, package: str) -> dict[str, str]:
        """What a process needs to find it, as after its workspace was sourced; this one can import it too."""
        prefix = self.prefix(package)
        (site_packages,) = prefix.glob("lib/python3*/site-packages")
        if str(site_packages) not in sys.path:
            self._paths.syspath_prepend(str(site_packages))
            for library in sorted(prefix.glob("lib/*.so")):
                ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)  # a search path is read at start only
        return {
            name: f"{folder}{os.pathsep}{os.environ.get(name, '')}".rstrip(os.pathsep)
            for name, folder in {
                "PYTHONPATH": site_packages,
                "LD_LIBRARY_PATH": prefix / "lib",
            }.items()
        }


def installed(package: str, cache: Path) -> Path:
    """The prefix that it is installed in, after it was built if that was never done."""
    text = (FIELDS / f"{package}.txt").read_text()
    made_of = f"{text}{CMAKE}{PACKAGE}{sys.version}{sys.prefix}"
    folder = cache / f"{package}_{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            _write_sources(package, text, folder / "source")
            _build(folder)
            (folder / "done").touch()
    return folder / "install"


def _write_sources(package: str, text: str, source: Path) -> None:
    interfaces = dict(re.findall(r"^== (\S+)\n(.*?\n)(?=\n==|\Z)", text, re.DOTALL | re.MULTILINE))
    for name, fields in interfaces.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(fields)
    values = {
        "package": package,
        "dependencies": " ".join(sorted({*re.findall(r"^(\w+_msgs)/", text, re.MULTILINE)})),
        "interfaces": " ".join(f'"{name}"' for name in interfaces),
    }
    (source / "CMakeLists.txt").write_text(CMAKE.format(**values))
    (source / "package.xml").write_text(PACKAGE.format(**values))


def _build(folder: Path) -> None:
    programs = Path(sys.executable).parent
    environment = os.environ | {
        "AMENT_PREFIX_PATH": sys.prefix,
        "CMAKE_PREFIX_PATH": sys.prefix,
        "PATH": f"{programs}:{os.environ['PATH']}",
    }
    options = {
        "CMAKE_INSTALL_PREFIX": folder / "install",
        "CMAKE_INSTALL_RPATH": folder / "install" / "lib",
        "Python3_EXECUTABLE": sys.executable,
    }
    tree = str(folder / "build")
    for step in (
        ["-G", "Ninja", "-S", folder / "source", "-B", tree],
        ["--build", tree, "-j", "2"],
        ["--install", tree],
    ):
        words = [f"-D{name}={value}" for name, value in options.items()] if "-S" in step else []
        command = [programs / "cmake", *step, *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
