# SPDX-License-Identifier: MIT
"""Shards, the pictures of rendered worlds on disk, with what is known of which show the same place.

A shard is two files: WORLD.jpegs, its pictures one after the other, and WORLD.json, where each begins and
what it shows. The second is written last, so that a shard is either complete or not there.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from netvlad_ros.data.image_files import decode
from netvlad_ros.errors import WorldError

# How the shards of a folder were rendered; tells the folder from other ones.
SETTINGS = "rendering.json"


@dataclass(frozen=True, eq=False)
class ShardGroup:
    """S pictures of one world: some of one place, the others of elsewhere.

    offsets:   (S + 1,) int64, bytes at which pictures begin and the last one ends.
    poses:     (S, 6) float64: x, y, z in metres, yaw, pitch, roll in radians.
    relation:  (S, S) int8: 1 the same place, -1 views that share nothing, 0 neither, and itself.
    positives: how many follow the first picture that see its place.
    """

    offsets: np.ndarray
    poses: np.ndarray
    relation: np.ndarray
    positives: int


@dataclass(frozen=True)
class Shard:
    """The pictures of one world."""

    folder: Path
    world: str

    @property
    def _pictures(self) -> Path:
        return self.folder / f"{self.world}.jpegs"

    @cached_property
    def groups(self) -> list[ShardGroup]:
        """Raises WorldError if the shard is not complete."""
        try:
            found = json.loads((self.folder / f"{self.world}.json").read_bytes())
            size = self._pictures.stat().st_size
            read = [_group_from_json(each) for each in found["groups"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WorldError(
                f"{self.folder / self.world}: expected a rendered world ({error}); render it again."
            ) from None
        if not read or read[-1].offsets[-1] != size:
            raise WorldError(
                f"{self._pictures}: expected another number of bytes than {size}; render it again."
            )
        return read

    @property
    def is_complete(self) -> bool:
        try:
            return bool(self.groups)
        except WorldError:
            return False

    def images(self, group: int, which: Sequence[int]) -> np.ndarray:
        """Some pictures of a group, uint8 RGB (len(which), H, W, 3). Raises WorldError."""
        offsets = self.groups[group].offsets
        with self._pictures.open("rb") as file:
            file.seek(int(offsets[0]))
            data = np.frombuffer(file.read(int(offsets[-1] - offsets[0])), np.uint8)
        starts = offsets - offsets[0]
        decoded = [decode(data[starts[i] : starts[i + 1]]) for i in which]
        if any(image is None for image in decoded):
            raise WorldError(f"{self._pictures}: holds a broken picture; delete the file.")
        return np.stack([image for image in decoded if image is not None])


def is_shard_folder(folder: Path) -> bool:
    """Whether worlds were rendered into it."""
    return (folder / SETTINGS).is_file()


def read_shards(folder: Path) -> list[Shard]:
    """All complete shards of a folder, by name. Raises WorldError if there is none."""
    found = [Shard(folder, file.stem) for file in sorted(folder.glob("*.json"))]
    complete = [
        shard for shard in found if shard.world != Path(SETTINGS).stem and shard.is_complete
    ]
    if not complete:
        raise WorldError(f"{folder}: expected shards of rendered worlds, found no complete one.")
    return complete


def _group_from_json(found: dict[str, Any]) -> ShardGroup:
    return ShardGroup(
        np.array(found["offsets"], np.int64),
        np.array(found["poses"], np.float64),
        np.array(found["relation"], np.int8),
        int(found["positives"]),
    )
