# SPDX-License-Identifier: MIT
"""Many worlds rendered by several processes at once, in an order that does not depend on their speed."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from netvlad_ros.errors import WorldError
from netvlad_ros.training.worlds.camera import Camera
from netvlad_ros.training.worlds.groups import Group, GroupConfig, groups
from netvlad_ros.training.worlds.world import KINDS, World

_AHEAD = 4  # groups that wait per process, about 4 MB each


def rendered_groups(
    seeds: Sequence[int],
    groups_per_world: int,
    kinds: Sequence[str] = tuple(KINDS),
    camera: Camera | None = None,
    config: GroupConfig | None = None,
    processes: int = 0,
) -> Iterator[Group]:
    """Groups of one world after another: seeds[i] with kinds[i % len(kinds)].

    processes: 0 takes one for each core. The same arguments give the same groups in the same order, whatever
    the number of processes, but for single pixels (see World). Raises WorldError if one of them fails.
    """
    jobs = [(seed, kinds[number % len(kinds)]) for number, seed in enumerate(seeds)]
    count = max(1, min(processes or os.cpu_count() or 1, len(jobs)))
    context = multiprocessing.get_context("spawn")
    queues = [context.Queue(_AHEAD) for _ in range(count)]
    workers = [
        context.Process(
            target=_work,
            args=(queue, jobs[number::count], groups_per_world, camera, config),
            daemon=True,
        )
        for number, queue in enumerate(queues)
    ]
    for worker in workers:
        worker.start()
    try:
        for number in range(len(jobs)):
            for _ in range(groups_per_world):
                yield _next(queues[number % count], workers[number % count])
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _next(queue: Any, worker: Any) -> Group:
    from queue import Empty

    while True:
        try:
            item = queue.get(timeout=1.0)
        except Empty:
            if not worker.is_alive():
                raise WorldError(
                    f"a rendering process ended by itself (exit code {worker.exitcode}); is memory short?"
                ) from None
            continue
        if isinstance(item, Group):
            return item
        raise WorldError(f"a rendering process failed: {item}")


def _work(
    queue: Any,
    jobs: list[tuple[int, str]],
    groups_per_world: int,
    camera: Camera | None,
    config: GroupConfig | None,
) -> None:
    import cv2

    cv2.setNumThreads(1)  # the other cores have processes of their own
    try:
        for seed, kind in jobs:
            with World(seed, kind, camera) as world:
                for group in groups(
                    world, np.random.default_rng([seed, 1]), groups_per_world, config
                ):
                    queue.put(group)
    except Exception as error:  # whatever it is, the other process has to know
        queue.put(f"{type(error).__name__}: {error}")
