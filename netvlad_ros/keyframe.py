# SPDX-License-Identifier: MIT
"""What names a keyframe: the session it belongs to, which nobody else has, and its number in there."""

import math
import uuid
from dataclasses import dataclass, field

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.image_data import NOTHING_KNOWN, ImageData

# Of sessions that were only numbered, in the first format of files and messages.
_NUMBERED_SESSIONS = uuid.UUID("6e766c6b-0001-4000-8000-000000000000")
# Digits of a session's UUID that a log shows; the whole one stands in messages and files.
SHOWN_DIGITS = 8
# Of a keyframe that no back-end has a number for.
NO_EXTERNAL_ID = -1

# By the calibration of the shipped model, similarity 0.5 and sequence score 1.37 are right equally often.
SIMILARITY_WEIGHT = 2.75


@dataclass(frozen=True, slots=True)
class Stream:
    """Whose images come one after the other: a camera of a robot; both empty where there is only one."""

    robot: str = ""
    camera: str = ""


ONLY_STREAM = Stream()
# A camera whose name changes with every image must not fill the memory.
MAX_STREAMS = 1000


@dataclass(frozen=True, slots=True)
class Session:
    """One run of one camera by one clock: stamps are comparable within a session only.

    uuid: 32 hexadecimal digits, never given twice, on whatever machine.
    map:  name of the map that the session was recorded for; empty where there is only one.
    """

    uuid: str
    stream: Stream = ONLY_STREAM
    map: str = ""

    @classmethod
    def new(cls, stream: Stream = Stream(), map: str = "") -> "Session":
        """A session that there never was before."""
        return cls(uuid.uuid4().hex, stream, map)


def shown_name(name: tuple[str, int]) -> str:
    """A keyframe's name, short enough for a log."""
    return f"{name[0][:SHOWN_DIGITS]}/{name[1]}"


def numbered_session(database_id: str, number: int) -> str:
    """The UUID of a session that had only a number, the same wherever it is needed."""
    return uuid.uuid5(_NUMBERED_SESSIONS, f"{database_id}/{number}").hex


@dataclass(frozen=True, slots=True)
class Keyframe:
    """An image that is kept. Its name is (session.uuid, number), which lasts and is never used again.

    number:      counts the keyframes of a session, from 0.
    stamp_ns:    of the image, by the clock of the session.
    external_id: what a back-end calls the image (its node id); -1 if nothing is known of one.
    """

    session: Session
    number: int
    stamp_ns: int
    external_id: int = field(default=NO_EXTERNAL_ID, compare=False)

    @property
    def name(self) -> tuple[str, int]:
        """(UUID of the session, number), the primary key everywhere."""
        return self.session.uuid, self.number

    def __str__(self) -> str:
        return shown_name(self.name)

    def age_s(self, now: "Keyframe") -> float:
        """Seconds by which this is older than another of its session; infinite for one of another."""
        if now.session.uuid != self.session.uuid:
            return float("inf")
        return (now.stamp_ns - self.stamp_ns) / NANOSECONDS


@dataclass(frozen=True, slots=True)
class Match:
    """A keyframe that may show the place of a query. Scores that were not computed are NaN.

    similarity:     cosine similarity to the query, -1 to 1.
    sequence_score: how well the keyframes before the query fit those before this one; about 0 or less by
                    chance, see retrieval/sequences.py.
    margin:         how far that is above the score of the best other place; negative if this is not the best.
    data:           what else is known of it, where somebody needs it.
    """

    keyframe: Keyframe
    similarity: float
    sequence_score: float = math.nan
    margin: float = math.nan
    data: ImageData = field(default=NOTHING_KNOWN, compare=False, repr=False)

    @property
    def scores(self) -> str:
        """In words."""
        alike = f"similarity {self.similarity:.3f}"
        if math.isnan(self.sequence_score):
            return alike
        return f"{alike}, sequence score {self.sequence_score:.2f}"

    @property
    def score(self) -> float:
        """What matches are ordered by: the sequence score, or what the similarity alone says in its unit."""
        alone = SIMILARITY_WEIGHT * self.similarity
        return alone if math.isnan(self.sequence_score) else max(self.sequence_score, alone)
