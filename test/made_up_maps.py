# SPDX-License-Identifier: MIT
"""Maps of made-up drives: places ten metres apart, each with its own points and its own look."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from made_up_views import Scene, pose, standing

from netvlad_ros.image_data import CorrectedPose, ImageData
from netvlad_ros.keyframe import Keyframe, Session
from netvlad_ros.store.keyframe_store import Changes, StoredKeyframes, StoreHeader
from netvlad_ros.store.sqlite_store import SqliteStore
from netvlad_ros.verification.rigid import inverse, of_pose

DIMS = 64
SECOND = 1_000_000_000
PLACES_APART_M = 10.0


def view(place: int, visit: int = 0, light: int = 0) -> np.ndarray:
    """A descriptor of unit length: visits look nearly the same, other light looks otherwise."""
    row = np.random.default_rng(place).standard_normal(DIMS)
    row += 1.5 * np.random.default_rng([place, light, 1]).standard_normal(DIMS) * (light > 0)
    row += 0.1 * np.random.default_rng([place, light, visit, 2]).standard_normal(DIMS)
    return (row / np.linalg.norm(row)).astype(np.float32)


def seen(place: int, odometry: np.ndarray, offset_m: float = 0.0) -> ImageData:
    """What a robot knows that stands at a place, a little aside."""
    data = Scene(place).seen_from(standing(0.0, offset_m), odometry=odometry)
    return replace(data, thumbnail=b"\xff\xd8" + bytes([place]))


def drive(
    places: Sequence[int],
    frame: np.ndarray | None = None,
    visit: int = 0,
    session: Session | None = None,
    start_s: int = 0,
    offset_m: float = 0.2,
) -> StoredKeyframes:
    """Keyframes of one drive, one in two seconds.

    frame: (4, 4) of the places in the frame of its corrected poses; None gives none.
    """
    session = session or Session.new()
    keyframes, data = [], []
    for number, place in enumerate(places):
        keyframe = Keyframe(session, number, (start_s + 2 * number) * SECOND)
        at = standing(PLACES_APART_M * place, offset_m * visit)
        known = seen(place, at, offset_m * visit)
        if frame is not None:
            corrected = replace(pose(frame @ at), frame_id="map")
            known = replace(known, map_pose=CorrectedPose(corrected, "graph", 7))
        keyframes.append(keyframe)
        data.append((keyframe.name, known))
    views = np.array([view(place, visit) for place in places])
    return StoredKeyframes(keyframes, views, data)


def save(path: Path, *drives: StoredKeyframes, fingerprint: str = "model") -> Path:
    """A map of some drives."""
    header = StoreHeader(f"{abs(hash(path)):032x}"[:32], fingerprint, DIMS)
    SqliteStore(path).save(header, Changes(False, (), drives))
    return path


def content(path: Path) -> dict[tuple[str, int], ImageData]:
    """All keyframes of a map, in their order, with what is known of them."""
    found: dict[tuple[str, int], ImageData] = {}
    for block in SqliteStore(path, read_only=True).load(everything=True)[1]:
        data = dict(block.data)
        found |= {each.name: data.get(each.name, ImageData()) for each in block.keyframes}
    return found


def position(data: ImageData, frame: np.ndarray | None = None) -> np.ndarray:
    """(3,) of the corrected pose, seen from a frame (4, 4)."""
    assert data.map_pose is not None
    matrix = of_pose(data.map_pose.pose)
    return (matrix if frame is None else inverse(frame) @ matrix)[:3, 3]
