# SPDX-License-Identifier: MIT
"""Which keyframe follows which, and what each drive looked like around them."""

from collections.abc import Sequence

import numpy as np

from netvlad_ros.keyframe import Keyframe

# The id of no keyframe.
NONE = -1
# What a drive looks like on the whole is the mean over the block of a keyframe and the one before.
BLOCK_KEYFRAMES = 16
# A mean counts as if so many more descriptors were in it, all zero: of a few it says little yet.
PRIOR_KEYFRAMES = 1.0
# Products of at most so many multiplications are computed by OpenBLAS without waking its threads.
SMALL_PRODUCT = 1 << 18
EPSILON = 1e-6


class Drives:
    """The keyframes of each session in their order, by the ids that they have in the index.

    Descriptors stay in the index; here are their sums over blocks only.
    """

    def __init__(self, dims: int) -> None:
        self._last: dict[str, int] = {}  # of each session, by its UUID
        self._sessions: dict[str, int] = {}  # numbered as they came
        self._blocks: dict[tuple[int, int], int] = {}  # session, block in it -> row of sums
        # Of each id: number in the session, ids before and after, session, row of sums, and the id of the
        # keyframe that first showed the place, as far as that was recognised; whether it is there.
        self._table = np.zeros((0, 6), np.int64)
        self._is_there = np.zeros(0, bool)
        # How far each descriptor was from the mean of its drive when it came.
        self._lengths = np.zeros(0, np.float32)
        # Of each block: sum and count of descriptors, row of the block before. Row 0 is that of none.
        self._sums = np.zeros((1, dims), np.float32)
        self._counts = np.zeros(1)
        self._rows_before = np.zeros(1, np.int64)

    def add(self, first_id: int, keyframes: Sequence[Keyframe], descriptors: np.ndarray) -> None:
        """Takes in keyframes with ascending ids; descriptors: (n, D)."""
        end = first_id + len(keyframes)
        self._table = _with_rows(self._table, end + 1)
        self._table[NONE] = (0, NONE, NONE, 0, 0, NONE)
        self._is_there = _with_rows(self._is_there, end)
        self._lengths = _with_rows(self._lengths, end)
        for each, keyframe, descriptor in zip(
            range(first_id, end), keyframes, descriptors, strict=True
        ):
            session = self._sessions.setdefault(keyframe.session.uuid, len(self._sessions))
            row = self._row(session, keyframe.number // BLOCK_KEYFRAMES)
            self._sums[row] += descriptor
            self._counts[row] += 1
            (mean,) = self._means(np.array([row]))
            self._lengths[each] = max(EPSILON, float(np.linalg.norm(descriptor - mean)))
            before, after = self._neighbours(keyframe)
            self._table[each] = keyframe.number, before, after, session, row, each
            self._is_there[each] = True
            self._link(before, each)
            self._link(each, after)
            if after == NONE:
                self._last[keyframe.session.uuid] = each

    def remove(self, ids: Sequence[int]) -> None:
        """Takes ids out; those around them follow each other then."""
        for each in ids:
            _, before, after, session, *_ = self._table[each].tolist()
            self._link(before, after)
            self._is_there[each] = False
            if after == NONE:
                uuid = next(uuid for uuid, number in self._sessions.items() if number == session)
                self._last[uuid] = before

    def around(self, ids: np.ndarray, reach: int) -> np.ndarray:
        """(n, |reach| + 1) ids of the keyframes 0, 1, ... numbers after each of n; NONE where there is none.

        reach: how many numbers; before them if it is negative.
        """
        follow = self._table[:, 1 if reach < 0 else 2]  # the last row is that of NONE
        found = np.empty((len(ids), abs(reach) + 1), np.int64)
        found[:, 0] = ids
        for step in range(1, abs(reach) + 1):
            found[:, step] = follow[found[:, step - 1]]
        away = np.abs(self._table[found, 0] - self._table[ids, 0][:, None])
        is_there = (found != NONE) & (away <= abs(reach))
        if np.array_equal(away[is_there], np.nonzero(is_there)[1]):
            return np.where(is_there, found, NONE)
        rows = np.nonzero(is_there)[0]  # some are missing in between
        placed = np.full(found.shape, NONE, np.int64)
        placed[rows, away[is_there]] = found[is_there]
        return placed

    def present(self, ids: np.ndarray) -> np.ndarray:
        """Those of the ids that were not removed."""
        return ids[self._is_there[ids]]

    def recognised(self, keyframe: int, place: int) -> None:
        """A keyframe shows the place of an earlier one."""
        self._table[keyframe, 5] = self._table[place, 5]

    def near(self, ids: np.ndarray, keyframes: int) -> np.ndarray:
        """(n, n) whether two of n are of one place: so many numbers apart, or recognised as such."""
        return (self._apart(ids) <= keyframes) | (self._apart(self._table[ids, 5]) <= keyframes)

    def _apart(self, ids: np.ndarray) -> np.ndarray:
        """(n, n) how many numbers apart they are; very many if they are of two sessions."""
        numbers, sessions = self._table[ids, 0], self._table[ids, 3]
        apart = np.abs(numbers[:, None] - numbers)
        return np.where(sessions[:, None] == sessions, apart, np.iinfo(np.int64).max)

    def centred(self, keyframe: int, descriptor: np.ndarray) -> np.ndarray:
        """(D,) a descriptor without what its drive looks like on the whole, of unit length again."""
        (mean,) = self._means(self._table[[keyframe], 4])
        return (descriptor - mean) / self._lengths[keyframe]

    def similarities(
        self, ids: np.ndarray, descriptors: np.ndarray, centred: np.ndarray
    ) -> np.ndarray:
        """(n, L) of keyframes (n, D), once they are centred, with others (L, D) that are."""
        rows, which = np.unique(self._table[ids, 4], return_inverse=True)
        products = _product(descriptors, centred) - _product(self._means(rows), centred)[which]
        return products / self._lengths[ids, None]

    def same_light(self, keyframe: int, ids: np.ndarray) -> np.ndarray:
        """(n,) cosine, 0 to 1, of what the drives of a keyframe and of n others look like on the whole."""
        rows, which = np.unique(self._table[ids, 4], return_inverse=True)
        means, own = self._means(rows), self._means(self._table[[keyframe], 4])[0]
        lengths = np.linalg.norm(means, axis=1) * np.linalg.norm(own)
        return np.maximum(0.0, means @ own / np.maximum(lengths, EPSILON))[which]

    def _means(self, rows: np.ndarray) -> np.ndarray:
        """(n, D) what drives look like on the whole in these blocks."""
        before = self._rows_before[rows]
        counts = self._counts[rows] + self._counts[before] + PRIOR_KEYFRAMES
        return (self._sums[rows] + self._sums[before]) / counts[:, None].astype(np.float32)

    def _row(self, session: int, block: int) -> int:
        """The row of the sums of a block, a new one if there is none yet."""
        if (session, block) not in self._blocks:
            row = len(self._blocks) + 1
            self._sums = _with_rows(self._sums, row + 1)
            self._counts = _with_rows(self._counts, row + 1)
            self._rows_before = _with_rows(self._rows_before, row + 1)
            self._blocks[session, block] = row
            self._rows_before[row] = self._blocks.get((session, block - 1), 0)
            if (session, block + 1) in self._blocks:
                self._rows_before[self._blocks[session, block + 1]] = row
        return self._blocks[session, block]

    def _neighbours(self, keyframe: Keyframe) -> tuple[int, int]:
        """Between which ids of its session a new keyframe belongs; nearly always it is the last."""
        before, after = self._last.get(keyframe.session.uuid, NONE), NONE
        while before != NONE and self._table[before, 0] > keyframe.number:
            before, after = int(self._table[before, 1]), before
        return before, after

    def _link(self, before: int, after: int) -> None:
        if before != NONE:
            self._table[before, 2] = after
        if after != NONE:
            self._table[after, 1] = before


def _with_rows(array: np.ndarray, count: int) -> np.ndarray:
    """The array with room for so many rows; its length doubles, so that adding one by one stays cheap."""
    if count <= len(array):
        return array
    grown = np.zeros((max(count, 2 * len(array)), *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown


def _product(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(n, L) dot products of (n, D) with (L, D)."""
    count = max(1, SMALL_PRODUCT // columns.size)
    parts = [rows[start : start + count] @ columns.T for start in range(0, len(rows), count)]
    return np.concatenate(parts) if parts else np.empty((0, len(columns)), np.float32)
