# SPDX-License-Identifier: MIT
"""A place for one message between two threads: the newest wins."""

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Holds the last message that was put in and not yet taken out."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._message: T | None = None
        self._closed = False

    def put(self, message: T) -> bool:
        """Puts a message in; True if one that nobody took had to make room."""
        with self._changed:
            replaced = self._message is not None
            self._message = message
            self._changed.notify()
            return replaced

    def take(self) -> T | None:
        """Waits for a message; None once the mailbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._message is not None or self._closed)
            message, self._message = self._message, None
            return None if self._closed else message

    def close(self) -> None:
        """Ends the waiting of whoever takes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
