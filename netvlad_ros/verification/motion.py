# SPDX-License-Identifier: MIT
"""Rigid motions that are known with some uncertainty, and what follows from several of them."""

from dataclasses import dataclass

import numpy as np

from netvlad_ros.image_data import Pose
from netvlad_ros.verification.rigid import adjoint, angle_deg, inverse, log, of_pose


@dataclass(frozen=True, eq=False)
class Motion:
    """p_parent = matrix p_child, off by a small motion xi: matrix exp(xi).

    matrix:     (4, 4), metres.
    covariance: (6, 6) of xi, in the child's frame, translation (m) before rotation (rad).
    """

    matrix: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of_pose(cls, pose: Pose) -> "Motion":
        """A pose, whose covariance is of its position and of turns about the axes of its frame."""
        matrix = of_pose(pose)
        known = np.zeros((6, 6)) if pose.covariance is None else pose.covariance
        carried = _turned(matrix[:3, :3].T)
        return cls(matrix, carried @ known @ carried.T)

    @property
    def covariance_in_parent(self) -> np.ndarray:
        """(6, 6) of the position and of turns about the parent's axes, as geometry_msgs has it (REP 103)."""
        carried = _turned(self.matrix[:3, :3])
        return carried @ self.covariance @ carried.T

    @property
    def length_m(self) -> float:
        """Of the translation."""
        return float(np.linalg.norm(self.matrix[:3, 3]))

    @property
    def uncertainty_m(self) -> float:
        """Of the translation: the standard deviation along the axis where it is largest."""
        return float(np.sqrt(np.linalg.eigvalsh(self.covariance[:3, :3])[-1]))

    def inverse(self) -> "Motion":
        """The way back."""
        carried = adjoint(self.matrix)
        return Motion(inverse(self.matrix), carried @ self.covariance @ carried.T)

    def then(self, following: "Motion") -> "Motion":
        """Followed by a motion whose parent is this one's child, of independent errors."""
        carried = adjoint(inverse(following.matrix))
        return Motion(
            self.matrix @ following.matrix,
            carried @ self.covariance @ carried.T + following.covariance,
        )

    def between_others(self, parent: np.ndarray, child: np.ndarray) -> "Motion":
        """The same motion of frames that are fixed to the parent and the child.

        parent, child: (4, 4), from each to the frame that takes its place.
        """
        carried = adjoint(child)
        return Motion(parent @ self.matrix @ inverse(child), carried @ self.covariance @ carried.T)

    def deviation(self, other: "Motion") -> float:
        """How far another measurement of it is away, in standard deviations of both (Mahalanobis)."""
        away = log(inverse(self.matrix) @ other.matrix)
        return _mahalanobis(away, self.covariance + other.covariance)

    def difference(self, other: "Motion") -> tuple[float, float]:
        """How far another measurement of it is away, in metres and degrees."""
        away = inverse(self.matrix) @ other.matrix
        return float(np.linalg.norm(away[:3, 3])), angle_deg(away)

    def least_length_m(self, deviations: float) -> float:
        """Of the translation, within so many standard deviations."""
        if self.length_m == 0:
            return 0.0
        along = self.matrix[:3, :3].T @ self.matrix[:3, 3] / self.length_m
        spread_m = float(np.sqrt(along @ self.covariance[:3, :3] @ along))
        return max(0.0, self.length_m - deviations * spread_m)


def _turned(rotation: np.ndarray) -> np.ndarray:
    """(6, 6) that turns a translation and a rotation vector."""
    return np.kron(np.eye(2), rotation)


def _mahalanobis(away: np.ndarray, covariance: np.ndarray) -> float:
    return float(np.sqrt(np.abs(away @ np.linalg.solve(covariance, away))))
