# SPDX-License-Identifier: MIT
"""What was found, as a JSON file for other programs."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from netvlad_ros.errors import NetVLADError


def write_json(path: Path, found: Any) -> None:
    """Writes a dataclass; JSON knows no NaN and no infinity, they become null. Raises NetVLADError."""
    text = json.dumps(_plain(dataclasses.asdict(found)), indent=1) + "\n"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise NetVLADError(f"{path}: can't write the figures ({error.strerror}).") from None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
