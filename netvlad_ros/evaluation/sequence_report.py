# SPDX-License-Identifier: MIT
"""The outcome of `netvlad evaluate-sequence` as two files: report.html and results.json."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from netvlad_ros.data.places import PlaceImages
from netvlad_ros.evaluation.html_page import PLAIN, RIGHT, WRONG, Page, Tile
from netvlad_ros.evaluation.place_report import add_skipped, read, write_json
from netvlad_ros.evaluation.report import make_folder
from netvlad_ros.evaluation.sequences import SequenceResults
from netvlad_ros.extraction.many_images import Skipped

PAIRS_SHOWN = 8


@dataclass(frozen=True)
class EvaluatedSequence:
    """What was evaluated, and the results under one or several protocols.

    images:  None where only descriptors were given.
    indices: (N,) of the images that could be used.
    """

    name: str
    model: str
    fingerprint: str
    images: PlaceImages | None
    indices: np.ndarray
    results: Sequence[SequenceResults]
    skipped: Sequence[Skipped] = ()


def write_sequence_report(folder: Path, evaluated: EvaluatedSequence) -> list[Path]:
    """Writes both files. Raises NetVLADError if the folder can't be written."""
    make_folder(folder)
    page, data = folder / "report.html", folder / "results.json"
    _page(evaluated).write(page)
    write_json(
        data,
        {
            "sequence": evaluated.name,
            "model": evaluated.model,
            "fingerprint": evaluated.fingerprint,
            "results": [results.to_json() for results in evaluated.results],
            "skipped": [
                {"image": each.name, "problem": each.problem} for each in evaluated.skipped
            ],
        },
    )
    return [page, data]


def _page(evaluated: EvaluatedSequence) -> Page:
    page = Page(f"{evaluated.model} on {evaluated.name}")
    page.text(f"Descriptors: {evaluated.fingerprint}", "conditions")
    for results in evaluated.results:
        page.heading(results.conditions)
        page.text(f"{results.counts}.")
        page.table(
            ("figure", "value", "conditions"),
            [
                (name, f"{100 * value:.2f} %", results.conditions)
                for name, value in results.figures.items()
            ],
        )
        page.plot(_curve(results), f"Precision over recall: {results.conditions}.")
        page.plot(
            _matrix(results), "First match of each image; grey where there is no loop to find."
        )
        if evaluated.images is not None:
            _add_pairs(page, evaluated, evaluated.images, results)
    add_skipped(page, evaluated.skipped)
    return page


def _curve(results: SequenceResults) -> Figure:
    figure, axes = _axes()
    axes.step(results.curve.recall, results.curve.precision, where="pre")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.set_title(f"AUC {results.area:.3f}", fontsize=10)
    axes.grid(alpha=0.3)
    return figure


def _matrix(results: SequenceResults) -> Figure:
    figure, axes = _axes()
    queries, matches, judged = np.arange(len(results.matches)), results.matches, results.judged
    matched = matches >= 0
    kinds = (
        (matched & ~judged.closes_loop, "#cccccc", "no loop to find"),
        (matched & judged.closes_loop & ~judged.right, "#e3172d", "wrong"),
        (matched & judged.right, "#1a9850", "right"),
    )
    for kind, colour, label in kinds:
        axes.scatter(matches[kind], queries[kind], s=4, c=colour, linewidths=0, label=label)
    axes.set(xlabel="first match", ylabel="image", aspect="equal")
    axes.invert_yaxis()
    axes.legend(markerscale=2.0, fontsize=8)
    return figure


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.6, 4.6), dpi=100, layout="constrained")
    return figure, figure.add_subplot()


def _add_pairs(
    page: Page, evaluated: EvaluatedSequence, images: PlaceImages, results: SequenceResults
) -> None:
    judged = results.judged
    surest = np.argsort(-judged.scores, kind="stable")
    surest = surest[results.matches[surest] >= 0]
    wrong = surest[~judged.right[surest]][:PAIRS_SHOWN]
    right = surest[judged.right[surest]][::-1][:PAIRS_SHOWN]
    for title, chosen, verdict in (
        ("Worst: the surest first matches that are wrong", wrong, WRONG),
        ("Best: right first matches that look least alike", right, RIGHT),
    ):
        page.text(title)
        for query in chosen.tolist():
            match = int(results.matches[query])
            pair = [int(evaluated.indices[each]) for each in (query, match)]
            distance = max(0.0, -float(results.similarities[query])) ** 0.5
            page.pictures(
                [
                    Tile(read(images, pair[0]), images.names[pair[0]], PLAIN),
                    Tile(
                        read(images, pair[1]),
                        f"{images.names[pair[1]]}, descriptor distance {distance:.3f}",
                        verdict,
                    ),
                ]
            )
