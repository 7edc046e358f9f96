# SPDX-License-Identifier: MIT
"""Which image a back-end means by each of its numbers."""

from collections.abc import Mapping

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.errors import EdgeError
from netvlad_ros.keyframe import NO_EXTERNAL_ID, Keyframe


class ExternalIds:
    """The keyframes of a back-end by robot and number, each with the stamp of its image.

    A number alone is no name: after a restart, or with another file, a back-end gives the same ones again,
    and a keyframe of last week would become an edge to another place. So the stamps have to agree as well.
    """

    def __init__(self) -> None:
        self._stamps_ns: dict[str, dict[int, int]] = {}

    def add(self, robot: str, number: int, stamp_ns: int) -> bool:
        """The newest keyframe of a robot. Whether it is the first one: none is known, or it counts anew."""
        known = self._stamps_ns.setdefault(robot, {})
        if known and number < next(reversed(known)):
            known.clear()
        known[number] = stamp_ns
        return len(known) == 1

    def add_earlier(self, robot: str, stamps_ns: Mapping[int, int]) -> None:
        """Keyframes from before the first one that was added."""
        known = {**stamps_ns, **self._stamps_ns.get(robot, {})}
        self._stamps_ns[robot] = dict(sorted(known.items()))

    def check(self, keyframe: Keyframe, tolerance_ns: int) -> None:
        """Raises EdgeError unless the back-end calls this image so.

        tolerance_ns: how far the stamps of the image and of the back-end's keyframe may be apart.
        """
        number = keyframe.external_id
        if number == NO_EXTERNAL_ID:
            raise EdgeError(
                "without a number",
                f"keyframe {keyframe} has no number of the back-end; keyframes that it did not ask for have "
                "none: set keyframes.requested, and connect keyframe_requests.",
            )
        stamp_ns = self._stamps_ns.get(keyframe.session.stream.robot, {}).get(number)
        if stamp_ns is None:
            raise EdgeError(
                "of an unknown number",
                f"keyframe {keyframe} is said to be {number}, which the back-end has not named since this "
                "adapter runs; start the adapter first, or is it of another run or robot?",
            )
        if abs(stamp_ns - keyframe.stamp_ns) > tolerance_ns:
            raise EdgeError(
                "of another run",
                f"keyframe {keyframe} is of {keyframe.stamp_ns / NANOSECONDS:.3f} s, and what the back-end "
                f"calls {number} is of {stamp_ns / NANOSECONDS:.3f} s: it was numbered in another run, or "
                "for another file of the back-end.",
            )
