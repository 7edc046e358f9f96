# SPDX-License-Identifier: MIT
"""Parts of a pose graph that odometry connects, and where closures put one beside the other."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from netvlad_ros.keyframe import Keyframe
from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.odometry import OdometryTrack
from netvlad_ros.verification.rigid import inverse

Name = tuple[str, int]

# Of closures that lead to one part, so many are asked where it is.
ASKED = 100
# They say the same if they are no further apart, and no more than this share of the way between them.
SAME_M, SAME_SHARE = 1.0, 0.05


@dataclass(frozen=True, eq=False)
class GraphClosure:
    """Where a query was, seen from its match.

    frame: what moved, base or camera_optical (verification/geometry.py).
    """

    match: Keyframe
    query: Keyframe
    motion: Motion
    frame: str

    @property
    def names(self) -> tuple[Name, Name]:
        """Of match and query."""
        return self.match.name, self.query.name

    def __str__(self) -> str:
        return f"the closure of keyframe {self.query} with {self.match}"


@dataclass(frozen=True, eq=False)
class Part:
    """Keyframes of a session that odometry connects, in driving order; without odometry one alone.

    vertices: those of them that are in the graph, the first one at least.
    motions:  by odometry, from each of them to the one before.
    """

    session: str
    numbers: Sequence[int]
    vertices: Sequence[int]
    motions: Sequence[Motion] = ()
    track: OdometryTrack | None = None

    @property
    def names(self) -> list[Name]:
        """Of the vertices."""
        return [(self.session, number) for number in self.vertices]

    @property
    def is_level(self) -> bool:
        """Whether its odometry says what is upright."""
        return self.track is not None and self.track.is_level

    def pose(self, number: int) -> np.ndarray:
        """(4, 4) by odometry, in a frame of this part's own."""
        return np.eye(4) if self.track is None else self.track.matrix(number)


@dataclass(frozen=True, eq=False)
class _Guess:
    """Where a closure puts a part: in the map, as seen from keyframe (3,) of its own frame."""

    map_from_part: np.ndarray
    at_m: np.ndarray

    def agrees(self, other: "_Guess") -> bool:
        moved = self.map_from_part - other.map_from_part
        apart_m = np.linalg.norm(moved[:3, :3] @ other.at_m + moved[:3, 3])
        way_m = np.linalg.norm(self.at_m - other.at_m)
        return bool(apart_m <= SAME_M + SAME_SHARE * way_m)


def placed(
    first: Mapping[Part, np.ndarray], part_of: Mapping[Name, Part], closures: Sequence[GraphClosure]
) -> dict[Part, np.ndarray]:
    """map_from_part (4, 4) of all parts that closures connect with the first ones, where most of them agree.

    first: the parts whose place is known.
    """
    found, last = dict(first), list(first)
    leading: dict[Part, list[GraphClosure]] = defaultdict(list)
    for closure in closures:
        match, query = (part_of[name] for name in closure.names)
        if match is not query:
            leading[match].append(closure)
            leading[query].append(closure)
    while last:
        guesses = defaultdict(list)
        for closure in (closure for part in last for closure in leading[part]):
            match, query = (part_of[name] for name in closure.names)
            if query not in found:
                guesses[query].append(_guess(closure, match, query, found[match]))
            elif match not in found:
                guesses[match].append(_guess_back(closure, match, query, found[query]))
        found |= {part: _of_most(each) for part, each in guesses.items()}
        last = list(guesses)
    return found


def _guess(closure: GraphClosure, match: Part, query: Part, map_from_match: np.ndarray) -> _Guess:
    there = map_from_match @ match.pose(closure.match.number) @ closure.motion.matrix
    return _seen(there, query.pose(closure.query.number))


def _guess_back(
    closure: GraphClosure, match: Part, query: Part, map_from_query: np.ndarray
) -> _Guess:
    back = inverse(closure.motion.matrix)
    there = map_from_query @ query.pose(closure.query.number) @ back
    return _seen(there, match.pose(closure.match.number))


def _seen(in_map: np.ndarray, in_part: np.ndarray) -> _Guess:
    return _Guess(in_map @ inverse(in_part), in_part[:3, 3])


def _of_most(guesses: Sequence[_Guess]) -> np.ndarray:
    asked = guesses[:: max(1, len(guesses) // ASKED)]
    return max(asked, key=lambda guess: sum(map(guess.agrees, asked))).map_from_part
