# SPDX-License-Identifier: MIT
"""`netvlad import-weights`: a model file made of another project's weights."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netvlad_ros.commands.values import parse_scale, parse_size, parse_three
from netvlad_ros.errors import WeightsError
from netvlad_ros.quiet import quiet_start_up
from netvlad_ros.runtime.model import INTERPOLATIONS, ModelDescription

if TYPE_CHECKING:
    from netvlad_ros.runtime.foreign_onnx import Preprocessing

# Runtime of the files that are run as they are, by their ending: its name, and its package.
AS_IT_IS = {".xml": ("OpenVINO", "openvino"), ".onnx": ("ONNX Runtime", "onnx onnxruntime")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to import, and to where."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="file, folder or .zip of weights, prefix of a checkpoint, an OpenVINO .xml, or an .onnx file",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="MODEL",
        help="model file to write, NAME.keras (of an .xml or .onnx file, which is run as it is, of its kind)",
    )
    parser.add_argument(
        "--input",
        metavar="PRESET",
        help="how the weights want images scaled, where their file does not say; "
        "left out, the command lists the presets if it needs one",
    )
    _add_onnx(parser)


def _add_onnx(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "an .onnx file",
        "how it wants images: (value * scale - mean) / std, of values 0 to 255; --input imagenet is what "
        "most are trained with",
    )
    group.add_argument("--scale", type=parse_scale, metavar="S", help="such as 1/255")
    group.add_argument("--mean", type=parse_three, metavar="A,B,C", help="in the order of channels")
    group.add_argument("--std", type=parse_three, metavar="A,B,C", help="in the order of channels")
    group.add_argument("--channel-order", choices=("rgb", "bgr"), help="default: rgb")
    group.add_argument(
        "--size", type=parse_size, dest="size_px", metavar="WxH", help="where the file takes any"
    )
    group.add_argument(
        "--interpolation", choices=INTERPOLATIONS, help="to resize images with (default: area)"
    )
    group.add_argument("--input-name", metavar="NAME", help="where the file has several inputs")
    group.add_argument("--output-name", metavar="NAME", help="where it has several outputs")


def run(arguments: argparse.Namespace) -> int:
    """Imports and saves."""
    source, output = Path(arguments.source), arguments.output
    given = _given(arguments)
    if given and source.suffix != ".onnx":
        name = next(iter(given)).removesuffix("_px").replace("_", "-")
        raise WeightsError(f"--{name}: is for .onnx files only; leave it out for {source}.")
    if source.suffix in AS_IT_IS:
        made = _as_it_is(source, output, arguments.input, given)
        print(
            f"{output}: {AS_IT_IS[source.suffix][0]}, {made.descriptor_dims} dimensions, "
            f"{made.input_width_px}x{made.input_height_px} pixels, fingerprint {made.fingerprint}"
        )
        return 0
    with quiet_start_up():
        from netvlad_ros.importers.detect import import_weights
        from netvlad_ros.model import save_model

    model = import_weights(arguments.source, arguments.input)
    save_model(model, output)
    print(
        f"{output}: {model.network.backbone}, {model.descriptor_dims} dimensions, "
        f"fingerprint {model.fingerprint()}"
    )
    return 0


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options for .onnx files that were named."""
    names = ("scale", "mean", "std", "channel_order", "size_px", "interpolation")
    values = {name: getattr(arguments, name) for name in (*names, "input_name", "output_name")}
    return {name: value for name, value in values.items() if value is not None}


def _as_it_is(
    source: Path, output: Path, preset: str | None, given: dict[str, Any]
) -> ModelDescription:
    runtime, packages = AS_IT_IS[source.suffix]
    if output.suffix != source.suffix or output.resolve() == source.resolve():
        raise WeightsError(
            f"{output}: expected the name of another {source.suffix} file, as {source.name} is run as it is."
        )
    try:
        with quiet_start_up():
            if source.suffix == ".xml":
                from netvlad_ros.runtime.foreign_openvino import import_openvino

                return import_openvino(source, preset, output)
            from netvlad_ros.runtime.foreign_onnx import import_onnx

            return import_onnx(source, _preprocessing(source, preset, given), output)
    except ModuleNotFoundError as error:
        raise WeightsError(
            f"{source}: runs with {runtime}, and {error.name} is not installed; pip install {packages}."
        ) from None


def _preprocessing(source: Path, preset: str | None, given: dict[str, Any]) -> "Preprocessing":
    """A preset with what was named besides."""
    from netvlad_ros.runtime.foreign_onnx import PRESETS, Preprocessing

    if preset not in (None, *PRESETS) or not (preset or given.keys() & {"scale", "mean", "std"}):
        raise WeightsError(
            f"{source}: expected --input {' or '.join(PRESETS)}, or --scale, --mean and --std, as an .onnx "
            f"file does not say how its images are scaled; got {preset or 'none'}."
        )
    return dataclasses.replace(PRESETS[preset] if preset else Preprocessing(), **given)
