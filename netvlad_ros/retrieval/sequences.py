# SPDX-License-Identifier: MIT
"""How well the last keyframes of a drive fit those before a match, in driving order."""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from netvlad_ros.index.vector_index import VectorIndex
from netvlad_ros.retrieval.drives import NONE, Drives

# How fast this drive goes, as a multiple of the speed of the one before. Other speeds than that count less:
# the more ways there are to lie along a map, the better wrong ones fit.
SPEEDS = (0.5, 0.67, 0.8, 1.0, 1.25, 1.5, 2.0)
OTHER_SPEED_WEIGHT = 0.8
# The view itself counts so many times, so that a place is found as soon as a robot comes to it.
LAST_PAIR_WEIGHT = 3.0
# And a sequence scores at most so many times what its view does: a robot that turns off leaves the old way.
LAST_PAIR_FACTOR = 4.0
# So much is taken off where both drives look the same on the whole, in one light: there look-alike places fit
# better by chance, and right ones much better.
SAME_LIGHT = 0.8
# From one query to the next a drive goes on by so many keyframes of the map.
MAX_STEP = 2
# Keyframes of a session that are at most so many apart are of one place.
PLACE_KEYFRAMES = 5
# A place counts as recognised with such a score; its other visits are then left out of margins.
RECOGNISED = 1.6
# The most similar matches that get a score, and the best places that the next query goes on from: more of
# them cost time and find no more.
MAX_FOUND, MAX_FOLLOWED = 8, 6
EPSILON = 1e-6


@dataclass
class Track:
    """What one camera saw last.

    ids:     of its last keyframes, newest first.
    centred: (D,) of each of them.
    places:  ids of the keyframes that its last query fitted best.
    """

    ids: deque[int] = field(default_factory=deque)
    centred: deque[np.ndarray] = field(default_factory=deque)
    places: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def goes_on(self, keyframe: int, centred: np.ndarray, length: int) -> None:
        """Takes in the next keyframe, and keeps at most so many."""
        self.ids.appendleft(keyframe)
        self.centred.appendleft(centred)
        while len(self.ids) > length:
            self.ids.pop()
            self.centred.pop()


class Found(NamedTuple):
    """Keyframes that may be of the place of a query, best first.

    ids:          (n,) in the index.
    similarities: (n,) cosine similarity to the query.
    scores:       (n,) of sequences; NaN where they were not computed.
    margins:      (n,) how far each score is above that of the best other place.
    """

    ids: np.ndarray
    similarities: np.ndarray
    scores: np.ndarray
    margins: np.ndarray

    def part(self, rows: slice | np.ndarray) -> "Found":
        """Some of them."""
        return Found(*(each[rows] for each in self))

    @classmethod
    def unscored(cls, ids: np.ndarray, similarities: np.ndarray) -> "Found":
        """What a search returned."""
        nothing = np.full(len(ids), np.nan, np.float32)
        return cls(ids, similarities, nothing, nothing)


class SequenceScorer:
    """Scores places by the similarities of the last keyframes to those before each place.

    Descriptors are centred first: what a drive looks like on the whole, such as dark, is taken out, so that
    by night the day's places count and not all that is dark. The score is the mean similarity along a line
    through the table of pairs, the best of some speeds, as a multiple of the root mean square of the table
    (local contrast, as in SeqSLAM: Milford and Wyeth, ICRA 2012), less SAME_LIGHT. What is missing, because
    a drive or a map has only begun or has a gap, counts as chance.
    """

    def __init__(
        self, index: VectorIndex, drives: Drives, length: int, backwards: bool = False
    ) -> None:
        """length: of a sequence in keyframes; backwards: whether keyframes after a place count too."""
        self._index, self._drives, self._length = index, drives, length
        # (speeds, length) how many keyframes away from the place each one of the sequence is.
        self._steps = np.rint(np.outer(SPEEDS, np.arange(length))).astype(np.int64)
        self._speed_weights = np.where(np.array(SPEEDS) == 1.0, 1.0, OTHER_SPEED_WEIGHT)
        self._ways = (-1, 1) if backwards else (-1,)

    def follow(
        self,
        track: Track,
        query: int,
        descriptor: np.ndarray,
        found: Found,
        excluded: np.ndarray,
        count: int,
    ) -> Found:
        """The next query of a track: what was found for it, and where the places before it lead to.

        query:    id of the new keyframe, which is in the index and in the drives already.
        excluded: ids that may not match, in ascending order.
        count:    how many places are added to those found.
        """
        centred = self._drives.centred(query, descriptor)
        track.goes_on(query, centred, self._length)
        # What was seen a moment ago fits itself.
        hidden = np.union1d(excluded, track.ids)
        successors = np.setdiff1d(self._successors(track), hidden)
        others = np.setdiff1d(successors, found.ids)
        alike = np.einsum("nd,d->n", self._index.vectors(others), descriptor)
        is_scored = np.isin(found.ids, successors)
        is_scored[:MAX_FOUND] = True
        ids = np.concatenate([found.ids[is_scored], others])
        scores = self._scores(np.stack(track.centred), ids, hidden)
        scores -= np.float32(SAME_LIGHT) * self._drives.same_light(query, ids).astype(np.float32)
        scored = Found(
            ids,
            np.concatenate([found.similarities[is_scored], alike]),
            scores,
            margins(ids, scores, self._drives),
        )
        best = np.argsort(-scores, kind="stable")
        if len(best) and scores[best[0]] >= RECOGNISED:
            self._drives.recognised(query, int(ids[best[0]]))
        track.places = ids[best[:MAX_FOLLOWED]]
        # Of those that were not found, only the best.
        is_other = best >= is_scored.sum()
        kept = best[~is_other | (np.cumsum(is_other) <= count)]
        parts = zip(scored.part(kept), found.part(~is_scored), strict=True)
        return Found(*map(np.concatenate, parts))

    def _successors(self, track: Track) -> np.ndarray:
        """Ids of where the places of the last query lead to, in ascending order."""
        places = self._drives.present(track.places)
        found = [self._drives.around(places, -way * MAX_STEP).reshape(-1) for way in self._ways]
        return np.setdiff1d(np.concatenate(found), [NONE])

    def _scores(self, sequence: np.ndarray, ids: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        """(n,) of the places with these ids, for the last keyframes (L, D), newest first.

        hidden: ids that are taken for missing.
        """
        ways = [self._along(way, sequence, ids, hidden) for way in self._ways]
        return np.max(ways, axis=0).astype(np.float32)  # as in messages

    def _along(
        self, way: int, sequence: np.ndarray, ids: np.ndarray, hidden: np.ndarray
    ) -> np.ndarray:
        """The scores if the map was driven the same way (-1), or backwards (1)."""
        steps = self._steps[:, : len(sequence)]
        windows = self._drives.around(ids, way * int(steps.max()))
        windows[:, 1:][np.isin(windows[:, 1:], hidden)] = NONE
        table = self._similarities(windows, sequence)
        last = table[:, :1, 0]
        along = table[:, steps, np.arange(len(sequence))].sum(axis=2)  # (n, speeds)
        along += (LAST_PAIR_WEIGHT - 1.0) * last
        mean = along / (self._length - 1.0 + LAST_PAIR_WEIGHT)
        best = (np.minimum(mean, LAST_PAIR_FACTOR * last) * self._speed_weights).max(axis=1)
        pairs = (windows != NONE).sum(axis=1) * len(sequence)
        return best / (np.sqrt(np.einsum("nwl,nwl->n", table, table) / pairs) + EPSILON)

    def _similarities(self, windows: np.ndarray, sequence: np.ndarray) -> np.ndarray:
        """(n, W, L) of the keyframes of n windows (n, W) with a sequence (L, D); 0 for NONE."""
        ids, which = np.unique(windows, return_inverse=True)
        known = ids[ids != NONE]
        products = np.zeros((len(ids), len(sequence)), np.float32)
        products[len(ids) - len(known) :] = self._drives.similarities(
            known, self._index.vectors(known), sequence
        )
        return products[which].reshape(*windows.shape, len(sequence))


def margins(ids: np.ndarray, scores: np.ndarray, drives: Drives) -> np.ndarray:
    """(n,) how far each score is above that of the best other place, or above chance where there is none."""
    others = np.where(drives.near(ids, PLACE_KEYFRAMES), 0.0, scores)
    return scores - others.max(axis=1, initial=0.0)
