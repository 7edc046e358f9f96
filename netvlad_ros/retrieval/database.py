# SPDX-License-Identifier: MIT
"""The keyframes of one or more robots, sessions and maps; each new one is looked up before it is added."""

import functools
import itertools
import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from netvlad_ros.calibration import Calibration, resolved_min_similarity
from netvlad_ros.config import LOCALISATION, Config
from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.errors import DatabaseError, DescriptorError
from netvlad_ros.image_data import NOTHING_KNOWN, CorrectedPose, ImageData
from netvlad_ros.index.exact import ExactIndex
from netvlad_ros.index.vector_index import VectorIndex
from netvlad_ros.keyframe import (
    MAX_STREAMS,
    NO_EXTERNAL_ID,
    ONLY_STREAM,
    Keyframe,
    Match,
    Session,
    Stream,
)
from netvlad_ros.retrieval.density import Density
from netvlad_ros.retrieval.drive_state import RobotState, StreamState
from netvlad_ros.retrieval.drives import Drives
from netvlad_ros.retrieval.image_data_keeper import ImageDataKeeper
from netvlad_ros.retrieval.keyframe_selector import Choice, KeyframeSelector
from netvlad_ros.retrieval.query import Query, Recent, best_first
from netvlad_ros.retrieval.sequences import Found, SequenceScorer, Track
from netvlad_ros.retrieval.stream_clock import LATE, StreamClock, Tick
from netvlad_ros.store.keyframe_store import Changes, KeyframeStore, StoredKeyframes, StoreHeader

logger = logging.getLogger(__name__)

# How far from length one a descriptor may be; float32 rounding stays well below.
LENGTH_TOLERANCE = 1e-3
# Of the keyframes that are left out, only so many newest ones are compared, to show the most similar.
RECENT_SHOWN = 500
# Keyframes are handed to a store so many at a time.
BLOCK_ROWS = 4096
# By then a keyframe's loop closures are known.
SETTLED_S = 10.0


class KeyframeDatabase:
    """Keyframes with the descriptors of one model, by an index; a store keeps them on disk.

    passed_over: how many images are no keyframes, by reason.
    last_image:  what became of the last one, as a sentence.
    """

    def __init__(
        self,
        config: Config | None = None,
        make_index: Callable[[int], VectorIndex] = ExactIndex,
    ) -> None:
        """make_index: from the dimensions of descriptors to an empty index."""
        self.config = config or Config()
        self.fingerprint = ""
        self.passed_over: Counter[str] = Counter()
        self.last_image = "there was none yet"
        self._make_index = make_index
        self._index: VectorIndex | None = None
        self._drives = Drives(0)
        self._keyframes: dict[int, Keyframe] = {}  # by their ids in the index, which ascend
        self._ids: dict[tuple[str, int], int] = {}  # by their names
        self._density = Density()
        self._streams: dict[Stream, StreamState] = {}
        self._robots: dict[str, RobotState] = {}
        self._database_id = uuid.uuid4().hex  # stays when it is saved, loaded and added to
        self._history = _History()
        self._saved: dict[KeyframeStore, _History] = {}
        self._saving = threading.Lock()  # while somebody writes what is in here, nothing goes
        self._data = ImageDataKeeper()

    def __len__(self) -> int:
        return len(self._keyframes)

    @property
    def keyframes(self) -> list[Keyframe]:
        """All of them in the order in which they were added."""
        return list(self._keyframes.values())

    @property
    def is_full(self) -> bool:
        """Whether there are database.max_keyframes; then new ones are looked up only."""
        return 0 < self.config.database.max_keyframes <= len(self)

    @property
    def size_bytes(self) -> int:
        """Memory taken by descriptors."""
        return self._index.size_bytes if self._index is not None else 0

    def configure(self, config: Config) -> None:
        """Takes over values that changed while running."""
        self.config = config
        for state in self._streams.values():
            state.selector.config = config.keyframes

    def observe(
        self,
        descriptor: np.ndarray,
        stamp_ns: int,
        fingerprint: str = "",
        stream: Stream = ONLY_STREAM,
        received_ns: int | None = None,
        calibration: Calibration | None = None,
        choice: Choice = Choice.UNDECIDED,
        data: Callable[[], ImageData] | None = None,
        external_id: int = NO_EXTERNAL_ID,
    ) -> Query | None:
        """Looks an image up and adds it, if it is a keyframe; None if it is not.

        In mode localisation, or if the map is full, it is not added, but named all the same: no name is ever
        used twice.
        An image whose stamp is repeated or slightly late is no keyframe; a stamp that jumps begins a new
        session, in which the places of earlier ones can be recognised.
        stream:      whose image it is.
        received_ns: when it arrived or was recorded, by a clock that is not set; without it, a clock that is
                     set ahead by less than an hour looks like a pause.
        choice:      goes over the configured choice of keyframes, but never makes a late image one.
        data:        gives what else is known of the image; called only if it becomes a keyframe.
        external_id: what a back-end calls it.
        Raises DescriptorError if the descriptor does not fit those in here; ValueError if data has an array
        of the wrong shape.
        """
        self._refuse_unfit(descriptor, fingerprint)
        state = self._stream(stream)
        tick, robot = state.clock.tick(stamp_ns, received_ns), self._robot(stream.robot)
        if tick is None:
            self._pass_over(LATE)
            return None
        robot.drive_ns = max(robot.drive_ns, tick.drive_ns)
        if tick.jumped_ns:
            _tell_jump(tick)
        if reason := state.selector.select(descriptor, tick.drive_ns, choice):
            self._pass_over(reason)
            return None
        index = self._index_for(fingerprint, len(descriptor))
        number = state.next_number(tick.session)
        keyframe = Keyframe(tick.session, number, int(stamp_ns), int(external_id))
        known = data() if data else NOTHING_KNOWN
        is_added = self.config.database.mode != LOCALISATION and not self.is_full
        if is_added:
            self._data.add(keyframe.name, known)
        excluded = robot.recent(self.config.database.exclude_recent_s)
        found = index.search(descriptor, self.config.database.max_matches, excluded)
        recent, searched = (
            self._recent(index, descriptor, robot, excluded),
            len(self) - len(excluded),
        )
        new_id = self._history.next_id
        if is_added:
            self._add([keyframe], descriptor[None])
            robot.saw(new_id)
        else:  # for the scores of sequences only
            self._drives.add(new_id, [keyframe], descriptor[None])
        matches = self._matches(state.track, new_id, descriptor, Found.unscored(*found), excluded)
        if not is_added:
            self._drives.remove([new_id])
        if known is not NOTHING_KNOWN:
            matches = self._data.attached(matches, self.config.database.matches_with_data)
        query = Query(
            keyframe, matches, recent, searched, state.queries, fingerprint, calibration, known
        )
        state.queries += 1
        became = "became" if is_added else "was looked up as"
        self.last_image = f"{became} keyframe {keyframe}"
        self._density.came(keyframe, self._alike(matches, calibration))
        self._thin(self._is_over)
        return query

    def look_up(
        self,
        descriptor: np.ndarray,
        stamp_ns: int,
        fingerprint: str = "",
        stream: Stream = ONLY_STREAM,
        calibration: Calibration | None = None,
        data: ImageData = NOTHING_KNOWN,
    ) -> Query:
        """What looks like an image by itself, of which nothing is kept. Raises DescriptorError."""
        self._refuse_unfit(descriptor, fingerprint)
        keyframe = Keyframe(Session.new(stream), 0, int(stamp_ns))
        matches: list[Match] = []
        if self._index is not None:
            found = self._index.search(descriptor, self.config.database.max_matches)
            for each, similarity in zip(*(part.tolist() for part in found), strict=True):
                matches.append(Match(self._keyframes[each], similarity))
        matches = self._data.attached(matches, self.config.database.matches_with_data)
        return Query(keyframe, matches, Recent(), len(self), 0, fingerprint, calibration, data)

    def add(self, stored: StoredKeyframes) -> None:
        """Adds keyframes that exist already, as those of a file or of another robot, and are not in here."""
        if self._index is None:
            self._begin(stored.descriptors.shape[1])
        self._add(stored.keyframes, stored.descriptors)
        for name, data in stored.data:
            self._data.add(name, data)

    def remove(self, keyframes: Iterable[Keyframe]) -> None:
        """Takes keyframes out. Raises DatabaseError, and removes nothing, if one is not there."""
        doomed = list(keyframes)
        absent = [keyframe for keyframe in doomed if keyframe.name not in self._ids]
        if absent:
            raise DatabaseError(
                f"there is no keyframe {absent[0]}; it was never added or was removed before."
            )
        if not doomed or self._index is None:
            return
        gone = np.array(sorted(self._ids.pop(keyframe.name) for keyframe in doomed), np.int64)
        self._index.remove(gone)
        self._drives.remove(gone.tolist())
        for each in gone.tolist():
            del self._keyframes[each]
        for robot in self._robots.values():
            robot.forget(set(gone.tolist()))
        self._history.removed += tuple(doomed)
        self._data.forget(keyframe.name for keyframe in doomed)

    def closed(self, query: tuple[str, int], match: tuple[str, int]) -> None:
        """A loop closure says that these two, by their names, show one place; see database.max_alike."""
        ids = self._ids.get(query), self._ids.get(match)
        if self.config.database.max_alike and None not in ids:
            self._density.closed(*(self._keyframes[each] for each in ids if each is not None))

    def settle(self) -> None:
        """The drive is over: what it saw last may go too, where there is too much of a place."""
        self._thin(lambda _: True)

    def correct(self, poses: Mapping[tuple[str, int], CorrectedPose]) -> int:
        """Keeps what a pose graph found of keyframes that are in here, by their names; returns how many.

        Raises ValueError if an array has the wrong shape.
        """
        known = {name: pose for name, pose in poses.items() if name in self._ids}
        if known:
            self._data.correct(self._history.corrections + 1, known)
            self._history.corrections += 1
        return len(known)

    def reset(self) -> None:
        """Forgets all keyframes and accepts descriptors of any model again."""
        if self._keyframes:
            history = self._history
            self._history = _History(history.resets + 1, history.next_id, history.corrections)
        self._keyframes, self._ids = {}, {}
        self._density = Density()
        self._data = ImageDataKeeper()
        self._streams.clear()
        if self._index is not None:
            self._begin(self._index.dims)
        self._robots.clear()

    # --- What is stored -------------------------------------------------------------------------------

    @classmethod
    def load(cls, store: KeyframeStore, config: Config | None = None) -> "KeyframeDatabase":
        """What was saved last; this run then begins new sessions. Raises DatabaseError."""
        database = cls(config)
        header, blocks = store.load()
        database.fingerprint, database._database_id = header.fingerprint, header.database_id
        for block in blocks:
            check_descriptors(block.descriptors, "the map")
            database.add(block)
        database._data.stored(store, database._data.unsaved)
        database._saved[store] = replace(database._history)
        return database

    def has_unsaved_changes(self, store: KeyframeStore) -> bool:
        """Whether keyframes were added or removed since the last save to, or load from, this store."""
        return self._history != (self._known_to(store) or _History())

    def unsaved(self, store: KeyframeStore, is_copy: bool = False) -> "Unsaved":
        """What changed since then, for another thread to save; keyframes may be added meanwhile.

        is_copy: what is known of keyframes is read from where it was before, as this store may be taken away.

        Raises DatabaseError if no descriptor was ever seen: there is nothing to save.
        """
        if self._index is None:
            raise DatabaseError("there is nothing to save: no descriptor has arrived yet.")
        known, now = self._known_to(store), replace(self._history)
        cleared = known is None or known.resets != now.resets
        start = 0 if known is None or cleared else known.next_id
        # From the newest on, as this is done while descriptors wait.
        new = [*itertools.takewhile(lambda each: each >= start, reversed(self._keyframes))][::-1]
        removed = () if known is None or cleared else now.removed[len(known.removed) :]
        header = StoreHeader(self._database_id, self.fingerprint, self._index.dims)
        data = functools.partial(self._data.known_for, store)
        added = _blocks(self._index, new, self._keyframes, data)
        before = 0 if known is None or cleared else known.corrections
        changes = Changes(cleared, removed, added, self._data.corrected_since(before))
        keeper = None if is_copy else self._data
        return Unsaved(
            store, header, changes, now, self._saved, keeper, self._data.unsaved, self._saving
        )

    def save(self, store: KeyframeStore) -> None:
        """Brings a store up to date. Raises DatabaseError; what was stored before is then as it was."""
        self.unsaved(store).write()

    def _known_to(self, store: KeyframeStore) -> "_History | None":
        """None for a store that has nothing of this, also if somebody removed what was saved."""
        return self._saved.get(store) if store.holds_last_save() else None

    # --- Parts of the above ---------------------------------------------------------------------------

    def _refuse_unfit(self, descriptor: np.ndarray, fingerprint: str) -> None:
        """Before anything is made of a descriptor: what is wrong with it must not leave a trace."""
        check_descriptor(descriptor, self._index.dims if self._index and len(self) else None)
        if len(self) and fingerprint != self.fingerprint:
            raise DescriptorError(
                f"this database holds descriptors of model {self.fingerprint}, got one of {fingerprint}; "
                "use the model (and input size) it was made with, or another database file."
            )

    def _pass_over(self, reason: str) -> None:
        self.passed_over[reason] += 1
        self.last_image = f"is no keyframe: {reason}"

    def _index_for(self, fingerprint: str, dims: int) -> VectorIndex:
        """The index, made for these descriptors as long as it holds none."""
        if self._index is None or not len(self):
            self._begin(dims)
            self.fingerprint = fingerprint
        assert self._index is not None
        return self._index

    def _begin(self, dims: int) -> None:
        """With an empty index."""
        self._index, self._drives = self._make_index(dims), Drives(dims)
        for state in self._streams.values():
            state.track = Track()

    def _stream(self, stream: Stream) -> StreamState:
        if stream not in self._streams:
            if len(self._streams) >= MAX_STREAMS:
                raise DescriptorError(
                    f"expected images of at most {MAX_STREAMS} cameras; does each image have another "
                    "frame_id? Give the camera a name (camera.name)."
                )
            clock = StreamClock(
                lambda: Session.new(stream, self.config.database.map),
                self._robot(stream.robot).drive_ns,
            )
            self._streams[stream] = StreamState(clock, KeyframeSelector(self.config.keyframes))
        return self._streams[stream]

    def _robot(self, robot: str) -> RobotState:
        return self._robots.setdefault(robot, RobotState())

    def _recent(
        self, index: VectorIndex, descriptor: np.ndarray, robot: RobotState, excluded: np.ndarray
    ) -> Recent:
        """What this robot saw a moment ago, which would take all the places among the matches."""
        exclude_s = self.config.database.exclude_recent_s
        if not len(excluded):
            return Recent(0, exclude_s)
        shown = excluded[-RECENT_SHOWN:]
        alike = np.einsum("nd,d->n", index.vectors(shown), descriptor)
        best = int(shown[alike.argmax()])
        match = Match(self._keyframes[best], float(alike.max()))
        return Recent(len(excluded), exclude_s, match, robot.age_s(best))

    def _matches(
        self,
        track: Track,
        new_id: int,
        descriptor: np.ndarray,
        found: Found,
        excluded: np.ndarray,
    ) -> list[Match]:
        """What was found, and where the queries before lead to, with the scores of sequences; best first."""
        config = self.config.database
        if config.sequence_length > 1 and self._index is not None:
            scorer = SequenceScorer(
                self._index, self._drives, config.sequence_length, config.sequence_backwards
            )
            found = scorer.follow(track, new_id, descriptor, found, excluded, config.max_matches)
        return best_first(
            Match(self._keyframes[each], *numbers)
            for each, *numbers in zip(*(part.tolist() for part in found), strict=True)
        )

    def _alike(self, matches: Iterable[Match], calibration: Calibration | None) -> list[Keyframe]:
        """Those that are candidates by their similarity alone, where somebody wants to know."""
        if not self.config.database.max_alike:
            return []
        limit, _ = resolved_min_similarity(self.config.candidates, calibration, self.fingerprint)
        return [each.keyframe for each in matches if each.similarity >= limit]

    def _thin(self, is_over: Callable[[Keyframe], bool]) -> None:
        """Takes out what the map can do without, of keyframes that are over; later, if somebody is saving."""
        most, gap = self.config.database.max_alike, self.config.candidates.max_keyframe_gap
        if not most or not self._saving.acquire(blocking=False):
            return
        try:
            for each in self._density.superfluous(most, gap, self._ids.keys(), is_over):
                self.remove([each])
        finally:
            self._saving.release()

    def _is_over(self, keyframe: Keyframe) -> bool:
        """Whether its robot did not see it just now."""
        robot, each = self._robots.get(keyframe.session.stream.robot), self._ids.get(keyframe.name)
        exclude_s = max(SETTLED_S, self.config.database.exclude_recent_s)
        return robot is None or each not in robot.recent(exclude_s)

    def _add(self, keyframes: Iterable[Keyframe], descriptors: np.ndarray) -> int:
        """Returns the id of the first one in the index."""
        first = self._history.next_id
        new = dict(enumerate(keyframes, first))
        assert self._index is not None
        self._index.add(np.fromiter(new, np.int64, len(new)), descriptors)
        self._drives.add(first, list(new.values()), descriptors)
        self._keyframes |= new
        self._ids |= {keyframe.name: each for each, keyframe in new.items()}
        self._history.next_id += len(new)
        return first


@dataclass(frozen=True)
class Unsaved:
    """Changes of a database that a store does not have yet.

    history: of the database, with these changes.
    saved:   what the database knows of each store.
    data:    what it knows of keyframes, which then lies in this store; None if it stays where it was.
    names:   of keyframes of which the changes have all that is known.
    saving:  held while it is written: no keyframe goes meanwhile.
    """

    store: KeyframeStore
    header: StoreHeader
    changes: Changes
    history: "_History"
    saved: dict[KeyframeStore, "_History"]
    data: ImageDataKeeper | None
    names: Sequence[tuple[str, int]]
    saving: threading.Lock

    def write(self) -> None:
        """Brings the store up to date; in any thread, once. Raises DatabaseError.

        What is on disk is noted at once, as nobody may be left to do it when a node ends.
        """
        with self.saving:
            self.store.save(self.header, self.changes)
        self.saved[self.store] = self.history
        if self.data is not None:
            self.data.stored(self.store, self.names)


def check_descriptor(descriptor: np.ndarray, dims: int | None = None) -> None:
    """Raises DescriptorError unless this is a float32 vector of unit length, and of so many dimensions."""
    is_vector = descriptor.ndim == 1 and descriptor.dtype == np.float32
    if dims is not None and not (is_vector and len(descriptor) == dims):
        raise DescriptorError(
            f"expected a descriptor of {dims} float32 values, as this database holds, got "
            f"{descriptor.dtype} of shape {descriptor.shape}; was it made by another model?"
        )
    if not is_vector or len(descriptor) < 2:  # one value of unit length says nothing
        raise DescriptorError(
            f"expected a descriptor of two or more float32 values, got {descriptor.dtype} of shape "
            f"{descriptor.shape}; does its publisher fill the field `descriptor`?"
        )
    length = float(np.linalg.norm(descriptor))
    if not abs(length - 1.0) < LENGTH_TOLERANCE:  # true for NaN too
        raise DescriptorError(
            f"expected a descriptor of unit length, got length {length:.4g}; normalise it first."
        )


def check_descriptors(descriptors: np.ndarray, source: object) -> None:
    """Raises DatabaseError unless all of (n, D) stored descriptors are of unit length."""
    lengths = np.sqrt(np.einsum("nd,nd->n", descriptors, descriptors, dtype=np.float64))
    wrong = ~(np.abs(lengths - 1.0) < LENGTH_TOLERANCE)  # true for NaN too
    if not wrong.any():
        return
    swapped = descriptors[wrong][:1].byteswap().astype(np.float64)
    hint = "restore a copy of the file."
    if abs(np.linalg.norm(swapped) - 1.0) < LENGTH_TOLERANCE:
        hint = "they are big-endian, and the format is little-endian: swap their bytes."
    raise DatabaseError(f"{source}: its descriptors are not of unit length; {hint}")


def _blocks(
    index: VectorIndex,
    ids: list[int],
    keyframes: Mapping[int, Keyframe],
    data: Callable[[Iterable[tuple[str, int]]], Iterable[tuple[tuple[str, int], ImageData]]],
) -> Iterator[StoredKeyframes]:
    """Those that are still there when they are wanted."""
    for start in range(0, len(ids), BLOCK_ROWS):
        there = [each for each in ids[start : start + BLOCK_ROWS] if each in keyframes]
        found = [keyframes[each] for each in there]
        vectors = index.vectors(np.array(there, np.int64))
        yield StoredKeyframes(found, vectors, data(each.name for each in found))


def _tell_jump(tick: Tick) -> None:
    direction = "back" if tick.jumped_ns < 0 else "ahead"
    logger.warning(
        "time jumped %s by %.3f s: a new session begins",
        direction,
        abs(tick.jumped_ns) / NANOSECONDS,
    )


@dataclass
class _History:
    """What happened to a database, to tell what a store does not know of yet."""

    resets: int = 0
    next_id: int = 0
    corrections: int = 0
    removed: tuple[Keyframe, ...] = ()
