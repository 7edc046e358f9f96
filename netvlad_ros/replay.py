# SPDX-License-Identifier: MIT
"""A recording through the loop detector, image by image, and what came out of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import cv2
import numpy as np

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.data.image_messages import to_image
from netvlad_ros.errors import ImageError
from netvlad_ros.evaluation.precision_recall import FirstMatches
from netvlad_ros.retrieval.candidates import Selection
from netvlad_ros.retrieval.database import Query
from netvlad_ros.retrieval.keyframes import Keyframe, Match
from netvlad_ros.retrieval.loop_detector import Detection, LoopDetector

THUMBNAIL_WIDTH_PX = 320


@dataclass(frozen=True)
class ReplayedImage:
    """What became of one message.

    number:    1 for the first message of the topic.
    image:     uint8, RGB or grey; None if the message could not be used.
    detection: None if the image could not be used.
    problem:   why it could not be used; empty if it could.
    """

    number: int
    image: np.ndarray | None = None
    detection: Detection | None = None
    problem: str = ""


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


def replay(messages: Iterable[tuple[int, Any]], detector: LoopDetector) -> Iterator[ReplayedImage]:
    """Puts each image into the detector; messages that are no picture of a place are told, not fatal.

    messages: stamps in nanoseconds and messages, as Bag.images() gives them.
    """
    for number, (stamp_ns, message) in enumerate(messages, start=1):
        try:
            image = to_image(message)
            detection = detector.process(image, stamp_ns)
        except ImageError as error:
            yield ReplayedImage(number, problem=str(error))
        else:
            yield ReplayedImage(number, image, detection)


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
    counts, count = np.zeros(len(keyframes), int), 0
    for i, now in enumerate(keyframes):
        while count < i and keyframes[count].age_s(now) >= exclude_recent_s:
            count += 1
        counts[i] = count
    return counts


def _best_old_match(query: Query, exclude_recent_s: float) -> Match | None:
    old = (m for m in query.matches if m.keyframe.age_s(query.keyframe) >= exclude_recent_s)
    return next(old, None)


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """A JPEG file of the image, as small as the pictures need it."""
    height = max(1, round(image.shape[0] * THUMBNAIL_WIDTH_PX / image.shape[1]))
    small = cv2.resize(image, (THUMBNAIL_WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR if small.ndim == 2 else cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
