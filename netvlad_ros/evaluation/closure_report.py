# SPDX-License-Identifier: MIT
"""The loop closures of a replay as files that are the same, byte by byte, whenever they are."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_ros.errors import NetVLADError
from netvlad_ros.evaluation.closure_graph import write_closure_graph
from netvlad_ros.evaluation.closure_picture import draw_closures
from netvlad_ros.evaluation.detection_log import DetectionLog, LoggedKeyframe
from netvlad_ros.evaluation.report import config_values, make_folder, rounded, rounded_score
from netvlad_ros.evaluation.results import Results
from netvlad_ros.image_data import ImageData
from netvlad_ros.keyframe import Keyframe, Match
from netvlad_ros.retrieval.closures import Closure
from netvlad_ros.retrieval.stages import Verdict
from netvlad_ros.verification.geometry import Geometry
from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.rigid import quaternion_of

COVARIANCE_MEANS = (
    "6x6, translation (m) before rotation (rad), of a small motion xi in the query's frame: "
    "the true pose is match_from_query * exp(xi)"
)
_POSE = ("x_m", "y_m", "z_m", "qx", "qy", "qz", "qw")
# Standard deviations along and about the axes of the query's frame; the JSON file has the whole covariance.
_SPREAD = ("sd_x_m", "sd_y_m", "sd_z_m", "sd_rx_rad", "sd_ry_rad", "sd_rz_rad")
CSV_COLUMNS = (
    "match_keyframe",
    "match_image",
    "match_stamp_ns",
    "query_keyframe",
    "query_image",
    "query_stamp_ns",
    *_POSE,
    "frame",
    "scale_unknown",
    *_SPREAD,
    "method",
    "correspondences",
    "inliers",
    "rms_px",
    "similarity",
    "odometry_deviation",
    "agrees_with",
)


def write_closures(folder: Path, results: Results) -> list[Path]:
    """Writes closures.json, closures.csv, closures.g2o and closures.png.

    Raises NetVLADError if the folder can't be written.
    """
    written = [folder / f"closures.{ending}" for ending in ("json", "csv", "g2o", "png")]
    make_folder(folder)
    try:
        written[0].write_text(_json(results), encoding="utf-8")
        _write_csv(written[1], results.log)
        write_closure_graph(written[2], results.log, results.config)
        draw_closures(written[3], results.log)
    except OSError as error:
        raise NetVLADError(f"{folder}: can't write the results ({error.strerror}).") from None
    return written


def _json(results: Results) -> str:
    log = results.log
    document = {
        "closures": [_closure(each, log) for each in log.closures],
        "config": config_values(results.config),
        "covariance": COVARIANCE_MEANS,
        "fingerprint": results.fingerprint,
        "rejections": [_rejection(*each, log) for each in log.rejections],
        "summary": results.closures_in_words,
        "topic": results.topic,
    }
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _closure(closure: Closure, log: DetectionLog) -> dict[str, Any]:
    query_data = log.keyframes[log.position(closure.query)].query.data
    return {
        "match": _keyframe(closure.match.keyframe, closure.match.data, log),
        "query": _keyframe(closure.query, query_data, log),
        **_scores(closure.match),
        **_geometry(closure.geometry),
        "agrees_with": closure.agrees_with,
        "odometry_deviation": rounded_score(closure.odometry_deviation),
    }


def _rejection(
    keyframe: LoggedKeyframe, match: Match, verdict: Verdict, log: DetectionLog
) -> dict[str, Any]:
    geometry = keyframe.closures.geometries[match.keyframe.name]
    return {
        "match": log.position(match.keyframe),
        "query": log.position(keyframe.query.keyframe),
        **_scores(match),
        "decision": verdict.decision.name.lower(),
        "stage": verdict.stage,
        "value": rounded(verdict.value),
        "limit": rounded(verdict.limit),
        "method": geometry.method,
        "inliers": geometry.inliers,
    }


def _keyframe(keyframe: Keyframe, data: ImageData, log: DetectionLog) -> dict[str, Any]:
    position = log.position(keyframe)
    return {
        "keyframe": position,
        "image": log.keyframes[position].number,
        "session": log.session_number(keyframe),
        "stamp_ns": keyframe.stamp_ns,
        "frame_id": "" if data.camera is None else data.camera.frame_id,
    }


def _scores(match: Match) -> dict[str, float | None]:
    return {
        "similarity": rounded(match.similarity),
        "sequence_score": rounded_score(match.sequence_score),
        "margin": rounded_score(match.margin),
    }


def _geometry(geometry: Geometry) -> dict[str, Any]:
    motion = _motion(geometry)
    return {
        "method": geometry.method,
        "frame": geometry.frame,
        "scale_unknown": geometry.scale_unknown,
        "position_m": [rounded(each) for each in motion.matrix[:3, 3]],
        "orientation_xyzw": [rounded(each) for each in quaternion_of(motion.matrix[:3, :3])],
        "covariance": [[_significant(each) for each in row] for row in motion.covariance],
        "correspondences": geometry.correspondences,
        "inliers": geometry.inliers,
        "inliers_back": geometry.inliers_back,
        "rms_px": rounded(geometry.rms_px),
    }


def _motion(geometry: Geometry) -> Motion:
    assert geometry.match_from_query is not None  # a closure has a pose
    return geometry.match_from_query


def _significant(value: float) -> float:
    """Six digits, wherever they are."""
    return float(f"{value:.6g}")


def _write_csv(path: Path, log: DetectionLog) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for closure in log.closures:
            writer.writerow(_row(_closure(closure, log)))


def _row(closure: dict[str, Any]) -> dict[str, Any]:
    keyframes = {
        f"{which}_{name}": value
        for which in ("match", "query")
        for name, value in closure[which].items()
    }
    pose = (*closure["position_m"], *closure["orientation_xyzw"])
    spread = [_significant(math.sqrt(each)) for each in np.diag(closure["covariance"])]
    return (
        closure
        | keyframes
        | dict(zip(_POSE, pose, strict=True))
        | dict(zip(_SPREAD, spread, strict=True))
    )
