# SPDX-License-Identifier: MIT
"""`netvlad import-weights`: a model file made of another project's weights."""

import argparse

from netvlad_ros.quiet import quiet_start_up


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to import, and to where."""
    parser.add_argument("source", metavar="SOURCE", help="file of weights")
    parser.add_argument(
        "-o", "--output", required=True, metavar="MODEL", help="model file to write, NAME.keras"
    )
    parser.add_argument(
        "--input",
        metavar="PRESET",
        help="how the weights want images scaled, where their file does not say; "
        "left out, the command lists the presets if it needs one",
    )


def run(arguments: argparse.Namespace) -> int:
    """Imports and saves."""
    with quiet_start_up():
        from netvlad_ros.model import save_model
        from netvlad_ros.weights.read import import_weights

    model = import_weights(arguments.source, arguments.input)
    save_model(model, arguments.output)
    print(
        f"{arguments.output}: {model.network.backbone}, {model.descriptor_dims} dimensions, "
        f"fingerprint {model.fingerprint()}"
    )
    return 0
