# SPDX-License-Identifier: MIT
"""What queries remember can be taken back to any recent step, while another thread goes on remembering."""

import threading

import numpy as np

from netvlad_ros.training.remembered import RememberedNegatives


def _remembered(steps: int) -> RememberedNegatives:
    """In step n, query n % 3 meets n and n + 1."""
    found = RememberedNegatives()
    for step in range(steps):
        found.remember(step, step % 3, np.array([step, step + 1]))
    return found


def _all(remembered: RememberedNegatives) -> list[list[int]]:
    return [remembered.of(query).tolist() for query in range(3)]


def test_going_back_forgets_what_came_after():
    remembered = _remembered(8)
    assert _all(remembered) == [[6, 7], [7, 8], [5, 6]]
    for step in (6, 4, 2, 0):
        remembered.go_back_to(step)
        assert _all(remembered) == _all(_remembered(step))
    assert _all(remembered) == [[], [], []]


def test_the_arrays_of_a_step_restore_what_was_then():
    remembered = _remembered(8)
    queries, table = remembered.arrays(5)
    other = RememberedNegatives()
    other.restore(queries, table)
    assert _all(other) == _all(_remembered(5))
    assert _all(remembered) == _all(_remembered(8))
    other.remember(5, 0, np.array([1]))
    assert other.arrays(6)[1].tolist() == [[1, -1], [4, 5], [2, 3]]
    assert RememberedNegatives().arrays(0)[1].shape == (0, 0)


def test_arrays_hold_while_another_thread_remembers():
    remembered = RememberedNegatives()
    steps = 3000

    def remember() -> None:
        for step in range(steps):
            remembered.remember(step, step % 50, np.array([step]))

    thread = threading.Thread(target=remember)
    thread.start()
    while thread.is_alive():
        assert remembered.arrays(0)[0].size == 0
    remembered.go_back_to(1000)
    assert [remembered.of(query)[0] for query in range(50)] == list(range(950, 1000))
