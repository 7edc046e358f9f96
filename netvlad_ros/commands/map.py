# SPDX-License-Identifier: MIT
"""`netvlad map`: look into maps, merge and prune them, exchange them with other programs."""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from netvlad_ros.commands.config import add_config_arguments
from netvlad_ros.commands.values import parse_count
from netvlad_ros.config import with_model
from netvlad_ros.config.files import load_config
from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.errors import DatabaseError
from netvlad_ros.inspection.json_file import write_json
from netvlad_ros.maps.alignment import Alignment
from netvlad_ros.maps.files import Progress, refuse_input
from netvlad_ros.maps.folder import export_map, import_map
from netvlad_ros.maps.info import MapInfo, SessionInfo, map_info
from netvlad_ros.maps.merging import Merged, merge
from netvlad_ros.maps.pruning import Surplus, prune
from netvlad_ros.maps.reextracting import of_bags, of_thumbnails, re_extract
from netvlad_ros.shipped import HELP
from netvlad_ros.store.migrations import VERSION

# In characters: tables are whole, however narrow the terminal is: `prune` asks for what stands in them.
WIDEST = 1000
ACTIONS = {
    "info": "what is in a map, from when, how much it takes, and whether all of it can be read",
    "merge": "one map of two; loop closures between them bring corrected poses into one frame",
    "prune": "a map without some keyframes: by session, date, place or number",
    "export": "write a map as a folder that other programs can read",
    "import": "make a map of such a folder",
    "re-extract": "a map described anew by another model, from its thumbnails or from its bags",
}


def add_arguments(parser: argparse.ArgumentParser, action: str = "") -> None:
    """What there is to do; and the arguments of one of these."""
    if action:
        parser.description = f"{ACTIONS[action][0].upper()}{ACTIONS[action][1:]}."
        _ARGUMENTS[action](parser)
        return
    parser.description = "No map that is given is changed: what comes out is another file."
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, meaning in ACTIONS.items():
        actions.add_parser(name, help=meaning)


def run(arguments: argparse.Namespace) -> int:
    """Does it."""
    return _RUNS[arguments.action](arguments)


# --- Info ---------------------------------------------------------------------------------------------


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("map", metavar="MAP", type=Path, help="database file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")


def _info(arguments: argparse.Namespace) -> int:
    refuse_input(arguments.json, arguments.map)
    with _progress("read") as progress:
        info = map_info(arguments.map, progress)
    _print_info(info)
    if arguments.json:
        write_json(arguments.json, info)
    return 1 if info.problem else 0


def _print_info(info: MapInfo) -> None:
    console = Console(highlight=False, markup=False, width=WIDEST)
    console.print(info.path, style="bold", soft_wrap=True)
    of_today = "" if info.format_version == VERSION else f"; a save makes it {VERSION}"
    facts = {
        "format": f"{info.format_version}, little-endian{of_today}",
        "model": f"{info.fingerprint}, {info.dims} dimensions",
        "keyframes": f"{info.keyframes:,} of {len(info.sessions)} sessions",
        "robots": _listed({each.robot for each in info.sessions}),
        "cameras": _listed({each.camera for each in info.sessions}),
        "maps": _listed({each.map for each in info.sessions}),
        "from, to": _time_span(info),
        "features": ", ".join(f"{count:,} {method}" for method, count in info.features.items())
        or "none",
        "frames": ", ".join(f"{count:,} poses in {name}" for name, count in info.frames.items())
        or "no corrected poses",
        "file": f"{info.file_bytes / 1e6:,.1f} MB",
        "can be read": info.problem or "all of it",
    }
    for name, fact in facts.items():
        console.print(f"{name:<13}{fact}", soft_wrap=True)
    console.print("", _kinds(info), "", _sessions(info.sessions), sep="\n")


def _kinds(info: MapInfo) -> Table:
    table = Table("kind", "of keyframes", "MB", "not numbers", box=None)
    for name, size in sorted(info.kind_bytes.items(), key=lambda each: -each[1]):
        count = info.keyframes if name == "descriptor" else info.kinds[name]
        wrong = str(info.not_numbers.get(name, ""))
        table.add_row(name, f"{count:,}", f"{size / 1e6:.2f}", wrong)
    return table


def _sessions(sessions: list[SessionInfo]) -> Table:
    table = Table(box=None)
    for name in ("session", "robot", "camera", "map", "keyframes", "from", "minutes"):
        table.add_column(name, no_wrap=True)
    for each in sessions:
        minutes = (each.last_ns - each.first_ns) / NANOSECONDS / 60
        table.add_row(
            each.uuid,
            each.robot,
            each.camera,
            each.map,
            f"{each.keyframes:,}",
            _time(each.first_ns),
            f"{minutes:.1f}",
        )
    return table


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(name or "(without a name)" for name in names)) or "none"


def _time_span(info: MapInfo) -> str:
    if not info.sessions:
        return "never"
    first, last = (
        min(each.first_ns for each in info.sessions),
        max(each.last_ns for each in info.sessions),
    )
    return f"{_time(first)}, {_time(last)} (UTC, if stamps are)"


def _time(stamp_ns: int) -> str:
    try:
        return f"{datetime.fromtimestamp(stamp_ns // NANOSECONDS, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"{stamp_ns / NANOSECONDS:.3f} s"


# --- Merge --------------------------------------------------------------------------------------------


def _add_merge(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f"{parser.description} Keyframes that both have come once. Corrected poses of the second map that "
        "closures can't bring into the frame of the first stay in a frame of their own."
    )
    parser.add_argument("maps", metavar="MAP", type=Path, nargs=2, help="database files")
    _add_output(parser)
    add_config_arguments(parser)


def _merge(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, arguments.set)
    first, second = arguments.maps
    with _progress("merge") as progress:
        merged = merge(first, second, arguments.output, config, progress)
    print(
        f"{arguments.output}: {merged.keyframes} keyframes, {merged.in_both} of them in both maps"
    )
    for each in merged.alignments:
        print(_aligned(each, merged))
    if not merged.alignments:
        print(f"{second} has no corrected poses: there is nothing to align")
    return 0


def _aligned(found: Alignment, merged: Merged) -> str:
    agree = f"{found.agreeing} of {found.edges} closures between the maps agree"
    if found.first_from_second is not None:
        return (
            f"frame {found.frame} of the second map is in {found.into} of the first now: {agree}, to "
            f"{found.rms_m:.2f} m and {found.rms_deg:.1f} deg"
        )
    name = merged.own_frames.get(found.frame, found.frame)
    called = f", which is called {name} now" if name != found.frame else ""
    return f"frame {found.frame} of the second map stays a frame of its own{called}: {agree}"


# --- Prune --------------------------------------------------------------------------------------------


def _add_prune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("map", metavar="MAP", type=Path, help="database file")
    _add_output(parser, required=False)
    parser.add_argument(
        "--session",
        action="append",
        default=[],
        metavar="UUID",
        help="without this session, or those that begin so; may be repeated",
    )
    parser.add_argument(
        "--before",
        type=_parse_time,
        metavar="DATE",
        help="without keyframes of before this date, such as 2026-03-31 or 2026-03-31T12:00 (UTC)",
    )
    parser.add_argument(
        "--alike",
        type=parse_count,
        default=0,
        metavar="N",
        help="at most so many keyframes of one place that look alike, as database.max_alike has it",
    )
    parser.add_argument(
        "--max",
        type=parse_count,
        default=0,
        metavar="N",
        help="at most so many keyframes; those go that look most like their neighbours in the drive",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would go, and write nothing"
    )
    add_config_arguments(parser)


def _prune(arguments: argparse.Namespace) -> int:
    surplus = Surplus(tuple(arguments.session), arguments.before, arguments.alike, arguments.max)
    if surplus == Surplus():
        raise DatabaseError("prune: expected --session, --before, --alike or --max.")
    if arguments.output is None and not arguments.dry_run:
        raise DatabaseError("prune: expected -o MAP for what is left, or --dry-run.")
    config = load_config(arguments.config, arguments.set)
    with _progress("prune") as progress:
        pruned = prune(
            arguments.map,
            None if arguments.dry_run else arguments.output,
            surplus,
            config,
            progress,
        )
    would = "would go" if arguments.dry_run else "are gone"
    print(f"{len(pruned.gone)} of {pruned.keyframes} keyframes {would}, {pruned.left} are left")
    for uuid, count in pruned.gone_by_session.items():
        print(f"  session {uuid}: {count} of {pruned.by_session[uuid]}")
    return 0


def _parse_time(text: str) -> int:
    """Nanoseconds since 1970."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a date such as 2026-03-31, got {text}"
        ) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return int(found.timestamp()) * NANOSECONDS


# --- Export, import -----------------------------------------------------------------------------------


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("map", metavar="MAP", type=Path, help="database file")
    _add_output(parser, "DIR", "new folder; docs/maps.md describes what is in it")


def _export(arguments: argparse.Namespace) -> int:
    with _progress("export") as progress:
        left = export_map(arguments.map, arguments.output, progress)
    print(arguments.output)
    if left:
        print(f"{left} poses that are no numbers were left out")
    return 0


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, help="what `netvlad map export` wrote")
    _add_output(parser)


def _import(arguments: argparse.Namespace) -> int:
    with _progress("import") as progress:
        count = import_map(arguments.folder, arguments.output, progress)
    print(f"{arguments.output}: {count} keyframes")
    return 0


# --- Re-extract ---------------------------------------------------------------------------------------


def _add_re_extract(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f"{parser.description} Poses, names and all else stay. Of thumbnails, which are small, finer detail "
        "is lost, and local features would have no points in metres. Keyframes without an image are left "
        "out. After an interruption, the same command goes on with what OUT.partial has."
    )
    parser.add_argument("map", metavar="MAP", type=Path, help="database file")
    parser.add_argument(
        "--model", help=f"model file; short for --set extractor.model=MODEL; {HELP}"
    )
    parser.add_argument(
        "--bag",
        action="append",
        default=[],
        type=Path,
        metavar="BAG",
        help="bag with images that have the stamps of keyframes; may be repeated; without one, thumbnails",
    )
    parser.add_argument("--topic", default="", help="image topic, if the bags have several")
    parser.add_argument(
        "--features",
        action="store_true",
        help="local features too, as the parameters verification.* say; without, they stay as they are",
    )
    _add_output(parser)
    add_config_arguments(parser)


def _re_extract(arguments: argparse.Namespace) -> int:
    from netvlad_ros.extraction.extractor import NetVLADExtractor

    config = load_config(arguments.config, arguments.set)
    if arguments.model is not None:
        config = with_model(config, arguments.model)
    extractor = NetVLADExtractor(config.extractor.model, config.extractor)
    source = of_thumbnails(arguments.map)
    if arguments.bag:
        source = of_bags(arguments.map, arguments.bag, arguments.topic, config)
    features = config.verification if arguments.features else None
    with _progress("describe") as progress:
        done = re_extract(arguments.map, arguments.output, extractor, source, features, progress)
    before = f", {done.before} of them before" if done.before else ""
    print(f"{arguments.output}: {done.described + done.before} keyframes{before}")
    if done.without:
        print(f"{done.without} keyframes have no image that can be used and are left out")
    if not arguments.bag:
        print("described from thumbnails: what is finer than their pixels is lost")
    return 0


# --- Common -------------------------------------------------------------------------------------------


def _add_output(
    parser: argparse.ArgumentParser,
    metavar: str = "OUT",
    meaning: str = "new database file; what is there already is not written over",
    required: bool = True,
) -> None:
    parser.add_argument(
        "-o", "--output", type=Path, metavar=metavar, required=required, help=meaning
    )


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Progress]:
    """A count of keyframes on stderr, where that is a terminal."""
    with tqdm(desc=what, unit=" keyframes", leave=False, disable=None) as bar:
        yield bar.update


_ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "info": _add_info,
    "merge": _add_merge,
    "prune": _add_prune,
    "export": _add_export,
    "import": _add_import,
    "re-extract": _add_re_extract,
}
_RUNS: dict[str, Callable[[argparse.Namespace], int]] = {
    "info": _info,
    "merge": _merge,
    "prune": _prune,
    "export": _export,
    "import": _import,
    "re-extract": _re_extract,
}
