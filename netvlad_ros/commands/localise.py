# SPDX-License-Identifier: MIT
"""`netvlad localise`: where in a map images were taken, without ROS."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from netvlad_ros.commands.config import add_config_arguments
from netvlad_ros.config import with_model
from netvlad_ros.config.files import load_config
from netvlad_ros.data.image_files import read_image
from netvlad_ros.errors import NetVLADError
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.image_data import CameraModel
from netvlad_ros.maps.files import refuse_input
from netvlad_ros.retrieval.closures import verdict_of
from netvlad_ros.search.localising import Answer, MapLookUp, draw_answers
from netvlad_ros.sensors.camera_file import FORMS, camera_of
from netvlad_ros.sensors.mount import mount_of
from netvlad_ros.shipped import HELP
from netvlad_ros.verification.geometry import BASE
from netvlad_ros.verification.motion import Motion

NOT_LOCALISED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The map, the images, their camera, and where the picture goes."""
    parser.description = (
        "Looks each image up in a map that a database node or `netvlad map` made, compares it with the most "
        "similar keyframes by geometry, and prints where it was taken. The map is only read."
    )
    parser.epilog = (
        "exit code: 0 if each image was localised, 1 for what can't be used, "
        f"{NOT_LOCALISED} if an image was not localised"
    )
    parser.add_argument("map", metavar="MAP", type=Path, help="database file (database.path)")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image file")
    parser.add_argument(
        "--camera", metavar="CAMERA", help=f"of the images: {FORMS}; without it there is no pose"
    )
    parser.add_argument(
        "--model", help=f"model file; short for --set extractor.model=MODEL; {HELP}"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT.png",
        help="picture to write: each image beside its best match; left out, nothing is written",
    )
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints a table for each image, then where it was taken."""
    refuse_input(arguments.output, arguments.map, *arguments.images)
    config = load_config(arguments.config, arguments.set)
    config = config if arguments.model is None else with_model(config, arguments.model)
    mount = mount_of(config.sensors.base_from_camera)
    images = [(each, read_image(each, config.camera.max_pixels)) for each in arguments.images]
    cameras = [_camera(arguments.camera, image, mount) for _, image in images]
    extractor = NetVLADExtractor(config.extractor.model, config.extractor)
    a_map = MapLookUp(arguments.map, extractor, config)
    answers = []
    for (name, image), camera in zip(images, cameras, strict=True):
        try:
            answers.append(a_map.localise(name, image, camera))
        except NetVLADError as error:
            raise type(error)(f"{name}: {error}") from None
        _tell(answers[-1])
    if arguments.output:
        draw_answers(arguments.output, answers)
        print(arguments.output)
    is_complete = all(each.localisation.pose is not None for each in answers)
    return 0 if is_complete else NOT_LOCALISED


def _camera(text: str | None, image: np.ndarray, mount: np.ndarray | None) -> CameraModel | None:
    if text is None:
        return None
    return replace(camera_of(text, image.shape[1], image.shape[0]), base_from_camera=mount)


def _tell(answer: Answer) -> None:
    print(f"{answer.name}:")
    for match in answer.compared or answer.query.matches[:1]:
        verdict = verdict_of(match, answer.closures)
        print(
            f"  {match.keyframe!s:14} {match.similarity:6.3f}  {verdict.decision.name.lower():6}  "
            f"{verdict.stage}: {verdict.reason}"
        )
    found = answer.localisation
    if found.pose is None:
        print(f"  not localised: {found.summary}", file=sys.stderr, flush=True)
        return
    what = "the base" if found.of == BASE else "the camera (sensors.base_from_camera is not known)"
    ahead = found.pose.matrix[:3, 0 if found.of == BASE else 2]
    print(f"  {_in_words(found.pose, ahead)} in {found.frame_id}, of {what}", flush=True)


def _in_words(pose: Motion, ahead: np.ndarray) -> str:
    x, y, z = pose.matrix[:3, 3]
    yaw_deg = round(float(np.degrees(np.arctan2(ahead[1], ahead[0]))), 1) + 0.0  # not -0.0
    return (
        f"x {x:.3f}, y {y:.3f}, z {z:.3f} m, yaw {yaw_deg:.1f} deg, to {pose.uncertainty_m:.3f} m"
    )
