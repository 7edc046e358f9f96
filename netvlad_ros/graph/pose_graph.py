# SPDX-License-Identifier: MIT
"""Corrected poses of keyframes, from their odometry, loop closures, and poses that a map brings along."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from netvlad_ros.config import Config
from netvlad_ros.graph import robust
from netvlad_ros.graph.g2o import Edge
from netvlad_ros.graph.parts import GraphClosure, Name, Part, placed
from netvlad_ros.graph.stretches import spread
from netvlad_ros.image_data import ImageData
from netvlad_ros.keyframe import Keyframe
from netvlad_ros.verification.geometry import BASE, CAMERA_OPTICAL, Geometry
from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.odometry import OdometryTrack, is_level, is_of_camera
from netvlad_ros.verification.rigid import inverse, of_pose

Solver = Callable[..., tuple[dict[int, np.ndarray], list[bool]]]

# Standard deviations of a pose that a map brings along, and of the one that a graph begins with.
MAP_M, MAP_RAD = 0.05, np.radians(0.5)
BEGIN_M, BEGIN_RAD = 1e-3, 1e-4


@dataclass(frozen=True, eq=False)
class Solution:
    """What became of a graph.

    poses:       (4, 4) of what odometry is of, in the frame of the map, of the keyframes that are connected
                 with it. Those that came with a pose of the map keep theirs and are not among them.
    unconnected: keyframes that neither odometry nor a closure leads to.
    used:        closures that the poses agree with.
    rejected:    why the others are left out, as the ends of sentences.
    waiting:     closures whose keyframes are not known yet.
    has_map:     whether the frame is that of poses which a map brought along, or else the first odometry's.
    """

    poses: dict[Name, np.ndarray] = field(default_factory=dict)
    unconnected: list[Keyframe] = field(default_factory=list)
    used: list[GraphClosure] = field(default_factory=list)
    rejected: dict[GraphClosure, str] = field(default_factory=dict)
    waiting: list[GraphClosure] = field(default_factory=list)
    has_map: bool = False

    @property
    def in_words(self) -> str:
        """How many of each."""
        said = f"{len(self.poses)} keyframes corrected by {len(self.used)} loop closures"
        if self.rejected:
            said += f"; {len(self.rejected)} left out"
        if self.waiting:
            said += f"; {len(self.waiting)} wait for their keyframes"
        if self.unconnected:
            said += f"; {len(self.unconnected)} keyframes are not connected with the map"
        return said


class PoseGraph:
    """Keyframes and closures in the order in which they come; solved whenever somebody asks.

    Vertices are only keyframes with closures, and where odometry begins and ends. Its drift from one to the
    next is mostly one amount, so that an edge over the whole way says more than many short ones; and few
    vertices are fast. Keyframes in between follow from those around them.
    """

    def __init__(self, config: Config | None = None, solver: Solver = robust.solve) -> None:
        """solver: as robust.solve, where somebody wants it done elsewhere."""
        self.config = config or Config()
        self._solve = solver
        self._keyframes: dict[Name, Keyframe] = {}
        self._driven: dict[Name, None] = {}  # in driving order
        self._map_poses: dict[Name, np.ndarray] = {}
        self._tracks: dict[str, OdometryTrack] = {}
        self._moves: dict[str, str] = {}  # what the odometry of a session is of
        self._closures: dict[tuple[Name, Name], GraphClosure] = {}

    def add_keyframe(self, keyframe: Keyframe, data: ImageData) -> str:
        """The next keyframe of a drive. Returns what is wrong with its odometry, or nothing."""
        self._driven[keyframe.name] = None
        return self._add(keyframe, data)

    def add_known(self, keyframe: Keyframe, data: ImageData) -> str:
        """One that a match brings along; if it is of an earlier drive, its map pose stays as it is."""
        if keyframe.name in self._driven:
            return ""
        if data.map_pose is not None:
            matrix = of_pose(data.map_pose.pose)
            if not np.isfinite(matrix).all():
                return f"the map pose of keyframe {keyframe} is not a number; it goes without"
            self._map_poses[keyframe.name] = matrix
        return self._add(keyframe, data)

    def add_closure(self, match: Keyframe, query: Keyframe, geometry: Geometry) -> str:
        """Returns why it says nothing here, or nothing. It may come before its keyframes."""
        motion = geometry.metric
        if motion is None:
            return f"the closure of keyframe {query} with {match} has no pose in metres"
        if match.name == query.name:
            return f"the closure of keyframe {query} is with itself"
        if not (np.isfinite(motion.matrix).all() and np.isfinite(motion.covariance).all()):
            return f"the closure of keyframe {query} with {match} is not a number"
        if np.linalg.eigvalsh(motion.covariance)[0] <= 0:
            return (
                f"the closure of keyframe {query} with {match} has a variance that is not positive"
            )
        closure = GraphClosure(match, query, motion, geometry.frame)
        self._closures[closure.names] = closure
        return ""

    def _add(self, keyframe: Keyframe, data: ImageData) -> str:
        self._keyframes[keyframe.name] = keyframe
        session = keyframe.session.uuid
        if data.odometry is None:
            return ""
        if session not in self._tracks or data.camera is not None:
            track = self._tracks.setdefault(session, OdometryTrack())
            track.is_level = is_level(self.config.odometry, data)
            of_camera = is_of_camera(data.odometry, data.camera)
            self._moves[session] = CAMERA_OPTICAL if of_camera else BASE
        return self._tracks[session].add(keyframe.number, keyframe.stamp_ns, data.odometry)

    # --- Solving ----------------------------------------------------------------------------------------

    def solve(self) -> Solution:
        """Where the keyframes are. Raises GraphError."""
        known = [each for each in self._closures.values() if self._knows(each)]
        rejected = {c: reason for c in known if (reason := self._of_other_frame(c))}
        closures = [c for c in known if c not in rejected]
        parts = list(self._parts(closures))
        part_of = {(part.session, number): part for part in parts for number in part.numbers}
        first = self._first(part_of, closures)
        guess = placed(first, part_of, closures)
        closures = [c for c in closures if part_of[c.query.name] in guess]
        vertices, is_right = self._solved(first, guess, closures)
        used = [c for c, right in zip(closures, is_right, strict=True) if right]
        for closure, right in zip(closures, is_right, strict=True):
            if not right:
                rejected[closure] = "odometry and the other closures contradict it"
        poses = {
            (part.session, number): pose
            for part in placed(first, part_of, used)
            for number, pose in _filled(part, vertices)
        }
        return Solution(
            {name: pose for name, pose in poses.items() if name not in self._map_poses},
            [each for name, each in self._keyframes.items() if name not in poses],
            used,
            rejected,
            [each for each in self._closures.values() if not self._knows(each)],
            bool(self._map_poses),
        )

    def _knows(self, closure: GraphClosure) -> bool:
        return all(name in self._keyframes for name in closure.names)

    def _of_other_frame(self, closure: GraphClosure) -> str:
        """Why a closure can't be compared with odometry, or nothing."""
        for keyframe in (closure.match, closure.query):
            moves = self._moves.get(keyframe.session.uuid, closure.frame)
            if moves != closure.frame:
                return (
                    f"it is of frame {closure.frame} and odometry of frame {moves}; say how the camera is "
                    "mounted (sensors.base_from_camera)"
                )
        return ""

    def _parts(self, closures: Iterable[GraphClosure]) -> Iterator[Part]:
        """Of all keyframes."""
        wanted: dict[str, set[int]] = defaultdict(set)
        for uuid, number in [*self._map_poses, *(n for c in closures for n in c.names)]:
            wanted[uuid].add(number)
        alone = self._keyframes.keys() - {
            (uuid, number) for uuid, t in self._tracks.items() for r in t.runs for number in r
        }
        for uuid, number in self._keyframes:
            if (uuid, number) in alone:
                yield Part(uuid, [number], [number])
        for uuid, track in self._tracks.items():
            for run in track.runs:
                vertices = sorted({run[0], run[-1], *wanted[uuid].intersection(run)})
                yield from self._connected(uuid, run, vertices, track)

    def _connected(
        self, uuid: str, run: list[int], vertices: list[int], track: OdometryTrack
    ) -> Iterator[Part]:
        """Parted where too little is known of the way from one vertex to the next."""
        begin, motions = 0, []
        for at, (before, number) in enumerate(pairwise(vertices), 1):
            motion = track.between(before, number, self.config.odometry)
            if motion is not None:
                motions.append(motion)
                continue
            end = run.index(number)
            yield Part(uuid, run[:end], vertices[begin:at], motions, track)
            run, begin, motions = run[end:], at, []
        yield Part(uuid, run, vertices[begin:], motions, track)

    def _first(
        self, part_of: Mapping[Name, Part], closures: Sequence[GraphClosure]
    ) -> dict[Part, np.ndarray]:
        """The parts that say where the map is, with map_from_part (4, 4); none if nothing is known.

        Those with a map pose; or where the first drive's odometry began; or the first match.
        """
        if self._map_poses:
            anchored: dict[Part, np.ndarray] = {}
            for name, pose in self._map_poses.items():
                part = part_of[name]
                anchored.setdefault(part, pose @ inverse(part.pose(name[1])))
            return anchored
        names = [*self._driven, *(c.match.name for c in closures)]
        with_odometry = (part_of[name] for name in names if part_of[name].track is not None)
        begin = next(with_odometry, next((part_of[c.match.name] for c in closures), None))
        return {} if begin is None else {begin: np.eye(4)}

    def _solved(
        self,
        first: Mapping[Part, np.ndarray],
        guess: Mapping[Part, np.ndarray],
        closures: Sequence[GraphClosure],
    ) -> tuple[dict[Name, np.ndarray], list[bool]]:
        """The vertices of all parts that were placed, and which closures are right."""
        names = [name for part in guess for name in part.names]
        poses = [at @ part.pose(number) for part, at in guess.items() for number in part.vertices]
        if not closures:
            return dict(zip(names, poses, strict=True)), []
        at = {name: vertex for vertex, name in enumerate(names)}
        odometry = [
            Edge(at[before], at[name], motion)
            for part in guess
            for (before, name), motion in zip(pairwise(part.names), part.motions, strict=True)
        ]
        if self._map_poses:
            known = {
                at[name]: _prior(pose, MAP_M, MAP_RAD) for name, pose in self._map_poses.items()
            }
        else:
            known = {0: _prior(poses[0], BEGIN_M, BEGIN_RAD)}
        ups = {
            at[part.session, number]: part.pose(number)[2, :3]
            for part in guess
            for number in part.vertices
            if part.is_level and next(iter(first)).is_level
        }
        found, is_right = self._solve(
            dict(enumerate(poses)),
            known,
            ups,
            odometry,
            [Edge(at[c.match.name], at[c.query.name], c.motion) for c in closures],
        )
        return {name: found[vertex] for name, vertex in at.items()}, is_right


def _prior(pose: np.ndarray, sd_m: float, sd_rad: float) -> Motion:
    return Motion(pose, np.diag(np.repeat([sd_m**2, sd_rad**2], 3)))


def _filled(part: Part, vertices: Mapping[Name, np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """All keyframes of a part with their poses (4, 4), from those of its vertices."""
    known = np.array([vertices[name] for name in part.names])
    rows = np.searchsorted(part.numbers, part.vertices)
    odometry = np.array([part.pose(number) for number in part.numbers])
    if len(rows) == 1:
        yield from zip(part.numbers, known[0] @ inverse(odometry[rows[0]]) @ odometry, strict=True)
    else:
        yield from zip(part.numbers, spread(odometry, rows, known, part.is_level), strict=True)
