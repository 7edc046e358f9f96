# SPDX-License-Identifier: MIT
"""`netvlad export`: a model file for another runtime, compared with the original."""

import argparse
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from netvlad_ros.commands.values import parse_size
from netvlad_ros.data.image_files import image_paths, read_picture
from netvlad_ros.errors import ConfigError, ModelError
from netvlad_ros.export.formats import BARS, FORMATS, format_of, refuse_precision
from netvlad_ros.extraction.preprocessing import resize
from netvlad_ros.quiet import quiet_start_up
from netvlad_ros.shipped import HELP, model_path

if TYPE_CHECKING:
    from netvlad_ros.export.exporter import Export
    from netvlad_ros.model import NetVLADNetwork

MAX_IMAGES = 400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to export, how, and what to check it on."""
    parser.add_argument("model", metavar="MODEL", nargs="?", help=f".keras model file; {HELP}")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="FILE",
        help="file to write; its ending tells the format: .xml (openvino), .onnx (onnx), .tflite (litert), "
        ".pb (frozen-pb), none (savedmodel)",
    )
    parser.add_argument("--format", choices=FORMATS, help="where the ending does not tell it")
    parser.add_argument(
        "--precision",
        choices=BARS,
        default="fp32",
        help="of weights and computation (default: %(default)s); int8 is the smallest and, on most CPUs, "
        "the fastest",
    )
    parser.add_argument(
        "--images",
        metavar="FOLDER",
        help="images of places to compare descriptors on, and for int8 to calibrate with: as the camera "
        f"sees them, some hundred of them; at most {MAX_IMAGES} are taken",
    )
    parser.add_argument(
        "--size",
        type=parse_size,
        metavar="WxH",
        help="input size in pixels; default: the model's own, if it has one",
    )


def run(arguments: argparse.Namespace) -> int:
    """Exports, and tells how near the descriptors are."""
    with quiet_start_up():
        from netvlad_ros.export.exporter import export_network
        from netvlad_ros.model import load_model

    format = format_of(arguments.output, arguments.format)
    refuse_precision(format, arguments.precision)
    network = load_model(model_path(arguments.model))
    size_px = arguments.size or _own_size(network)
    images = read_images(arguments.images, size_px) if arguments.images else None
    export = export_network(network, arguments.output, format, arguments.precision, size_px, images)
    _tell(export, images is not None)
    if format.name == "tensorrt":
        _build_engine(arguments.output, arguments.precision)
    return 0


def _own_size(network: "NetVLADNetwork") -> tuple[int, int]:
    own = (network.network.input_width_px, network.network.input_height_px)
    if not all(own):
        raise ConfigError(
            "--size: expected WIDTHxHEIGHT in pixels, such as 640x480, as the model takes any size and the "
            "exported file takes one."
        )
    return own


def read_images(folder: str, size_px: tuple[int, int]) -> np.ndarray:
    """Evenly drawn from the folder, as the network sees them; what can't be read is left out."""
    paths = image_paths(folder)
    paths = paths[:: -(-len(paths) // MAX_IMAGES)]
    found = [
        picture.image
        for picture in (
            read_picture(path, path.name) for path in tqdm(paths, leave=False, disable=None)
        )
        if picture.image is not None
    ]
    if not found:
        raise ModelError(f"--images {folder}: none of its {len(paths)} images can be read.")
    return np.stack([resize(image, size_px) for image in found])


def _tell(export: "Export", has_images: bool) -> None:
    cosines = export.agreement.cosines
    print(
        f"{export.path}: {export.description.precision}; cosine to the original {cosines.mean():.6f} in the "
        f"mean, {cosines.min():.6f} at least, on {len(cosines)} {'' if has_images else 'made-up '}images"
    )
    shift = f"similarities move by at most {export.agreement.similarity_shift:.4f}"
    if export.is_interchangeable:
        print(f"interchangeable with the original in one database ({shift})")
        return
    print(f"needs a database of its own ({shift}): fingerprint {export.description.fingerprint}")
    if not has_images:
        print("with --images FOLDER, real images may show that it can share the original's")


def _build_engine(path: Path, precision: str) -> None:
    """An engine holds for one GPU and one version of TensorRT, so it is built where it is to run."""
    flag = [] if precision == "fp32" else [f"--{precision}"]
    command = ["trtexec", f"--onnx={path}", f"--saveEngine={path.with_suffix('.engine')}", *flag]
    if shutil.which(command[0]) is None:
        print(f"TensorRT is not installed here; on the machine with the GPU: {' '.join(command)}")
        return
    if subprocess.run(command, check=False).returncode:
        raise ModelError(f"{path}: TensorRT can't build an engine of it; its reasons are above.")
    print(f"{path.with_suffix('.engine')}: built, its descriptors were not compared")
