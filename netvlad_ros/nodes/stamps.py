# SPDX-License-Identifier: MIT
"""Stamps of messages as nanoseconds, and back."""

from builtin_interfaces.msg import Time

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.errors import MessageError


def to_ns(time: Time) -> int:
    """Nanoseconds since the clock's zero. Raises MessageError for what no clock shows."""
    if time.sec < 0 or not 0 <= time.nanosec < NANOSECONDS:
        raise MessageError(
            f"expected a stamp of 0 or more seconds and 0 to 999999999 nanoseconds, got {time.sec} s and "
            f"{time.nanosec} ns; what sets header.stamp?"
        )
    return time.sec * NANOSECONDS + time.nanosec


def to_time(stamp_ns: int) -> Time:
    """The stamp as a message."""
    seconds, nanoseconds = divmod(stamp_ns, NANOSECONDS)
    return Time(sec=seconds, nanosec=nanoseconds)
