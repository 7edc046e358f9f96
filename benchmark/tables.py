# SPDX-License-Identifier: MIT
"""How results are timed and printed."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

console = Console(width=110)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table of text and numbers; numbers get three significant digits."""
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(
            *(_number(value) if isinstance(value, float) else str(value) for value in row)
        )
    console.print(table)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def interleaved_medians_ms(
    calls: dict[str, Callable[[], Any]], repeats: int, batch: int = 1
) -> dict[str, float]:
    """Median milliseconds of each call; they take turns, so that a noisy machine disturbs all alike.

    batch: calls in a turn; with more than one, a call finds in the cache what it left there.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats // batch):
        for name, call in calls.items():
            for _ in range(batch):
                start = time.perf_counter()
                call()
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}
