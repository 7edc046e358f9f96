# SPDX-License-Identifier: MIT
"""Images that wait until a back-end says which of them it wants."""

from collections import deque
from typing import Generic, TypeVar

from netvlad_ros.sensors.topic_buffer import LATE_NS

T = TypeVar("T")

# Colour images of 1920 x 1080 for about a second at 30 Hz.
MAX_BYTES = 192 << 20
# More requests than this are not waited with.
MAX_REQUESTS = 1000


class RequestedImages(Generic[T]):
    """Brings images and requests together by stamp, whichever comes first."""

    def __init__(self, hold_ns: int, tolerance_ns: int) -> None:
        """hold_ns: for how much of stamps images wait. tolerance_ns: how far the two stamps may be apart."""
        self.hold_ns, self.tolerance_ns = hold_ns, tolerance_ns
        self._images: deque[tuple[int, int, T]] = deque()  # stamp, bytes, image
        self._requests: dict[int, int] = {}  # stamp -> a back-end's number
        self._bytes = self._newest_ns = 0

    def add_image(self, stamp_ns: int, image: T, size_bytes: int) -> tuple[T, int] | None:
        """The image with a back-end's number if it was requested; otherwise it waits."""
        if stamp_ns < self._newest_ns - LATE_NS:
            self._clear()  # a recording that begins anew
        self._newest_ns = stamp_ns
        requested = self._nearest(self._requests, stamp_ns)
        if requested is not None:
            return image, self._requests.pop(requested)
        self._images.append((stamp_ns, size_bytes, image))
        self._bytes += size_bytes
        while self._images and (
            self._bytes > MAX_BYTES or self._images[0][0] < stamp_ns - self.hold_ns
        ):
            self._bytes -= self._images.popleft()[1]
        return None

    def add_request(self, stamp_ns: int, external_id: int) -> tuple[T, int] | None:
        """The image that is wanted, if it is here; otherwise the request waits for it."""
        wanted = self._nearest([each[0] for each in self._images], stamp_ns)
        if wanted is None:
            self._requests[stamp_ns] = external_id
            while len(self._requests) > MAX_REQUESTS:
                del self._requests[next(iter(self._requests))]
            return None
        found = next(each for each in self._images if each[0] == wanted)
        self._images.remove(found)
        self._bytes -= found[1]
        return found[2], external_id

    def missed(self) -> list[int]:
        """Stamps of requests whose images must have come by now; they are forgotten."""
        missed = [each for each in self._requests if self._newest_ns - each > LATE_NS]
        for each in missed:
            del self._requests[each]
        return missed

    def _nearest(self, stamps_ns: "dict[int, int] | list[int]", stamp_ns: int) -> int | None:
        best = min(stamps_ns, key=lambda each: abs(each - stamp_ns), default=None)
        is_near = best is not None and abs(best - stamp_ns) <= self.tolerance_ns
        return best if is_near else None

    def _clear(self) -> None:
        self._images.clear()
        self._requests.clear()
        self._bytes = 0
