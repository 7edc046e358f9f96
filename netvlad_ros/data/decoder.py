# SPDX-License-Identifier: MIT
"""OpenCV's decoding of image files, in threads of their own that see what the decoders complain of.

libjpeg, libtiff and OpenJPEG fill in what is damaged, say so on stderr, and report success. So each thread
here has a private table of file descriptors (close_range of Linux 5.9 with CLOSE_RANGE_UNSHARE), in which
stderr is a file in memory: nobody else's stderr is touched, and nobody else writes into this one. Where the
system has no such tables, images are decoded all the same and complaints stay unread.
"""

import ctypes
import functools
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

_SYS_CLOSE_RANGE = 436  # on every machine
_CLOSE_RANGE_UNSHARE = 2
_NO_LIMIT = 0xFFFFFFFF
_STDERR = 2

_thread = threading.local()


def decode_watched(content: bytes, flags: int) -> tuple[np.ndarray | None, str]:
    """What cv2.imdecode makes of it, None if it can't be decoded, and what its decoder wrote to stderr."""
    return _threads().submit(_decode, content, flags).result()


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), "decode", initializer=_take_private_stderr)


# Threads don't survive a fork.
os.register_at_fork(after_in_child=_threads.cache_clear)


def _take_private_stderr() -> None:
    _thread.has_private_stderr = False
    if not sys.platform.startswith("linux"):
        return
    syscall = ctypes.CDLL(None).syscall
    arguments = (_SYS_CLOSE_RANGE, 0, _NO_LIMIT, _CLOSE_RANGE_UNSHARE)
    if syscall(*map(ctypes.c_uint, arguments)) == 0:
        file = os.memfd_create("complaints of decoders")
        os.dup2(file, _STDERR)
        _thread.has_private_stderr = True


def _decode(content: bytes, flags: int) -> tuple[np.ndarray | None, str]:
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        image = None
    return image, _complaints() if _thread.has_private_stderr else ""


def _complaints() -> str:
    """What was written to this thread's stderr since the last time."""
    size = os.lseek(_STDERR, 0, os.SEEK_END)
    if not size:
        return ""
    text = os.pread(_STDERR, size, 0)
    os.ftruncate(_STDERR, 0)
    os.lseek(_STDERR, 0, os.SEEK_SET)
    return text.decode(errors="replace")
