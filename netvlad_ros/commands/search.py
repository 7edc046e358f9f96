# SPDX-License-Identifier: MIT
"""`netvlad search`: the images of a folder that look most like a picture, a video or what a camera sees."""

import argparse
import sys
import time
from pathlib import Path

from netvlad_ros.commands.config import add_config_arguments
from netvlad_ros.commands.images import add_cache_argument, cache_of, progress, tell_extraction
from netvlad_ros.commands.values import parse_count, parse_seconds
from netvlad_ros.config import CameraConfig, with_model
from netvlad_ros.config.files import load_config
from netvlad_ros.data.image_files import image_paths, pictures, refuse_unusable
from netvlad_ros.errors import ImageError
from netvlad_ros.extraction.descriptor_cache import DescriptorCache
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.search.gallery import Answer, Gallery, Times, embed_gallery, search_all
from netvlad_ros.search.results import SearchResults
from netvlad_ros.shipped import HELP

EVERY_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to look, what for, and where the results go."""
    parser.description = (
        "Finds the images of a folder that look most like each query. No window is opened: results are "
        "lines in the terminal and, with -o, files. Descriptors of the gallery are kept for the next time."
    )
    parser.add_argument(
        "gallery", metavar="GALLERY", type=Path, help="folder of images, searched with its folders"
    )
    parser.add_argument(
        "queries",
        metavar="QUERIES",
        help="image, folder of images, video file, or camera: /dev/videoN or its number N",
    )
    parser.add_argument(
        "--model", help=f"model file; short for --set extractor.model=MODEL; {HELP}"
    )
    parser.add_argument(
        "-n",
        type=parse_count,
        default=10,
        metavar="COUNT",
        help="matches for each query (default: 10)",
    )
    parser.add_argument(
        "--every",
        type=parse_seconds,
        default=EVERY_S,
        metavar="SECONDS",
        help="of a video or camera, look up one picture in so many seconds; 0 takes them all (default: 1); a "
        "camera runs until Ctrl-C",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for results.json and pictures of queries and matches; left out, nothing is written",
    )
    add_cache_argument(parser)
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Embeds the gallery, then looks up one query after another."""
    config = load_config(arguments.config, arguments.set)
    config = config if arguments.model is None else with_model(config, arguments.model)

    # Before the model is loaded and the gallery embedded, which takes longer.
    image_paths(arguments.gallery)
    refuse_unusable(arguments.queries)
    extractor = NetVLADExtractor(config.extractor.model, config.extractor)
    extractor.warm_up()
    results = SearchResults(_embedded(arguments, extractor, config.camera), arguments.output)
    queries = pictures(arguments.queries, arguments.every, config.camera.max_pixels)
    try:
        for answer in search_all(queries, results.gallery, extractor, arguments.n, results.times):
            results.add(answer)
            _tell(answer, in_full=Path(arguments.queries).is_file() and answer.query.time_s is None)
    except KeyboardInterrupt:  # how a camera is told to stop
        print()
    return _finish(arguments.queries, results)


def _embedded(
    arguments: argparse.Namespace, extractor: NetVLADExtractor, camera: CameraConfig
) -> Gallery:
    folder, start_s = cache_of(arguments), time.perf_counter()
    with DescriptorCache(folder, arguments.gallery, extractor.fingerprint, extractor.dims) as cache:
        gallery = embed_gallery(arguments.gallery, extractor, cache, progress, camera)
    tell_extraction("gallery", gallery.told)
    if gallery.told.extracted:
        spent_s = time.perf_counter() - start_s
        print(f"gallery: {1000.0 * spent_s / gallery.told.extracted:.1f} ms an image")
    return gallery


def _tell(answer: Answer, in_full: bool) -> None:
    query = answer.query
    name = query.name if query.time_s is None else f"{query.name} at {query.time_s:.2f} s"
    if answer.skipped is not None:
        print(f"{name} skipped: {answer.skipped.problem}", file=sys.stderr)
    elif not answer.matches:
        print(f"{name}: the gallery holds nothing but this image", flush=True)
    elif in_full:
        print(f"{name}:")
        for match in answer.matches:
            print(f"{match.rank:4d}  {match.similarity:.4f}  {match.name}")
    else:
        best = answer.matches[0]
        print(f"{name}: {best.name}, similarity {best.similarity:.3f}", flush=True)


def _finish(source: str, results: SearchResults) -> int:
    if not results.queries:
        first = f"; the first: {results.skipped[0].problem}" if results.skipped else "."
        raise ImageError(f"{source}: none of {len(results.skipped)} queries can be used{first}")
    for path in results.finish():
        print(path)
    skipped = f", {len(results.skipped)} skipped" if results.skipped else ""
    count = results.times.pictures
    print(f"{count} quer{'y' if count == 1 else 'ies'}{_means(results.times)}{skipped}")
    return 0


def _means(times: Times) -> str:
    """Such as ` (on average: reading 3.1 ms, embedding 120.4 ms)`; without the steps that took no time."""
    steps = [f"{step} {ms:.1f} ms" for step, ms in times.means_ms().items() if ms > 0.0]
    return f" (on average: {', '.join(steps)})" if steps else ""
