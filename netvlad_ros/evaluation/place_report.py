# SPDX-License-Identifier: MIT
"""The outcome of `netvlad evaluate` as two files: report.html, and results.json with the same figures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from netvlad_ros.data.places import PlaceImages
from netvlad_ros.errors import ImageError, NetVLADError
from netvlad_ros.evaluation.html_page import PLAIN, RIGHT, WRONG, Page, Tile
from netvlad_ros.evaluation.place_recognition import SHOWN_MATCHES, PlaceResults
from netvlad_ros.evaluation.recall import recall_at_n
from netvlad_ros.evaluation.report import make_folder
from netvlad_ros.extraction.many_images import Skipped

SKIPPED_LISTED = 50
MAP_POINTS = 20_000


def write_place_report(folder: Path, results: PlaceResults) -> list[Path]:
    """Writes both files. Raises NetVLADError if the folder can't be written."""
    make_folder(folder)
    page, data = folder / "report.html", folder / "results.json"
    _page(results).write(page)
    write_json(data, results.to_json())
    return [page, data]


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Raises NetVLADError if the file can't be written."""
    try:
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise NetVLADError(f"{path}: can't write the results ({error.strerror}).") from None


def rows(results: PlaceResults) -> list[tuple[str, str]]:
    """The figures, in words and in per cent."""
    recalls = [(f"Recall@{n}", f"{100 * value:.2f} %") for n, value in results.recalls.items()]
    zoo = f"{100 * results.localization_recall:.2f} %"
    return [*recalls, ("localization_recall (Open Model Zoo, below 25 m)", zoo)]


def _page(results: PlaceResults) -> Page:
    page = Page(f"{results.model} on {results.dataset.name}")
    page.table(("figure", "value"), rows(results))
    page.text(f"{results.conditions}.", "conditions")
    for note in results.dataset.notes:
        page.text(note, "conditions")
    page.text(f"Descriptors: {results.fingerprint}", "conditions")
    page.heading("Plots")
    page.plot(_recall_plot(results), f"Recall@n: {results.conditions}.")
    page.plot(_distance_plot(results), "Similarity of the first match, by whether it is right.")
    page.plot(_map(results), "Where queries were found at the first match, and where not.")
    page.heading("Worst queries: the surest first matches that are wrong")
    _add_rows(page, results, results.worst())
    page.heading("Best queries: right first matches that look least alike")
    _add_rows(page, results, results.best())
    add_skipped(page, [*results.database.skipped, *results.query.skipped])
    return page


def add_skipped(page: Page, skipped: Sequence[Skipped]) -> None:
    """Which images could not be used, if any."""
    if not skipped:
        return
    page.heading(f"{len(skipped)} images skipped")
    page.table(
        ("image", "problem"), [(each.name, each.problem) for each in skipped[:SKIPPED_LISTED]]
    )


def _recall_plot(results: PlaceResults) -> Figure:
    figure, axes = _axes()
    most = results.predictions.shape[1]
    recalls = recall_at_n(results.ranks, range(1, most + 1))
    axes.plot([*recalls], [100 * value for value in recalls.values()], marker="o", markersize=3)
    axes.set(xlabel="n", ylabel="Recall@n in %", ylim=(0, 101), xlim=(0.5, most + 0.5))
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    return figure


def _distance_plot(results: PlaceResults) -> Figure:
    figure, axes = _axes()
    first, right = results.similarities[:, 0], results.ranks == 0
    bins = np.histogram_bin_edges(first, 30).tolist()
    axes.hist(
        [first[right], first[~right]],
        bins,
        stacked=True,
        color=["#1a9850", "#e3172d"],
        label=["right", "wrong"],
    )
    axes.set(xlabel="similarity of the first match", ylabel="queries")
    axes.legend()
    return figure


def _map(results: PlaceResults) -> Figure:
    figure, axes = _axes()
    places, queries = results.dataset.database.positions_m, results.dataset.queries.positions_m
    origin = places[:, :2].mean(axis=0)
    shown = places[:: max(1, len(places) // MAP_POINTS), :2] - origin
    axes.scatter(shown[:, 0], shown[:, 1], s=4, c="#bbbbbb", linewidths=0, label="database")
    right = results.ranks == 0
    for kind, colour, label in ((right, "#1a9850", "found"), (~right, "#e3172d", "not found")):
        found = queries[results.queries[kind], :2] - origin
        axes.scatter(found[:, 0], found[:, 1], s=9, c=colour, linewidths=0, label=label)
    axes.set(xlabel="x in m", ylabel="y in m")
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(markerscale=2.0)
    return figure


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.6, 4.2), dpi=100, layout="constrained")
    return figure, figure.add_subplot()


def _add_rows(page: Page, results: PlaceResults, chosen: np.ndarray) -> None:
    if not len(chosen):
        page.text("None.")
    for row in chosen.tolist():
        query = int(results.queries[row])
        tiles = [
            Tile(
                read(results.dataset.queries, query),
                f"query {results.dataset.queries.names[query]}",
            )
        ]
        shown = min(SHOWN_MATCHES, results.predictions.shape[1])
        tiles += [_match(results, row, place) for place in range(shown)]
        right = results.positives[row]
        if results.ranks[row] != 0 and len(right):
            nearest = int(right[np.argmin(results.dataset.distances_m(query, right))])
            name = results.dataset.database.names[nearest]
            tiles.append(
                Tile(read(results.dataset.database, nearest), f"nearest in metres: {name}", PLAIN)
            )
        page.pictures(tiles)


def _match(results: PlaceResults, row: int, place: int) -> Tile:
    index = int(results.predictions[row, place])
    right = index in results.positives[row]
    caption = (
        f"{place + 1}: {results.similarities[row, place]:.3f}, {results.distances_m[row, place]:.1f} m, "
        f"{results.dataset.database.names[index]}"
    )
    return Tile(read(results.dataset.database, index), caption, RIGHT if right else WRONG)


def read(places: PlaceImages, index: int) -> np.ndarray | None:
    """An image for the report; None if it is gone by now."""
    try:
        return places.read(index)
    except ImageError:
        return None
