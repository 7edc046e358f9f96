# SPDX-License-Identifier: MIT
"""The negatives that were hardest for each query the last time, as they were before any recent step."""

import threading
from typing import NamedTuple

import numpy as np


class _Change(NamedTuple):
    """What a query remembered before a step; None for nothing."""

    step: int
    query: int
    negatives: np.ndarray | None


class RememberedNegatives:
    """By query. Steps are read ahead and asked for again, so that changes can be taken back.

    One thread may remember while another asks for arrays().
    """

    def __init__(self) -> None:
        self._negatives: dict[int, np.ndarray] = {}
        self._changes: list[_Change] = []
        self._changing = threading.Lock()

    def of(self, query: int) -> np.ndarray:
        """(n,) int64, hardest first; none before its first turn."""
        return self._negatives.get(query, np.empty(0, np.int64))

    def remember(self, step: int, query: int, negatives: np.ndarray) -> None:
        """In this step a query has met these."""
        with self._changing:
            self._changes.append(_Change(step, query, self._negatives.get(query)))
            self._negatives[query] = negatives

    def go_back_to(self, step: int) -> None:
        """Forgets what was remembered in this step and after it."""
        while self._changes and self._changes[-1].step >= step:
            change = self._changes.pop()
            if change.negatives is None:
                del self._negatives[change.query]
            else:
                self._negatives[change.query] = change.negatives

    def arrays(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Queries (Q,) and their negatives (Q, n), filled up with -1, before this step.

        From then on, earlier steps can't be gone back to.
        """
        with self._changing:
            before = self._before(step)
            self._changes = [change for change in self._changes if change.step >= step]
        table = np.full((len(before), max(map(len, before.values()), default=0)), -1, np.int64)
        for row, negatives in enumerate(before.values()):
            table[row, : len(negatives)] = negatives
        return np.array(list(before), np.int64), table

    def restore(self, queries: np.ndarray, table: np.ndarray) -> None:
        """What arrays() gave."""
        pairs = zip(queries.tolist(), table, strict=True)
        self._negatives = {query: negatives[negatives >= 0] for query, negatives in pairs}
        self._changes = []

    def _before(self, step: int) -> dict[int, np.ndarray]:
        copy = RememberedNegatives()
        copy._negatives, copy._changes = dict(self._negatives), list(self._changes)
        copy.go_back_to(step)
        return copy._negatives
