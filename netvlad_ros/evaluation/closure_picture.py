# SPDX-License-Identifier: MIT
"""A picture of loop closures: both images side by side, with a line for each pair of points that agrees."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from netvlad_ros.evaluation.detection_log import THUMBNAIL_WIDTH_PX, DetectionLog
from netvlad_ros.evaluation.plots import DPI, PAIRS_PER_SHEET
from netvlad_ros.evaluation.report import plural
from netvlad_ros.figures import save_figure
from netvlad_ros.retrieval.closures import Closure
from netvlad_ros.verification.geometry import Geometry

PAIRS_PER_ROW = 2
# More lines than this hide the images.
MAX_LINES = 60
GAP_PX = 6
LINE = "#2be52b"


def draw_closures(path: Path, log: DetectionLog) -> None:
    """Query left, match right. Raises NetVLADError."""
    chosen = choose_closures([each for each in log.closures if _has_pictures(each, log)])
    rows = max(1, math.ceil(len(chosen) / PAIRS_PER_ROW))
    shape = log.keyframes[log.position(chosen[0].query)].picture.shape if chosen else (1, 8)
    height = 6.2 * shape[0] / (2 * shape[1]) + 0.62
    figure = Figure(figsize=(13.2, 0.7 + rows * height), dpi=DPI, layout="constrained")
    count = f"{len(chosen)} of " if len(chosen) < len(log.closures) else ""
    figure.suptitle(f"{count}{plural(len(log.closures), 'loop closure')}: query left, match right")
    cells = figure.subplots(rows, PAIRS_PER_ROW, squeeze=False)
    for axes in cells.flat:
        axes.set_axis_off()
    for axes, closure in zip(cells.flat, chosen, strict=False):
        _draw(axes, closure, log)
    save_figure(figure, path)


def choose_closures(closures: Sequence[Closure], count: int = PAIRS_PER_SHEET) -> list[Closure]:
    """At most so many: of each part of the drive the one with the most inliers."""
    parts = np.array_split(np.arange(len(closures)), min(count, len(closures))) if closures else []
    return [max((closures[i] for i in part), key=lambda c: c.geometry.inliers) for part in parts]


def _has_pictures(closure: Closure, log: DetectionLog) -> bool:
    both = [log.position(each) for each in (closure.query, closure.match.keyframe)]
    return all(log.keyframes[each].jpeg.size for each in both)


def _draw(axes: Axes, closure: Closure, log: DetectionLog) -> None:
    keyframes = [closure.query, closure.match.keyframe]
    logged = [log.keyframes[log.position(each)] for each in keyframes]
    scales = [THUMBNAIL_WIDTH_PX / each.width_px for each in logged]
    draw_pair(axes, [each.picture for each in logged], scales, closure.geometry)
    query, match = (log.told(each) for each in keyframes)
    axes.set_title(f"{query}, {match}\n{_numbers(closure)}", fontsize=8.5)


def draw_pair(
    axes: Axes, pictures: Sequence[np.ndarray], scales: Sequence[float], geometry: Geometry
) -> None:
    """Query left, match right, and lines between points that agree.

    pictures: RGB; scales: of each, beside the image that points were found in.
    """
    left, right = pictures
    height = max(len(left), len(right))
    sheet = np.full((height, left.shape[1] + GAP_PX + right.shape[1], 3), 255, np.uint8)
    sheet[: len(left), : left.shape[1]] = left
    sheet[: len(right), left.shape[1] + GAP_PX :] = right
    axes.imshow(sheet)
    axes.add_collection(_lines(geometry, scales, left.shape[1] + GAP_PX))


def _lines(geometry: Geometry, scales: Sequence[float], offset_px: int) -> LineCollection:
    """scales: of the pictures of query and match."""
    pairs_px = np.empty((0, 4)) if geometry.pairs_px is None else geometry.pairs_px
    shown = pairs_px[:: max(1, math.ceil(len(pairs_px) / MAX_LINES))]
    ends = np.stack([shown[:, 2:] * scales[0], shown[:, :2] * scales[1] + [offset_px, 0]], axis=1)
    return LineCollection(list(ends), colors=LINE, linewidths=0.6, alpha=0.8)


def _numbers(closure: Closure) -> str:
    geometry = closure.geometry
    said = f"{geometry.in_words}\n{geometry.rms_px:.1f} px off"
    if geometry.metric is not None:
        said += f", position uncertain by {geometry.metric.uncertainty_m:.3f} m"
    if not math.isnan(closure.odometry_deviation):
        said += f", {closure.odometry_deviation:.1f} standard deviations from odometry"
    return said
