# SPDX-License-Identifier: MIT
"""NetVLAD place recognition: a plain Python library, and thin ROS 2 nodes on top of it."""

import importlib
import pkgutil
import sys
from typing import Any

# The generated messages (netvlad_ros.msg) live in the installed package of the same name. This line
# joins them to a source tree that comes first on the path.
__path__ = pkgutil.extend_path(__path__, __name__)

__version__ = "0.1.0"

_EXPORTS = {
    "Config": "config",
    "KeyframeDatabase": "retrieval.database",
    "LoopDetector": "retrieval.loop_detector",
    "NetVLADError": "errors",
    "NetVLADExtractor": "extraction.extractor",
    "PlaceDataset": "data.places",
    "build_network": "model",
    "load_config": "config.files",
    "load_model": "model",
    "read_places": "data.read_places",
    "CandidateSelector": "retrieval.selection",
}
__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    """Imports a part when it is first used: a keyframe database needs no TensorFlow."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from netvlad_ros.packages import needed_by

    with needed_by(f"{__name__}.{name}"):
        return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)


if "keras" in sys.modules:  # then keras.saving.load_model() knows our layers at once
    importlib.import_module(f"{__name__}.model")
