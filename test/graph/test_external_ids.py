# SPDX-License-Identifier: MIT
"""A back-end's number is taken for the image that it means, and for no other."""

import pytest

from netvlad_ros.errors import EdgeError
from netvlad_ros.graph.external_ids import ExternalIds
from netvlad_ros.keyframe import Keyframe, Session, Stream

SECOND = 1_000_000_000
TOLERANCE_NS = SECOND // 50


def keyframe(external_id: int, stamp_ns: int, robot: str = "r0") -> Keyframe:
    return Keyframe(Session("5e" * 16, Stream(robot)), 7, stamp_ns, external_id)


@pytest.fixture
def ids() -> ExternalIds:
    ids = ExternalIds()
    for number in (5, 6, 7):
        ids.add("r0", number, number * SECOND)
    return ids


def refused(ids: ExternalIds, of: Keyframe) -> str:
    with pytest.raises(EdgeError) as raised:
        ids.check(of, TOLERANCE_NS)
    return raised.value.kind


def test_a_keyframe_that_the_back_end_named_is_taken(ids: ExternalIds) -> None:
    ids.check(keyframe(6, 6 * SECOND + TOLERANCE_NS), TOLERANCE_NS)


def test_each_keyframe_that_it_did_not_name_has_its_own_reason(ids: ExternalIds) -> None:
    assert refused(ids, keyframe(-1, 6 * SECOND)) == "without a number"
    assert refused(ids, keyframe(8, 8 * SECOND)) == "of an unknown number"
    assert refused(ids, keyframe(6, 6 * SECOND, "r1")) == "of an unknown number"
    assert refused(ids, keyframe(6, 6 * SECOND + TOLERANCE_NS + 1)) == "of another run"


def test_a_back_end_that_counts_anew_means_other_images_by_its_numbers(ids: ExternalIds) -> None:
    assert ids.add("r0", 1, 100 * SECOND)
    assert not ids.add("r0", 2, 101 * SECOND)
    ids.check(keyframe(1, 100 * SECOND), TOLERANCE_NS)
    assert refused(ids, keyframe(6, 6 * SECOND)) == "of an unknown number"


def test_the_first_keyframe_is_told_from_others_for_each_robot() -> None:
    ids = ExternalIds()
    assert ids.add("r0", 5, 0)
    assert not ids.add("r0", 6, 1)
    assert ids.add("r1", 0, 0)


def test_keyframes_of_earlier_runs_of_the_same_map_are_known_too(ids: ExternalIds) -> None:
    ids.add_earlier("r0", {1: SECOND // 2, 2: SECOND, 5: 999})
    ids.check(keyframe(2, SECOND), TOLERANCE_NS)
    ids.check(keyframe(5, 5 * SECOND), TOLERANCE_NS)
    assert not ids.add("r0", 8, 8 * SECOND)
    ids.check(keyframe(2, SECOND), TOLERANCE_NS)
