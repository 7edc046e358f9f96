# SPDX-License-Identifier: MIT
"""tools/setup_env.sh names what a machine lacks, and what to do, before it changes anything."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BORROWED = ["awk", "bash", "cat", "cut", "dirname", "flock", "ls", "readlink", "sha256sum"]
# A machine that has everything: what these programs do when the script asks them.
COMPLETE = {
    "df": "echo; echo / 10000 0 10000",
    "g++": "",
    "python3": 'case "$2" in *version*) echo 3.12 ;; esac',
    "uname": 'case "$1" in -s) echo Linux ;; -m) echo x86_64 ;; esac',
}


@pytest.fixture
def complaints(tmp_path) -> Callable[..., str]:
    """What the script says on the complete machine with some programs changed, or missing (None)."""
    checkout, programs = tmp_path / "checkout", tmp_path / "programs"
    for folder in ("tools", "requirements"):
        shutil.copytree(ROOT / folder, checkout / folder)

    def run(changed: dict[str, str | None]) -> str:
        programs.mkdir()
        for name in BORROWED:
            (programs / name).symlink_to(shutil.which(name) or name)
        for name, code in (COMPLETE | changed).items():
            if code is not None:
                (programs / name).write_text(f"#!/bin/sh\n{code}\n")
                (programs / name).chmod(0o755)
        script = checkout / "tools/setup_env.sh"
        done = subprocess.run([script], env={"PATH": str(programs)}, capture_output=True, text=True)
        assert done.returncode == 1
        assert not (checkout / ".venv/bin").exists()
        return done.stderr

    return run


def python(version: str = "3.12", lacks: str = "nothing") -> str:
    return f'case "$2" in *version*) echo {version} ;; *{lacks}*) exit 1 ;; esac'


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"g++": None}, "sudo apt install g++"),
        ({"python3": None}, "sudo apt install python3 python3-venv python3-dev"),
        ({"python3": python("3.10")}, "python3 is Python 3.10, but the pinned numpy"),
        ({"python3": python(lacks="ensurepip")}, "sudo apt install python3-venv"),
        ({"python3": python(lacks="Python.h")}, "sudo apt install python3-dev"),
        ({"uname": "echo aarch64"}, "the ROS 2 wheels exist for Linux on x86_64"),
        ({"df": "echo; echo / 10000 9901 99"}, "99 MB of free disk space"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_missing_is_named_in_one_sentence(complaints, changed, said):
    sentence = complaints(changed)
    assert said in sentence
    assert sentence.count("\n") == 1


def test_everything_that_can_be_installed_is_named_at_once(complaints):
    sentences = complaints({"g++": None, "python3": python(lacks="Python.h")}).splitlines()
    assert [sentence.rpartition("sudo apt install ")[2] for sentence in sentences] == [
        "g++",
        "python3-dev",
    ]


def test_the_first_suitable_python_is_taken(complaints):
    said = complaints({"python3": python("3.10"), "python3.11": python("3.11", "Python.h")})
    assert "sudo apt install python3.11-dev" in said


def test_an_environment_of_somebody_else_is_left_alone(complaints, tmp_path):
    theirs = tmp_path / "checkout/.venv/pyvenv.cfg"
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    assert "was not made by this script" in complaints({})
    assert theirs.exists()
