# SPDX-License-Identifier: MIT
"""A place for messages between two threads: the newest win."""

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Holds the last messages that were put in and not yet taken out, one if nothing else is said."""

    def __init__(self, capacity: int = 1) -> None:
        self._changed = threading.Condition()
        self._messages: deque[T] = deque(maxlen=capacity)
        self._closed = False

    def put(self, message: T) -> bool:
        """Puts a message in; True if one that nobody took had to make room."""
        with self._changed:
            is_full = len(self._messages) == self._messages.maxlen
            self._messages.append(message)
            self._changed.notify()
            return is_full

    def take(self) -> T | None:
        """Waits for a message; None once the mailbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._messages or self._closed)
            return None if self._closed else self._messages.popleft()

    def close(self) -> None:
        """Ends the waiting of whoever takes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
