# SPDX-License-Identifier: MIT
"""Positions that are degrees instead of metres: how they show, and what makes metres of them."""

import dataclasses

import numpy as np

from netvlad_ros.data.geodesy import local_metres
from netvlad_ros.data.places import PlaceDataset, PlaceImages
from netvlad_ros.errors import DatasetError

# From this share of the database within the radius on, an answer is right whatever it is.
NEARLY_ALL = 0.9
# Of fewer images nothing can be said.
MIN_IMAGES = 10
MAX_QUERIES = 100


def doubts(dataset: PlaceDataset) -> str:
    """A sentence if nearly all images are positives of every query, whatever the reason; else empty."""
    known = dataset.database.has_positions and dataset.queries.has_positions
    if not known or len(dataset.database) < MIN_IMAGES:
        return ""
    count = len(dataset.queries)
    queries = np.unique(np.linspace(0, count - 1, min(count, MAX_QUERIES)).astype(int))
    others = len(dataset.database) - dataset.is_sequence
    shares = [len(dataset.positives(int(query))) / others for query in queries]
    if min(shares) < NEARLY_ALL:
        return ""
    start = (
        f"{dataset.name}: nearly all images ({100.0 * float(np.mean(shares)):.0f} %) are positives of every "
        f"query within {dataset.positive_radius_m:g} m, so that any answer is right"
    )
    if not _may_be_degrees(dataset):
        return f"{start}; a smaller radius (--radius) tells more."
    return (
        f"{start}; are the positions degrees? Then --positions lat-lon or lon-lat makes metres of them, "
        "else a smaller radius (--radius) tells more."
    )


def in_metres(dataset: PlaceDataset, latitude_first: bool) -> PlaceDataset:
    """The same with positions, read in degrees, in metres east and north of the first database image.

    Raises DatasetError for what can't be degrees.
    """
    latitude, longitude = (0, 1) if latitude_first else (1, 0)
    start = dataset.database.positions_m[0]
    origin = (float(start[latitude]), float(start[longitude]), 0.0)

    def converted(images: PlaceImages) -> PlaceImages:
        degrees = images.positions_m
        far = np.abs(degrees[:, [latitude, longitude]]) > (90.0, 180.0)
        if far.any():
            worst = degrees[int(np.flatnonzero(far.any(axis=1))[0]), :2]
            order = "lat-lon" if latitude_first else "lon-lat"
            raise DatasetError(
                f"{dataset.name}: expected latitudes up to 90 and longitudes up to 180 degrees "
                f"({order}), got {worst[0]:g} and {worst[1]:g}; is it the other order, or metres?"
            )
        metres = local_metres(
            degrees[:, latitude], degrees[:, longitude], np.zeros(len(degrees)), origin
        )
        return dataclasses.replace(images, positions_m=np.hstack([metres[:, :2], degrees[:, 2:]]))

    database = converted(dataset.database)
    queries = database if dataset.is_sequence else converted(dataset.queries)
    return dataclasses.replace(dataset, database=database, queries=queries)


def _may_be_degrees(dataset: PlaceDataset) -> bool:
    flat = np.abs(
        np.vstack([dataset.database.positions_m, dataset.queries.positions_m])[:, :2]
    ).max(axis=0)
    return bool(flat.max() <= 180.0 and flat.min() <= 90.0)
