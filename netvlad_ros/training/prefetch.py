# SPDX-License-Identifier: MIT
"""Batches that are read and augmented in the background, so that the network need not wait for them."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from netvlad_ros.training.batches import BatchSource, TrainingBatch

Prepare = Callable[[TrainingBatch, int], TrainingBatch]


class PreparedBatches:
    """A BatchSource: the batches of another one, prepared and read ahead by threads.

    Which batches come does not depend on the threads: a source is read in order, by one thread at a time,
    and prepare() is told the step. OpenCV and files let other threads run meanwhile.
    Memory: `ahead` batches beyond those that the source itself holds.
    """

    def __init__(
        self, source: BatchSource, prepare: Prepare, ahead: int = 4, threads: int = 1
    ) -> None:
        """ahead: batches that may wait; 0 makes each when it is asked for, without a thread."""
        self._source, self._prepare = source, prepare
        self._ahead, self._threads = ahead, threads
        self._feed: _Feed | None = None

    @property
    def refresh_every_steps(self) -> int:
        """The source's own."""
        return self._source.refresh_every_steps

    @property
    def steps_per_epoch(self) -> int:
        """The source's own."""
        return self._source.steps_per_epoch

    def batches(self, first_step: int) -> Iterator[TrainingBatch]:
        """Endless; asked for the step that comes next, it goes on with what was read ahead."""
        if self._feed is None or self._feed.next_step != first_step:
            self.close()
            self._feed = _Feed(self._source, self._prepare, first_step, self._ahead, self._threads)
        feed = self._feed
        while True:
            yield feed.take()

    def refresh(self, model: Any, step: int) -> None:
        """Throws away what was read ahead, which was chosen by older descriptors."""
        self.close()
        self._source.refresh(model, step)

    def state(self, step: int) -> dict[str, np.ndarray]:
        """The source's own."""
        return self._source.state(step)

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Passes it on."""
        self.close()
        self._source.restore(state)

    def close(self) -> None:
        """Ends the threads; batches() may be asked again."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None


class _Feed:
    """The threads at work from one step on.

    next_step: of the batch that take() gives.
    """

    def __init__(
        self, source: BatchSource, prepare: Prepare, first_step: int, ahead: int, threads: int
    ) -> None:
        self.next_step = first_step
        self._batches, self._prepare = source.batches(first_step), prepare
        self._read_step = first_step
        self._reading = threading.Lock()
        self._done: dict[int, TrainingBatch | Exception] = {}
        self._changed = threading.Condition()
        self._room = threading.Semaphore(ahead)
        self._is_closed = False
        # Daemons: a thread that waits for room must not keep the process from ending.
        self._workers = [
            threading.Thread(target=self._work, name=f"batches-{number}", daemon=True)
            for number in range(min(ahead, threads))
        ]
        for worker in self._workers:
            worker.start()

    def take(self) -> TrainingBatch:
        """The next batch; raises what went wrong while it was made."""
        if not self._workers:
            self._make()
        with self._changed:
            self._changed.wait_for(lambda: self.next_step in self._done)
            result = self._done.pop(self.next_step)
            self.next_step += 1
        self._room.release()
        if isinstance(result, Exception):
            raise result
        return result

    def close(self) -> None:
        """Returns when no thread uses the source any more."""
        self._is_closed = True
        for _ in self._workers:
            self._room.release()
        for worker in self._workers:
            worker.join()
        if hasattr(self._batches, "close"):
            self._batches.close()

    def _work(self) -> None:
        while True:
            self._room.acquire()
            if self._is_closed or not self._make():
                return

    def _make(self) -> bool:
        """Reads and prepares one batch; False if that failed, which take() tells."""
        result: TrainingBatch | Exception
        with self._reading:
            step = self._read_step
            self._read_step += 1
            result = _tried(lambda: next(self._batches))
        if isinstance(result, TrainingBatch):
            batch = result
            result = _tried(lambda: self._prepare(batch, step))
        with self._changed:
            self._done[step] = result
            self._changed.notify_all()
        return isinstance(result, TrainingBatch)


def _tried(make: Callable[[], TrainingBatch]) -> TrainingBatch | Exception:
    try:
        return make()
    except Exception as error:  # whatever it is, the thread that takes the batch has to know
        return error
