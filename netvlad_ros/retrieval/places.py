# SPDX-License-Identifier: MIT
"""Which keyframes show one place, as far as loop closures have told."""

from bisect import bisect_left, insort

from netvlad_ros.keyframe import Keyframe

Name = tuple[str, int]


class Places:
    """Keyframes that closures connect, directly or by way of others."""

    def __init__(self) -> None:
        self._parents: dict[
            Name, Name
        ] = {}  # a forest: each keyframe points towards the root of its place
        self._numbers: dict[str, list[int]] = {}  # of the keyframes of each session, ascending

    def unite(self, a: Keyframe, b: Keyframe) -> None:
        """A closure says that these two show one place."""
        for keyframe in (a, b):
            if keyframe.name not in self._parents:
                self._parents[keyframe.name] = keyframe.name
                insort(self._numbers.setdefault(keyframe.session.uuid, []), keyframe.number)
        self._parents[self._root(a.name)] = self._root(b.name)

    def are_one(self, a: Keyframe, b: Keyframe, gap: int) -> bool:
        """Whether a keyframe at most so many numbers from the one is connected to such a one of the other."""
        return are_near(a, b, gap) or not self._roots(a, gap).isdisjoint(self._roots(b, gap))

    def _roots(self, keyframe: Keyframe, gap: int) -> set[Name]:
        uuid, number = keyframe.name
        numbers = self._numbers.get(uuid, [])
        near = numbers[bisect_left(numbers, number - gap) : bisect_left(numbers, number + gap + 1)]
        return {self._root((uuid, each)) for each in near}

    def _root(self, name: Name) -> Name:
        while self._parents[name] != name:
            self._parents[name] = self._parents[self._parents[name]]
            name = self._parents[name]
        return name


def are_near(a: Keyframe, b: Keyframe, gap: int) -> bool:
    """Whether they are of one session and at most so many numbers apart."""
    return a.session.uuid == b.session.uuid and abs(a.number - b.number) <= gap
