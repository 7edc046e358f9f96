# SPDX-License-Identifier: MIT
"""Descriptors by keyframe, and the most similar ones to a query: exact, with Faiss."""

import itertools
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

from netvlad_ros.errors import DatabaseError, DescriptorError
from netvlad_ros.retrieval import storage
from netvlad_ros.retrieval.keyframes import Keyframe, Match
from netvlad_ros.threads import FAISS_THREADS

faiss.omp_set_num_threads(FAISS_THREADS)

# A block is filled and then left alone, so that growing never copies more than this.
BLOCK_BYTES = 64 << 20
# Rounding of float32. A sum of so many products of unit vectors is wrong by at most their number times this,
# in whatever order it is added up (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
UNIT_ROUNDOFF = 2.0**-24
# Matches that a scan returns beyond those asked for, so that a second scan is seldom needed.
SPARE_MATCHES = 20
# How far from length one a descriptor may be; float32 rounding stays well below.
LENGTH_TOLERANCE = 1e-3


class KeyframeIndex:
    """The descriptors of keyframes, all of one fingerprint, and an exact search by cosine similarity.

    Exact search is bound by memory bandwidth. Faiss therefore scans a half-precision copy, and whatever can
    be among the best, given the rounding errors that were measured when it was added, is compared again in
    single precision.
    """

    def __init__(self, fingerprint: str, dims: int) -> None:
        self.fingerprint = fingerprint
        self.dims = dims
        self.database_id = uuid.uuid4().hex  # stays when it is saved, loaded and added to
        self.has_unsaved_changes = False
        self._keyframes: dict[int, Keyframe] = {}
        self._blocks: list[_Block] = []
        self._next_id = 0
        self._next_session = 0

    def __len__(self) -> int:
        return len(self._keyframes)

    @property
    def keyframes(self) -> list[Keyframe]:
        """All keyframes in the order of their ids."""
        return list(self._keyframes.values())

    @property
    def size_bytes(self) -> int:
        """Memory taken by descriptors."""
        return sum(block.size_bytes for block in self._blocks)

    def add(self, descriptor: np.ndarray, stamp_ns: int, session: int = 0) -> Keyframe:
        """Keeps a descriptor under a new id. Raises DescriptorError if it does not fit."""
        self.check(descriptor)
        keyframe = Keyframe(self._next_id, session, int(stamp_ns))  # SQLite takes no NumPy integers
        self._append(keyframe, descriptor)
        return keyframe

    def begin_session(self) -> int:
        """The number of a session that there never was in this index, nor in the file once it is saved."""
        self._next_session += 1
        self.has_unsaved_changes = True
        return self._next_session - 1

    def search(self, descriptor: np.ndarray, max_matches: int) -> list[Match]:
        """The most similar keyframes, best first; of equal similarity the older first.

        Raises DescriptorError if the descriptor does not fit.
        """
        self.check(descriptor)
        if not self._blocks:
            return []
        scans = [block.scan(descriptor, max_matches + SPARE_MATCHES) for block in self._blocks]
        limit = _least_possible(np.concatenate([scan.similarities for scan in scans]), max_matches)
        limit -= 2.0 * max(block.rounding_error for block in self._blocks)
        exact = [
            block.compare(descriptor, limit, scan)
            for block, scan in zip(self._blocks, scans, strict=True)
        ]
        ids, similarities = (np.concatenate(parts) for parts in zip(*exact, strict=True))
        best = np.lexsort((ids, -similarities))[:max_matches]
        return [Match(self._keyframes[int(ids[i])], float(similarities[i])) for i in best]

    def remove(self, keyframe_ids: Iterable[int]) -> None:
        """Takes keyframes out. Raises DatabaseError, and removes nothing, if one is not there."""
        doomed = set(keyframe_ids)
        absent = doomed - self._keyframes.keys()
        if absent:
            raise DatabaseError(
                f"there is no keyframe {min(absent)}; its id was never given or it was removed before."
            )
        self.has_unsaved_changes |= bool(doomed)
        for keyframe_id in doomed:
            del self._keyframes[keyframe_id]
        for block in self._blocks:
            block.remove(doomed)
        self._blocks = [block for block in self._blocks if len(block)]

    def reset(self) -> None:
        """Takes all keyframes out; their ids are not given again."""
        self.has_unsaved_changes |= len(self) > 0
        self._keyframes.clear()
        self._blocks.clear()

    def emptied(self, fingerprint: str, dims: int) -> "KeyframeIndex":
        """An empty index for other descriptors that continues the ids and sessions of this one."""
        index = KeyframeIndex(fingerprint, dims)
        index.database_id = self.database_id
        index._next_id, index._next_session = self._next_id, self._next_session
        index.has_unsaved_changes = self.has_unsaved_changes
        return index

    def save(self, path: str | Path) -> None:
        """Brings the file up to date; it is as it was or complete, at whatever moment the process dies.

        The file is new or an earlier state of this index, and then only what changed is written. Raises
        DatabaseError for any other file, and leaves it alone.
        """
        header = storage.Header(
            self.database_id, self.fingerprint, self.dims, self._next_id, self._next_session
        )
        descriptors = itertools.chain.from_iterable(block.descriptors for block in self._blocks)
        storage.save(path, header, self.keyframes, descriptors)
        self.has_unsaved_changes = False

    @classmethod
    def load(cls, path: str | Path) -> "KeyframeIndex":
        """The index that was saved last. Raises DatabaseError if there is none or it is damaged."""
        with storage.reading(path) as (header, rows):
            index = cls(header.fingerprint, header.dims)
            for keyframe, descriptor in rows:
                index._append(keyframe, descriptor)
        index.database_id = header.database_id
        index._next_id, index._next_session = header.next_id, header.next_session
        index.has_unsaved_changes = False
        return index

    def check(self, descriptor: np.ndarray) -> None:
        """Raises DescriptorError unless this is a float32 vector of our dimensions and of unit length."""
        if descriptor.shape != (self.dims,) or descriptor.dtype != np.float32:
            raise DescriptorError(
                f"expected a descriptor of {self.dims} float32 values, as this database holds, got "
                f"{descriptor.dtype} of shape {descriptor.shape}; was it made by another model?"
            )
        length = float(np.linalg.norm(descriptor))
        if not abs(length - 1.0) < LENGTH_TOLERANCE:  # true for NaN too
            raise DescriptorError(
                f"expected a descriptor of unit length, got length {length:.4g}; normalise it first."
            )

    def check_fingerprint(self, fingerprint: str) -> None:
        """Raises DescriptorError if descriptors of this fingerprint can't be compared with ours."""
        if fingerprint != self.fingerprint:
            raise DescriptorError(
                f"this database holds descriptors of model {self.fingerprint}, got one of {fingerprint}; "
                "use the model (and input size) it was made with, or another database file."
            )

    def _append(self, keyframe: Keyframe, descriptor: np.ndarray) -> None:
        if not self._blocks or self._blocks[-1].is_full:
            self._blocks.append(_Block(self.dims))
        self._blocks[-1].add(keyframe.keyframe_id, descriptor)
        self._keyframes[keyframe.keyframe_id] = keyframe
        self._next_id = keyframe.keyframe_id + 1
        self.has_unsaved_changes = True


def _least_possible(similarities: np.ndarray, rank: int) -> float:
    """The similarity at a rank, or the lowest one if there are fewer."""
    rank = min(rank, len(similarities))
    return float(-np.partition(-similarities, rank - 1)[rank - 1])


@dataclass(frozen=True)
class _Scan:
    """What Faiss found in the half-precision copy of a block, best first."""

    rows: np.ndarray
    similarities: np.ndarray
    is_complete: bool  # nothing of the block is left out


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
    def descriptors(self) -> np.ndarray:
        return self._exact[: len(self)]

    @property
    def size_bytes(self) -> int:
        return len(self) * (self._exact.shape[1] * 6 + 8)

    def add(self, keyframe_id: int, descriptor: np.ndarray) -> None:
        row = len(self)
        self._ids[row] = keyframe_id
        self._exact[row] = descriptor
        self._half.add(descriptor[None])
        # |q (x - y)| <= |x - y| for a unit vector q (Cauchy-Schwarz), and two sums that are rounded.
        error = float(np.linalg.norm(descriptor - descriptor.astype(np.float16)))
        error += 2 * len(descriptor) * UNIT_ROUNDOFF
        self.rounding_error = max(self.rounding_error, error)

    def scan(self, descriptor: np.ndarray, wanted: int) -> _Scan:
        wanted = min(wanted, len(self))
        similarities, rows = self._half.search(descriptor[None], wanted)
        return _Scan(rows[0], similarities[0], wanted == len(self))

    def compare(
        self, descriptor: np.ndarray, limit: float, scan: _Scan
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids and single-precision similarities of all rows that reach the limit in half precision."""
        if scan.is_complete or scan.similarities[-1] < limit:
            rows = scan.rows[scan.similarities >= limit]
            ids, exact = self._ids[rows], self._exact[rows]
        else:  # the scan was too short, as when a robot stood still: then all rows at once are quickest
            ids, exact = self._ids[: len(self)], self.descriptors
        # einsum, because BLAS would wake its threads, and would round according to how many rows there are.
        return ids, np.einsum("nd,d->n", exact, descriptor)

    def remove(self, doomed: set[int]) -> None:
        size = len(self)
        kept = ~np.isin(self._ids[:size], list(doomed))
        if kept.all():
            return
        self._half.remove_ids(faiss.IDSelectorBatch(np.flatnonzero(~kept)))
        self._ids[: kept.sum()] = self._ids[:size][kept]
        self._exact[: kept.sum()] = self._exact[:size][kept]
