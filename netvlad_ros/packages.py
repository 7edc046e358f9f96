# SPDX-License-Identifier: MIT
"""What an installation may lack, and the sentence that says how to add it."""

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec

from netvlad_ros.errors import ModelError

# TensorFlow is an extra, as what runs on a robot needs none.
TENSORFLOW = '"netvlad_ros[tensorflow]" (with ROS: pip install tensorflow keras)'
# Import name -> what to give to pip, where that is another name.
PIP_NAMES = {"keras": TENSORFLOW, "tensorflow": TENSORFLOW, "ai_edge_litert": "ai-edge-litert"}


def is_installed(package: str) -> bool:
    """Whether it could be imported; this does not import it."""
    return find_spec(package) is not None


def pip_install(package: str) -> str:
    """What to type for a package that is named as in an import."""
    return f"pip install {PIP_NAMES.get(package, package)}"


@contextlib.contextmanager
def needed_by(what: str) -> Iterator[None]:
    """Around imports: of a package above that is not there, a ModelError says what to do."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in PIP_NAMES:
            raise
        raise ModelError(
            f"{what} needs {error.name}, which is not installed; {pip_install(error.name)}."
        ) from None
