# SPDX-License-Identifier: MIT
"""Which scores right and wrong matches have, and where the limits lie."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from netvlad_ros.evaluation.calibrating import JudgedQuery, Limit
from netvlad_ros.evaluation.plots import DPI, RIGHT, WRONG
from netvlad_ros.figures import save_figure

BINS = 40


def draw_distributions(
    path: Path, queries: Sequence[JudgedQuery], limits: Mapping[str, Limit]
) -> None:
    """A histogram of each quantity. Raises NetVLADError if the file can't be written."""
    figure = Figure(figsize=(4.6 * max(1, len(limits)), 3.8), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, max(1, len(limits)), squeeze=False)[0]
    for axes, (quantity, limit) in zip(panels, limits.items(), strict=False):
        known = [query.best[quantity] for query in queries if quantity in query.best]
        values, right = (np.array([each[i] for each in known]) for i in (0, 1))
        edges = np.linspace(values.min(), values.max() + 1e-6, BINS + 1)
        parts = (values[~right.astype(bool)], values[right.astype(bool)])
        axes.hist(parts, edges, stacked=True, color=(WRONG, RIGHT), label=("wrong", "right"))
        if limit.value is not None:
            axes.axvline(
                limit.value, color="black", linewidth=1.2, label=f"limit {limit.value:.3f}"
            )
        axes.set(xlabel=quantity.replace("_", " "), ylabel="queries")
        axes.legend(fontsize=8)
    save_figure(figure, path)
