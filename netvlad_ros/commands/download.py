# SPDX-License-Identifier: MIT
"""`netvlad download`: weights that another project has published."""

import argparse
import os
import shlex
import shutil
import sys
import textwrap
from pathlib import Path

from tqdm import tqdm

from netvlad_ros.cache import cache_folder
from netvlad_ros.errors import DownloadError
from netvlad_ros.importers.download import download, find, size_text
from netvlad_ros.importers.published import PUBLISHED, PublishedWeights, published

OFFLINE = "NETVLAD_OFFLINE"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which weights, and to where."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="which; --list shows them")
    parser.add_argument("--list", action="store_true", help="list the weights that are known")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help=f"folder; left out, {cache_folder()}",
    )
    parser.add_argument(
        "--offline",
        action="store_true",
        help=f"only say whether they are there; the same as {OFFLINE}=1 in the environment",
    )


def run(arguments: argparse.Namespace) -> int:
    """Lists them, or fetches one and says what to do with it."""
    folder = arguments.output or cache_folder()
    if arguments.list:
        _print_list(folder)
        return 0
    if not arguments.name:
        raise DownloadError(
            "expected the name of the weights; `netvlad download --list` shows them."
        )
    weights = published(arguments.name)
    was_there = (folder / weights.file).exists()
    if arguments.offline or os.environ.get(OFFLINE, "0") not in ("", "0"):
        path = find(weights, folder)
    else:
        with _Bar(weights) as bar:
            path = download(weights, folder, bar)
    print(f"{path}: {'was there already' if was_there else 'complete'}, its SHA-256 is right")
    print(f"now: {_import_command(weights, path)}")
    return 0


class _Bar:
    """How much has arrived and how fast, on the terminal; what arrived in earlier runs is no speed."""

    def __init__(self, weights: PublishedWeights) -> None:
        self._weights = weights
        self._bar: tqdm | None = None

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def reached(self, size_bytes: int) -> None:
        if self._bar is None:
            self._bar = tqdm(
                desc=self._weights.name,
                total=self._weights.size_bytes,
                initial=size_bytes,
                unit="B",
                unit_scale=True,
                leave=False,
                disable=None,
            )
        self._bar.update(size_bytes - self._bar.n)

    def say(self, sentence: str) -> None:
        tqdm.write(sentence, file=sys.stderr)


def _import_command(weights: PublishedWeights, path: Path) -> str:
    preset = ["--input", weights.input_preset] if weights.input_preset else []
    words = ["netvlad", "import-weights", str(path), *preset, "-o", f"{weights.name}.keras"]
    return shlex.join(words)


def _print_list(folder: Path) -> None:
    width = min(shutil.get_terminal_size().columns, 100)
    for weights in PUBLISHED.values():
        here = "; here already" if (folder / weights.file).exists() else ""
        print(f"{weights.name:<30}{size_text(weights.size_bytes):>10}")
        text = f"{weights.meaning}; licence {weights.licence}{here}"
        print(textwrap.fill(text, width, initial_indent="    ", subsequent_indent="    "))
