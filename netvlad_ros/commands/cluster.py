# SPDX-License-Identifier: MIT
"""`netvlad cluster`: the clusters of a model begun anew, as k-means over local descriptors of images."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from netvlad_ros.commands.images import add_source_arguments, options_of
from netvlad_ros.commands.values import parse_count, parse_size, parse_whole
from netvlad_ros.data.places import PlaceImages
from netvlad_ros.data.read_places import read_places, read_sequence
from netvlad_ros.errors import BagError, DatasetError, ModelError
from netvlad_ros.quiet import quiet_start_up
from netvlad_ros.training.image_samples import SkippedImages, place_images

if TYPE_CHECKING:
    from netvlad_ros.model import NetVLADNetwork


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the images, and how many local descriptors of them."""
    parser.description = (
        "Sets the clusters of a NetVLAD layer by k-means over local descriptors at random places of the "
        "images, and its assignment to fit, as the paper begins its training."
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="model file, NAME.keras")
    parser.add_argument(
        "images_from",
        metavar="IMAGES",
        type=Path,
        help="folder of images, bag, or set of places, of which the database is taken",
    )
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="OUT", help="model file, NAME.keras"
    )
    parser.add_argument(
        "--descriptors",
        type=parse_count,
        default=50_000,
        metavar="N",
        help="local descriptors to cluster (default: 50000)",
    )
    parser.add_argument(
        "--per-image",
        type=parse_count,
        default=100,
        metavar="N",
        help="of one image (default: 100)",
    )
    parser.add_argument(
        "--iterations", type=parse_count, default=100, metavar="N", help="of k-means (default: 100)"
    )
    parser.add_argument(
        "--size",
        type=parse_size,
        metavar="WxH",
        help="that images are resized to (default: the model's own, or else 320x240)",
    )
    parser.add_argument(
        "--seed", type=parse_whole, default=0, help="of images, places and k-means (default: 0)"
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE.hdf5",
        help="keep the local descriptors and the centres, as pytorch-NetVlad does",
    )
    add_source_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Extracts, clusters, saves, and says what came out."""
    if arguments.output.suffix != ".keras":
        raise ModelError(f"{arguments.output}: expected a name ending in .keras.")
    places = _places(arguments)
    with quiet_start_up():
        from netvlad_ros.model import load_model, save_model
        from netvlad_ros.training import clusters

    model = load_model(arguments.model)
    size_px = arguments.size or _own_size(model) or (320, 240)
    skipped = SkippedImages()
    images = place_images(places, size_px, arguments.seed, skipped)
    expected = min(len(places), -(-arguments.descriptors // arguments.per_image))
    descriptors = clusters.local_descriptors(
        model,
        tqdm(images, total=expected, unit=" images", leave=False, disable=None),
        arguments.descriptors,
        arguments.per_image,
        arguments.seed,
    )
    found = clusters.initialise_clusters(model, descriptors, arguments.iterations, arguments.seed)
    if arguments.save:
        clusters.save_hdf5(arguments.save, descriptors, found)
    save_model(model, arguments.output)
    used = int(descriptors.images[-1]) + 1
    left_out = f", {skipped.count} skipped" if skipped.count else ""
    print(
        f"{arguments.output}: {len(found.centres)} clusters of {len(descriptors.values)} local descriptors "
        f"of {used} images{left_out}; alpha {found.alpha:.4g}, fingerprint {model.fingerprint()}"
    )
    if model.network.whitening_dims:
        print(
            "  its whitening is of the old clusters: fit it anew with `netvlad edit --fit-whitening`"
        )
    return 0


def _places(arguments: argparse.Namespace) -> PlaceImages:
    try:
        return read_places(arguments.images_from, options_of(arguments)).database
    except (BagError, DatasetError):  # positions are not needed
        return read_sequence(arguments.images_from, options_of(arguments))


def _own_size(model: "NetVLADNetwork") -> tuple[int, int] | None:
    """(width, height) that the model's images are resized to; None where it takes any."""
    network = model.network
    if not network.input_width_px or not network.input_height_px:
        return None
    return network.input_width_px, network.input_height_px
