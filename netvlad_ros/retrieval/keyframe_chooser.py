# SPDX-License-Identifier: MIT
"""Which images of a camera become keyframes, where they arrive: before what is only made of keyframes."""

import numpy as np

from netvlad_ros.config import KeyframeConfig
from netvlad_ros.keyframe import Session
from netvlad_ros.retrieval.keyframe_selector import Choice, KeyframeSelector
from netvlad_ros.retrieval.stream_clock import StreamClock


class KeyframeChooser:
    """Chooses as the database does, which then follows."""

    def __init__(self, config: KeyframeConfig | None = None) -> None:
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
        if tick is None or self._selector.select(descriptor, tick.drive_ns):
            return Choice.PASSED
        return Choice.KEYFRAME
