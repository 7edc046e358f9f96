# SPDX-License-Identifier: MIT
"""How many threads each library of a process may use: set here, once, for all of them."""

import os


def thread_count(wanted: int) -> int:
    """wanted, or as many threads as there are cores that this process may use."""
    return wanted or len(os.sched_getaffinity(0))
