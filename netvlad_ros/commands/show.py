# SPDX-License-Identifier: MIT
"""`netvlad show`: which cluster each part of an image is assigned to, as a picture."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from netvlad_ros.commands.values import parse_size_or_any
from netvlad_ros.config import ExtractorConfig
from netvlad_ros.data.image_files import image_paths, read_image, read_picture, shown_name
from netvlad_ros.errors import ImageError, ModelError
from netvlad_ros.extraction.preprocessing import network_input
from netvlad_ros.quiet import quiet_start_up
from netvlad_ros.shipped import HELP, model_path

if TYPE_CHECKING:
    from netvlad_ros.inspection.cluster_pictures import View
    from netvlad_ros.model import NetVLADNetwork

# More pictures on one sheet can't be told apart.
MOST_IMAGES = 24
CLUSTERS_TOLD = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the images and where the picture goes."""
    parser.description = (
        "Draws an image with each cell of the feature map in the colour of the cluster that takes most of "
        "it, and how much each cluster gathers; of a folder, a sheet of at most "
        f"{MOST_IMAGES} images. No window is opened."
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help=f"model file, NAME.keras; {HELP}")
    parser.add_argument("image", metavar="IMAGE", help="image, or folder of images")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT.png",
        help="picture to write (default: IMAGE_clusters.png in this folder)",
    )
    parser.add_argument(
        "--input-size",
        type=parse_size_or_any,
        metavar="WxH",
        help="pixels that images are resized to, such as 640x480, instead of the model's own; `any` keeps "
        "their size",
    )


def run(arguments: argparse.Namespace) -> int:
    """Draws, and tells the same in a few lines."""
    arguments.model = model_path(arguments.model)
    _refuse_exported(arguments.model)
    images = _images(arguments.image)
    with quiet_start_up():
        from netvlad_ros.model import load_model
    from netvlad_ros.inspection.cluster_pictures import draw_cluster_sheet, draw_clusters

    model = load_model(arguments.model)
    views = _views(model, images, arguments)
    output = arguments.output or Path(f"{Path(arguments.image).resolve().stem}_clusters.png")
    title = f"{arguments.model.name}: {_kinds(model)}"
    if len(views) == 1:
        draw_clusters(output, views[0], title)
    else:
        draw_cluster_sheet(output, views, title)
    for view in views:
        print(_sentence(view))
    print(output)
    return 0


def _views(
    model: "NetVLADNetwork", images: list[tuple[str, "np.ndarray"]], arguments: argparse.Namespace
) -> list["View"]:
    from netvlad_ros.inspection.cluster_pictures import View
    from netvlad_ros.model.assignments import ClusterView

    try:
        clusters = ClusterView(model)
    except ModelError as error:
        raise ModelError(f"{arguments.model}: {error}") from None
    own_px = (model.network.input_width_px, model.network.input_height_px)
    size_px = arguments.input_size or own_px
    views, problems = [], []
    for name, image in images:
        try:
            seen = network_input(image, size_px if all(size_px) else None, ExtractorConfig())
        except ImageError as error:
            problems.append(f"{name}: {error}")
        else:
            views.append(View(name, image, clusters.assignments(seen)))
    if not views:
        raise ImageError(problems[0])
    for problem in problems:
        print(f"skipped: {problem}", file=sys.stderr)
    return views


def _images(source: str) -> list[tuple[str, "np.ndarray"]]:
    """Names and images; of many in a folder, some that are spread evenly."""
    if not Path(source).is_dir():
        return [(Path(source).name, read_image(source))]
    paths = image_paths(source)
    if len(paths) > MOST_IMAGES:
        step = (len(paths) - 1) / (MOST_IMAGES - 1)
        print(f"{source}: {MOST_IMAGES} of {len(paths)} images are shown", file=sys.stderr)
        paths = [paths[round(i * step)] for i in range(MOST_IMAGES)]
    images = []
    for path in paths:
        picture = read_picture(path, shown_name(path, Path(source)))
        if picture.image is None:
            print(f"skipped: {picture.name}: {picture.problem}", file=sys.stderr)
        else:
            images.append((picture.name, picture.image))
    if not images:
        raise ImageError(f"{source}: none of {len(paths)} images can be read.")
    return images


def _refuse_exported(model: Path) -> None:
    """An exported file holds what comes out of the layers, not the layers."""
    if model.exists() and model.suffix != ".keras":
        raise ModelError(
            f"{model}: expected a .keras model, whose layers can be looked into; show the model that this "
            "file was exported from."
        )


def _kinds(model: "NetVLADNetwork") -> str:
    network = model.network
    ghosts = f" and {network.ghost_clusters} ghosts" if network.ghost_clusters else ""
    return f"{network.backbone}, {network.clusters} clusters{ghosts}"


def _sentence(view: "View") -> str:
    from netvlad_ros.inspection.cluster_pictures import cluster_name

    assignments = view.assignments
    rows, columns, _ = assignments.weights.shape
    order = (-assignments.mass).argsort(kind="stable")[:CLUSTERS_TOLD].tolist()
    most = ", ".join(
        f"{cluster_name(each, assignments.clusters)} {assignments.mass[each]:.0%}" for each in order
    )
    return (
        f"{view.name}: {columns}x{rows} cells; most of it in clusters {most}; on average a cell's largest "
        f"weight is {assignments.sharpness:.2f} and its entropy {assignments.entropy:.2f} (0 hard, 1 even)"
    )
