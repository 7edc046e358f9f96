# SPDX-License-Identifier: MIT
"""Pictures of a drive whose loops were looked for: the map, precision over recall, the best pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, SubFigure
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from netvlad_ros.evaluation.plots import RIGHT, WRONG, PicturePair
from netvlad_ros.evaluation.precision_recall import PrecisionRecall, PrecisionRecallCurve
from netvlad_ros.figures import save_figure

LAP_COLOURS = ("#e08a00", "#27408b")  # of the sun, and of the night
FAINT = "#9a9a9a"
DPI = 100
# How much higher the second lap is drawn, as a share of the map's width.
RISE = 0.45
PAIRS_ACROSS = 2


@dataclass(frozen=True)
class DriveMap:
    """What the map shows.

    positions_m: (N, 2) of the keyframes, in their order.
    lap_starts:  which keyframe each lap begins with.
    pairs:       the first candidate of each keyframe that has one.
    closes_loop: (N,) whether there was a place to find again.
    """

    positions_m: np.ndarray
    lap_starts: Sequence[int]
    pairs: Sequence[PicturePair]
    closes_loop: np.ndarray

    @property
    def laps(self) -> list[slice]:
        ends = [*self.lap_starts[1:], len(self.positions_m)]
        return [slice(start, end) for start, end in zip(self.lap_starts, ends, strict=True)]


def draw_map(path: Path, drive: DriveMap, names: Sequence[str], title: str) -> None:
    """From above, and with the second lap lifted over the first, so that the loop edges can be seen."""
    figure = Figure(figsize=(14.0, 6.4), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=13)
    flat = figure.add_subplot(1, 2, 1)
    _draw_flat(flat, drive, names)
    figure.legend(*flat.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    _draw_lifted(figure.add_subplot(1, 2, 2, projection="3d"), drive, names)
    save_figure(figure, path)


def _draw_flat(axes: Any, drive: DriveMap, names: Sequence[str]) -> None:
    where = drive.positions_m
    for lap, name, colour in zip(drive.laps, names, LAP_COLOURS, strict=True):
        axes.plot(*where[lap].T, color=colour, linewidth=1.5, alpha=0.7, label=f"lap by {name}")
    found = {pair.query for pair in drive.pairs}
    missed = [i for i in np.flatnonzero(drive.closes_loop).tolist() if i not in found]
    axes.scatter(
        *where[missed].T, s=26, facecolors="white", edgecolors=FAINT, zorder=3, label="not found"
    )
    for colour, label in ((RIGHT, "found, right"), (WRONG, "found, wrong: joined with its match")):
        pairs = [pair for pair in drive.pairs if pair.colour == colour]
        queries = where[[pair.query for pair in pairs]]
        axes.scatter(*queries.T, s=26, c=colour, linewidths=0, zorder=4, label=label)
        edges = [(where[pair.query], where[pair.match]) for pair in pairs]
        axes.add_collection(LineCollection(edges, colors=colour, linewidths=1.2, zorder=4))
    axes.set(xlabel="x in m", ylabel="y in m", aspect="equal")
    axes.set_title("from above", fontsize=11)
    axes.grid(alpha=0.25)


def _draw_lifted(axes: Any, drive: DriveMap, names: Sequence[str]) -> None:
    where, span_m = drive.positions_m, np.ptp(drive.positions_m, axis=0)
    height = np.zeros(len(where))
    for number, (lap, name, colour) in enumerate(zip(drive.laps, names, LAP_COLOURS, strict=True)):
        height[lap] = number
        axes.plot(*where[lap].T, height[lap], color=colour, linewidth=1.5, label=name)
    points = np.column_stack([where, height])
    edges = [(points[pair.query], points[pair.match]) for pair in drive.pairs]
    colours = [pair.colour for pair in drive.pairs]
    if edges:  # Matplotlib wants at least one
        axes.add_collection3d(Line3DCollection(edges, colors=colours, linewidths=1.0))
    axes.set_box_aspect((*np.maximum(span_m, 1.0), RISE * max(1.0, span_m.max())))
    axes.set(xlabel="x in m", ylabel="y in m", zlim=(0, max(1, len(names) - 1)))
    axes.set_zticks(range(len(names)), names)
    axes.view_init(elev=24, azim=-62)
    axes.set_title("the laps above each other, with the loop edges", fontsize=11)


def draw_precision_recall(
    path: Path, curve: PrecisionRecallCurve, reported: PrecisionRecall, title: str
) -> None:
    """Over all thresholds, by the best match alone, and what was reported."""
    figure = Figure(figsize=(7.0, 5.4), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11)
    average = f"best matches, average precision {curve.average_precision:.2f}"
    axes.step(curve.recall, curve.precision, where="pre", color=LAP_COLOURS[1], label=average)
    point = f"reported: precision {reported.precision:.1%}, recall {reported.recall:.1%}"
    axes.scatter([reported.recall], [reported.precision], s=70, c=RIGHT, zorder=3, label=point)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.03))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    save_figure(figure, path)


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
