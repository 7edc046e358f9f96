# SPDX-License-Identifier: MIT
"""Importing TensorFlow without the notes it writes at its start, whatever log level it is told."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


@contextlib.contextmanager
def quiet_start_up() -> Iterator[None]:
    """For an import that brings TensorFlow in: nothing is written to stderr meanwhile, errors are raised.

    A user who set TensorFlow's log level to 0 wants to read what it says.
    """
    if os.environ.setdefault(LOG_LEVEL, "2") == "0":
        yield
        return
    stderr = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
