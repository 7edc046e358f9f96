# SPDX-License-Identifier: MIT
"""The results of a replay as files that are the same, byte by byte, whenever the results are."""

import csv
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from netvlad_ros.config import Config
from netvlad_ros.errors import NetVLADError
from netvlad_ros.evaluation import plots
from netvlad_ros.evaluation.detection_log import DetectionLog, LoggedKeyframe
from netvlad_ros.evaluation.precision_recall import PrecisionRecall
from netvlad_ros.evaluation.results import Evaluation, Results
from netvlad_ros.keyframe import Match

CSV_COLUMNS = (
    "query_keyframe",
    "query_image",
    "query_stamp_ns",
    "match_keyframe",
    "match_image",
    "match_stamp_ns",
    "similarity",
    "sequence_score",
    "margin",
    "rank",
)


def write_report(folder: Path, results: Results) -> list[Path]:
    """Writes candidates.json, candidates.csv, similarity_matrix.png and pairs.png.

    Raises NetVLADError if the folder can't be written.
    """
    written = [
        folder / name
        for name in ("candidates.json", "candidates.csv", "similarity_matrix.png", "pairs.png")
    ]
    make_folder(folder)
    try:
        written[0].write_text(_json(results), encoding="utf-8")
        _write_csv(written[1], results.log)
        _draw_matrix(written[2], results)
        _draw_pairs(written[3], results)
    except OSError as error:
        raise NetVLADError(f"{folder}: can't write the results ({error.strerror}).") from None
    return written


def make_folder(folder: Path) -> None:
    """Raises NetVLADError if it can't be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NetVLADError(f"{folder}: can't make this folder ({error.strerror}).") from None


def _json(results: Results) -> str:
    log = results.log
    document = {
        "config": config_values(results.config),
        "counts": {
            "images": log.images,
            "skipped": len(log.skipped),
            "keyframes": len(log.keyframes),
            "queries_with_candidates": results.queries_with_candidates,
            "candidates": results.candidates,
            "closures": len(log.closures),
        },
        "fingerprint": results.fingerprint,
        "queries": [_query(keyframe, log) for keyframe in log.keyframes],
        "skipped": [{"image": each.number, "reason": each.problem} for each in log.skipped],
        "topic": results.topic,
    }
    if results.evaluation is not None:
        document["evaluation"] = _evaluation(results.evaluation)
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def config_values(config: Config) -> dict[str, Any]:
    """The configuration without what belongs to this machine only: files keep their names."""
    values = dataclasses.asdict(config)
    for section, name in (("extractor", "model"), ("database", "path")):
        values[section][name] = Path(values[section][name]).name
    return values


def _query(keyframe: LoggedKeyframe, log: DetectionLog) -> dict[str, Any]:
    query = keyframe.query.keyframe
    return {
        "keyframe": log.position(query),
        "image": keyframe.number,
        "session": log.session_number(query),
        "stamp_ns": query.stamp_ns,
        "candidates": [
            _match(candidate.match, log)
            | {"rank": candidate.rank, "consistent_queries": candidate.consistent_queries}
            for candidate in keyframe.selection.candidates
        ],
        "rejections": [
            _match(rejection.match, log)
            | {
                "stage": rejection.verdict.stage,
                "value": rounded(rejection.verdict.value),
                "limit": rounded(rejection.verdict.limit),
            }
            for rejection in keyframe.selection.rejections
        ],
        "summary": keyframe.selection.summary,
    }


def _match(match: Match, log: DetectionLog) -> dict[str, Any]:
    position = log.position(match.keyframe)
    return {
        "keyframe": position,
        "image": log.keyframes[position].number,
        "stamp_ns": match.keyframe.stamp_ns,
        "similarity": rounded(match.similarity),
        "sequence_score": rounded_score(match.sequence_score),
        "margin": rounded_score(match.margin),
    }


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "reported": _counts(evaluation.reported),
        "without_threshold": _counts(evaluation.unlimited),
        "average_precision": rounded(evaluation.curve.average_precision),
        "recall_at_full_precision": rounded(evaluation.curve.recall_at_full_precision),
    }


def _counts(counts: PrecisionRecall) -> dict[str, float]:
    return dataclasses.asdict(counts) | {
        "precision": rounded(counts.precision),
        "recall": rounded(counts.recall),
    }


def rounded(value: float) -> float:
    """What is left does not depend on the order in which a processor adds."""
    return round(float(value), 6)


def rounded_score(value: float) -> float | None:
    """None if it was not computed."""
    return None if math.isnan(value) else rounded(value)


def _write_csv(path: Path, log: DetectionLog) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for keyframe in log.keyframes:
            query = keyframe.query.keyframe
            for candidate in keyframe.selection.candidates:
                match = _match(candidate.match, log)
                scores = [
                    _cell(match.pop(name)) for name in ("similarity", "sequence_score", "margin")
                ]
                start = (log.position(query), keyframe.number, query.stamp_ns)
                writer.writerow((*start, *match.values(), *scores, candidate.rank))


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _draw_matrix(path: Path, results: Results) -> None:
    log, exclude_s = results.log, results.config.database.exclude_recent_s
    recording = plots.Recording(log.descriptors, log.times_s, log.available)
    title = (
        f"{results.queries_with_candidates} of {plural(len(log.keyframes), 'keyframe')} "
        "have loop-closure candidates\n"
        f"{results.limits}, at least {exclude_s:g} s apart"
    )
    plots.draw_similarity_matrix(path, recording, results.pairs, title, results.true_pairs)


def _draw_pairs(path: Path, results: Results) -> None:
    pairs, keyframes = results.pairs, results.log.keyframes
    chosen = plots.choose_pairs(pairs)
    images = [(keyframes[pair.query].picture, keyframes[pair.match].picture) for pair in chosen]
    count = f"{len(chosen)} of " if len(chosen) < len(pairs) else ""
    title = f"{count}{plural(len(pairs), 'loop-closure candidate')}: query left, match right"
    plots.draw_pairs(path, chosen, images, results.log.times_s, title)


def plural(count: int, noun: str) -> str:
    """Such as 1 pair, 2 pairs."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
