# SPDX-License-Identifier: MIT
"""Which verified edges of a drive agree with each other, given the odometry between them.

Pairwise consistent measurements: Mangelson et al., ICRA 2018. Two edges and odometry between their ends make
a round; if it does not close, one of the two is wrong. Instead of the largest clique, each edge is judged by
how many others agree with it, beside those that it excludes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")

# An edge is compared with so many before it.
COMPARED = 50


@dataclass(eq=False)
class Edge(Generic[Item]):
    """A verified edge, and how it gets on with the others.

    query:    number of its query.
    agreeing: numbers of the queries with an edge that agrees.
    excluded: of the last edges, those that can't be right together with it.
    is_open:  whether it still waits.
    """

    item: Item
    query: int
    agreeing: set[int] = field(default_factory=set)
    excluded: list["Edge[Item]"] = field(default_factory=list)
    is_open: bool = True

    def beside(self, other: "Edge[Item]") -> tuple[int, int]:
        """How many queries agree with this one only, and how many with the other only."""
        return len(self.agreeing - other.agreeing), len(other.agreeing - self.agreeing)

    @property
    def strongest_excluded(self) -> "Edge[Item] | None":
        """That which most speaks for beside this one."""

        def strength(other: "Edge[Item]") -> int:
            for_this, for_other = self.beside(other)
            return for_other - for_this

        return max(self.excluded, key=strength, default=None)


class Consistency(Generic[Item]):
    """The last edges of one drive, in the order in which they were found."""

    def __init__(self, agree: Callable[[Item, Item], bool | None]) -> None:
        """agree: whether a new edge and an earlier one can both be right; None if nothing follows from it."""
        self._agree = agree
        self._edges: list[Edge[Item]] = []

    @property
    def waiting(self) -> list[Edge[Item]]:
        """Those that are open."""
        return [edge for edge in self._edges if edge.is_open]

    def add(self, item: Item, query: int) -> Edge[Item]:
        """Compares a new edge with those before it."""
        edge = Edge(item, query)
        for other in self._edges:
            agree = self._agree(item, other.item)
            if agree:
                edge.agreeing.add(other.query)
                other.agreeing.add(query)
            elif agree is not None:
                edge.excluded.append(other)
                other.excluded.append(edge)
        self._edges.append(edge)
        if len(self._edges) > COMPARED:
            self._forget(self._edges.pop(0))
        return edge

    def _forget(self, edge: Edge[Item]) -> None:
        for other in edge.excluded:
            other.excluded.remove(edge)
        edge.excluded.clear()
