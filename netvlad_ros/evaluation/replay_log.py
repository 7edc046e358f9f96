# SPDX-License-Identifier: MIT
"""What is worth keeping of a replay: its keyframes with their answers, and the images that were skipped."""

from dataclasses import dataclass, field
from typing import cast

import cv2
import numpy as np

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.evaluation.precision_recall import FirstMatches
from netvlad_ros.replay import ReplayedImage
from netvlad_ros.retrieval.candidates import Selection
from netvlad_ros.retrieval.database import Query
from netvlad_ros.retrieval.keyframes import Keyframe, Match

THUMBNAIL_WIDTH_PX = 320


@dataclass(frozen=True)
class ReplayedKeyframe:
    """A keyframe with its answer, kept small: the picture is a JPEG file in memory."""

    number: int
    query: Query
    selection: Selection
    descriptor: np.ndarray
    jpeg: np.ndarray

    @property
    def picture(self) -> np.ndarray:
        """RGB, THUMBNAIL_WIDTH_PX wide."""
        bgr = cast(np.ndarray, cv2.imdecode(self.jpeg, cv2.IMREAD_COLOR))
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


@dataclass
class ReplayLog:
    """What is worth keeping of a replay."""

    images: int = 0
    keyframes: list[ReplayedKeyframe] = field(default_factory=list)
    skipped: list[ReplayedImage] = field(default_factory=list)

    def add(self, replayed: ReplayedImage) -> ReplayedKeyframe | None:
        """Takes in the next image; returns the keyframe, if it is one."""
        self.images += 1
        image, detection = replayed.image, replayed.detection
        if image is None or detection is None:
            self.skipped.append(replayed)
            return None
        if detection.query is None or detection.selection is None:
            return None
        kept = (detection.query, detection.selection, detection.descriptor, _thumbnail(image))
        self.keyframes.append(ReplayedKeyframe(replayed.number, *kept))
        return self.keyframes[-1]

    @property
    def start_ns(self) -> int:
        """Stamp of the first keyframe."""
        return self.keyframes[0].query.keyframe.stamp_ns

    @property
    def descriptors(self) -> np.ndarray:
        """(keyframes, dims), unit length."""
        return np.array([keyframe.descriptor for keyframe in self.keyframes])

    @property
    def times_s(self) -> np.ndarray:
        """Seconds from the first keyframe to each."""
        stamps = [keyframe.query.keyframe.stamp_ns for keyframe in self.keyframes]
        return np.array([(stamp - self.start_ns) / NANOSECONDS for stamp in stamps])

    def available(self, exclude_recent_s: float) -> np.ndarray:
        """How many of the first keyframes were there and old enough when each one was looked up."""
        return available_keyframes(
            [each.query.keyframe for each in self.keyframes], exclude_recent_s
        )

    def first_candidates(self, exclude_recent_s: float) -> FirstMatches:
        """What was reported: the best candidate of each keyframe."""
        best = [next((c.match for c in each.selection.candidates), None) for each in self.keyframes]
        return self._first(best, exclude_recent_s)

    def first_matches(self, exclude_recent_s: float) -> FirstMatches:
        """What would be reported without a threshold: the best match that was old enough."""
        best = [_best_old_match(each.query, exclude_recent_s) for each in self.keyframes]
        return self._first(best, exclude_recent_s)

    def _first(self, best: list[Match | None], exclude_recent_s: float) -> FirstMatches:
        position = {each.query.keyframe.keyframe_id: i for i, each in enumerate(self.keyframes)}
        return FirstMatches(
            images=np.array([each.number for each in self.keyframes]),
            available=self.available(exclude_recent_s),
            matches=np.array([position[m.keyframe.keyframe_id] if m else -1 for m in best]),
            similarities=np.array([match.similarity if match else -np.inf for match in best]),
        )


def sentence(query: Keyframe, best: Match, start_ns: int) -> str:
    """That a query has found a place again; times are told from start_ns on."""

    def told(keyframe: Keyframe) -> str:
        time_s = (keyframe.stamp_ns - start_ns) / NANOSECONDS
        return f"keyframe {keyframe.keyframe_id} ({time_s:.1f} s)"

    return f"{told(query)} looks like {told(best.keyframe)}, similarity {best.similarity:.3f}"


def available_keyframes(keyframes: list[Keyframe], exclude_recent_s: float) -> np.ndarray:
    """How many of the first keyframes were there and old enough when each one was looked up.

    keyframes: in the order of their ids, so that those that were too recent are the last ones.
    """
    exclude_ns = round(exclude_recent_s * NANOSECONDS)
    until_ns = [keyframe.stamp_ns + exclude_ns for keyframe in keyframes]
    counts, count = np.zeros(len(keyframes), int), 0
    for i, now in enumerate(keyframes):
        if i and now.session != keyframes[i - 1].session:  # the clock has jumped, not the robot
            until_ns[count:i] = [now.stamp_ns + exclude_ns] * (i - count)
        while count < i and until_ns[count] <= now.stamp_ns:
            count += 1
        counts[i] = count
    return counts


def _best_old_match(query: Query, exclude_recent_s: float) -> Match | None:
    now = query.keyframe
    return next((m for m in query.matches if not m.keyframe.is_recent(now, exclude_recent_s)), None)


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """A JPEG file of the image, as small as the pictures need it."""
    height = max(1, round(image.shape[0] * THUMBNAIL_WIDTH_PX / image.shape[1]))
    small = cv2.resize(image, (THUMBNAIL_WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR if small.ndim == 2 else cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
