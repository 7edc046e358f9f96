# SPDX-License-Identifier: MIT
"""Which new keyframes a map can do without: those of a place that looks the same in it already."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet

from netvlad_ros.keyframe import Keyframe
from netvlad_ros.retrieval.places import are_near

Name = tuple[str, int]
# So many loop closures are remembered: what was closed before them is decided.
MAX_CLOSURES = 1000


class Density:
    """Remembers what new keyframes look like and which loop closures there are, until they are decided on.

    A keyframe can go if the map has enough others of its place that look alike, one a lap. They were
    recognised in each other by a single look, and a loop closure of the same two drives, at most some
    keyframes away, says that it is the place, and not another one that looks the same. Where no closure is,
    or in another light, it stays. Older keyframes never go: their drives stay whole.
    """

    def __init__(self) -> None:
        self._undecided: deque[tuple[Keyframe, Sequence[Keyframe]]] = deque()
        self._closures: deque[tuple[Keyframe, Keyframe]] = deque(maxlen=MAX_CLOSURES)

    def came(self, keyframe: Keyframe, alike: Sequence[Keyframe]) -> None:
        """The next keyframe, and those that look like it, as far as its robot did not just see them."""
        if alike:
            self._undecided.append((keyframe, alike))

    def closed(self, query: Keyframe, match: Keyframe) -> None:
        """A loop closure says that these two show one place."""
        self._closures.append((query, match))

    def superfluous(
        self, most: int, gap: int, there: AbstractSet[Name], is_over: Callable[[Keyframe], bool]
    ) -> Iterator[Keyframe]:
        """Undecided keyframes that can go, oldest first, up to the first that its robot sees still.

        most:  how many others are enough.
        gap:   how many keyframes away a loop closure may be.
        there: names of all keyframes; whoever takes one from here removes it before the next.
        """
        while self._undecided and is_over(self._undecided[0][0]):
            keyframe, alike = self._undecided.popleft()
            others: list[Keyframe] = []  # without neighbours of each other
            for each in alike:
                is_new = each.name in there and not any(are_near(each, o, gap) for o in others)
                if is_new and self._are_one_place(keyframe, each, gap):
                    others.append(each)
            if keyframe.name in there and len(others) >= most and self._can_go(keyframe, there):
                yield keyframe

    def _are_one_place(self, query: Keyframe, match: Keyframe, gap: int) -> bool:
        return any(
            are_near(query, one, gap) and are_near(match, other, gap)
            for one, other in self._closures
        )

    def _can_go(self, keyframe: Keyframe, there: AbstractSet[Name]) -> bool:
        """Whether its session keeps a closure with each session that it has one with, or goes altogether.

        So the pose graph of what is kept does not fall apart.
        """
        links = [
            (one, other.session.uuid)
            for one, other in self._closures
            if one.session == keyframe.session != other.session and {one.name, other.name} <= there
        ]
        own = {uuid for one, uuid in links if one == keyframe}
        if own <= {uuid for one, uuid in links if one != keyframe}:
            return True
        session = keyframe.session.uuid
        return not any(each[0] == session and each != keyframe.name for each in there)
