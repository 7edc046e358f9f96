# SPDX-License-Identifier: MIT
"""How long a camera was driven about, whatever its stamps do, and which session each image belongs to."""

import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.keyframe import Session

LATE = "its stamp is repeated, or earlier than that of an image before"
# A stamp that is earlier by less than this is of an image that was overtaken on its way.
LATE_NS = NANOSECONDS
# A step ahead that is longer than this is of a clock that was set, where nobody knows when images arrived.
PAUSE_NS = 3600 * NANOSECONDS
# Where it is known, a clock was set if its stamps step ahead by more than this, and so many times further
# than messages arrived; queues and a slow network make smaller differences.
CLOCK_SET_NS, CLOCK_SET_FACTOR = 10 * NANOSECONDS, 3.0
# How fast a recording is played is the median over so many images.
RATE_SAMPLES = 15
# Two publishers on one topic have two clocks, and single stamps may go astray; older clocks are forgotten.
MAX_CLOCKS = 4


@dataclass(frozen=True, slots=True)
class Tick:
    """The time of an image.

    drive_ns: since the first image of the stream; goes on by what was driven, however stamps jump.
    jumped_ns: by how much the stamp differs from what was expected, if with it a new session begins; else 0.
    """

    session: Session
    drive_ns: int
    jumped_ns: int = 0


@dataclass(slots=True, eq=False)
class _Clock:
    """A clock that stamps came from, at its last one."""

    session: Session
    stamp_ns: int
    received_ns: int | None
    drive_ns: int


class StreamClock:
    """Orders the images of one stream by stamps that may be set, repeated, late or of two clocks.

    A stamp belongs to the clock that it continues. One that continues none is of a clock that was set, of a
    bag played again, or astray: a new session begins, in which stamps are comparable again.
    """

    def __init__(self, begin_session: Callable[[], Session], drive_ns: int = 0) -> None:
        self._begin_session = begin_session
        self._clocks: list[_Clock] = []  # the last one is the one of the last image
        self._drive_ns = drive_ns
        self._step_ns = 0  # of the last two images that followed each other
        self._rates: deque[float] = deque(maxlen=RATE_SAMPLES)
        self._stepped_ns = self._passed_ns = 0  # since the last of these samples
        self._jumps: list[float] = []  # rates of steps ahead that followed each other

    def tick(self, stamp_ns: int, received_ns: int | None = None) -> Tick | None:
        """Takes in the next image; None if its stamp is repeated or slightly late.

        received_ns: when it arrived, or was recorded, by any clock that is not set; tells a pause from a
                     clock that was set.
        """
        if not self._clocks:
            return self._begin(stamp_ns, received_ns)
        last = self._clocks[-1]
        if _is_late(last, stamp_ns):
            return None
        passed_ns = _passed(last, received_ns)
        clock = self._continued(stamp_ns, passed_ns)
        if clock is not None:
            self._follow(clock, stamp_ns, received_ns)
            return Tick(clock.session, self._drive_ns)
        if any(_is_late(each, stamp_ns) for each in self._clocks):
            return None
        expected_ns = self._expected(passed_ns)
        self._drive_ns += self._step_ns if expected_ns is None else expected_ns
        self._learn_from_jump(stamp_ns - last.stamp_ns, passed_ns)
        return self._begin(stamp_ns, received_ns, stamp_ns - last.stamp_ns)

    def _begin(self, stamp_ns: int, received_ns: int | None, jumped_ns: int = 0) -> Tick:
        session = self._begin_session()
        clock = _Clock(session, stamp_ns, received_ns, self._drive_ns)
        self._clocks = [*self._clocks[1 - MAX_CLOCKS :], clock]
        return Tick(session, self._drive_ns, jumped_ns)

    def _continued(self, stamp_ns: int, passed_ns: int | None) -> _Clock | None:
        """The clock whose step differs least from what was driven since; of equal ones the last."""
        steps = [
            (abs(stamp_ns - clock.stamp_ns - (self._drive_ns - clock.drive_ns)), -number)
            for number, clock in enumerate(self._clocks)
            if stamp_ns - clock.stamp_ns > 0 and not self._was_set(clock, stamp_ns, passed_ns)
        ]
        return self._clocks[-min(steps)[1]] if steps else None

    def _was_set(self, clock: _Clock, stamp_ns: int, passed_ns: int | None) -> bool:
        """Whether a step ahead is longer than a pause can explain."""
        step_ns = stamp_ns - clock.stamp_ns
        expected_ns = self._expected(passed_ns)
        if expected_ns is None:
            return step_ns > PAUSE_NS
        away_ns = self._drive_ns - clock.drive_ns  # other clocks were followed meanwhile
        return step_ns - away_ns > CLOCK_SET_NS + CLOCK_SET_FACTOR * expected_ns

    def _expected(self, passed_ns: int | None) -> int | None:
        """By how much stamps should have gone on, at the speed at which a recording is played."""
        if passed_ns is None:
            return None
        return round(passed_ns * self._rate())

    def _rate(self) -> float:
        if self._rates:
            return statistics.median(self._rates)
        return self._stepped_ns / self._passed_ns if self._passed_ns else 1.0

    def _learn_rate(self, step_ns: int, passed_ns: int | None) -> None:
        """Over a second or more, as images may come in bursts."""
        self._jumps = []
        if not passed_ns:
            return
        self._stepped_ns += step_ns
        self._passed_ns += passed_ns
        if self._passed_ns >= NANOSECONDS:
            self._rates.append(self._stepped_ns / self._passed_ns)
            self._stepped_ns = self._passed_ns = 0

    def _learn_from_jump(self, step_ns: int, passed_ns: int | None) -> None:
        """Images that all are further apart than expected show a recording that is played faster."""
        self._jumps = [*self._jumps, step_ns / passed_ns] if passed_ns and step_ns > 0 else []
        if len(self._jumps) == 3 and max(self._jumps) < 1.5 * min(self._jumps):
            self._rates.append(statistics.median(self._jumps))

    def _follow(self, clock: _Clock, stamp_ns: int, received_ns: int | None) -> None:
        step_ns = stamp_ns - clock.stamp_ns
        self._drive_ns += self._driven(clock, step_ns, received_ns)
        self._learn_rate(step_ns, _passed(clock, received_ns))
        clock.stamp_ns, clock.received_ns, clock.drive_ns = stamp_ns, received_ns, self._drive_ns
        self._clocks.remove(clock)
        self._clocks.append(clock)

    def _driven(self, clock: _Clock, step_ns: int, received_ns: int | None) -> int:
        """Since the last image. After one of another clock, part of a step has been driven already."""
        last = self._clocks[-1]
        if clock is last:
            self._step_ns = step_ns
            return step_ns
        expected_ns = self._expected(_passed(last, received_ns))
        if expected_ns is not None:
            return min(step_ns, expected_ns)
        rest_ns = clock.drive_ns + step_ns - self._drive_ns
        return max(rest_ns, min(step_ns // 2, self._step_ns))


def _passed(clock: _Clock, received_ns: int | None) -> int | None:
    """Time since the last image of a clock arrived, where that is known and can be."""
    if clock.received_ns is None or received_ns is None or received_ns < clock.received_ns:
        return None
    return received_ns - clock.received_ns


def _is_late(clock: _Clock, stamp_ns: int) -> bool:
    return -LATE_NS < stamp_ns - clock.stamp_ns <= 0
