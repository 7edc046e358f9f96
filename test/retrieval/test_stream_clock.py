# SPDX-License-Identifier: MIT
"""Time of drive goes on as the robot does, whatever the stamps of its images do."""

from collections.abc import Callable, Iterable

import pytest

from netvlad_ros.keyframe import Session
from netvlad_ros.retrieval.stream_clock import MAX_CLOCKS, StreamClock

SECOND = 1_000_000_000


def ticks(
    stamps_s: Iterable[float], received_s: Iterable[float] | None = None
) -> list[tuple[int, float] | None]:
    """(number of the session, seconds of drive) of each image; None for one that is late."""
    begun: list[Session] = []

    def begin() -> Session:
        begun.append(Session.new())
        return begun[-1]

    clock = StreamClock(begin)
    stamps = list(stamps_s)
    arrivals = (
        [None] * len(stamps) if received_s is None else [round(r * SECOND) for r in received_s]
    )
    found = []
    for stamp_s, arrival in zip(stamps, arrivals, strict=True):
        tick = clock.tick(round(stamp_s * SECOND), arrival)
        found.append((begun.index(tick.session), tick.drive_ns / SECOND) if tick else None)
    assert len(clock._clocks) <= MAX_CLOCKS
    return found


def sessions(found: list[tuple[int, float] | None]) -> set[int]:
    return {each[0] for each in found if each}


def last_drive_s(found: list[tuple[int, float] | None]) -> float:
    return [each[1] for each in found if each][-1]


def test_in_order_time_of_drive_is_what_stamps_say():
    assert ticks([10.0, 10.5, 12.0, 40.0]) == [(0, 0.0), (0, 0.5), (0, 2.0), (0, 30.0)]


def test_repeated_and_slightly_late_stamps_are_late():
    assert ticks([10.0, 10.0, 9.5, 10.5]) == [(0, 0.0), None, None, (0, 0.5)]


# What stamps are at a true time of i seconds; from reports of users.
PATTERNS: dict[str, tuple[Callable[[int], float], int]] = {
    "5 s ahead during every other 10 s": (lambda i: i + (5.0 if i % 20 >= 10 else 0.0), 2),
    "one image in 20 is 3 s ahead": (lambda i: i + (3.0 if i % 20 == 10 else 0.0), 2),
    "one image in 20 is 300 s ahead": (lambda i: i + (300.0 if i % 20 == 10 else 0.0), 2),
    "two publishers, 3 s apart": (lambda i: i + 3.0 * (i % 2), 2),
    "two publishers, one by the time since it was started": (lambda i: i if i % 2 else i + 1e9, 2),
    "zero among the stamps of a camera": (lambda i: 0.0 if i % 10 == 5 else i + 100.0, 2),
    "set back by 10 s every minute": (lambda i: i - 10.0 * (i // 60), 5),
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("knows_arrival", [True, False])
def test_however_stamps_jump_drive_goes_on_and_sessions_do_not_grow_without_bound(
    pattern: str, knows_arrival: bool
):
    stamp_of, few = PATTERNS[pattern]
    found = ticks(map(stamp_of, range(240)), range(240) if knows_arrival else None)
    assert len(sessions(found)) <= few
    # Ahead of its clock an image looks like a pause of some seconds; that is all there may be.
    assert 0.8 * 240 <= last_drive_s(found) <= (1.6 if knows_arrival else 32.0) * 240


@pytest.mark.parametrize("seconds", [5, 20, 29, 45])
def test_a_bag_played_in_a_loop_drives_on(seconds: int):
    found = ticks([float(i) for _ in range(6) for i in range(seconds)])
    assert sessions(found) == set(range(6))
    assert last_drive_s(found) == pytest.approx(6 * seconds - 1)


@pytest.mark.parametrize("ahead_s", [120.0, 600.0, 3540.0, 1e6])
@pytest.mark.parametrize("rate", [0.5, 1.0, 10.0, 100.0])
def test_a_clock_that_is_set_while_driving_is_no_pause(ahead_s: float, rate: float):
    stamps_s = [i + (ahead_s if i >= 30 else 0.0) for i in range(60)]
    found = ticks(stamps_s, [i / rate for i in range(60)])
    assert sessions(found) == {0, 1}
    assert last_drive_s(found) == pytest.approx(59.0)


@pytest.mark.parametrize("pause_s", [20.0, 600.0, 3540.0])
@pytest.mark.parametrize("rate", [0.5, 1.0, 10.0])
def test_a_pause_is_a_pause_at_any_speed_of_playing(pause_s: float, rate: float):
    stamps_s = [i + (pause_s if i >= 30 else 0.0) for i in range(60)]
    found = ticks(stamps_s, [stamp_s / rate for stamp_s in stamps_s])
    assert sessions(found) == {0}
    assert last_drive_s(found) == pytest.approx(59.0 + pause_s)


def test_images_that_waited_in_a_queue_are_in_order():
    """They come all at once when the network is back."""
    stamps_s = [float(i) for i in range(40)]
    found = ticks(stamps_s, [s if s < 10 else max(s, 25.0 + s / 1000) for s in stamps_s])
    assert sessions(found) == {0}
    assert last_drive_s(found) == pytest.approx(39.0)


def test_where_nobody_knows_of_arrivals_only_more_than_an_hour_is_a_clock_that_was_set():
    assert sessions(ticks([0.0, 1.0, 3600.0])) == {0}
    assert sessions(ticks([0.0, 1.0, 3602.0])) == {0, 1}


def test_a_clock_that_was_set_back_stays_in_its_new_session():
    """When it passes the time at which it was set, it is still another clock than before."""
    found = ticks([i - (20.0 if i >= 100 else 0.0) for i in range(200)], range(200))
    assert [each[0] for each in found if each] == [0] * 100 + [1] * 100
    assert last_drive_s(found) == pytest.approx(199.0)


def test_a_burst_after_a_blocked_network_is_no_speed_of_playing():
    stamps_s = [i / 10 for i in range(400)]
    arrivals_s = [max(s, 21.0 + s / 1e5) if 20.0 <= s <= 21.0 else s for s in stamps_s]
    ahead = [s + (120.0 if s > 21.0 else 0.0) for s in stamps_s]
    found = ticks(ahead, arrivals_s)
    assert sessions(found) == {0, 1}
    assert last_drive_s(found) == pytest.approx(39.9, abs=1.0)


def test_a_slow_camera_played_fast_is_no_clock_that_is_set_with_every_image():
    stamps_s = [30.0 * i for i in range(100)]
    found = ticks(stamps_s, [s / 10 for s in stamps_s])
    assert len(sessions(found)) <= 4
    assert last_drive_s(found) == pytest.approx(2970.0, abs=100.0)
