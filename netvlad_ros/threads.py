# SPDX-License-Identifier: MIT
"""How many threads each library of a process may use: decided here, for all of them.

Left alone, a runtime, OpenCV and Faiss take all cores each, and threads that wait for work spin, which takes
the time of whoever works next. `python -m benchmark threads` shows what that costs.
"""

import os

# Faiss shares out queries among threads, and we have one at a time: the others would only be waited for,
# which takes longer than the search.
FAISS_THREADS = 1


def thread_count(wanted: int) -> int:
    """Threads of a runtime: wanted, or if that is 0, as many as there are cores that this process may use."""
    return wanted or len(os.sched_getaffinity(0))


def limit_opencv(wanted: int) -> None:
    """OpenCV works before and after the runtime, never beside it, so it may have as many threads."""
    import cv2

    cv2.setNumThreads(thread_count(wanted))
