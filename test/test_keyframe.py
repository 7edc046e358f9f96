# SPDX-License-Identifier: MIT
"""A keyframe has a name that lasts."""

import pytest

from netvlad_ros.keyframe import Keyframe, Session

SECOND = 1_000_000_000
SESSION = Session.new()


def test_no_two_sessions_have_the_same_name():
    names = {Session.new().uuid for _ in range(1000)}
    assert len(names) == 1000
    assert {len(name) for name in names} == {32}


def test_a_log_shows_the_beginning_of_a_name():
    keyframe = Keyframe(Session("0123456789abcdef" * 2), 42, 0)
    assert str(keyframe) == "01234567/42"
    assert keyframe.name == ("0123456789abcdef" * 2, 42)


@pytest.mark.parametrize(("stamp_ns", "age_s"), [(0, 2.5), (2 * SECOND, 0.5), (3 * SECOND, -0.5)])
def test_age_is_counted_in_seconds_within_a_session(stamp_ns: int, age_s: float):
    assert Keyframe(SESSION, 0, stamp_ns).age_s(Keyframe(SESSION, 1, 2_500_000_000)) == age_s


def test_a_keyframe_of_another_session_is_older_than_any():
    assert Keyframe(SESSION, 0, 10).age_s(Keyframe(Session.new(), 1, 10)) == float("inf")
