# SPDX-License-Identifier: MIT
"""`netvlad render`: a walk through a generated world, as images with poses, a KITTI sequence or a bag."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from rich.progress import Progress

from netvlad_ros.commands.values import (
    parse_count,
    parse_positive,
    parse_seconds,
    parse_size,
    parse_whole,
)
from netvlad_ros.errors import WorldError
from netvlad_ros.worlds import writers
from netvlad_ros.worlds.bag_messages import TOPICS
from netvlad_ros.worlds.camera import Camera
from netvlad_ros.worlds.mesh_files import world_of_model
from netvlad_ros.worlds.odometry import Drift
from netvlad_ros.worlds.sensors import DEPTH_ENCODINGS, METRES, ONE_CAMERA, Sensors
from netvlad_ros.worlds.walks import Shot, walk
from netvlad_ros.worlds.world import World

FORMATS = ("folder", "kitti", "bag")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which world, which way through it, when, with which camera, and where the pictures go."""
    parser.description = (
        "Renders a walk through a world made of random numbers, with exact poses. The same arguments give "
        "the same pixels; a folder or KITTI sequence that was interrupted is completed. Needs Panda3D."
    )
    parser.add_argument(
        "kind",
        metavar="KIND",
        help="town, street, corridor or room; or a model of your own (.glb, .gltf, .obj, .ply), in metres",
    )
    parser.add_argument(
        "--seed", type=parse_whole, default=0, help="which world of this kind (default: 0)"
    )
    parser.add_argument(
        "--trajectory",
        default="loop",
        metavar="NAME",
        help="loop, circle, figure-eight, helix, lawn-mower, back-and-forth or random-walk (default: loop)",
    )
    parser.add_argument(
        "--laps", type=parse_count, default=2, help="how often it is gone (default: 2)"
    )
    parser.add_argument(
        "--conditions",
        default="day,night",
        metavar="NAMES",
        help="of each lap, from the first again when there are more laps: day, morning, evening, dusk, "
        "night, cloudy, fog, rain, snow, snowfall, winter, autumn or random (default: day,night)",
    )
    parser.add_argument(
        "--step", type=parse_positive, default=1.0, metavar="METRES", help="between two pictures"
    )
    parser.add_argument(
        "--rate", type=parse_positive, default=2.0, metavar="HZ", help="of the stamps (default: 2)"
    )
    parser.add_argument(
        "--size", type=parse_size, default=(320, 240), metavar="WxH", help="default: 320x240"
    )
    parser.add_argument(
        "--fov",
        type=parse_positive,
        default=75.0,
        metavar="DEGREES",
        help="from left to right (default: 75)",
    )
    parser.add_argument("--format", choices=FORMATS, default="folder", help="default: folder")
    parser.add_argument(
        "--compressed", action="store_true", help="a bag with CompressedImage instead of Image"
    )
    parser.add_argument(
        "--depth",
        nargs="?",
        const=METRES,
        choices=DEPTH_ENCODINGS,
        help="also depth: of a bag 32FC1 in metres (NaN: none) or 16UC1 in millimetres (0: none, or above "
        "65.5 m; default: 32FC1), of a KITTI sequence depth_0 with 16 bits of 1/256 m",
    )
    parser.add_argument(
        "--stereo",
        type=parse_positive,
        metavar="METRES",
        help="also the pictures of a second camera, so far to the right of the first, rectified",
    )
    parser.add_argument(
        "--drift",
        type=parse_drift,
        metavar="SHARE",
        help="odometry of the base that errs by this share of the way, such as 0.01; or "
        "M_PER_M,RAD_PER_M,RAD_PER_RAD of the way and of the heading (default: SHARE,0.01*SHARE,SHARE). "
        f"Exact poses are then in {TOPICS['truth']} of a bag, and as ever in poses.txt of a KITTI "
        "sequence, which has odometry.txt beside it. Without: odometry is exact",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="folder of the result"
    )


def run(arguments: argparse.Namespace) -> int:
    """Renders and writes, with a progress bar."""
    names = [name for name in arguments.conditions.split(",") if name] or ["day"]
    with _world(arguments) as world:
        shots = walk(
            world, arguments.trajectory, arguments.laps, names, arguments.step, arguments.rate
        )
        with Progress(transient=True) as progress:
            task = progress.add_task(f"rendering {world.name}", total=len(shots))
            for _ in _written(arguments, world, shots):
                progress.advance(task)
    print(f"{arguments.output}: {len(shots)} images of {world.name} in {arguments.laps} laps")
    return 0


def _world(arguments: argparse.Namespace) -> World:
    width, height = arguments.size
    camera = Camera(width, height, arguments.fov)
    if Path(arguments.kind).suffix:
        return world_of_model(Path(arguments.kind), camera)
    return World(arguments.seed, arguments.kind, camera)


def parse_drift(text: str) -> tuple[float, float, float]:
    """Metres per metre, radians per metre and per radian, of all three or of the first."""
    numbers = [parse_seconds(word) for word in text.split(",")]
    if len(numbers) == 1:
        return astuple(Drift.of_share(*numbers))
    if len(numbers) != 3:
        raise argparse.ArgumentTypeError(f"expected one number or three, got {text}")
    return numbers[0], numbers[1], numbers[2]


def _written(arguments: argparse.Namespace, world: World, shots: Sequence[Shot]) -> Iterator[int]:
    settings: dict[str, Any] = {
        name: value
        for name, value in vars(arguments).items()
        if name not in ("command", "output") and value is not None
    }
    settings["size"] = list(arguments.size)
    sensors = Sensors(
        arguments.depth or "",
        arguments.stereo or 0.0,
        Drift(*arguments.drift) if arguments.drift else None,
    )
    if arguments.format == "bag":
        return writers.write_bag(
            world, shots, arguments.output, settings, arguments.compressed, sensors
        )
    if arguments.format == "kitti":
        return writers.write_kitti(world, shots, arguments.output, settings, sensors)
    if sensors != ONE_CAMERA:
        raise WorldError(
            "--depth, --stereo and --drift: expected --format bag or kitti; a folder has pictures "
            "with poses only."
        )
    return writers.write_folder(world, shots, arguments.output, settings)
