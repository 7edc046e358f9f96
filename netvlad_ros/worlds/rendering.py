# SPDX-License-Identifier: MIT
"""Worlds rendered into shards: once, by several processes, and completed when interrupted."""

import hashlib
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from netvlad_ros.data.shards import SETTINGS, Shard
from netvlad_ros.errors import WorldError
from netvlad_ros.worlds.camera import Camera, Pose, overlap
from netvlad_ros.worlds.groups import Group, GroupConfig, groups
from netvlad_ros.worlds.world import KINDS, World

# 30 to 50 kB for a picture of 320x240 instead of 230 kB, decoded in 0.5 ms; pixels change by 1 or 2 of 255.
JPEG_QUALITY = 95
# To be raised when the same seeds give other worlds: shards of older ones are then left alone.
VERSION = 1
# Starting a process takes as long as rendering a small world; each world leaves some memory behind.
_WORLDS_PER_PROCESS = 8
_STALE_S = 3600.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rendering:
    """Which worlds are rendered, and what of each.

    World i has the seed first_seed + i and the kind kinds[i % len(kinds)].
    """

    worlds: int
    groups_per_world: int = 8
    kinds: tuple[str, ...] = tuple(KINDS)
    first_seed: int = 0
    camera: Camera = field(default_factory=Camera)
    group: GroupConfig = field(default_factory=GroupConfig)

    def __post_init__(self) -> None:
        """Raises WorldError for a kind that is not known, or if nothing is asked for."""
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds:
            raise WorldError(
                f"kinds of worlds: expected some of {', '.join(KINDS)}, got {', '.join(unknown) or 'none'}."
            )
        if self.worlds < 1 or self.groups_per_world < 1:
            raise WorldError(
                "rendered worlds: expected at least one world and one group of each, got "
                f"{self.worlds} and {self.groups_per_world}."
            )

    @property
    def jobs(self) -> list[tuple[int, str]]:
        """Seed and kind of each world."""
        return [(self.first_seed + i, self.kinds[i % len(self.kinds)]) for i in range(self.worlds)]

    def folder(self, cache_folder: Path) -> Path:
        """Where its shards are; more worlds of the same sort go to the same folder."""
        sort = [VERSION, self.groups_per_world, asdict(self.camera), asdict(self.group)]
        digest = hashlib.sha256(json.dumps(sort).encode()).hexdigest()[:8]
        return cache_folder / f"worlds-{self.camera.width_px}x{self.camera.height_px}-{digest}"


@dataclass(frozen=True)
class Rendered:
    """A world that is done; problem: why there is no shard of it, else empty."""

    world: str
    problem: str = ""


def shards(rendering: Rendering, cache_folder: Path) -> list[Shard]:
    """Those that are there, in the order of the worlds."""
    folder = rendering.folder(cache_folder)
    found = [Shard(folder, f"{kind}-{seed}") for seed, kind in rendering.jobs]
    return [shard for shard in found if shard.is_complete]


def render_missing(
    rendering: Rendering, cache_folder: Path, processes: int = 0
) -> Iterator[Rendered]:
    """Renders the worlds that have no shard yet; yields each as it is done, in no certain order.

    processes: 0 takes one for each core; each needs up to 1.2 GB at 320x240. A world that can't be rendered,
        or that ends its process, is told and left out.
    Killed at any moment, nothing is lost but the worlds that were being rendered.
    """
    folder = rendering.folder(cache_folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write_settings(rendering, folder)
    _remove_stale(folder)
    jobs = [
        (seed, kind)
        for seed, kind in rendering.jobs
        if not Shard(folder, f"{kind}-{seed}").is_complete
    ]
    for done in _in_processes(rendering, folder, jobs, processes or _cores()):
        if done.problem:
            _log.warning("%s is left out: %s", done.world, done.problem)
        yield done


def _cores() -> int:
    return len(os.sched_getaffinity(0))


@dataclass(eq=False)
class _Worker:
    """A process, the worlds that it still has to do, and the pipe on which it tells of each."""

    process: Any
    pipe: Any
    jobs: deque[tuple[int, str]]


def _in_processes(
    rendering: Rendering, folder: Path, jobs: Sequence[tuple[int, str]], processes: int
) -> Iterator[Rendered]:
    share = max(1, min(_WORLDS_PER_PROCESS, -(-len(jobs) // processes)))
    waiting = deque(list(jobs[start : start + share]) for start in range(0, len(jobs), share))
    workers: list[_Worker] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < processes:
                workers.append(_start(rendering, folder, waiting.popleft()))
            ready = multiprocessing.connection.wait([worker.pipe for worker in workers])
            for worker in [worker for worker in workers if worker.pipe in ready]:
                yield _told(worker)
                if not worker.jobs or worker.pipe.closed:
                    workers.remove(worker)
                    worker.process.join()
                    if worker.jobs:
                        waiting.appendleft(list(worker.jobs))
    finally:
        for worker in workers:
            worker.process.terminate()
            worker.process.join()


def _start(rendering: Rendering, folder: Path, jobs: list[tuple[int, str]]) -> _Worker:
    context = multiprocessing.get_context("spawn")  # Panda3D doesn't survive a fork
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, rendering, folder, jobs), daemon=True)
    process.start()
    sender.close()  # so that the other end closes with the process
    return _Worker(process, receiver, deque(jobs))


def _told(worker: _Worker) -> Rendered:
    """The next world of a worker; the pipe is closed if its process ended instead."""
    seed, kind = worker.jobs.popleft()
    try:
        problem = worker.pipe.recv()
    except EOFError:
        worker.pipe.close()
        worker.process.join()
        problem = (
            f"its process ended by itself (exit code {worker.process.exitcode}); is memory short?"
        )
    return Rendered(f"{kind}-{seed}", problem)


def _work(pipe: Any, rendering: Rendering, folder: Path, jobs: list[tuple[int, str]]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)  # the other cores have processes of their own
    for seed, kind in jobs:
        try:
            _render(rendering, folder, seed, kind)
        except Exception as error:  # whatever it is, the other process has to know
            pipe.send(f"{type(error).__name__}: {error}")
        else:
            pipe.send("")


def _end_with_parent() -> None:
    """A daemon process is not ended when its parent is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _render(rendering: Rendering, folder: Path, seed: int, kind: str) -> None:
    with World(seed, kind, rendering.camera) as world:
        found = _groups(world, rendering)
        relations = [_relation(world, group, rendering.group) for group in found]
    pictures = [[_jpeg(image) for image in group.images] for group in found]
    name = f"{kind}-{seed}"
    _write(folder / f"{name}.jpegs", b"".join(data for group in pictures for data in group))
    sizes = np.array([[len(data) for data in group] for group in pictures])
    text = json.dumps({"world": name, "groups": _json(found, relations, sizes)})
    _write(folder / f"{name}.json", text.encode())


def _groups(world: World, rendering: Rendering) -> list[Group]:
    """In a world too small for views that share nothing, groups without negatives."""

    def tried(config: GroupConfig) -> list[Group]:
        rng = np.random.default_rng([world.seed, 1])
        return list(groups(world, rng, rendering.groups_per_world, config))

    try:
        return tried(rendering.group)
    except WorldError:
        return tried(replace(rendering.group, negatives=0))


def _relation(world: World, group: Group, config: GroupConfig) -> np.ndarray:
    """(S, S) int8 as ShardGroup has it; by the rules that made the group, for all its pairs."""
    radius_m = config.radius_m * (1 / 3 if world.scene.is_indoor else 1.0)
    relation = np.zeros((len(group.poses),) * 2, np.int8)
    for i, one in enumerate(group.poses):
        for j, other in enumerate(group.poses[:i]):
            relation[i, j] = relation[j, i] = _related(
                world.camera, one, other, radius_m, config.min_overlap
            )
    return relation


def _related(camera: Camera, one: Pose, other: Pose, radius_m: float, min_overlap: float) -> int:
    shared = overlap(camera, one, other)
    if shared == 0:
        return -1
    distance_m = np.linalg.norm((one.position_m - other.position_m)[:2])
    return int(distance_m <= radius_m and shared >= min_overlap)


def _jpeg(image: np.ndarray) -> bytes:
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise WorldError(f"a picture of shape {image.shape} can't be compressed.")
    return data.tobytes()


def _json(
    found: list[Group], relations: list[np.ndarray], sizes: np.ndarray
) -> list[dict[str, Any]]:
    ends = sizes.cumsum().reshape(sizes.shape)
    return [
        {
            "offsets": [int(ends[i, 0] - sizes[i, 0]), *ends[i].tolist()],
            "poses": [[round(value, 4) for value in asdict(pose).values()] for pose in group.poses],
            "relation": relations[i].tolist(),
            "positives": group.positives,
        }
        for i, group in enumerate(found)
    ]


def _write(path: Path, data: bytes) -> None:
    """The whole file or none, even if the machine stops."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _write_settings(rendering: Rendering, folder: Path) -> None:
    """For whoever wonders what the folder holds."""
    values = asdict(rendering) | {"version": VERSION}
    for name in ("worlds", "kinds", "first_seed"):
        del values[name]
    _write(folder / SETTINGS, json.dumps(values, indent=1).encode())


def _remove_stale(folder: Path) -> None:
    """What killed processes have left; younger files may be another process's."""
    for part in folder.glob(".*.part"):
        if part.stat().st_mtime < time.time() - _STALE_S:
            part.unlink(missing_ok=True)
