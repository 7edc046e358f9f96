# SPDX-License-Identifier: MIT
"""Solves pose graphs in a process of its own: GTSAM holds Python's lock for as long as it computes."""

import multiprocessing
import signal
from multiprocessing.connection import Connection
from typing import Any

from netvlad_ros.errors import GraphError
from netvlad_ros.graph import robust


class SolverProcess:
    """Started when it is needed first, and anew if it ended; one thread may use it."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None
        self._pipe: Any = None

    def solve(self, *graph: Any) -> Any:
        """As robust.solve(). Raises GraphError."""
        if self._process is None or not self._process.is_alive():
            self._pipe, theirs = self._context.Pipe()
            self._process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        try:
            self._pipe.send(graph)
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise GraphError(
                "the process that solves pose graphs ended; was memory short?"
            ) from None
        if isinstance(answer, GraphError):
            raise answer
        return answer

    def close(self) -> None:
        """Also in the middle of something."""
        if self._process is not None:
            self._process.kill()


def _serve(pipe: Connection) -> None:
    """Until the process at the other end is gone; signals are for that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            graph = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(robust.solve(*graph))
        except GraphError as error:
            pipe.send(error)
