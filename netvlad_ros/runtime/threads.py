# SPDX-License-Identifier: MIT
"""How many threads each library of a process may use: set here, once, for all of them.

Left alone, a runtime, OpenCV and Faiss each take all cores, and some let idle threads spin, which takes the
time of whoever works next.
"""

import os
import sys

import cv2


def thread_count(wanted: int) -> int:
    """wanted, or as many threads as there are cores that this process may use."""
    return wanted or len(os.sched_getaffinity(0))


def prepare_threads(wanted: int) -> None:
    """For OpenCV and for Faiss, whether it is imported already or later; runtimes are told at their start.

    wanted: threads for one image; 0 for all cores. What the environment says already stays.
    """
    count = thread_count(wanted)
    cv2.setNumThreads(count)
    # OpenMP reads these when the first library that uses it is loaded.
    os.environ.setdefault("OMP_NUM_THREADS", str(count))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "faiss" in sys.modules:
        sys.modules["faiss"].omp_set_num_threads(count)
