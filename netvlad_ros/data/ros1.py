# SPDX-License-Identifier: MIT
"""ROS 1 messages as ROS 2 serialises them."""

from functools import cache

from rosbags.convert.converter import is_same_wireformat
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from netvlad_ros.errors import BagError


def has_same_fields(kind: str) -> bool:
    """Whether a type, in ROS 2's spelling, is known and the same in both; only then it can be converted."""
    ros1, ros2 = _stores()
    if kind not in ros1.fielddefs or kind not in ros2.fielddefs:
        return False
    return is_same_wireformat(ros1, ros2, kind, kind)


def to_cdr(data: bytes, kind: str) -> bytes:
    """A serialised message of such a type in CDR. Raises BagError if it is damaged."""
    try:
        return bytes(_stores()[1].ros1_to_cdr(data, kind))
    except SerdeError as error:
        raise BagError(f"a message of {kind} is damaged ({error}).") from error


@cache
def _stores() -> tuple[Typestore, Typestore]:
    return get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.LATEST)
