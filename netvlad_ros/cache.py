# SPDX-License-Identifier: MIT
"""The one folder for files that can be fetched or computed again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/netvlad_ros, or ~/.cache/netvlad_ros where that is not set; it may not exist yet.

    A relative $XDG_CACHE_HOME is to be ignored, says the XDG Base Directory Specification.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "netvlad_ros"
