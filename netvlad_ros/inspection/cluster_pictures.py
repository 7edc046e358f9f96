# SPDX-License-Identifier: MIT
"""Pictures of what NetVLAD makes of an image: its cells in the colours of their clusters."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from netvlad_ros.figures import save_figure
from netvlad_ros.inspection.colours import palette
from netvlad_ros.model.assignments import Assignments

DPI = 100
# The picture below the colours is drawn at least so wide, so that borders of cells are thin.
WIDTH_PX = 640
PICTURE_INCHES = 6.2
# How much of a colour covers the picture, for a cell without and with certainty.
LEAST_COVER, MOST_COVER = 0.15, 0.65
STRIPE_PX = 7
LEGEND_ENTRIES, LEGEND_SHARE = 16, 0.005
SHEET_COLUMNS = 4
# Regions of at least so many cells have the number of their cluster written on them.
NUMBERED_CELLS = 3
GHOST_COLOUR = "#9a9a9a"


@dataclass(frozen=True)
class View:
    """An image, uint8 RGB of any size, and how it was assigned."""

    name: str
    image: np.ndarray
    assignments: Assignments


def draw_clusters(path: Path, view: View, title: str) -> None:
    """Draws the image, its clusters over it, and what each cluster gathers. Raises NetVLADError."""
    height = PICTURE_INCHES * min(2.0, view.image.shape[0] / view.image.shape[1]) + 0.3
    figure = Figure(figsize=(2 * PICTURE_INCHES + 2.2, height + 3.4), dpi=DPI)
    figure.set_layout_engine("constrained")
    figure.suptitle(title, fontsize=13, parse_math=False)
    grid = figure.add_gridspec(
        3, 3, width_ratios=[PICTURE_INCHES, PICTURE_INCHES, 1.9], height_ratios=[height, 1.3, 1.3]
    )
    plain, coloured = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    plain.imshow(view.image)
    _no_ticks(plain, view.name)
    _draw_cells(coloured, view)
    _no_ticks(coloured, f"{_sharpness(view.assignments)} on average (0 hard, 1 even)")
    _draw_legend(figure.add_subplot(grid[:, 2]), view.assignments)
    _draw_mass(figure.add_subplot(grid[1, :2]), view.assignments)
    _draw_energy(figure.add_subplot(grid[2, :2]), view.assignments)
    save_figure(figure, path)


def draw_cluster_sheet(path: Path, views: Sequence[View], title: str) -> None:
    """Draws several images in the colours of their clusters. Raises NetVLADError."""
    rows = math.ceil(len(views) / SHEET_COLUMNS)
    columns = min(SHEET_COLUMNS, len(views))
    tallest = max(min(2.0, view.image.shape[0] / view.image.shape[1]) for view in views)
    figure = Figure(figsize=(4.0 * columns, 0.6 + rows * (0.55 + 3.8 * tallest)), dpi=DPI)
    figure.set_layout_engine("constrained")
    figure.suptitle(title, fontsize=13, parse_math=False)
    all_axes = figure.subplots(rows, columns, squeeze=False).flat
    for axes in all_axes[len(views) :]:
        axes.set_axis_off()
    for axes, view in zip(all_axes, views, strict=False):
        _draw_cells(axes, view)
        _no_ticks(axes, f"{view.name}\n{_sharpness(view.assignments)}", size=8)
    save_figure(figure, path)


def cluster_name(number: int, clusters: int) -> str:
    """Such as 12, or G1 for the first ghost."""
    return str(number) if number < clusters else f"G{number - clusters + 1}"


def _draw_cells(axes: Axes, view: View) -> None:
    """Colours cells by their largest cluster, the stronger the more certain; stripes ghosts."""
    assignments = view.assignments
    image = _grey(view.image)
    shape = image.shape[:2]
    labels = assignments.largest
    certainty = _enlarged(assignments.weights.max(axis=-1), shape)
    cover = (LEAST_COVER + (MOST_COVER - LEAST_COVER) * certainty)[..., None]
    large = _enlarged(labels, shape)
    ghost = large >= assignments.clusters
    colours = palette(assignments.clusters)[np.minimum(large, assignments.clusters - 1)]
    colours[ghost] = _stripes(shape)[ghost]
    shown = (1.0 - cover) * image + cover * colours
    shown[_borders(large)] = 255
    axes.imshow(np.round(shown).astype(np.uint8), interpolation="antialiased")
    _number_regions(axes, labels, assignments.clusters, shape)


def _grey(image: np.ndarray) -> np.ndarray:
    scale = max(1.0, WIDTH_PX / image.shape[1])
    size = (round(image.shape[1] * scale), max(1, round(image.shape[0] * scale)))
    grey = cv2.cvtColor(cv2.resize(image, size), cv2.COLOR_RGB2GRAY)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)


def _enlarged(cells: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Each cell as a rectangle, together of this height and width."""
    rows = np.arange(shape[0]) * cells.shape[0] // shape[0]
    columns = np.arange(shape[1]) * cells.shape[1] // shape[1]
    return cells[rows[:, None], columns[None, :]]


def _stripes(shape: tuple[int, int]) -> np.ndarray:
    y, x = np.indices(shape)
    dark = ((x + y) // STRIPE_PX % 2).astype(np.uint8)
    return np.repeat((40 + 190 * dark)[..., None], 3, axis=-1)


def _borders(labels: np.ndarray) -> np.ndarray:
    borders = np.zeros(labels.shape, bool)
    borders[1:] |= labels[1:] != labels[:-1]
    borders[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    return borders


def _number_regions(axes: Axes, labels: np.ndarray, clusters: int, shape: tuple[int, int]) -> None:
    """Writes the number of the cluster on each region that has room for it."""
    scale_y, scale_x = shape[0] / labels.shape[0], shape[1] / labels.shape[1]
    for cluster in np.unique(labels):
        count, regions = cv2.connectedComponents(
            (labels == cluster).astype(np.uint8), connectivity=4
        )
        for region in range(1, count):
            cells = np.argwhere(regions == region)
            if len(cells) >= min(NUMBERED_CELLS, labels.size):
                y, x = _middle(cells)
                axes.text(
                    (x + 0.5) * scale_x,
                    (y + 0.5) * scale_y,
                    cluster_name(cluster, clusters),
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white",
                    path_effects=[patheffects.withStroke(linewidth=2, foreground="black")],
                )


def _middle(cells: np.ndarray) -> np.ndarray:
    """The cell of a region that is nearest to its centre."""
    return cells[np.linalg.norm(cells - cells.mean(axis=0), axis=1).argmin()]


def _sharpness(assignments: Assignments) -> str:
    return f"largest weight {assignments.sharpness:.2f}, entropy {assignments.entropy:.2f}"


def _draw_legend(axes: Axes, assignments: Assignments) -> None:
    """The clusters that take the most of the image."""
    mass, clusters = assignments.mass, assignments.clusters
    order = np.argsort(-mass, kind="stable")[:LEGEND_ENTRIES]
    order = order[mass[order] >= LEGEND_SHARE]
    handles = [
        Patch(
            facecolor=_colour(number, clusters),
            edgecolor="white" if number >= clusters else "none",
            hatch="////" if number >= clusters else None,
            label=f"{cluster_name(number, clusters)}: {mass[number]:.0%}"
            + (" (ghost, not kept)" if number >= clusters else ""),
        )
        for number in order
    ]
    axes.set_axis_off()
    axes.legend(
        handles=handles,
        loc="upper left",
        fontsize=9,
        frameon=False,
        borderaxespad=0.0,
        title=f"clusters that take most\nof the image, of {clusters}",
        title_fontsize=9,
        alignment="left",
    )


def _draw_mass(axes: Axes, assignments: Assignments) -> None:
    mass, clusters = assignments.mass, assignments.clusters
    bars = axes.bar(
        np.arange(len(mass)),
        100.0 * mass,
        color=[_colour(number, clusters) for number in range(len(mass))],
    )
    for bar in bars[clusters:]:
        bar.set(hatch="////", edgecolor="white")
    axes.set_title("share of the image in %", fontsize=8, loc="left")
    _cluster_ticks(axes, len(mass), clusters)


def _draw_energy(axes: Axes, assignments: Assignments) -> None:
    clusters = assignments.clusters
    colours = [_colour(number, clusters) for number in range(clusters)]
    axes.bar(np.arange(clusters), assignments.energy, color=colours)
    axes.set_title("length of its row of VLAD before normalisation", fontsize=8, loc="left")
    axes.set_xlabel("cluster", fontsize=8)
    _cluster_ticks(axes, assignments.weights.shape[-1], clusters)


def _cluster_ticks(axes: Axes, count: int, clusters: int) -> None:
    every = max(1, math.ceil(count / 40))
    ticks = range(0, count, every)
    axes.set_xticks(list(ticks), [cluster_name(number, clusters) for number in ticks], fontsize=7)
    axes.set_xlim(-0.6, count - 0.4)
    axes.tick_params(axis="y", labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _colour(number: int, clusters: int) -> str:
    return GHOST_COLOUR if number >= clusters else to_hex(palette(clusters)[number] / 255.0)


def _no_ticks(axes: Axes, label: str, size: int = 10) -> None:
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(label, fontsize=size, parse_math=False)
