# SPDX-License-Identifier: MIT
"""What a match has to pass to be a loop closure, by its own geometry and by odometry."""

from collections.abc import Iterable, Iterator

from netvlad_ros.config import Config
from netvlad_ros.image_data import ImageData
from netvlad_ros.retrieval.stages import Decision, Verdict
from netvlad_ros.verification import odometry
from netvlad_ros.verification.geometry import BASE, Geometry
from netvlad_ros.verification.motion import Motion


def up_to_failed(verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    """Verdicts up to the first that is not passed, and with it."""
    for verdict in verdicts:
        yield verdict
        if verdict.decision != Decision.PASS:
            return


def gates(
    geometry: Geometry,
    match: ImageData,
    query: ImageData,
    motion: Motion | None,
    config: Config,
) -> Iterator[Verdict]:
    """Verdicts in their order; what comes after one that failed says nothing.

    motion: of the base from the match to the query by odometry, if it connects them.
    """
    limits = config.closures
    if geometry.problem:
        yield rejected("geometry", geometry.inliers, limits.min_inliers, geometry.problem)
    yield from _of_points(geometry, config)
    if geometry.metric is not None:
        away_m, spread_m = geometry.metric.length_m, geometry.metric.uncertainty_m
        said = "the images are {:.2f} m apart"
        yield at_most("max_distance", away_m, limits.max_distance_m, said)
        said = "its position is uncertain by {:.2f} m"
        yield at_most("max_uncertainty", spread_m, limits.max_uncertainty_m, said)
    if odometry.is_level(config.odometry, query):
        yield from _of_tilt(geometry, match, query, config)
    if motion is not None:
        yield from _of_odometry(geometry, match, query, motion, config)
    if geometry.match_from_query is None:
        reason = "the images fit together, but without camera_info of both no pose follows"
        yield rejected("no_pose", 0, 1, reason)


def _of_points(geometry: Geometry, config: Config) -> Iterator[Verdict]:
    limits = config.closures
    said = (
        f"{geometry.inliers} of {geometry.correspondences} point matches agree ({geometry.method})"
    )
    yield at_least("min_inliers", geometry.inliers, limits.min_inliers, said)
    share = geometry.inliers / max(1, geometry.correspondences)
    yield at_least(
        "min_inlier_share",
        share,
        limits.min_inlier_share,
        "a share of {:.2f} of the point matches agrees",
    )
    if geometry.inliers_back is not None:
        back = geometry.inliers_back / max(1, geometry.inliers)
        yield at_least(
            "min_share_back",
            back,
            limits.min_share_back,
            "{:.2f} as many agree from query to match",
        )


def _of_tilt(
    geometry: Geometry, match: ImageData, query: ImageData, config: Config
) -> Iterator[Verdict]:
    if match.odometry is None or query.odometry is None or not is_of_base(geometry, query):
        return
    assert geometry.match_from_query is not None
    turn = geometry.match_from_query.matrix
    tilt_deg = odometry.tilt_deg(match.odometry, query.odometry, turn)
    said = "it is tilted by {:.1f} deg against what odometry says is upright"
    yield at_most("max_tilt", tilt_deg, config.closures.max_tilt_deg, said)


def _of_odometry(
    geometry: Geometry, match: ImageData, query: ImageData, motion: Motion, config: Config
) -> Iterator[Verdict]:
    limits = config.closures
    deviations = limits.max_odometry_deviation
    if geometry.metric is not None and is_of_base(geometry, query):
        away = motion.deviation(geometry.metric)
        said = "it is {:.1f} standard deviations from odometry"
        yield at_most("odometry", away, deviations, said)
        return
    # Without a scale, or where nobody knows how the camera is mounted: are they within sight at all?
    away_m = motion.least_length_m(deviations)
    said = "by odometry the images are at least {:.1f} m apart"
    yield at_most("odometry_distance", away_m, limits.max_distance_m, said)
    if match.odometry is not None and odometry.is_level(config.odometry, query):
        rise_m = odometry.least_rise_m(motion, match.odometry, deviations)
        said = "by odometry one image is at least {:.1f} m above the other"
        yield at_most("odometry_rise", rise_m, limits.max_rise_m, said)


def is_of_base(geometry: Geometry, query: ImageData) -> bool:
    """Whether there is a pose, and it is of what odometry is of."""
    if geometry.match_from_query is None:
        return False
    return geometry.frame == BASE or odometry.is_of_camera(query.odometry, query.camera)


def passed(stage: str, value: float, limit: float, reason: str) -> Verdict:
    """A verdict."""
    return Verdict(Decision.PASS, stage, float(value), float(limit), reason)


def rejected(stage: str, value: float, limit: float, reason: str) -> Verdict:
    """A verdict."""
    return Verdict(Decision.REJECT, stage, float(value), float(limit), reason)


def held(stage: str, value: float, limit: float, reason: str) -> Verdict:
    """A verdict."""
    return Verdict(Decision.HOLD, stage, float(value), float(limit), reason)


def at_least(stage: str, value: float, limit: float, reason: str) -> Verdict:
    """reason: with a place for the value."""
    said = reason.format(value)
    if value >= limit:
        return passed(stage, value, limit, said)
    return rejected(stage, value, limit, f"{said}, {limit:g} or more are asked for")


def at_most(stage: str, value: float, limit: float, reason: str) -> Verdict:
    """reason: with a place for the value."""
    said = reason.format(value)
    if value <= limit:
        return passed(stage, value, limit, said)
    return rejected(stage, value, limit, f"{said}, {limit:g} at most are allowed")
