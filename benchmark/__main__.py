# SPDX-License-Identifier: MIT
"""Runs the measurements and prints their tables: python -m benchmark [NAME ...] [--minutes N]."""

import argparse
import importlib
import os
import platform

from benchmark.tables import console
from netvlad_ros.errors import NetVLADError

NAMES = {
    "aggregation": "memory and time of the NetVLAD layer beside the naive residual tensor",
    "extractor": "from an array to a descriptor, beside the bare network",
    "folder": "descriptors of a folder of images, beside the bare model",
    "index": "search and add, beside Faiss's flat index, up to 100,000 keyframes",
    "sequences": "what sequences add to a query at 10,000 keyframes",
    "store": "saves and loads of a database file, up to 100,000 keyframes",
    "node": "from an image received to its descriptor published, by stage",
    "starts": "all three nodes from exec to their first matches, in one process and in three; memory",
    "threads": "a runtime, OpenCV and Faiss in one process: threads left alone, and set in one place",
    "runtimes": "TensorFlow, LiteRT, ONNX Runtime and OpenVINO beside the graph of netvlad_tf_open",
    "backends": "TensorFlow, JAX and PyTorch under Keras, batch 1 and 16, in each precision; GPU or CPU",
    "training": "a training step beside a plain Keras loop, time and memory by images at once",
    "ingredients": "what each part of the compact model and each rendered world brings; only if named",
    "calibration": "which similarity of a model means what, on rendered drives; only if named",
    "night": "places that are found again by night, in towns that are rendered; only if named",
    "closures": "closures with a pose in towns that are rendered, and time by stage; only if named",
    "graph": "the pose graph up to 100,000 keyframes, and towns before and after; only if named",
    "localisation": "put down in a mapped town, by day and by night: known where, how soon; only if named",
    "density": "how a map grows over ten laps in three kinds of light, in towns; only if named",
    "overload": "a 30 Hz camera into an extractor of about 3 Hz: age of images, memory, drops",
}
# Those that take long.
ON_DEMAND = {"ingredients", "calibration", "night", "closures", "graph", "density", "localisation"}


def main() -> None:
    """Each measurement is a module of this package with a function measure(arguments)."""
    described = "\n".join(f"  {name:12} {meaning}" for name, meaning in NAMES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmark",
        description=f"Measurements:\n{described}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"which measurements; all by default, but for {', '.join(sorted(ON_DEMAND))}",
    )
    parser.add_argument(
        "--minutes", type=float, default=1.0, help="length of the overload (default: %(default)s)"
    )
    parser.add_argument(
        "--images", metavar="FOLDER", help="to calibrate 8-bit networks on; made-up ones by default"
    )
    parser.add_argument(
        "--scratch",
        metavar="FOLDER",
        help="for 5 GB of model files, or of store's; the system's by default",
    )
    _add_ingredients(parser)
    arguments = parser.parse_args()
    unknown = set(arguments.names) - NAMES.keys()
    if unknown:
        parser.error(f"unknown measurement {min(unknown)!r}; there are {', '.join(NAMES)}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    console.print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians"
    )
    try:
        for name in arguments.names or [name for name in NAMES if name not in ON_DEMAND]:
            importlib.import_module(f"benchmark.{name}").measure(arguments)
    except NetVLADError as error:
        raise SystemExit(f"benchmark: {error}") from None


def _add_ingredients(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("ingredients")
    group.add_argument(
        "--cache", metavar="FOLDER", help="of rendered worlds and of results, to go on from"
    )
    group.add_argument(
        "--places",
        nargs="+",
        action="append",
        metavar="SET[:RADIUS_M]",
        help="sets of places that `netvlad evaluate` reads; repeated, each group has a mean of its own",
    )
    group.add_argument("--picture", metavar="FILE", help="of the learning curve")
    parser.add_argument(
        "--towns",
        nargs="+",
        type=int,
        default=[1, 2, 3, 4, 5, 6],
        metavar="SEED",
        help="night, closures, graph and localisation: which towns (default: 1 to 6)",
    )
    group = parser.add_argument_group("ingredients, calibration and night")
    group.add_argument(
        "--model", metavar="MODEL", help="that is measured; the shipped one by default"
    )
    group.add_argument(
        "--calibrated",
        metavar="FILE",
        help="calibration: the model with its curve is written there",
    )


if __name__ == "__main__":
    main()
