# SPDX-License-Identifier: MIT
"""`netvlad edit`: a model made into another one of other input, whitening or dimensions."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from netvlad_ros.commands.values import parse_size_or_any
from netvlad_ros.data.image_files import pictures
from netvlad_ros.errors import ImageError, ModelError
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.quiet import quiet_start_up

if TYPE_CHECKING:
    from netvlad_ros.model import NetVLADNetwork

ALL_DIMS = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, and what becomes of it."""
    parser.description = (
        "Writes a model with another input, whitening or length of its descriptors. The edited model is run "
        "beside the old one on made-up pictures and is refused if a descriptor differs that should not."
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="model file, NAME.keras")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="model file to write, NAME.keras"
    )
    parser.add_argument(
        "--input-size",
        type=parse_size_or_any,
        metavar="WxH",
        help="pixels that images are resized to by default, such as 320x240; `any` keeps their own size",
    )
    parser.add_argument(
        "--channels",
        choices=("grey", "rgb", "bgr"),
        help="what the first convolution sees. Grey images keep their descriptors in every case; grey sees "
        "no colour any more; grey made rgb or bgr weighs the colours as before, but does not round grey "
        "values; between rgb and bgr nothing changes but the order",
    )
    parser.add_argument(
        "--dims",
        type=_dims,
        metavar="N",
        help="keep the first N dimensions of the whitening, at unit length; `all` undoes a truncation that "
        "follows the whitening",
    )
    whitening = parser.add_mutually_exclusive_group()
    whitening.add_argument(
        "--fit-whitening",
        metavar="IMAGES",
        help="PCA whitening to --dims dimensions, fitted on more than as many images: a folder or a video",
    )
    whitening.add_argument(
        "--whitening",
        type=Path,
        metavar="FILE",
        help="PCA whitening from a file: .npz with mean (D,), components (d, D) and perhaps variances (d,), "
        "or .csv with the mean in the first row and a component in each other one",
    )
    whitening.add_argument(
        "--drop-whitening",
        action="store_true",
        help="leave the whitening and a truncation away: the model gives the aggregated descriptor",
    )


def run(arguments: argparse.Namespace) -> int:
    """Edits, compares with the old model, saves."""
    _refuse_unclear(arguments)
    with quiet_start_up():
        from netvlad_ros.model import editing, load_model, save_model

    before = load_model(arguments.model)
    after = _edited(before, arguments)
    difference = editing.refuse_wrong_edit(before, after)
    save_model(after, arguments.output)
    print(
        f"{arguments.output}: {after.network.backbone}, {after.descriptor_dims} dimensions, "
        f"fingerprint {after.fingerprint()} (was {before.fingerprint()})"
    )
    for name, (old, new) in editing.changes(before, after).items():
        print(f"  {name}: {_text(old)} -> {_text(new)}")
    print(f"  on made-up pictures, what should not change does by {difference:.0e} at most")
    if before.calibration is not None and after.calibration is None:
        print("  the calibration is left out: it was measured with other descriptors")
    return 0


def _edited(model: "NetVLADNetwork", arguments: argparse.Namespace) -> "NetVLADNetwork":
    """Whatever makes the model smaller first; a whitening is fitted on what its new input gives."""
    from netvlad_ros.model import editing
    from netvlad_ros.model.whitening import fit_whitening, read_whitening

    is_fitted = arguments.fit_whitening is not None
    if arguments.drop_whitening or is_fitted:
        model = editing.without_whitening(model)
    if arguments.whitening is not None:
        model = editing.with_whitening(model, read_whitening(arguments.whitening))
    if arguments.dims == ALL_DIMS:
        model = editing.with_all_dims(model)
    elif arguments.dims is not None and not is_fitted:
        model = editing.with_dims(model, arguments.dims)
    if arguments.input_size is not None:
        model = editing.with_input_size(model, *arguments.input_size)
    if arguments.channels is not None:
        model = editing.with_channels(model, arguments.channels)
    if is_fitted:
        descriptors = _descriptors(model, arguments.fit_whitening)
        model = editing.with_whitening(model, fit_whitening(descriptors, arguments.dims))
    return model


def _descriptors(model: "NetVLADNetwork", source: str) -> np.ndarray:
    """(images, D), of all images that can be used."""
    from netvlad_ros.model import save_model

    found, skipped = [], 0
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, Path(folder) / "model.keras")
        extractor = NetVLADExtractor(Path(folder) / "model.keras")
    for picture in tqdm(pictures(source), unit=" images", leave=False, disable=None):
        try:
            if picture.image is None:
                raise ImageError(picture.problem)
            found.append(extractor.extract(picture.image))
        except ImageError:
            skipped += 1
    print(f"{source}: {len(found)} images{f', {skipped} skipped' if skipped else ''}")
    return np.stack(found) if found else np.empty((0, extractor.dims), np.float32)


def _refuse_unclear(arguments: argparse.Namespace) -> None:
    if Path(arguments.output).suffix != ".keras":
        raise ModelError(f"{arguments.output}: expected a name ending in .keras.")
    if arguments.fit_whitening is not None and not arguments.dims:
        raise ModelError("--fit-whitening: expected the number of dimensions with it, --dims N.")
    names = ("input_size", "channels", "dims", "whitening", "fit_whitening", "drop_whitening")
    given = [getattr(arguments, name) for name in names]
    if all(value is None or value is False for value in given):
        raise ModelError(
            "edit: expected something to change; `netvlad edit --help` lists what can be."
        )


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{number:g}" for number in value)
    return str(value)


def _dims(text: str) -> int:
    if text == "all":
        return ALL_DIMS
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, or all; got {text}")
    return int(text)
