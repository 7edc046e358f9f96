# SPDX-License-Identifier: MIT
"""What a detector found: its keyframes with their answers, and the images that were skipped."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import cv2
import numpy as np

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.evaluation.detections import ImageDetection
from netvlad_ros.evaluation.precision_recall import FirstMatches
from netvlad_ros.keyframe import Keyframe, Match
from netvlad_ros.retrieval.closures import Closure, ClosureSelection
from netvlad_ros.retrieval.query import Query
from netvlad_ros.retrieval.selection import Selection
from netvlad_ros.retrieval.stages import Verdict

THUMBNAIL_WIDTH_PX = 320

_NO_PICTURE = np.empty(0, np.uint8)


@dataclass(frozen=True)
class LoggedKeyframe:
    """A keyframe with its answer, kept small: the picture is a JPEG file in memory, or empty for none.

    width_px: of the image that the picture was made of.
    """

    number: int
    query: Query
    selection: Selection
    descriptor: np.ndarray
    jpeg: np.ndarray
    closures: ClosureSelection = field(default_factory=ClosureSelection)
    width_px: int = THUMBNAIL_WIDTH_PX

    @property
    def picture(self) -> np.ndarray:
        """RGB, THUMBNAIL_WIDTH_PX wide."""
        bgr = cast(np.ndarray, cv2.imdecode(self.jpeg, cv2.IMREAD_COLOR))
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


@dataclass
class DetectionLog:
    """Keyframes with their answers, and the images that were skipped."""

    images: int = 0
    keyframes: list[LoggedKeyframe] = field(default_factory=list)
    skipped: list[ImageDetection] = field(default_factory=list)
    _positions: dict[tuple[str, int], int] = field(default_factory=dict)

    def add(self, detected: ImageDetection) -> LoggedKeyframe | None:
        """Takes in the next image; returns the keyframe, if it is one."""
        self.images += 1
        detection = detected.detection
        if detection is None:
            self.skipped.append(detected)
            return None
        if detection.query is None or detection.selection is None or detection.closures is None:
            return None
        jpeg, width_px = _NO_PICTURE, THUMBNAIL_WIDTH_PX
        if detected.image is not None:
            jpeg, width_px = _thumbnail(detected.image), detected.image.shape[1]
        self._positions[detection.query.keyframe.name] = len(self.keyframes)
        self.keyframes.append(
            LoggedKeyframe(
                detected.number,
                detection.query,
                detection.selection,
                detection.descriptor,
                jpeg,
                detection.closures,
                width_px,
            )
        )
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

    @property
    def available(self) -> np.ndarray:
        """How many of the first keyframes were compared with each one; those after them were too recent."""
        return np.array([each.query.searched for each in self.keyframes])

    @property
    def first_candidates(self) -> FirstMatches:
        """What was reported: the best candidate of each keyframe."""
        return self._first(
            [next((c.match for c in each.selection.candidates), None) for each in self.keyframes]
        )

    @property
    def first_matches(self) -> FirstMatches:
        """What would be reported without a threshold: the best match that was old enough."""
        return self._first([next(iter(each.query.matches), None) for each in self.keyframes])

    @property
    def closures(self) -> list[Closure]:
        """In the order in which they were found."""
        return [closure for each in self.keyframes for closure in each.closures.closures]

    @property
    def rejections(self) -> list[tuple[LoggedKeyframe, Match, Verdict]]:
        """The matches that were compared and are no closures, not even late ones, with what decided."""
        closed = {(each.query.name, each.match.keyframe.name) for each in self.closures}
        return [
            (each, match, verdict)
            for each in self.keyframes
            for match in each.query.matches
            if (verdict := each.closures.rejections.get(match.keyframe.name)) is not None
            and (each.query.keyframe.name, match.keyframe.name) not in closed
        ]

    def position(self, keyframe: Keyframe) -> int:
        """Which of the keyframes this is, from 0; unlike its name the same in each run."""
        return self._positions[keyframe.name]

    def session_number(self, keyframe: Keyframe) -> int:
        """Counts the sessions in the order in which they began, from 0."""
        sessions = dict.fromkeys(each.query.keyframe.session.uuid for each in self.keyframes)
        return list(sessions).index(keyframe.session.uuid)

    def sentence(self, query: Keyframe, best: Match) -> str:
        """That a query has found a place again; times count from the first keyframe on."""
        return sentence(query, best, self.start_ns, self.position)

    def closure_sentence(self, closure: Closure) -> str:
        """That a query closes a loop, and by which numbers."""
        pair = f"{self.told(closure.query)} closes a loop with {self.told(closure.match.keyframe)}"
        return f"{pair}: {closure.geometry.in_words}"

    def told(self, keyframe: Keyframe) -> str:
        """Its number and time, which count from the first keyframe on."""
        return told(keyframe, self.start_ns, self.position(keyframe))

    def _first(self, best: list[Match | None]) -> FirstMatches:
        return FirstMatches(
            images=np.array([each.number for each in self.keyframes]),
            available=self.available,
            matches=np.array([self.position(m.keyframe) if m else -1 for m in best]),
            similarities=np.array([match.similarity if match else -np.inf for match in best]),
            scores=np.array([match.score if match else -np.inf for match in best]),
        )


def sentence(
    query: Keyframe,
    best: Match,
    start_ns: int,
    number: Callable[[Keyframe], int] = lambda keyframe: keyframe.number,
) -> str:
    """That a query has found a place again; times count from start_ns on."""
    both = [told(each, start_ns, number(each)) for each in (query, best.keyframe)]
    return f"{both[0]} looks like {both[1]}, {best.scores}"


def told(keyframe: Keyframe, start_ns: int, number: int) -> str:
    """A keyframe with its time from start_ns on."""
    return f"keyframe {number} ({(keyframe.stamp_ns - start_ns) / NANOSECONDS:.1f} s)"


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """A JPEG file of the image, as small as the pictures need it."""
    height = max(1, round(image.shape[0] * THUMBNAIL_WIDTH_PX / image.shape[1]))
    small = cv2.resize(image, (THUMBNAIL_WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR if small.ndim == 2 else cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
