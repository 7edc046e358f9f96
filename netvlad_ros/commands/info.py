# SPDX-License-Identifier: MIT
"""`netvlad info`: what a model is, what each of its layers costs, and how fast it is."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from netvlad_ros.commands.values import parse_size
from netvlad_ros.inspection.json_file import write_json
from netvlad_ros.packages import pip_install
from netvlad_ros.shipped import HELP, model_path

if TYPE_CHECKING:
    from netvlad_ros.calibration import Calibration
    from netvlad_ros.inspection.cost import NetworkCost
    from netvlad_ros.inspection.model_info import ModelInfo

# Of matches with the values that are shown.
SHOWN_PRECISIONS = (0.8, 0.9, 0.99)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, and for which input."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help=f"model file; {HELP}")
    parser.add_argument(
        "--size",
        type=parse_size,
        metavar="WxH",
        help="input size in pixels, such as 320x240; left out, the model's own, or else 640x480",
    )
    parser.add_argument(
        "--timing",
        action="store_true",
        help="measure one image at 0.5, 1, 2 and 4 times the sides of the input",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")


def run(arguments: argparse.Namespace) -> int:
    """Prints what there is to know, the totals below the table of the layers."""
    from netvlad_ros.inspection.model_info import model_info

    info = model_info(model_path(arguments.model), arguments.size, arguments.timing)
    _print(info)
    if arguments.json:
        write_json(arguments.json, info)
    return 0


def _print(info: "ModelInfo") -> None:
    from netvlad_ros.inspection.model_info import input_in_words

    console = Console(highlight=False, markup=False)
    console.print(f"{info.model}", style="bold", soft_wrap=True)
    size = f"{info.width_px}x{info.height_px} pixels (width x height)"
    facts = {
        "runtime": f"{info.runtime}, {info.precision}; {info.why}",
        "fingerprint": info.fingerprint,
        "descriptor": f"{info.descriptor_dims} dimensions",
        "network": _network(info),
        "input": input_in_words(info.network) if info.network else info.preprocessing,
        "input size": size if info.has_own_size else f"any; below, {size}",
    }
    if info.calibration:
        facts["calibration"] = _calibration(info.calibration)
    for name, fact in facts.items():
        if fact:
            console.print(f"{name:<13}{fact}", soft_wrap=True)
    if info.network is None and info.model.endswith(".keras"):
        console.print(f"layers       need TensorFlow: {pip_install('tensorflow')}", soft_wrap=True)
    if info.cost:
        console.print("", _layers(info.cost), sep="\n")
        _print_totals(console, info.cost, info.open_model_zoo)
    if info.timings:
        console.print("", _timings(info), sep="\n")


def _network(info: "ModelInfo") -> str:
    config = info.network
    if config is None:
        return ""
    words = [config.backbone + (f" up to {config.cut_layer}" if config.cut_layer else "")]
    if config.pooling == "netvlad":
        ghosts = f" and {config.ghost_clusters} ghosts" if config.ghost_clusters else ""
        words.append(f"NetVLAD with {config.clusters} clusters{ghosts}")
    else:
        words.append(f"{config.pooling} pooling")
    if config.whitening_dims:
        words.append(f"whitening to {config.whitening_dims} dimensions")
    return ", ".join(words)


def _calibration(calibration: "Calibration") -> str:
    """Per quantity the values from which on matches are right, and how that is known."""
    words = []
    for quantity, curve in calibration.curves.items():
        reached = [
            f"{curve.threshold(precision):.3f} for {precision:.0%}"
            for precision in SHOWN_PRECISIONS
            if curve.threshold(precision) is not None
        ]
        most = f"at most {curve.precisions[-1]:.0%} right"
        words.append(f"{quantity} {', '.join(reached) or most} ({curve.pairs:,} matches)")
    return f"{'; '.join(words)}; {calibration.source}"


def _layers(cost: "NetworkCost") -> Any:
    table = _table("layer", "output", "parameters", "MFLOPs", "activations")
    for layer in cost.layers:
        table.add_row(
            layer.name,
            "x".join(map(str, layer.output)),
            f"{layer.parameters:,}" if layer.parameters else "",
            f"{layer.flops / 1e6:,.3f}" if layer.flops else "",
            f"{layer.activation_bytes / 1e6:.3f} MB",
        )
    table.add_row(
        "all",
        "",
        f"{cost.total('parameters'):,}",
        f"{cost.total('flops') / 1e6:,.3f}",
        f"{cost.total('activation_bytes') / 1e6:.3f} MB",
        style="bold",
    )
    return table


def _print_totals(console: Any, cost: "NetworkCost", zoo: dict[str, int]) -> None:
    parameters, flops = cost.total("parameters"), cost.total("flops")
    products, rest = cost.total("multiply_adds"), cost.total("elementwise")
    lines = [f"{parameters / 1e6:.4f} M parameters, {4 * parameters / 1e6:.1f} MB in float32"]
    if cost.input_numbers:
        together = parameters + cost.input_numbers
        lines[0] += (
            f"; {together / 1e6:.4f} M ({together:,}) with the {cost.input_numbers} numbers of the input "
            "normalisation"
        )
    lines.append(
        f"{flops / 1e9:.4f} GFLOPs: {products / 1e9:.4f} G multiply-adds in convolutions and matrix "
        f"products, 2 operations each, and {rest / 1e9:.4f} G others"
    )
    lines.append(f"{cost.peak_bytes / 1e6:.1f} MB of activations at once, at the least")
    lines.append(f"{sum(zoo.values()) / 1e9:.4f} GFLOPs as the Open Model Zoo counts:")
    for line in lines:
        console.print(line, soft_wrap=not console.is_terminal)
    for what, operations in zoo.items():
        console.print(f"  {operations / 1e9:10.6f} G  {what}", soft_wrap=True)


def _timings(info: "ModelInfo") -> Any:
    table = _table("sides", "input", "median", "least", "runs")
    for timing in info.timings:
        table.add_row(
            f"{timing.scale:g}x",
            f"{timing.width_px}x{timing.height_px}",
            f"{timing.median_ms:.1f} ms",
            f"{timing.least_ms:.1f} ms",
            str(timing.runs),
        )
    return table


def _table(*columns: str) -> Any:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(columns[0], overflow="fold")
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table
