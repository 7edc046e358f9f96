# SPDX-License-Identifier: MIT
"""What both kinds of MAT-files may hold besides plain values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Foreign:
    """Something that only Matlab can make sense of: an object or a function, and its class where known."""

    kind: str


class DamagedMatError(Exception):
    """The file does not hold what the format says; the sentence is made where its name is known."""
