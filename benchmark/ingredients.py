# SPDX-License-Identifier: MIT
"""What each ingredient of the compact model brings, and what more rendered worlds bring: Recall@1."""

import argparse
import csv
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmark.tables import console, print_table
from netvlad_ros.quiet import quiet_start_up

with quiet_start_up():
    from benchmark.beginnings import Beginnings
    from benchmark.recalls import (
        LOOP,
        Hits,
        Loop,
        Places,
        PlaceSet,
        RenderedPlaces,
        mean_change,
        mean_recall,
        open_places,
    )
    from netvlad_ros.commands.train import render_worlds
    from netvlad_ros.config import ExtractorConfig
    from netvlad_ros.extraction.extractor import NetVLADExtractor
    from netvlad_ros.extraction.protocol import Extractor
    from netvlad_ros.figures import save_figure
    from netvlad_ros.shipped import model_path
    from netvlad_ros.training.data import open_data
    from netvlad_ros.training.trainer import MODEL
    from netvlad_ros.training.validation import RenderedValidation

RECIPE = Path(__file__).resolve().parents[1] / "config" / "compact_training.yaml"
WORLDS = (5, 20, 80, 320)
# The same worlds, loss and optimiser as the recipe, but fewer tuples a step, so that 150 steps take minutes.
FROM_SCRATCH = (
    "data.validation=",  # else the best network were kept, which may be the random one
    "network.backbone=mobilenet",
    "network.backbone_width=0.5",
    "network.cut_layer=conv_pw_11_relu",
    "network.channel_order=rgb",
    "network.input_offset=[127.5]",
    "network.input_scale=[0.00784]",
    "network.clusters=16",
    "network.whitening_dims=0",
    "clusters.second_share=0.01",
    "tuples.tuples_per_batch=4",
    "run.epochs=1",
    "run.steps_per_epoch=150",
    "run.chunk_images=12",
    "run.whitening_dims=0",
)
# From where the shipped model ends.
DESCENT = (
    "data.validation=",
    "loss.name=multi_similarity",
    "loss.positive_scale=2.0",
    "loss.negative_scale=40.0",
    "loss.similarity_base=0.4",
    "optimiser.name=adam",
    "optimiser.weight_decay=0.0",
    "optimiser.clip_norm=1.0",
    "optimiser.schedule=constant",
    "optimiser.warm_up_steps=20",
    "run.epochs=1",
    "run.steps_per_epoch=100",
    "run.chunk_images=20",
    "run.whitening=places",
    "run.whitening_dims=640",
    "run.whitening_images=8000",
)
# Nights may be dark: here nothing is refused.
CONFIG = ExtractorConfig(min_contrast=0.0)


class Row(NamedTuple):
    """name; make: of its extractor; against: the number of the row that it is compared with, or 0."""

    name: str
    make: Callable[[], Extractor]
    against: int = 0


def measure(arguments: argparse.Namespace) -> None:
    """Everything is kept in FOLDER/ingredients, so that an interrupted measurement goes on."""
    cache = Path(arguments.cache or tempfile.mkdtemp())
    folder = cache / "ingredients"
    folder.mkdir(parents=True, exist_ok=True)
    begun = Beginnings(folder, RECIPE, (f"data.cache_folder={cache}", "data.validation=worlds"))
    groups = [[open_places(word) for word in words] for words in arguments.places or []]
    table = _Table(Hits(folder / "hits.json"), _own_sets(begun), groups)
    reached = table.show(
        "What each ingredient brings: Recall@1", "ingredient", _ingredients(begun, arguments.model)
    )
    curve = [Row(str(worlds), _of_worlds(begun, worlds)) for worlds in WORLDS]
    found = table.show("Clusters and whitening from so many worlds: Recall@1", "worlds", curve)
    if arguments.picture:
        draw_curve(Path(arguments.picture), WORLDS, found, reached[0], table.columns)
        console.print(arguments.picture)


def _own_sets(begun: Beginnings) -> list[PlaceSet]:
    validation = open_data(begun.config(), begun.folder, render_worlds).validation
    assert isinstance(validation, RenderedValidation)
    return [RenderedPlaces(validation), *([Loop()] if LOOP.is_dir() else [])]


def _ingredients(begun: Beginnings, model: str | None) -> list[Row]:
    recipe, sharp = begun.config(), begun.config("clusters.second_share=0.01")
    plain = begun.config("augmentation.level=none")
    few = begun.config("initial.whitening_images=2000")
    return [
        Row("RootSIFT-VLAD of OpenCV, vocabulary of the same worlds", begun.rootsift_vlad),
        Row(
            "as a network: clusters, assigned sharply", lambda: _open(begun.clusters_only(sharp)), 1
        ),
        Row("and PCA whitening", lambda: _open(begun.with_pca(sharp)), 2),
        Row("or whitening from places", lambda: _open(begun.with_places(sharp)), 3),
        Row(
            "and softer assignment: as training begins", lambda: _open(begun.with_places(recipe)), 4
        ),
        Row("the model that is shipped, or --model", lambda: _open(model_path(model)), 5),
        Row("5 and 100 steps of gradient descent", lambda: _open(_descended(begun)), 5),
        Row("5 without augmentation", lambda: _open(begun.with_places(plain)), 5),
        Row("5 from 2,000 images", lambda: _open(begun.with_places(few)), 5),
        Row("5 without whitening", lambda: _open(begun.clusters_only(recipe)), 5),
        Row("MobileNet 0.5 from random weights, 150 steps", lambda: _open(_from_scratch(begun)), 1),
    ]


def _open(model: Path) -> Extractor:
    return NetVLADExtractor(model, CONFIG)


def _of_worlds(begun: Beginnings, worlds: int) -> Callable[[], Extractor]:
    return lambda: _open(begun.with_places(begun.of_worlds(worlds)))


def _from_scratch(begun: Beginnings) -> Path:
    return _trained(begun, "from random weights", FROM_SCRATCH)


def _descended(begun: Beginnings) -> Path:
    return _trained(begun, "gradient descent", DESCENT)


def _trained(begun: Beginnings, name: str, settings: Sequence[str]) -> Path:
    run = begun.trained(begun.config(*settings), _Told(name))
    with (run / "log.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    console.print(
        f"{name}: loss {np.mean(losses[:10]):.3g} in the first 10 steps, "
        f"{np.mean(losses[-10:]):.3g} in the last 10 of {len(losses)}"
    )
    return run / MODEL


@dataclass(frozen=True)
class _Told:
    """A Listener that prints, with the name of the run."""

    name: str

    def said(self, sentence: str) -> None:
        console.print(f"{self.name}: {sentence}")

    def stepped(self, step: int, last_step: int, loss: float) -> None:
        """Nothing: the log has it."""

    def wants_to_stop(self) -> bool:
        return False


class _Table:
    """Rows of extractors; columns of sets, and of the means over each group of them.

    columns: their names, after that of the row and the dimensions.
    """

    def __init__(
        self, hits: Hits, own: Sequence[PlaceSet], groups: Sequence[Sequence[Places]]
    ) -> None:
        self._hits = hits
        self._sets = [*own, *(each for sets in groups for each in sets)]
        ends = np.cumsum([*(1 for _ in own), *map(len, groups)]).tolist()
        self._groups = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        self.columns = [each.name for each in own] + [f"mean of {len(sets)}" for sets in groups]

    def show(self, title: str, what: str, rows: Sequence[Row]) -> np.ndarray:
        """Prints means with changes, then each set; returns (rows, columns) means."""
        described, found = [], []
        for number, row in enumerate(rows, start=1):
            extractor = row.make()
            found.append(self._hits.of(extractor, self._sets))
            described.append([f"{number}  {row.name}", extractor.dims])
            console.print(f"{row.name}: {', '.join(self._means(found[-1]))}", style="dim")
        print_table(
            f"{title}; in brackets against which row, with standard error",
            [what, "dims", *self.columns],
            [
                [*words, *self._cells(found, number, row.against)]
                for number, (words, row) in enumerate(zip(described, rows, strict=True))
            ],
        )
        self._show_sets(title, found)
        return np.array([[mean_recall(hits[group]) for group in self._groups] for hits in found])

    def _means(self, hits: list[np.ndarray]) -> list[str]:
        return [f"{mean_recall(hits[group]):.3f}" for group in self._groups]

    def _cells(self, found: list[list[np.ndarray]], number: int, against: int) -> list[str]:
        cells = self._means(found[number])
        if not against:
            return cells
        for place, group in enumerate(self._groups):
            if group.stop - group.start > 1:
                change, error = mean_change(found[number][group], found[against - 1][group])
                cells[place] += f" ({against}: {change:+.3f} ± {error:.3f})"
        return cells

    def _show_sets(self, title: str, found: list[list[np.ndarray]]) -> None:
        rows = [
            [each.name, *(f"{hits[place].mean():.3f}" for hits in found)]
            for place, each in enumerate(self._sets)
        ]
        numbers = [str(number) for number, _ in enumerate(found, start=1)]
        print_table(f"{title}, by set and number of row", ["set", *numbers], rows)


def draw_curve(
    path: Path, worlds: Sequence[int], found: np.ndarray, baseline: np.ndarray, names: Sequence[str]
) -> None:
    """A line for each column of found (worlds, columns); dashed, what the baseline reaches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 4.2), dpi=100, layout="constrained")
    axes = figure.add_subplot(xlabel="rendered worlds", ylabel="Recall@1")
    for number, name in enumerate(names):
        axes.plot(worlds, found[:, number], "o-", color=f"C{number}", label=name)
        axes.axhline(baseline[number], color=f"C{number}", linestyle=":", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks(list(worlds), [str(count) for count in worlds])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(title="dotted: OpenCV's\nRootSIFT-VLAD", loc="outside right upper")
    save_figure(figure, path)
