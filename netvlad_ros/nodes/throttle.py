# SPDX-License-Identifier: MIT
"""How often and at what length a sentence gets into the log."""

import threading
import time

# Of one kind, another sentence is logged after so long, and the same one again after so long; each time
# it is seen again, twice as long passes, up to the last of these.
LOG_NEXT_S, LOG_AGAIN_S, LOG_AT_LEAST_S = 1.0, 10.0, 600.0
# What comes in with messages, such as names, may be of any length.
MAX_LENGTH = 500


class Throttle:
    """Lets a sentence of a kind pass when it is news; rclpy's throttle would take all kinds for one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # kind -> last sentence, when it passed, how long the same has to wait
        self._passed: dict[str, tuple[str, float, float]] = {}

    def passes(self, kind: str, sentence: str) -> bool:
        """Whether to log it; the next one of this kind is then held back for a while."""
        now = time.monotonic()
        with self._lock:
            last, passed_s, wait_s = self._passed.get(kind, ("", -float("inf"), 0.0))
            is_same = sentence == last
            if now - passed_s < (wait_s if is_same else LOG_NEXT_S):
                return False
            next_s = min(2 * wait_s, LOG_AT_LEAST_S) if is_same else LOG_AGAIN_S
            self._passed[kind] = (sentence, now, next_s)
            return True

    def forget(self, kind: str) -> None:
        """What this kind is about is over; if it comes again, that is news."""
        with self._lock:
            self._passed.pop(kind, None)


def cut(text: str) -> str:
    """The text, shortened in its middle if it is too long for a log."""
    if len(text) <= MAX_LENGTH:
        return text
    half = MAX_LENGTH // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"
