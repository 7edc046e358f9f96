# SPDX-License-Identifier: MIT
"""The few vectors of one image are looked up without waking other cores."""

from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np

from netvlad_ros.index.nearest import nearest_rows


def test_whatever_thread_asks_it_alone_works() -> None:
    """Left alone each thread takes all cores, and waits for them longer than the search takes."""

    def threads() -> int:
        faiss.omp_set_num_threads(2)
        nearest_rows(np.eye(2, dtype=np.uint8), np.eye(2, dtype=np.uint8), 1)
        return int(faiss.omp_get_max_threads())

    with ThreadPoolExecutor(1) as other:
        assert [threads(), other.submit(threads).result()] == [1, 1]
