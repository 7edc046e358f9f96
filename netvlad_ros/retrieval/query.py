# SPDX-License-Identifier: MIT
"""What the database found for a new keyframe, and what it left out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from netvlad_ros.calibration import Calibration
from netvlad_ros.image_data import NOTHING_KNOWN, ImageData
from netvlad_ros.keyframe import Keyframe, Match


def best_first(matches: Iterable[Match]) -> list[Match]:
    """By their scores; of equal ones the more similar first."""
    return sorted(matches, key=lambda match: (-match.score, -match.similarity))


@dataclass(frozen=True)
class Recent:
    """What was left out of a search because this drive saw it a moment ago.

    count:      so many keyframes.
    exclude_s:  they were seen within so many seconds of drive.
    best:       the most similar of them; None if there are none.
    best_age_s: seconds of drive since it was seen.
    """

    count: int = 0
    exclude_s: float = 0.0
    best: Match | None = None
    best_age_s: float = 0.0


@dataclass(frozen=True)
class Query:
    """A new keyframe and the keyframes that may show its place, best first.

    matches:     as best_first() orders them; without those left out.
    searched:    how many keyframes were compared.
    number:      counts the queries of this stream since the database began, or began anew.
    fingerprint: of the descriptors.
    calibration: of the model that made them, if it has one.
    data:        what is known of the keyframe beside its descriptor.
    """

    keyframe: Keyframe
    matches: Sequence[Match]
    recent: Recent = field(default_factory=Recent)
    searched: int = 0
    number: int = 0
    fingerprint: str = ""
    calibration: Calibration | None = None
    data: ImageData = field(default=NOTHING_KNOWN, compare=False, repr=False)
