# SPDX-License-Identifier: MIT
"""Which images of a camera become keyframes, where they arrive: before what is only made of keyframes."""

from collections import Counter

import numpy as np

from netvlad_ros.config import KeyframeConfig
from netvlad_ros.keyframe import Session
from netvlad_ros.retrieval.keyframe_selector import Choice, KeyframeSelector
from netvlad_ros.retrieval.stream_clock import LATE, StreamClock


class KeyframeChooser:
    """Chooses as the database does, which then follows.

    passed_over: how many images are no keyframes, by reason.
    """

    def __init__(self, config: KeyframeConfig | None = None) -> None:
        self.passed_over: Counter[str] = Counter()
        self._clock = StreamClock(Session.new)
        self._selector = KeyframeSelector(config)

    def configure(self, config: KeyframeConfig) -> None:
        """Takes over values that changed while running."""
        self._selector.config = config

    def choose(
        self, descriptor: np.ndarray, stamp_ns: int, received_ns: int | None = None
    ) -> Choice:
        """Takes in the next image; one whose stamp is repeated or late is passed over."""
        tick = self._clock.tick(stamp_ns, received_ns)
        reason = LATE if tick is None else self._selector.select(descriptor, tick.drive_ns)
        if not reason:
            return Choice.KEYFRAME
        self.passed_over[reason] += 1
        return Choice.PASSED
