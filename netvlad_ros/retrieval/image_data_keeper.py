# SPDX-License-Identifier: MIT
"""What is known of keyframes: in memory until it is stored, then read when somebody needs it."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from netvlad_ros.errors import DatabaseError
from netvlad_ros.image_data import NOTHING_KNOWN, CorrectedPose, ImageData, Pose
from netvlad_ros.keyframe import Match
from netvlad_ros.store.keyframe_data import CORRECTED_POSE, parts_of
from netvlad_ros.store.keyframe_store import KeyframeStore

logger = logging.getLogger(__name__)

Name = tuple[str, int]

# Of so many keyframes what was read is remembered: a robot that stays near a place gets the same matches
# again. With a thousand features each these take 5 MB (ORB) or 52 MB (SIFT).
REMEMBERED = 100


class ImageDataKeeper:
    """Knows it by the names of keyframes; odometry, which is small, stays in memory."""

    def __init__(self) -> None:
        self._store: KeyframeStore | None = None  # has what is not in memory
        self._unsaved: dict[Name, ImageData] = {}
        self._odometry: dict[Name, Pose] = {}
        self._corrected: dict[Name, tuple[int, CorrectedPose]] = {}  # with which correction it came
        self._remembered: dict[Name, ImageData] = {}  # the one used last at the end

    @property
    def unsaved(self) -> list[Name]:
        """Of which a store does not have everything yet."""
        return list(self._unsaved)

    def add(self, name: Name, data: ImageData) -> None:
        """Raises ValueError if an array has the wrong shape, which no store would take."""
        for table, value in parts_of(data):
            table.to_row(value)
        if data is not NOTHING_KNOWN:
            self._unsaved[name] = data
        if data.odometry is not None:
            self._odometry[name] = data.odometry

    def correct(self, correction: int, poses: Mapping[Name, CorrectedPose]) -> None:
        """Poses as a pose graph found them, in place of earlier ones.

        correction: counts these calls. Raises ValueError if an array has the wrong shape.
        """
        for pose in poses.values():
            CORRECTED_POSE.to_row(pose)
        self._corrected |= {name: (correction, pose) for name, pose in poses.items()}

    def corrected_since(self, correction: int) -> dict[Name, CorrectedPose]:
        """Those that came later than one of them."""
        found = self._corrected.items()
        return {name: pose for name, (number, pose) in found if number > correction}

    def forget(self, names: Iterable[Name]) -> None:
        """These keyframes are gone."""
        for name in names:
            for each in (self._unsaved, self._odometry, self._corrected, self._remembered):
                each.pop(name, None)

    def stored(self, store: KeyframeStore, names: Iterable[Name]) -> None:
        """A store now has everything, these with it, which leave the memory; may come from another thread."""
        self._store = store
        for name in names:
            self._unsaved.pop(name, None)

    def known_for(
        self, store: KeyframeStore, names: Iterable[Name]
    ) -> Iterator[tuple[Name, ImageData]]:
        """Everything of these that this store does not have; may be read by another thread."""
        for name in names:
            data = self._unsaved.get(name)
            if data is None and self._store is not store:
                data = self._read(name)
            yield name, self._put_right(name, data or self._only_odometry(name))

    def attached(self, matches: Sequence[Match], number: int) -> list[Match]:
        """The first ones, so many, with everything that is known of them; the others with their odometry."""
        return [
            replace(match, data=self._of(match.keyframe.name, rank < number))
            for rank, match in enumerate(matches)
        ]

    def _of(self, name: Name, everything: bool) -> ImageData:
        data = self._everything(name) if everything else None
        return self._put_right(name, data or self._only_odometry(name))

    def _everything(self, name: Name) -> ImageData | None:
        """None if it is not known."""
        data = self._unsaved.get(name) or self._remembered.pop(name, None) or self._read(name)
        if data is not None:
            self._remembered[name] = data
            if len(self._remembered) > REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
        return data

    def _only_odometry(self, name: Name) -> ImageData:
        odometry = self._odometry.get(name)
        return NOTHING_KNOWN if odometry is None else ImageData(odometry=odometry)

    def _put_right(self, name: Name, data: ImageData) -> ImageData:
        if name not in self._corrected:
            return data
        return replace(data, map_pose=self._corrected[name][1])

    def _read(self, name: Name) -> ImageData | None:
        if self._store is None:
            return None
        try:
            return self._store.read_data(name)
        except DatabaseError as error:
            logger.warning("what is known of an earlier keyframe can't be read: %s", error)
            return None
