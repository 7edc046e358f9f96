# SPDX-License-Identifier: MIT
"""What a store of keyframes does, whether it is a file or a server."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from netvlad_ros.image_data import CorrectedPose, ImageData
from netvlad_ros.keyframe import Keyframe


@dataclass(frozen=True)
class StoreHeader:
    """What all keyframes of a store share.

    database_id: random, to know a store that this database was saved to before from any other.
    fingerprint: of the model that made the descriptors.
    dims:        length of a descriptor.
    """

    database_id: str
    fingerprint: str
    dims: int


@dataclass(frozen=True)
class StoredKeyframes:
    """Some keyframes in the order in which they were added.

    descriptors: (n, dims) float32.
    data:        what else is known, by the names of keyframes; those of which nothing is may be left out.
    """

    keyframes: Sequence[Keyframe]
    descriptors: np.ndarray
    data: Iterable[tuple[tuple[str, int], ImageData]] = ()


@dataclass(frozen=True)
class Changes:
    """What a store does not know of yet.

    cleared: whether all that it holds goes first.
    removed: keyframes that go; one that was never stored may be among them.
    added:   keyframes that come, block by block.
    corrected: poses that a pose graph found, by the names of keyframes; of some that are not here, maybe.
    """

    cleared: bool
    removed: Sequence[Keyframe]
    added: Iterable[StoredKeyframes]
    corrected: Mapping[tuple[str, int], CorrectedPose] = field(default_factory=dict)


class KeyframeStore(Protocol):
    """Holds the keyframes of one database; only one process may write to it."""

    def check(self) -> None:
        """Raises DatabaseError if what is here is no store, or nothing is and no store could be made.

        Makes nothing. A store that can only be read is none of its business.
        """

    def holds_last_save(self) -> bool:
        """False if what this object last loaded or saved is gone, or if there never was any.

        The next save then has to bring all keyframes, not only what changed.
        """

    def load(self) -> tuple[StoreHeader, Iterator[StoredKeyframes]]:
        """All keyframes of one save, block by block in the order in which they were added.

        Of what else is known only odometry comes along, as it is small. Raises DatabaseError, also while they
        are read.
        """

    def read_data(self, name: tuple[str, int]) -> ImageData:
        """All that is known of a keyframe; nothing of one that is not here. Raises DatabaseError."""

    def save(self, header: StoreHeader, changes: Changes) -> None:
        """Takes in what changed since this object last loaded or saved, all of it or nothing.

        Raises DatabaseError, and leaves what is stored, if that can't be written, is of another database, or
        was changed by somebody else meanwhile.
        """
