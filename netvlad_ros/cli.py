# SPDX-License-Identifier: MIT
"""The `netvlad` command: words from the terminal in, one job of the library, its outcome in words."""

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import netvlad_ros
from netvlad_ros.config import Config, with_model
from netvlad_ros.config_files import load_config, to_yaml
from netvlad_ros.errors import BagError, NetVLADError
from netvlad_ros.quiet import quiet_start_up

if TYPE_CHECKING:
    from netvlad_ros.data.bags import Bag
    from netvlad_ros.evaluation.results import Results
    from netvlad_ros.extractor import NetVLADExtractor

SKIPPED_SHOWN = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    try:
        code = _run(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except NetVLADError as error:
        print(f"netvlad: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Nobody reads on. Python flushes once more when it ends, and that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["play"]:  # whatever follows is the player's, --help too
        _play(arguments[1:])
    parsed = _parser().parse_args(arguments)
    commands = {"config": _config, "import-weights": _import_weights, "replay": _replay}
    return commands[parsed.command](parsed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="netvlad", description="Visual place recognition with NetVLAD."
    )
    parser.add_argument("--version", action="version", version=f"netvlad {netvlad_ros.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_config(commands.add_parser("config", help="print all parameters as a commented YAML file"))
    _add_import_weights(
        commands.add_parser("import-weights", help="make a model file of another project's weights")
    )
    _add_replay(commands.add_parser("replay", help="find the loops in a bag, without ROS"))
    commands.add_parser("play", help="publish all topics of a bag to ROS nodes")
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="YAML file of parameters")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one parameter, such as candidates.min_similarity=0.85; may be repeated",
    )


def _add_import_weights(parser: argparse.ArgumentParser) -> None:
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


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", metavar="BAG", help="rosbag2 folder, .mcap, .db3 or ROS 1 .bag file")
    parser.add_argument("--topic", default="", help="image topic, if the bag has several")
    parser.add_argument("--model", help="model file; short for --set extractor.model=MODEL")
    _add_config(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for candidates.json, candidates.csv, similarity_matrix.png and pairs.png; "
        "left out, nothing is written",
    )
    parser.add_argument(
        "--ground-truth",
        metavar="CSV",
        help="lines such as `41,1 2 3`: image 41 shows the place of images 1, 2 and 3, "
        "numbered from 1; below a first line `query_image,matching_images`",
    )


def _config(arguments: argparse.Namespace) -> int:
    print(to_yaml(load_config(arguments.config, arguments.set)), end="")
    return 0


def _import_weights(arguments: argparse.Namespace) -> int:
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


def _play(arguments: list[str]) -> None:
    """Becomes the player, so that signals and exit code are its own."""
    if importlib.util.find_spec("rclpy") is None:
        raise NetVLADError(
            "play needs ROS 2, and rclpy can't be imported here; source a ROS 2 installation, or "
            "run `make setup` in a checkout and use its .venv/bin/netvlad."
        )
    player = [sys.executable, "-m", "netvlad_ros.nodes.bag_player"]
    os.execv(player[0], [*player, *arguments])


def _replay(arguments: argparse.Namespace) -> int:
    from netvlad_ros.data.bags import Bag
    from netvlad_ros.evaluation.ground_truth import read_ground_truth

    config = _replay_config(arguments)
    truth = read_ground_truth(arguments.ground_truth) if arguments.ground_truth else None
    with Bag(arguments.bag) as bag:
        topic = bag.image_topic(arguments.topic)
        extractor = _extractor(config)

        from netvlad_ros.evaluation.replay_log import ReplayLog
        from netvlad_ros.evaluation.report import make_folder, write_report
        from netvlad_ros.evaluation.results import Results

        if arguments.output:
            make_folder(arguments.output)
        results = Results(ReplayLog(), config, extractor.fingerprint, topic, truth)
        damage = _run_through(bag, extractor, results)
    _print_summary(results)
    if arguments.output:
        for path in write_report(arguments.output, results):
            print(path)
    if damage:
        raise damage
    return 0


def _replay_config(arguments: argparse.Namespace) -> Config:
    config = load_config(arguments.config, arguments.set)
    return config if arguments.model is None else with_model(config, arguments.model)


def _extractor(config: Config) -> "NetVLADExtractor":
    with quiet_start_up():
        from netvlad_ros.extractor import NetVLADExtractor

    extractor = NetVLADExtractor(config.extractor.model, config.extractor)
    extractor.warm_up()
    return extractor


def _run_through(bag: "Bag", extractor: "NetVLADExtractor", results: "Results") -> BagError | None:
    """Fills the log and tells each loop when it is found; returns what is wrong with a damaged bag."""
    from tqdm import tqdm

    from netvlad_ros.evaluation.replay_log import sentence
    from netvlad_ros.replay import replay
    from netvlad_ros.retrieval.loop_detector import LoopDetector

    log, total = results.log, bag.topics[results.topic].count
    images = replay(bag.images(results.topic), LoopDetector(extractor, results.config))
    started_s = time.perf_counter()
    damage = None
    try:
        for image in tqdm(images, total=total, unit=" images", leave=False, disable=None):
            keyframe = log.add(image)
            if keyframe and keyframe.selection.candidates:
                best = keyframe.selection.candidates[0].match
                tqdm.write(sentence(keyframe.query.keyframe, best, log.start_ns))
    except BagError as error:
        damage = error
    if not log.keyframes:
        raise damage or _nothing_usable(bag, results)
    seconds = time.perf_counter() - started_s
    print(f"{log.images} images in {seconds:.1f} s ({log.images / seconds:.1f} images/s)")
    return damage


def _nothing_usable(bag: "Bag", results: "Results") -> BagError:
    skipped = results.log.skipped
    why = f"can be used; the first: {skipped[0].problem}" if skipped else "is there."
    return BagError(f"{bag.path}: none of {len(skipped)} images on {results.topic} {why}")


def _print_summary(results: "Results") -> None:
    for image in results.log.skipped[:SKIPPED_SHOWN]:
        print(f"image {image.number} skipped: {image.problem}", file=sys.stderr)
    if len(results.log.skipped) > SKIPPED_SHOWN:
        print(f"{len(results.log.skipped)} images skipped in all", file=sys.stderr)
    for sentence in results.sentences:
        print(sentence)


if __name__ == "__main__":
    raise SystemExit(main())
