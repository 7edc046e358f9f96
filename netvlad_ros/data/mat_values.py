# SPDX-License-Identifier: MIT
"""What both kinds of MAT-files have in common: values that are not plain, and how much is read at most."""

from dataclasses import dataclass

from netvlad_ros.errors import NetVLADError, WeightsError


@dataclass(frozen=True)
class Limits:
    """What a file may claim before it is taken for one that was made to fill the memory.

    compression: how many times larger than the file its content may be.
    floor_bytes: so much may always be inflated, however small the file is.
    error:       what is raised for a file that is damaged or claims more.
    """

    max_bytes: int = 2 << 30  # with momentum the largest published network takes 1.2 GB
    compression: int = 20  # weights hardly compress
    floor_bytes: int = 0
    arrays: int = 100_000
    nesting: int = 16
    error: type[NetVLADError] = WeightsError

    def allowed_bytes(self, file_bytes: int) -> int:
        """How much the numbers and the text of a file of this size may take."""
        return min(self.max_bytes, max(self.floor_bytes, self.compression * file_bytes))


@dataclass(frozen=True)
class Foreign:
    """Something that only Matlab can make sense of: an object or a function, and its class where known."""

    kind: str


class DamagedMatError(Exception):
    """The file does not hold what the format says; the sentence is made where its name is known."""
