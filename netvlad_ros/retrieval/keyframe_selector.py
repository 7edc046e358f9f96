# SPDX-License-Identifier: MIT
"""Which images become keyframes."""

import enum

import numpy as np

from netvlad_ros.config import KeyframeConfig
from netvlad_ros.constants import NANOSECONDS


class Choice(enum.Enum):
    """Whether somebody has chosen already, as in GlobalDescriptor."""

    UNDECIDED = 0
    KEYFRAME = 1
    PASSED = 2


class KeyframeSelector:
    """Remembers the last keyframe and tells whether the next image is far enough from it."""

    def __init__(self, config: KeyframeConfig | None = None) -> None:
        self.config = config or KeyframeConfig()
        self._last: tuple[np.ndarray, int] | None = None

    def select(
        self, descriptor: np.ndarray, time_ns: int, choice: Choice = Choice.UNDECIDED
    ) -> str:
        """Empty if this image becomes a keyframe, which later ones are compared with; or why it is none."""
        reason = "its sender chose others" if choice is Choice.PASSED else ""
        if choice is Choice.UNDECIDED and self._last is not None:
            reason = self._why_not(descriptor, time_ns, *self._last)
        if not reason:
            self._last = (descriptor.copy(), time_ns)  # the caller may use the array again
        return reason

    def _why_not(
        self, descriptor: np.ndarray, time_ns: int, last: np.ndarray, last_time_ns: int
    ) -> str:
        if (time_ns - last_time_ns) / NANOSECONDS < self.config.min_interval_s:
            return "too soon after the last keyframe (keyframes.min_interval_s)"
        change = max(0.0, 1.0 - float(descriptor @ last))  # rounding makes it slightly negative
        if change < self.config.min_descriptor_change:
            return "too much like the last keyframe (keyframes.min_descriptor_change)"
        return ""
