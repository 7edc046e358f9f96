# SPDX-License-Identifier: MIT
"""`netvlad compare`: where two models, or a model and expected descriptors, differ."""

import argparse
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from netvlad_ros.data.image_files import image_paths, read_image
from netvlad_ros.inspection.json_file import write_json
from netvlad_ros.quiet import quiet_start_up

if TYPE_CHECKING:
    from netvlad_ros.inspection.comparison import Comparison, Inside
    from netvlad_ros.inspection.differences import Pair


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to compare, and on which images."""
    parser.description = "Exit code 0 if they are equal within 1e-5, else 1."
    parser.add_argument("a", metavar="A", help="model file")
    parser.add_argument(
        "b",
        metavar="B",
        help="model file, or the expected descriptors: FILE.npy, FILE.npz or FILE.npz:NAME, a row an image",
    )
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="image files, or folders of them"
    )
    parser.add_argument("--all", action="store_true", help="show what is equal, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")


def run(arguments: argparse.Namespace) -> int:
    """Compares and prints the tables, the conclusion last."""
    names, images = _read(arguments.images)
    with quiet_start_up():
        from netvlad_ros.inspection.comparison import compare, open_side
    comparison = compare(open_side(arguments.a), open_side(arguments.b), images, names)
    _print(comparison, arguments.all)
    if arguments.json:
        write_json(arguments.json, comparison)
    return 0 if comparison.equal else 1


def _read(words: list[str]) -> tuple[list[str], list[np.ndarray]]:
    paths = [
        path
        for word in words
        for path in (image_paths(word) if Path(word).is_dir() else [Path(word)])
    ]
    return [path.name for path in paths], [read_image(path) for path in paths]


def _print(comparison: "Comparison", everything: bool) -> None:
    console = Console(highlight=False, markup=False)
    console.print(f"A  {comparison.a}\nB  {comparison.b}", soft_wrap=True)
    if comparison.inside:
        _print_inside(console, comparison.inside, everything)
    table = _table("descriptors", "dims", "norm A", "norm B", "cosine", "max diff")
    for pair in comparison.descriptors:
        dims = str(pair.dims_a) if pair.dims_a == pair.dims_b else f"{pair.dims_a}, {pair.dims_b}"
        cosine = "" if pair.cosine is None else f"{pair.cosine:.7f}"
        max_abs = "" if pair.max_abs is None else _figure(pair.max_abs)
        table.add_row(pair.image, dims, f"{pair.norm_a:.6f}", f"{pair.norm_b:.6f}", cosine, max_abs)
    console.print("", table, sep="\n")
    for sentence in comparison.explanations:
        console.print(f"\n{sentence}", soft_wrap=not console.is_terminal)
    console.print(f"\n{comparison.conclusion}", style="bold", soft_wrap=not console.is_terminal)


def _print_inside(console: Any, inside: "Inside", everything: bool) -> None:
    table = _table("settings", "A", "B")
    for setting in inside.settings:
        style = "" if setting.a == setting.b else "yellow"
        table.add_row(setting.name, setting.a, setting.b, style=style)
    console.print("", table, sep="\n")
    if inside.input_channels:
        table = _table("normalised input", "max diff", "mean diff")
        for channel, apart in enumerate(inside.input_channels):
            table.add_row(f"channel {channel}", _figure(apart.max_abs), _figure(apart.mean_abs))
        console.print("", table, sep="\n")
    for title, pairs in (("weights", inside.weights), ("layers", inside.layers)):
        console.print("", _pairs(title, pairs, everything), sep="\n")


def _pairs(title: str, pairs: "list[Pair]", everything: bool) -> Any:
    """One row for each that differs, one for each run of those that are equal or in one network only."""
    table = _table(title, "shape", "max diff", "relative", "cosine")
    for kind, group in itertools.groupby(pairs, _kind):
        run = list(group)
        if everything or kind == "differs" or len(run) == 1:
            for pair in run:
                _add(table, pair)
        else:
            names = f"{run[0].name} ... {run[-1].name}"
            worst = max((pair.difference.max_abs for pair in run if pair.difference), default=None)
            figure = "" if worst is None else _figure(worst)
            style = "dim" if kind == "equal" else "yellow"
            table.add_row(names, f"{len(run)} {kind}", figure, "", "", style=style)
    return table


def _kind(pair: "Pair") -> str:
    if pair.shape_a is None or pair.shape_b is None:
        return "only in B" if pair.shape_a is None else "only in A"
    return "differs" if pair.differs else "equal"


def _add(table: Any, pair: "Pair") -> None:
    shapes = [_shape(shape) for shape in (pair.shape_a, pair.shape_b)]
    shape = shapes[0] if shapes[0] == shapes[1] else " / ".join(shapes)
    style = "yellow" if pair.differs else "dim"
    if pair.difference is None:
        table.add_row(pair.name, shape, "", "", "", style=style)
        return
    apart = pair.difference
    table.add_row(
        pair.name,
        shape,
        _figure(apart.max_abs),
        _figure(apart.relative),
        f"{apart.cosine:.6f}",
        style=style,
    )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else "x".join(map(str, shape)) or "1"


def _figure(value: float) -> str:
    return f"{value:.2g}" if value else "0"


def _table(*columns: str) -> Any:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(columns[0], overflow="fold")
    for column in columns[1:]:
        table.add_column(column, justify="right", overflow="fold")
    return table
