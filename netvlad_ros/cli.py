# SPDX-License-Identifier: MIT
"""The `netvlad` command: words from the terminal in, one job of the library, its outcome in words."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import netvlad_ros
from netvlad_ros.commands.play import become_player
from netvlad_ros.errors import NetVLADError
from netvlad_ros.packages import needed_by

# Each is a module of netvlad_ros.commands, with - for _.
COMMANDS = {
    "calibrate": "find the parameters that reach a wanted precision, from your own drives",
    "cluster": "begin the clusters of a model anew, from the local descriptors of images",
    "compare": "show where two models, or a model and expected descriptors, differ",
    "config": "print all parameters as a commented YAML file",
    "convert-bag": "bring our messages in an older bag to today's format",
    "download": "fetch weights that another project has published",
    "edit": "make a model of another input, whitening or length of descriptors",
    "evaluate": "measure how often a model finds places in a database",
    "evaluate-sequence": "measure precision and recall of the loops in a bag or sequence",
    "import-weights": "make a model file of another project's weights",
    "export": "write a model for another runtime: OpenVINO, ONNX, LiteRT, TensorFlow",
    "map": "look into maps, merge and prune them, exchange them with other programs",
    "info": "show what a model is, what its layers cost and how fast it is",
    "localise": "find where in a map images were taken, without ROS",
    "render": "render a walk through a generated world, with exact poses",
    "replay": "find the loops in a bag, without ROS",
    "search": "find the images of a folder that look most like a picture",
    "show": "draw which cluster each part of an image is assigned to",
    "train": "train a network on places or on rendered worlds",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with needed_by(f"netvlad {' '.join(words[:1])}"):
            code = _run(words)
        sys.stdout.flush()
    except NetVLADError as error:
        print(f"netvlad: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Nobody reads on. Python flushes once more when it ends, and that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["play"]:  # whatever follows is the player's, --help too
        become_player(arguments[1:])
    parsed = _parser().parse_args(arguments)
    return _command(parsed.command).run(parsed)


class _CommandParser(argparse.ArgumentParser):
    """The parser of one command, which is imported when its words are parsed.

    Takes options between the words too, as in `evaluate MODEL -o FOLDER DATASET`. What it doesn't know, it
    refuses itself, so that its own usage is shown.
    """

    _is_parsing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """argparse's own parser of intermixed words calls this method again."""
        if self._is_parsing:
            return super().parse_known_args(args, namespace)
        self._is_parsing = True
        name, *action = self.prog.split()[1:]
        _command(name).add_arguments(self, *action)
        if self._subparsers is not None:  # the parser of an action is another one of these
            return super().parse_known_args(args, namespace)
        parsed, unknown = self.parse_known_intermixed_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, []


def _command(name: str) -> Any:
    return importlib.import_module(f"netvlad_ros.commands.{name.replace('-', '_')}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="netvlad", description="Visual place recognition with NetVLAD."
    )
    parser.add_argument("--version", action="version", version=f"netvlad {netvlad_ros.__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_CommandParser
    )
    for name, meaning in COMMANDS.items():
        commands.add_parser(name, help=meaning)
    commands.add_parser("play", help="publish all topics of a bag to ROS nodes")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
