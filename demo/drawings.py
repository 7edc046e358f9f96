# SPDX-License-Identifier: MIT
"""Places of a drive by day beside the same by night."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure, SubFigure

from netvlad_ros.evaluation.plots import PicturePair
from netvlad_ros.figures import save_figure

DPI = 100
PAIRS_ACROSS = 2


@dataclass(frozen=True)
class ShownPair:
    """A query and its match as pictures, uint8 RGB, and how far apart they were taken."""

    pair: PicturePair
    query: np.ndarray
    match: np.ndarray
    distance_m: float


def draw_best_pairs(path: Path, shown: Sequence[ShownPair], names: Sequence[str]) -> None:
    """Rows of two pairs, the match on the left and the query on the right.

    names: of the laps that matches and queries are of.
    """
    rows = max(1, -(-len(shown) // PAIRS_ACROSS))
    figure = Figure(figsize=(14.0, 0.6 + 2.75 * rows), dpi=DPI, layout="constrained")
    figure.suptitle(f"{names[0]} | {names[1]}: places that were found again", fontsize=13)
    cells = figure.subfigures(rows, PAIRS_ACROSS, squeeze=False)
    if not shown:
        figure.text(0.5, 0.4, "none", ha="center")
    for cell, each in zip(cells.flat, shown, strict=False):
        _draw_pair(cell, each)
    save_figure(figure, path)


def _draw_pair(cell: SubFigure, shown: ShownPair) -> None:
    pair = shown.pair
    told = f"similarity {pair.similarity:.3f}, {shown.distance_m:.1f} m apart"
    cell.suptitle(told, fontsize=10, color=pair.colour)
    for axes, image, keyframe in zip(
        cell.subplots(1, 2), (shown.match, shown.query), (pair.match, pair.query), strict=True
    ):
        axes.imshow(image)
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel(f"keyframe {keyframe}", fontsize=9)
        for spine in axes.spines.values():
            spine.set(color=pair.colour, linewidth=2)
