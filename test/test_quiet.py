# SPDX-License-Identifier: MIT
"""Libraries that set up logging for themselves leave it as it was for everybody else."""

import logging

import pytest

from netvlad_ros.quiet import LOG_LEVEL, logging_undisturbed, quiet_start_up


@pytest.mark.parametrize(("asked", "level"), [("2", logging.ERROR), ("0", logging.NOTSET)])
def test_tensorflow_warns_only_who_asked_for_it(
    monkeypatch: pytest.MonkeyPatch, asked: str, level: int
) -> None:
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.NOTSET)
    monkeypatch.setenv(LOG_LEVEL, asked)
    try:
        with quiet_start_up():
            pass
        assert logger.level == level
    finally:
        logger.setLevel(before)


def test_the_root_logger_is_as_it_was_whatever_a_library_did_to_it() -> None:
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    before = root.level, root.handlers[:], handler.level, root.manager.disable
    try:
        with logging_undisturbed():
            assert not root.isEnabledFor(logging.WARNING)
            root.setLevel(logging.CRITICAL)
            handler.setLevel(logging.CRITICAL)
            root.handlers.clear()
            logging.disable(logging.CRITICAL)
        assert (root.level, root.handlers, handler.level, root.manager.disable) == before
    finally:
        root.removeHandler(handler)
