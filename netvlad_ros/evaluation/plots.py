# SPDX-License-Identifier: MIT
"""Pictures of a recording: how similar its keyframes are, and which of them were matched."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from netvlad_ros.figures import save_figure

RIGHT, WRONG, UNKNOWN, TRUTH = "#1a9850", "#e3172d", "#1e78ff", "#00d5ff"
TOO_RECENT = "#e4e4e4"
DPI = 100
# More rows and columns than this are not to be told apart on a screen; then only every n-th is drawn.
MAX_CELLS = 1500
PAIRS_PER_SHEET = 12
PAIRS_PER_ROW = 3


@dataclass(frozen=True)
class Recording:
    """The keyframes of a recording, in their order.

    descriptors: (N, D), unit length.
    times_s:     (N,) seconds since the beginning.
    available:   (N,) how many of the first keyframes each one could match; the others were too recent.
    """

    descriptors: np.ndarray
    times_s: np.ndarray
    available: np.ndarray


@dataclass(frozen=True)
class PicturePair:
    """A candidate to be drawn.

    query, match: which keyframes, 0 to N - 1.
    right:        whether they show the same place; None if nobody knows.
    """

    query: int
    match: int
    similarity: float
    right: bool | None = None

    @property
    def colour(self) -> str:
        return {True: RIGHT, False: WRONG, None: UNKNOWN}[self.right]


def draw_similarity_matrix(
    path: Path,
    recording: Recording,
    pairs: Sequence[PicturePair],
    title: str,
    truth: np.ndarray | None = None,
) -> None:
    """Draws how similar each keyframe is to all earlier ones, and marks the candidates.

    truth: (T, 2) query and earlier keyframe of the same place, which are outlined.
    """
    figure = Figure(figsize=(9.6, 8.6), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=12, pad=12)
    _draw_similarities(figure, axes, recording)
    if truth is not None:
        _outline(axes, truth, len(recording.times_s))
    _mark(axes, pairs, len(recording.times_s))
    _label_axes(axes, recording.times_s)
    axes.legend(handles=_legend(pairs, truth), loc="upper right", framealpha=1.0, fontsize=10)
    save_figure(figure, path)


def draw_pairs(
    path: Path,
    pairs: Sequence[PicturePair],
    images: Sequence[tuple[np.ndarray, np.ndarray]],
    times_s: np.ndarray,
    title: str,
) -> None:
    """Draws queries beside their matches.

    images: per pair those of its query and its match, uint8, RGB.
    """
    rows = max(1, math.ceil(len(pairs) / PAIRS_PER_ROW))
    height = _pair_height(images[0][0]) if images else 1.0
    figure = Figure(figsize=(13.2, 0.75 + rows * height), dpi=DPI)
    figure.suptitle(title, fontsize=13)
    figure.set_layout_engine("constrained", rect=(0.0, 0.008, 1.0, 0.984))
    cells = figure.subfigures(rows, PAIRS_PER_ROW, squeeze=False, hspace=0.03, wspace=0.05)
    for cell, pair, both in zip(cells.flat, pairs, images, strict=False):
        _draw_pair(cell, pair, both, times_s)
    save_figure(figure, path)


def choose_pairs(pairs: Sequence[PicturePair], count: int = PAIRS_PER_SHEET) -> list[PicturePair]:
    """At most so many, evenly spread; wrong ones come first, up to half of the places."""
    wrong = [pair for pair in pairs if pair.right is False]
    others = [pair for pair in pairs if pair.right is not False]
    wrong = _spread(wrong, max(count // 2, count - len(others)))
    chosen = [*wrong, *_spread(others, count - len(wrong))]
    return sorted(chosen, key=lambda pair: (pair.query, pair.match))


def _spread(pairs: Sequence[PicturePair], count: int) -> list[PicturePair]:
    if len(pairs) <= count:
        return list(pairs)
    return [pairs[i] for i in np.linspace(0, len(pairs) - 1, count).round().astype(int)]


def _draw_similarities(figure: Figure, axes: Axes, recording: Recording) -> None:
    """Colours what was searched; leaves white what came later, and grey what was too recent."""
    count = len(recording.times_s)
    shown = np.arange(0, count, max(1, math.ceil(count / MAX_CELLS)))
    similarities = recording.descriptors[shown] @ recording.descriptors[shown].T
    searched = shown[None, :] < recording.available[shown, None]
    too_recent = ~searched & (shown[None, :] <= shown[:, None])
    extent = (-0.5, count - 0.5, count - 0.5, -0.5)
    grey = ListedColormap([TOO_RECENT])
    axes.imshow(
        np.where(too_recent, 1.0, np.nan), cmap=grey, extent=extent, interpolation="nearest"
    )
    values = similarities[searched]
    picture = axes.imshow(
        np.where(searched, similarities, np.nan),
        extent=extent,
        cmap="magma",
        vmin=float(np.quantile(values, 0.01)) if values.size else 0.0,
        vmax=float(values.max()) if values.size else 1.0,
        interpolation="nearest",
    )
    figure.colorbar(picture, ax=axes, label="cosine similarity", shrink=0.8, pad=0.02)


def _outline(axes: Axes, truth: np.ndarray, count: int) -> None:
    """Draws the border of the cells that show the same place."""
    same = np.zeros((count + 2, count + 2), bool)
    same[truth[:, 0] + 1, truth[:, 1] + 1] = True
    above = np.argwhere(same[1:, :] != same[:-1, :])  # a border above row y of column x - 1
    left = np.argwhere(same[:, 1:] != same[:, :-1])
    horizontal = [((x - 1.5, y - 0.5), (x - 0.5, y - 0.5)) for y, x in above]
    vertical = [((x - 0.5, y - 1.5), (x - 0.5, y - 0.5)) for y, x in left]
    axes.add_collection(LineCollection([*horizontal, *vertical], colors=TRUTH, linewidths=1.2))


def _mark(axes: Axes, pairs: Sequence[PicturePair], count: int) -> None:
    """Draws a dot for each candidate, the wrong ones on top, smaller where there are many keyframes."""
    pairs = sorted(pairs, key=lambda pair: pair.right is False)
    matches, queries = [pair.match for pair in pairs], [pair.query for pair in pairs]
    size = min(24.0, max(3.0, 4000.0 / count))
    colours = [pair.colour for pair in pairs]
    axes.scatter(matches, queries, s=2.0 * size, c="white", linewidths=0, zorder=3)
    axes.scatter(matches, queries, s=size, c=colours, linewidths=0, zorder=3)


def _label_axes(axes: Axes, times_s: np.ndarray) -> None:
    """Keyframe numbers left and below, the seconds they belong to right and above."""
    count = len(times_s)
    axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))
    axes.set(xlabel="earlier keyframe", ylabel="query keyframe")
    axes.locator_params(integer=True, nbins=9)
    ticks = [int(tick) for tick in axes.get_xticks() if 0 <= tick < count]
    labels = [f"{times_s[tick]:.0f} s" for tick in ticks]
    axes.secondary_xaxis("top").set_xticks(ticks, labels, fontsize=8, color="grey")
    axes.secondary_yaxis("right").set_yticks(ticks, labels, fontsize=8, color="grey")


def _legend(pairs: Sequence[PicturePair], truth: np.ndarray | None) -> list[Artist]:
    entries = {RIGHT: "candidate, right", WRONG: "candidate, wrong", UNKNOWN: "candidate"}
    drawn = [colour for colour in entries if any(pair.colour == colour for pair in pairs)]
    handles: list[Artist] = [
        Line2D([], [], color=colour, marker="o", linestyle="", label=entries[colour])
        for colour in drawn
    ]
    if truth is not None:
        handles.append(Patch(facecolor="none", edgecolor=TRUTH, label="same place (ground truth)"))
    handles.append(Patch(facecolor=TOO_RECENT, label="too recent to be matched"))
    return handles


def _pair_height(image: np.ndarray) -> float:
    """Inches for a row of pairs with images of this shape."""
    return 2.1 * image.shape[0] / image.shape[1] + 0.34


def _draw_pair(
    cell: SubFigure, pair: PicturePair, images: tuple[np.ndarray, np.ndarray], times_s: np.ndarray
) -> None:
    verdict = {True: ", right", False: ", wrong", None: ""}[pair.right]
    cell.suptitle(f"similarity {pair.similarity:.3f}{verdict}", fontsize=10, color=pair.colour)
    indices = (pair.query, pair.match)
    for axes, index, image in zip(cell.subplots(1, 2), indices, images, strict=True):
        axes.imshow(image)
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel(f"keyframe {index} at {times_s[index]:.1f} s", fontsize=9)
        for spine in axes.spines.values():
            spine.set(color=pair.colour, linewidth=3)
