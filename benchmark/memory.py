# SPDX-License-Identifier: MIT
"""Memory of this process."""

from pathlib import Path


def memory_mb(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1e3
    raise KeyError(field)
