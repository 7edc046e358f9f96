# SPDX-License-Identifier: MIT
"""Batches read ahead are those that would come anyway, in their order, and soon enough."""

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from netvlad_ros.errors import WorldError
from netvlad_ros.training.batches import TrainingBatch, tuple_relation
from netvlad_ros.training.prefetch import PreparedBatches


class Numbers:
    """Batches whose every pixel is the number of the step, and what became of the source."""

    refresh_every_steps = 7
    steps_per_epoch = 3

    def __init__(self, pause_s: float = 0.0, fails_at: int = -1) -> None:
        self.pause_s, self.fails_at = pause_s, fails_at
        self.read: list[int] = []
        self.open = 0
        self.refreshed: list[tuple[int, int]] = []

    def batches(self, first_step: int) -> Iterator[TrainingBatch]:
        self.open += 1
        try:
            for step in itertools.count(first_step):
                time.sleep(self.pause_s)
                if step == self.fails_at:
                    raise WorldError(f"step {step}")
                self.read.append(step)
                images = np.full((1, 2, 4, 4, 3), step, np.uint8)
                yield TrainingBatch(images, tuple_relation(1, 1, 0), 1)
        finally:
            self.open -= 1

    def refresh(self, model: Any, step: int) -> None:
        self.refreshed.append((step, self.open))

    def state(self, step: int) -> dict[str, np.ndarray]:
        return {"step": np.array(step)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.read = [int(state["step"])]


def _plus_hundred(batch: TrainingBatch, step: int) -> TrainingBatch:
    time.sleep(0.003 * (step % 3))  # so that threads overtake each other
    assert batch.images[0, 0, 0, 0, 0] == step
    return TrainingBatch(batch.images + 100, batch.relation, batch.positives)


def _steps(source: PreparedBatches, first: int, count: int) -> list[int]:
    batches = itertools.islice(source.batches(first), count)
    return [int(batch.images[0, 0, 0, 0, 0]) - 100 for batch in batches]


@pytest.mark.parametrize(("ahead", "threads"), [(0, 1), (1, 1), (4, 1), (4, 3), (2, 5)])
def test_batches_come_prepared_and_in_order(ahead, threads):
    source = PreparedBatches(Numbers(), _plus_hundred, ahead, threads)
    assert _steps(source, 5, 20) == list(range(5, 25))
    source.close()


def test_the_next_step_goes_on_with_what_was_read_and_another_one_begins_anew():
    numbers = Numbers()
    source = PreparedBatches(numbers, _plus_hundred, 4)
    assert _steps(source, 0, 3) == [0, 1, 2]
    assert _steps(source, 3, 3) == [3, 4, 5]
    assert numbers.read == list(range(len(numbers.read)))
    assert _steps(source, 2, 3) == [2, 3, 4]
    assert numbers.open == 1
    source.close()
    assert numbers.open == 0


def test_no_more_is_read_than_may_wait():
    numbers = Numbers()
    source = PreparedBatches(numbers, _plus_hundred, 3)
    _steps(source, 0, 2)
    time.sleep(0.1)
    assert len(numbers.read) == 5
    source.close()


def test_a_refresh_finds_the_source_closed_and_throws_away_what_was_read():
    numbers = Numbers()
    source = PreparedBatches(numbers, _plus_hundred, 4)
    assert (source.refresh_every_steps, source.steps_per_epoch) == (7, 3)
    _steps(source, 0, 7)
    source.refresh(None, 7)
    assert numbers.refreshed == [(7, 0)]
    numbers.read.clear()
    assert _steps(source, 7, 2) == [7, 8]
    assert numbers.read[0] == 7
    assert source.state(9) == {"step": np.array(9)}
    source.restore({"step": np.array(42)})
    assert numbers.read == [42]
    assert numbers.open == 0


@pytest.mark.parametrize("ahead", [0, 4])
def test_what_goes_wrong_in_the_background_is_raised_at_its_step(ahead):
    source = PreparedBatches(Numbers(fails_at=3), _plus_hundred, ahead, 2)
    batches = source.batches(0)
    assert [int(next(batches).images[0, 0, 0, 0, 0]) for _ in range(3)] == [100, 101, 102]
    with pytest.raises(WorldError, match="step 3"):
        next(batches)
    source.close()


def test_the_network_does_not_wait_for_what_fits_beside_its_work():
    source = PreparedBatches(Numbers(pause_s=0.02), lambda batch, step: batch, 2)
    batches = source.batches(0)
    next(batches)
    waited_s = []
    for _ in range(8):
        time.sleep(0.04)  # the network's work
        asked_s = time.monotonic()
        next(batches)
        waited_s.append(time.monotonic() - asked_s)
    source.close()
    assert np.median(waited_s) < 0.005


def test_closing_leaves_no_threads():
    before = threading.active_count()
    source = PreparedBatches(Numbers(), _plus_hundred, 4, 3)
    _steps(source, 0, 2)
    assert threading.active_count() == before + 3
    source.close()
    assert threading.active_count() == before
