# SPDX-License-Identifier: MIT
"""The exact index: every vector is compared, with Faiss."""

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from netvlad_ros.threads import FAISS_THREADS

faiss.omp_set_num_threads(FAISS_THREADS)

# A block is filled and then left alone, so that growing never copies more than this.
BLOCK_BYTES = 64 << 20
# Rounding of float32. A sum of so many products of unit vectors is wrong by at most their number times this,
# in whatever order it is added up (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
UNIT_ROUNDOFF = 2.0**-24
# Matches that a scan returns beyond those asked for, so that a second scan is seldom needed.
SPARE_MATCHES = 20


class ExactIndex:
    """A VectorIndex that returns what comparing everything in single precision would.

    Exact search is bound by memory bandwidth. Faiss therefore scans a half-precision copy, and whatever can
    be among the best, given the rounding errors that were measured when it was added, is compared again in
    single precision.
    """

    def __init__(self, dims: int) -> None:
        self.dims = dims
        self._blocks: list[_Block] = []

    def __len__(self) -> int:
        return sum(map(len, self._blocks))

    @property
    def size_bytes(self) -> int:
        """Memory taken by descriptors."""
        return sum(block.size_bytes for block in self._blocks)

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """See VectorIndex."""
        while len(ids):
            if not self._blocks or self._blocks[-1].is_full:
                self._blocks.append(_Block(self.dims))
            taken = self._blocks[-1].add(ids, vectors)
            ids, vectors = ids[taken:], vectors[taken:]

    def search(
        self, vector: np.ndarray, count: int, excluded: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See VectorIndex."""
        scans = [
            (block, scan)
            for block in self._blocks
            if len((scan := block.scan(vector, count + SPARE_MATCHES, excluded)).rows)
        ]
        if not scans:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        limit = _least_possible(np.concatenate([scan.similarities for _, scan in scans]), count)
        limit -= 2.0 * max(block.rounding_error for block in self._blocks)
        exact = [block.compare(vector, limit, scan, excluded) for block, scan in scans]
        ids, similarities = (np.concatenate(parts) for parts in zip(*exact, strict=True))
        best = np.lexsort((ids, -similarities))[:count]
        return ids[best], similarities[best]

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """See VectorIndex."""
        found = np.empty((len(ids), self.dims), np.float32)
        missing = np.ones(len(ids), bool)
        for block in self._blocks:
            rows, there = block.rows_of(ids)
            found[there] = block.descriptors[rows[there]]
            missing &= ~there
        if missing.any():
            raise KeyError(int(ids[missing][0]))
        return found

    def remove(self, ids: np.ndarray) -> None:
        """See VectorIndex."""
        self.vectors(ids)  # all of them are there
        for block in self._blocks:
            block.remove(ids)
        self._blocks = [block for block in self._blocks if len(block)]


def _least_possible(similarities: np.ndarray, rank: int) -> float:
    """The similarity at a rank, or the lowest one if there are fewer."""
    rank = min(rank, len(similarities))
    return float(-np.partition(-similarities, rank - 1)[rank - 1])


@dataclass(frozen=True)
class _Scan:
    """What Faiss found in the half-precision copy of a block, best first."""

    rows: np.ndarray
    similarities: np.ndarray
    is_complete: bool  # nothing of the block is left out, but what is excluded


class _Block:
    """A run of descriptors with ascending ids: in single precision for us, in half precision for Faiss."""

    def __init__(self, dims: int) -> None:
        self.capacity = max(1, BLOCK_BYTES // (4 * dims))
        self.rounding_error = 0.0  # half-precision similarities are wrong by less
        self._ids = np.empty(self.capacity, np.int64)
        # The system provides the memory page by page, when it is written.
        self._exact = np.empty((self.capacity, dims), np.float32)
        self._half = faiss.IndexScalarQuantizer(
            dims, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )

    def __len__(self) -> int:
        return int(self._half.ntotal)

    @property
    def is_full(self) -> bool:
        return len(self) == self.capacity

    @property
    def ids(self) -> np.ndarray:
        return self._ids[: len(self)]

    @property
    def descriptors(self) -> np.ndarray:
        return self._exact[: len(self)]

    @property
    def size_bytes(self) -> int:
        return len(self) * (self._exact.shape[1] * 6 + 8)

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> int:
        """Takes in as many as there is room for; returns how many."""
        start = len(self)
        taken = min(len(ids), self.capacity - start)
        new = vectors[:taken]
        self._ids[start : start + taken] = ids[:taken]
        self._exact[start : start + taken] = new
        self._half.add(np.ascontiguousarray(new))
        # |q (x - y)| <= |x - y| for a unit vector q (Cauchy-Schwarz), and two sums that are rounded.
        errors = np.linalg.norm(new - new.astype(np.float16), axis=1)
        error = float(errors.max()) + 2 * new.shape[1] * UNIT_ROUNDOFF
        self.rounding_error = max(self.rounding_error, error)
        return taken

    def rows_of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The row of each id, and whether it is in here."""
        own = self.ids  # once: another thread may be adding
        if not len(own):
            return np.zeros(len(ids), np.int64), np.zeros(len(ids), bool)
        rows = np.minimum(np.searchsorted(own, ids), len(own) - 1)
        return rows, own[rows] == ids

    def scan(self, vector: np.ndarray, wanted: int, excluded: np.ndarray | None) -> _Scan:
        allowed = self._allowed(excluded)
        available = len(self) if allowed is None else int(allowed.sum())
        wanted = min(wanted, available)
        if not wanted:
            return _Scan(np.empty(0, np.int64), np.empty(0, np.float32), is_complete=True)
        options = None
        if allowed is not None:
            bits: Any = np.packbits(allowed, bitorder="little")
            selector = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg] # Faiss's Python adds this
            options = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
        similarities, rows = self._half.search(vector[None], wanted, params=options)
        return _Scan(rows[0], similarities[0], wanted == available)

    def compare(
        self, vector: np.ndarray, limit: float, scan: _Scan, excluded: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids and single-precision similarities of all rows that reach the limit in half precision."""
        if scan.is_complete or scan.similarities[-1] < limit:
            rows = scan.rows[scan.similarities >= limit]
            ids, exact = self._ids[rows], self._exact[rows]
        else:  # the scan was too short, as when a robot stood still: then all rows at once are quickest
            ids, exact = self.ids, self.descriptors
            allowed = self._allowed(excluded)
            if allowed is not None:
                ids, exact = ids[allowed], exact[allowed]
        # einsum, because BLAS would wake its threads, and would round according to how many rows there are.
        return ids, np.einsum("nd,d->n", exact, vector)

    def remove(self, ids: np.ndarray) -> None:
        size = len(self)
        kept = ~np.isin(self.ids, ids)
        if kept.all():
            return
        self._half.remove_ids(faiss.IDSelectorBatch(np.flatnonzero(~kept)))
        self._ids[: kept.sum()] = self._ids[:size][kept]
        self._exact[: kept.sum()] = self._exact[:size][kept]

    def _allowed(self, excluded: np.ndarray | None) -> np.ndarray | None:
        """(n,) which rows may be found; None if all may."""
        if excluded is None or not len(excluded):
            return None
        rows, there = self.rows_of(excluded)
        if not there.any():
            return None
        allowed = np.ones(len(self), bool)
        allowed[rows[there]] = False
        return allowed
