# SPDX-License-Identifier: MIT
"""The last messages of one topic, of which one belongs to an image by its stamp."""

from collections import deque
from collections.abc import Callable
from typing import Any

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.errors import MessageError

# A message that is not needed after all is never deserialised.
Load = Callable[[], Any]

# A stamp that is earlier by more than this is of a recording that begins anew.
LATE_NS = NANOSECONDS
# What was silent for so long is not waited for.
SILENCE_NS = 2 * NANOSECONDS
MILLISECONDS = 1_000_000
# Depth of 1280 x 720 in metres for a second at 30 Hz.
MAX_BYTES = 128 << 20


class TopicBuffer:
    """Keeps messages until images that they belong to must have come."""

    def __init__(self, topic: str, keep_ns: int) -> None:
        """keep_ns: for how much of stamps."""
        self.topic = topic
        self._keep_ns = keep_ns
        self._messages: deque[tuple[int, Load]] = deque()
        self._sizes: deque[int] = deque()
        self._heard_ns: int | None = None  # when something came, or was first waited for

    def add(self, stamp_ns: int, now_ns: int, load: Load, size_bytes: int = 0) -> None:
        """Takes in a message.

        now_ns:     when it arrived, by the clock that is_awaited() goes by.
        size_bytes: what it takes while it is kept.
        """
        if self._messages and stamp_ns < self._messages[-1][0] - LATE_NS:
            self._messages.clear()
            self._sizes.clear()
        self._messages.append((stamp_ns, load))
        self._sizes.append(size_bytes)
        while self._messages[0][0] < stamp_ns - self._keep_ns or (
            len(self._messages) > 1 and sum(self._sizes) > MAX_BYTES
        ):
            self._messages.popleft()
            self._sizes.popleft()
        self._heard_ns = now_ns

    def is_awaited(self, stamp_ns: int, now_ns: int) -> bool:
        """Whether something nearer to this stamp may still come."""
        if self._heard_ns is None:
            self._heard_ns = now_ns
        if self._messages and self._messages[-1][0] >= stamp_ns:
            return False
        return now_ns - self._heard_ns < SILENCE_NS

    def newest(self) -> Any:
        """The last message. Raises MessageError if there is none."""
        if not self._messages:
            raise MessageError(f"nothing has come on {self.topic}")
        return self._messages[-1][1]()

    def nearest(self, stamp_ns: int, tolerance_ns: int) -> Any:
        """The message that belongs to an image. Raises MessageError if there is none near enough."""
        if not self._messages:
            raise MessageError(f"nothing has come on {self.topic}")
        found_ns, load = min(self._messages, key=lambda each: abs(each[0] - stamp_ns))
        off_ns = found_ns - stamp_ns
        if abs(off_ns) <= tolerance_ns:
            return load()
        if abs(off_ns) > SILENCE_NS:
            raise MessageError(
                f"nothing has come on {self.topic} for {abs(off_ns) / NANOSECONDS:.1f} s of images; has it "
                "stopped, or does it go by another clock?"
            )
        side = "later" if off_ns > 0 else "earlier"
        raise MessageError(
            f"{self.topic} is {abs(off_ns) / MILLISECONDS:.0f} ms {side} than the images, more than the "
            f"{tolerance_ns / MILLISECONDS:.0f} ms of sensors.tolerance_s; let the driver synchronise them."
        )
