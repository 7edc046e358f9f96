# SPDX-License-Identifier: MIT
"""Edges that agree with many others are told from those that only look alike."""

from netvlad_ros.retrieval.consistency import COMPARED, Consistency


def at_one_place(new: int, before: int) -> bool | None:
    """Items stand for where they say that everything is; nothing is known of 0."""
    return None if 0 in (new, before) else new == before


def test_edges_agree_with_those_that_say_the_same() -> None:
    edges = Consistency(at_one_place)
    right, also, wrong = (edges.add(item, query) for query, item in enumerate((1, 1, 2)))
    assert (right.agreeing, also.agreeing, wrong.agreeing) == ({1}, {0}, set())
    assert wrong.excluded == [right, also]
    assert right.strongest_excluded is wrong
    assert right.beside(wrong) == (1, 0)


def test_several_edges_of_one_query_count_once() -> None:
    edges = Consistency(at_one_place)
    first = edges.add(1, 0)
    edges.add(1, 1)
    edges.add(1, 1)
    assert len(first.agreeing) == 1


def test_what_nothing_is_known_of_neither_agrees_nor_excludes() -> None:
    edges = Consistency(at_one_place)
    edges.add(1, 0)
    unknown = edges.add(0, 1)
    assert not unknown.agreeing
    assert unknown.strongest_excluded is None


def test_of_those_that_it_excludes_the_strongest_is_the_one_with_most_behind_it() -> None:
    edges = Consistency(at_one_place)
    for query, item in enumerate((1, 2, 2)):
        edges.add(item, query)
    strong = edges.add(3, 3).strongest_excluded
    assert strong is not None
    assert strong.item == 2


def test_old_edges_are_forgotten_by_all_that_excluded_them() -> None:
    edges = Consistency(at_one_place)
    for query in range(COMPARED):
        edges.add(1, query)
    last = edges.add(2, COMPARED)
    assert len(last.excluded) == COMPARED - 1
    for query in range(COMPARED - 2):
        edges.add(0, query)
    assert len(last.excluded) == 1
    assert len(edges.waiting) == COMPARED
