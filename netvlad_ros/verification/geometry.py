# SPDX-License-Identifier: MIT
"""What a comparison of two images by geometry gives."""

from dataclasses import dataclass, replace

import numpy as np

from netvlad_ros.verification.rigid import adjoint, inverse

CAMERA_OPTICAL, BASE = "camera_optical", "base"


@dataclass(frozen=True, eq=False)
class Geometry:
    """How two images were compared: where the query was, seen from the match.

    method:           pnp_depth, pnp_stereo, pnp_motion, essential, fundamental; none: nothing was compared.
    correspondences:  tentative point matches.
    inliers:          of these, how many agree with the result.
    inliers_back:     how many points of the other image do; 0 where they are unknown.
    rms_px:           of the inliers' errors.
    match_from_query: (4, 4), x_match = R x_query + t in metres; None if no pose follows.
    covariance:       (6, 6) of a small motion in the query's frame, translation (m) before rotation (rad).
    scale_unknown:    the translation is a direction of length 1.
    frame:            of both: the camera's optical frame or the robot's base.
    pairs_px:         (inliers, 4), x and y in the match's image, then in the query's.
    problem:          why there is no result, as a sentence; empty if there is one.
    """

    method: str = "none"
    correspondences: int = 0
    inliers: int = 0
    inliers_back: int = 0
    rms_px: float = 0.0
    match_from_query: np.ndarray | None = None
    covariance: np.ndarray | None = None
    scale_unknown: bool = False
    frame: str = CAMERA_OPTICAL
    pairs_px: np.ndarray | None = None
    problem: str = ""

    @property
    def is_metric(self) -> bool:
        """Whether there is a pose in metres."""
        return self.match_from_query is not None and not self.scale_unknown


def in_base(
    geometry: Geometry, base_from_match: np.ndarray | None, base_from_query: np.ndarray | None
) -> Geometry:
    """The same between the bases of the robot, where it is known how both cameras are mounted.

    A direction without a length does not tell how the base moved; it stays as it is.
    """
    if base_from_match is None or base_from_query is None or not geometry.is_metric:
        return geometry
    assert geometry.match_from_query is not None
    assert geometry.covariance is not None
    moved = base_from_match @ geometry.match_from_query @ inverse(base_from_query)
    carried = adjoint(base_from_query)
    covariance = carried @ geometry.covariance @ carried.T
    return replace(geometry, match_from_query=moved, covariance=covariance, frame=BASE)
