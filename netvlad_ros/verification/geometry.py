# SPDX-License-Identifier: MIT
"""What a comparison of two images by geometry gives."""

from dataclasses import dataclass, replace

import numpy as np

from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.rigid import angle_deg

CAMERA_OPTICAL, BASE = "camera_optical", "base"


@dataclass(frozen=True, eq=False)
class Geometry:
    """How two images were compared: where the query was, seen from the match.

    method:           pnp_depth, pnp_stereo, pnp_motion, essential, fundamental; none: nothing was compared.
    correspondences:  tentative point matches; for a pose from points, those whose point is known.
    inliers:          of these, how many agree with the result.
    inliers_back:     how many agree the other way round, by the other image's points; None if it has none.
    rms_px:           of the inliers' errors.
    match_from_query: x_match = R x_query + t; None if no pose follows.
    scale_unknown:    the translation is a direction of length 1, not metres.
    frame:            what moved: the camera's optical frame or the robot's base.
    pairs_px:         (inliers, 4), x and y in the match's image, then in the query's.
    problem:          why there is no result, as a sentence; empty if there is one.
    """

    method: str = "none"
    correspondences: int = 0
    inliers: int = 0
    inliers_back: int | None = None
    rms_px: float = 0.0
    match_from_query: Motion | None = None
    scale_unknown: bool = False
    frame: str = CAMERA_OPTICAL
    pairs_px: np.ndarray | None = None
    problem: str = ""

    @property
    def metric(self) -> Motion | None:
        """The pose, if it is in metres."""
        return None if self.scale_unknown else self.match_from_query

    @property
    def in_words(self) -> str:
        """What came out, without why there is nothing."""
        said = f"{self.inliers} of {self.correspondences} point matches agree ({self.method})"
        if self.match_from_query is None:
            return said
        turned_deg = angle_deg(self.match_from_query.matrix)
        away = "scale unknown" if self.metric is None else f"{self.metric.length_m:.2f} m"
        return f"{away} and {turned_deg:.1f} deg apart, {said}"


def in_base(
    geometry: Geometry, base_from_match: np.ndarray | None, base_from_query: np.ndarray | None
) -> Geometry:
    """The same of the robot's base, where it is known how both cameras are mounted (4, 4).

    A direction without a length does not tell how the base moved; it stays as it is.
    """
    if base_from_match is None or base_from_query is None or geometry.metric is None:
        return geometry
    moved = geometry.metric.between_others(base_from_match, base_from_query)
    return replace(geometry, match_from_query=moved, frame=BASE)
