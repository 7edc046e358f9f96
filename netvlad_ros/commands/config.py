# SPDX-License-Identifier: MIT
"""`netvlad config`: all parameters as a commented YAML file."""

import argparse

from netvlad_ros.config.files import load_config, to_yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The parameters to show."""
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the file."""
    print(to_yaml(load_config(arguments.config, arguments.set)), end="")
    return 0


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """--config and --set, as every command has them that takes parameters."""
    parser.add_argument("--config", metavar="FILE", help="YAML file of parameters")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one parameter, such as candidates.min_similarity=0.85; may be repeated",
    )
