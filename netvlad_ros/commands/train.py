# SPDX-License-Identifier: MIT
"""`netvlad train`: trains a network on places or on rendered worlds."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tqdm import tqdm

from netvlad_ros.cache import cache_folder
from netvlad_ros.data.shards import Shard
from netvlad_ros.errors import ConfigError, WorldError
from netvlad_ros.quiet import quiet_start_up
from netvlad_ros.training.config import DataConfig, load_training_config, to_yaml
from netvlad_ros.worlds.camera import Camera
from netvlad_ros.worlds.groups import GroupConfig
from netvlad_ros.worlds.rendering import Rendering, render_missing, shards

CONFIG = "config.yaml"

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The configuration and the folder of the run."""
    parser.description = (
        "Trains a network and leaves it in FOLDER/model.keras, with the configuration, checkpoints, "
        "log.csv, validation.csv and curves for TensorBoard beside it. A run that was interrupted, in "
        "whatever way, goes on with --resume. With TF_CONFIG in the environment, the same command on "
        "several machines trains one network."
    )
    parser.add_argument(
        "config",
        nargs="?",
        type=Path,
        metavar="CONFIG",
        help="YAML file of parameters; left out, the defaults, or those of the run that is resumed",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one parameter, such as optimiser.learning_rate=1e-4; may be repeated",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="of the run")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the latest checkpoint in FOLDER"
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print all parameters, and train nothing"
    )


def run(arguments: argparse.Namespace) -> int:
    """Trains; SIGINT and SIGTERM end it after the step, with a checkpoint."""
    config = load_training_config(_config_file(arguments), arguments.set)
    if arguments.print_config:
        print(to_yaml(config), end="")
        return 0
    if arguments.output is None:
        raise ConfigError("-o FOLDER: expected a folder for the run.")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with quiet_start_up():
        from netvlad_ros.training.trainer import train
    _show_log()
    with _terminal() as terminal:
        train(config, arguments.output, terminal, render_worlds, arguments.resume)
        return 130 if terminal.wants_to_stop() else 0


def render_worlds(config: DataConfig, worlds: int, first_seed: int) -> list[Shard]:
    """The shards of so many worlds as the configuration wants them, rendered if they are not there yet.

    Raises WorldError if there are none in the end.
    """
    wanted = Rendering(
        worlds,
        config.groups_per_world,
        config.kinds,
        first_seed,
        Camera(config.image_width_px, config.image_height_px),
        GroupConfig(config.world_positives, config.world_negatives),
    )
    folder = Path(config.cache_folder) if config.cache_folder else cache_folder()
    for number, done in enumerate(render_missing(wanted, folder, config.workers), start=1):
        _log.info("rendered %s, %d of at most %d", done.world, number, worlds)
    found = shards(wanted, folder)
    if not found:
        raise WorldError(f"{folder}: none of {worlds} worlds could be rendered.")
    return found


def _show_log() -> None:
    """What this package logs, such as images that are skipped; TensorFlow's own notes stay hidden."""
    log = logging.getLogger("netvlad_ros")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(logging.StreamHandler(sys.stderr))


def _config_file(arguments: argparse.Namespace) -> Path | None:
    if arguments.config or not arguments.resume:
        return arguments.config
    saved = arguments.output / CONFIG if arguments.output else Path(CONFIG)
    return saved if saved.is_file() else None


class _Terminal:
    """Sentences on stdout, a bar on stderr where that is a terminal; a signal asks to stop."""

    def __init__(self) -> None:
        self._bar = tqdm(unit=" steps", disable=None)
        self._stops = False

    def said(self, sentence: str) -> None:
        self._bar.clear()
        print(sentence, flush=True)

    def stepped(self, step: int, last_step: int, loss: float) -> None:
        self._bar.total = last_step
        self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        if not self._bar.n:  # steps before a resumption don't count for the speed
            self._bar.initial = self._bar.n = step - 1
        self._bar.update()

    def wants_to_stop(self) -> bool:
        return self._stops

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Of the first signal; the next one ends the process as usual."""
        self._stops = True
        signal.signal(number, signal.SIG_DFL)
        self.said("stops after this step; go on with --resume")

    def close(self) -> None:
        self._bar.close()


@contextmanager
def _terminal() -> Iterator[_Terminal]:
    terminal = _Terminal()
    before = {
        number: signal.signal(number, terminal.stop) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield terminal
    finally:
        terminal.close()
        for number, handler in before.items():
            signal.signal(number, handler)
