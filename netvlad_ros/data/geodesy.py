# SPDX-License-Identifier: MIT
"""Positions on the earth as metres east, north and up of an origin, and headings of orientations."""

import numpy as np

# WGS 84 (NIMA TR8350.2, table 3.1): equatorial radius, and the square of the first eccentricity.
EQUATORIAL_RADIUS_M = 6378137.0
ECCENTRICITY_SQUARED = 6.69437999014e-3


def local_metres(
    latitudes_deg: np.ndarray,
    longitudes_deg: np.ndarray,
    altitudes_m: np.ndarray,
    origin: tuple[float, float, float] | None = None,
) -> np.ndarray:
    """(N, 3): east, north and up of the origin, in the plane that touches the earth there.

    origin: latitude, longitude and altitude; None takes the first position.
    """
    if origin is None:
        origin = (float(latitudes_deg[0]), float(longitudes_deg[0]), float(altitudes_m[0]))
    points_m = _earth_centred(latitudes_deg, longitudes_deg, altitudes_m)
    origin_m = _earth_centred(*(np.array([value]) for value in origin))
    latitude, longitude = np.radians(origin[:2])
    east = np.array([-np.sin(longitude), np.cos(longitude), 0.0])
    up = np.array(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ]
    )
    axes = np.stack([east, np.cross(up, east), up])
    return (points_m - origin_m) @ axes.T


def headings_rad(quaternions: np.ndarray) -> np.ndarray:
    """(N,): where the x axis points in the plane of x and y, counter-clockwise from x.

    quaternions: (N, 4), x y z w.
    """
    x, y, z, w = quaternions.T
    return np.arctan2(2.0 * (w * z + x * y), w * w + x * x - y * y - z * z)


def _earth_centred(
    latitudes_deg: np.ndarray, longitudes_deg: np.ndarray, altitudes_m: np.ndarray
) -> np.ndarray:
    """(N, 3) metres from the centre of the earth."""
    latitude, longitude = np.radians(latitudes_deg), np.radians(longitudes_deg)
    radius_m = EQUATORIAL_RADIUS_M / np.sqrt(1.0 - ECCENTRICITY_SQUARED * np.sin(latitude) ** 2)
    flat_m = (radius_m + altitudes_m) * np.cos(latitude)
    height_m = (radius_m * (1.0 - ECCENTRICITY_SQUARED) + altitudes_m) * np.sin(latitude)
    return np.stack([flat_m * np.cos(longitude), flat_m * np.sin(longitude), height_m], axis=1)
