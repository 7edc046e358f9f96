# SPDX-License-Identifier: MIT
"""Keeps libraries from writing where the user reads: to stderr when they start, and to the root logger."""

import contextlib
import logging
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
    # That each new size of images is compiled is no news.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    stderr = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@contextlib.contextmanager
def logging_undisturbed() -> Iterator[None]:
    """For calls of libraries that warn of what is intended and set up the root logger as their own."""
    root = logging.getLogger()
    level, disabled = root.level, root.manager.disable
    handlers = {handler: handler.level for handler in root.handlers}
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        for handler, its_level in handlers.items():
            handler.setLevel(its_level)
        logging.disable(disabled)
