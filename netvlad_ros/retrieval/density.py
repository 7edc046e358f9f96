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
    or in another light, it stays, and so does the last closure between two sessions, without which the pose
    graph of what is kept would fall apart. Older keyframes never go: their drives stay whole.
    """

    def __init__(self) -> None:
        self._undecided: deque[tuple[Keyframe, Sequence[Keyframe]]] = deque()
        self._closures: deque[tuple[Keyframe, Keyframe]] = deque(maxlen=MAX_CLOSURES)
        self._last_links: list[Keyframe] = []  # that stay, unless all else of their sessions goes

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
            if keyframe.name not in there or self._others(keyframe, alike, gap, there) < most:
                continue
            if self._is_last_link(keyframe, there):
                self._last_links.append(keyframe)
            else:
                yield keyframe
        if not self._undecided:
            links, self._last_links = self._last_links, []
            yield from (each for each in links if _is_alone(each, there))

    def _others(
        self, keyframe: Keyframe, alike: Sequence[Keyframe], gap: int, there: AbstractSet[Name]
    ) -> int:
        """How many of those that look alike are of its place, without neighbours of each other."""
        found: list[Keyframe] = []
        for each in alike:
            is_new = each.name in there and not any(are_near(each, one, gap) for one in found)
            if is_new and self._are_one_place(keyframe, each, gap):
                found.append(each)
        return len(found)

    def _are_one_place(self, query: Keyframe, match: Keyframe, gap: int) -> bool:
        return any(
            are_near(query, one, gap) and are_near(match, other, gap)
            for one, other in self._closures
        )

    def _is_last_link(self, keyframe: Keyframe, there: AbstractSet[Name]) -> bool:
        """Whether its session has no other closure with a session that it has one with."""
        links = [
            (one, other.session.uuid)
            for one, other in self._closures
            if one.session == keyframe.session != other.session and {one.name, other.name} <= there
        ]
        own = {uuid for one, uuid in links if one == keyframe}
        return not own <= {uuid for one, uuid in links if one != keyframe}


def _is_alone(keyframe: Keyframe, there: AbstractSet[Name]) -> bool:
    """Whether it is all that is left of its session."""
    uuid, _ = keyframe.name
    return not any(each[0] == uuid and each != keyframe.name for each in there)
