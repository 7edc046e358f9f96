# SPDX-License-Identifier: MIT
"""`netvlad import-weights`: a model file made of another project's weights."""

import argparse
from pathlib import Path

from netvlad_ros.errors import WeightsError
from netvlad_ros.quiet import quiet_start_up


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to import, and to where."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="file, folder or .zip of weights, prefix of a checkpoint, or an OpenVINO .xml",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="MODEL",
        help="model file to write, NAME.keras (of an OpenVINO file, which is run as it is, NAME.xml)",
    )
    parser.add_argument(
        "--input",
        metavar="PRESET",
        help="how the weights want images scaled, where their file does not say; "
        "left out, the command lists the presets if it needs one",
    )


def run(arguments: argparse.Namespace) -> int:
    """Imports and saves."""
    if Path(arguments.source).suffix == ".xml":
        return _import_openvino(Path(arguments.source), arguments.input, arguments.output)
    with quiet_start_up():
        from netvlad_ros.importers.detect import import_weights
        from netvlad_ros.model import save_model

    model = import_weights(arguments.source, arguments.input)
    save_model(model, arguments.output)
    print(
        f"{arguments.output}: {model.network.backbone}, {model.descriptor_dims} dimensions, "
        f"fingerprint {model.fingerprint()}"
    )
    return 0


def _import_openvino(source: Path, preset: str | None, output: Path) -> int:
    if output.suffix != ".xml" or output.resolve() == source.resolve():
        raise WeightsError(
            f"{output}: expected the name of another .xml file, as an OpenVINO file is run as it is."
        )
    try:
        from netvlad_ros.runtime.foreign_openvino import import_openvino
    except ModuleNotFoundError:
        raise WeightsError(f"{source}: OpenVINO is not installed; pip install openvino.") from None
    made = import_openvino(source, preset, output)
    print(
        f"{output}: OpenVINO, {made.descriptor_dims} dimensions, {made.input_width_px}x"
        f"{made.input_height_px} pixels, fingerprint {made.fingerprint}"
    )
    return 0
